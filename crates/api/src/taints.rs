//! Taints with a meaning of their own.

use k8s_openapi::api::core::v1::{Taint as CoreTaint, Toleration};

use crate::Taint;

pub const UNREGISTERED: &str = "karpenter.sh/unregistered";
pub const DISRUPTED: &str = "karpenter.sh/disrupted";

/// On a node that is about to be disrupted or is terminating.
pub fn disrupted() -> CoreTaint {
    CoreTaint { key: DISRUPTED.to_owned(), effect: "NoSchedule".to_owned(), ..CoreTaint::default() }
}

/// On a node from its first moment until it is registered.
pub fn unregistered() -> CoreTaint {
    CoreTaint { key: UNREGISTERED.to_owned(), effect: "NoExecute".to_owned(), ..CoreTaint::default() }
}

pub fn to_core(taint: &Taint) -> CoreTaint {
    CoreTaint {
        key: taint.key.clone(),
        value: taint.value.clone(),
        effect: taint.effect.clone(),
        time_added: taint.time_added.clone(),
    }
}

/// Taints that every node bears for a while as it starts: ignored for placement, and gone before a
/// node counts as initialised.
pub fn is_ephemeral(taint: &CoreTaint) -> bool {
    let (key, effect) = (taint.key.as_str(), taint.effect.as_str());
    match key {
        "node.kubernetes.io/not-ready" => matches!(effect, "NoSchedule" | "NoExecute"),
        "node.kubernetes.io/unreachable" => effect == "NoSchedule",
        "node.cloudprovider.kubernetes.io/uninitialized" => {
            effect == "NoSchedule" && taint.value.as_deref() == Some("true")
        }
        UNREGISTERED => effect == "NoExecute",
        _ => key.starts_with("readiness.k8s.io/"),
    }
}

/// Whether one of the tolerations matches the taint (Kubernetes: taints and tolerations). An empty
/// key with `Exists` matches every taint, an empty effect every effect.
pub fn tolerates(tolerations: &[Toleration], taint: &CoreTaint) -> bool {
    tolerations.iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let value = taint.value.as_deref().unwrap_or_default();
        let asked = toleration.value.as_deref().unwrap_or_default();
        let matches_value = match toleration.operator.as_deref().unwrap_or("Equal") {
            "Exists" => true,
            "Equal" | "" => !key.is_empty() && asked == value,
            // Alpha operators of Kubernetes 1.35: numeric comparison of the taint's value.
            operator @ ("Lt" | "Gt") => match (value.parse::<i64>(), asked.parse::<i64>()) {
                (Ok(found), Ok(bound)) => {
                    if operator == "Lt" {
                        found < bound
                    } else {
                        found > bound
                    }
                }
                _ => false,
            },
            _ => false,
        };
        (key.is_empty() || key == taint.key) && (effect.is_empty() || effect == taint.effect) && matches_value
    })
}
