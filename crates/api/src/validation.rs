//! What the controller refuses in a NodePool although the API server stored it.
//!
//! Each refusal names the field, what was found and what was expected.

use crate::common::{Operator, RequirementSpec, Taint};
use crate::{NodePool, labels};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: found {found:?}, expected {expected}")]
pub struct Invalid {
    pub field: String,
    pub found: String,
    pub expected: String,
}

fn invalid(field: &str, found: &str, expected: &str) -> Invalid {
    Invalid { field: field.to_owned(), found: found.to_owned(), expected: expected.to_owned() }
}

/// The first thing that is wrong with a NodePool's template.
pub fn nodepool(pool: &NodePool) -> Result<(), Invalid> {
    let template = &pool.spec.template;
    for key in template.metadata.iter().flat_map(|metadata| metadata.labels.iter().flatten()).map(|(key, _)| key) {
        let field = format!("spec.template.metadata.labels[{key:?}]");
        if key == labels::NODEPOOL {
            return Err(invalid(&field, key, "no label karpenter.sh/nodepool: the pool's name is set by itself"));
        }
        if let Some(restriction) = labels::restriction(key) {
            return Err(invalid(&field, key, restriction));
        }
    }
    taints("spec.template.spec.taints", template.spec.taints.as_deref())?;
    taints("spec.template.spec.startupTaints", template.spec.startup_taints.as_deref())?;
    for (at, requirement) in template.spec.requirements.iter().enumerate() {
        let field = format!("spec.template.spec.requirements[{at}]");
        if requirement.key == labels::NODEPOOL {
            return Err(invalid(&field, &requirement.key, "no requirement on karpenter.sh/nodepool"));
        }
        self::requirement(&field, requirement)?;
    }
    Ok(())
}

fn taints(field: &str, taints: Option<&[Taint]>) -> Result<(), Invalid> {
    let taints = taints.unwrap_or_default();
    for (at, taint) in taints.iter().enumerate() {
        let field = format!("{field}[{at}]");
        if !matches!(taint.effect.as_str(), "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            return Err(invalid(
                &format!("{field}.effect"),
                &taint.effect,
                "NoSchedule, PreferNoSchedule or NoExecute",
            ));
        }
        let twin = taints.iter().take(at).any(|other| other.key == taint.key && other.effect == taint.effect);
        if twin {
            return Err(invalid(&field, &taint.key, "each key and effect once"));
        }
    }
    Ok(())
}

/// One requirement by itself: its key, operator and values fit together.
pub fn requirement(field: &str, requirement: &RequirementSpec) -> Result<(), Invalid> {
    let values = requirement.values.as_deref().unwrap_or_default();
    if let Some(restriction) = labels::restriction(&requirement.key) {
        return Err(invalid(&format!("{field}.key"), &requirement.key, restriction));
    }
    let listed = values.join(", ");
    let least = usize::try_from(requirement.min_values.unwrap_or(0)).unwrap_or(0);
    match requirement.operator {
        Operator::In if values.is_empty() => Err(invalid(&format!("{field}.values"), &listed, "at least one value")),
        Operator::In if values.len() < least => {
            Err(invalid(&format!("{field}.minValues"), &least.to_string(), "no more than there are values"))
        }
        Operator::Gt | Operator::Lt | Operator::Gte | Operator::Lte => match values {
            [one] if one.parse::<u64>().is_ok() => Ok(()),
            _ => Err(invalid(&format!("{field}.values"), &listed, "exactly one integer that is not negative")),
        },
        _ => Ok(()),
    }
}
