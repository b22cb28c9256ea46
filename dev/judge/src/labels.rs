//! Kubernetes' rules about labels and taints, on words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, Taint, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use karpenter_api::{Operator, RequirementSpec};

use crate::pods;

pub(crate) type Labels = BTreeMap<String, String>;

/// Whether a node with these labels is one that the pod's spec chooses.
pub(crate) fn chooses(selector: Option<&Labels>, affinity: Option<&NodeAffinity>, node: &str, labels: &Labels) -> bool {
    let selected = selector.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|all| all.node_selector_terms.iter().any(|term| meets(term, node, labels)))
}

/// As [`chooses`], of a pod.
pub fn pod_chooses(pod: &Pod, node: &str, labels: &Labels) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    chooses(spec.node_selector.as_ref(), affinity, node, labels)
}

/// A term that says nothing matches nothing.
fn meets(term: &NodeSelectorTerm, node: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = Labels::from([("metadata.name".to_owned(), node.to_owned())]);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|expression| holds(expression, labels))
        && fields.iter().all(|field| holds(field, &name))
}

fn holds(expression: &NodeSelectorRequirement, labels: &Labels) -> bool {
    let found = labels.get(&expression.key);
    let listed = |value: &String| expression.values.iter().flatten().any(|one| one == value);
    let bound = || expression.values.as_deref().and_then(|values| values.first()?.parse::<i64>().ok());
    let number = || found.and_then(|value| value.parse::<i64>().ok());
    is_well_formed(expression)
        && match expression.operator.as_str() {
            "In" => found.is_some_and(listed),
            "NotIn" => !found.is_some_and(listed),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            "Gt" => matches!((number(), bound()), (Some(number), Some(bound)) if number > bound),
            "Lt" => matches!((number(), bound()), (Some(number), Some(bound)) if number < bound),
            _ => false,
        }
}

pub(crate) fn is_well_formed(expression: &NodeSelectorRequirement) -> bool {
    let values = expression.values.as_deref().unwrap_or_default();
    match expression.operator.as_str() {
        "In" | "NotIn" => !values.is_empty(),
        "Exists" | "DoesNotExist" => values.is_empty(),
        "Gt" | "Lt" => values.len() == 1 && values[0].parse::<i64>().is_ok(),
        _ => false,
    }
}

/// Whether a label (or its absence) is what a requirement of a NodePool or a claim asks for.
pub(crate) fn satisfies(value: Option<&String>, requirement: &RequirementSpec) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |holds: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|bound| bound.parse::<i64>().ok());
        let number = value.and_then(|value| value.parse::<i64>().ok());
        matches!((number, bound), (Some(number), Some(bound)) if holds(number, bound))
    };
    match requirement.operator {
        Operator::In => value.is_some_and(|value| values.contains(value)),
        Operator::NotIn => !value.is_some_and(|value| values.contains(value)),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::Gt => compare(|number, bound| number > bound),
        Operator::Lt => compare(|number, bound| number < bound),
        Operator::Gte => compare(|number, bound| number >= bound),
        Operator::Lte => compare(|number, bound| number <= bound),
    }
}

/// A label selector: none selects nothing, an empty one everything.
pub(crate) fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let found = labels.get(&expression.key);
            let listed = found.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// Whether a spread of `pod` counts `other`, which stands or comes: same namespace, its selector, and the same values of
/// `matchLabelKeys` as far as the pod has such labels. Who is being deleted does not count, and nobody does if the
/// selector is empty (kube-scheduler, pod topology spread).
pub(crate) fn spread_counts(pod: &Pod, spread: &TopologySpreadConstraint, other: &Pod) -> bool {
    let by_keys = spread.match_label_keys.iter().flatten().any(|key| pods::labels(pod).contains_key(key));
    let selector = spread.label_selector.as_ref();
    let by_labels = selector.is_some_and(|of| {
        of.match_labels.iter().flatten().next().is_some() || of.match_expressions.iter().flatten().next().is_some()
    });
    (by_keys || by_labels) && !pods::is_ending(other) && spread_means(pod, spread, other)
}

/// Whether its selector means a pod: that is how the pod itself counts.
pub(crate) fn spread_means(pod: &Pod, spread: &TopologySpreadConstraint, other: &Pod) -> bool {
    let same = spread.match_label_keys.iter().flatten().all(|key| {
        let own = pods::labels(pod).get(key);
        own.is_none() || own == pods::labels(other).get(key)
    });
    pods::namespace(pod) == pods::namespace(other)
        && same
        && selects(spread.label_selector.as_ref(), pods::labels(other))
}

/// Whether a term of `pod` means `other`. No namespaces at all: the pod's own; an empty selector of namespaces: all.
pub(crate) fn term_means(
    namespaces: &BTreeMap<String, Labels>,
    pod: &Pod,
    term: &PodAffinityTerm,
    other: &Pod,
) -> bool {
    static NONE: Labels = Labels::new();
    let home = pods::namespace(other);
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let by_name = listed.iter().any(|name| name == home);
    let by_default = listed.is_empty() && term.namespace_selector.is_none() && pods::namespace(pod) == home;
    let by_labels = term.namespace_selector.is_some()
        && selects(term.namespace_selector.as_ref(), namespaces.get(home).unwrap_or(&NONE));
    (by_name || by_default || by_labels) && selects(term.label_selector.as_ref(), pods::labels(other))
}

/// The first taint that keeps a pod off a node. `PreferNoSchedule` does not.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let keeps_off = |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    taints.iter().filter(keeps_off).find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    let (asked, found) = (text(&toleration.value), text(&taint.value));
    let compare = |holds: fn(i64, i64) -> bool| match (found.parse(), asked.parse()) {
        (Ok(found), Ok(asked)) => holds(found, asked),
        _ => false,
    };
    (key.is_empty() || key == taint.key)
        && (effect.is_empty() || effect == taint.effect)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "Exists" => true,
            "" | "Equal" => !key.is_empty() && asked == found,
            "Lt" => compare(|found, asked| found < asked),
            "Gt" => compare(|found, asked| found > asked),
            _ => false,
        }
}

/// Labels on one line.
pub(crate) fn told(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use karpenter_core::Requirement;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = String> {
        let some = vec!["a", "b", "3", "4", "5", "007", "-1", "9223372036854775807", "-9223372036854775808", ""];
        prop_oneof![8 => prop::sample::select(some).prop_map(str::to_owned), 1 => "\\PC{0,4}"]
    }

    fn requirement() -> impl Strategy<Value = RequirementSpec> {
        use Operator::{DoesNotExist, Exists, Gt, Gte, In, Lt, Lte, NotIn};
        let operator = prop::sample::select(vec![In, NotIn, Exists, DoesNotExist, Gt, Lt, Gte, Lte]);
        (operator, prop::option::of(vec(value(), 0..=3)), any::<Option<i64>>()).prop_map(
            |(operator, values, min_values)| RequirementSpec { key: "k".to_owned(), operator, values, min_values },
        )
    }

    proptest! {
        #![proptest_config(crate::generate::config(2_000))]

        /// The scheduler's algebra of requirements against the rules one by one.
        #[test]
        fn narrowed_requirements_allow_what_each_of_them_allows(
            all in vec(requirement(), 1..=4),
            labels in vec(prop::option::of(value()), 1..=6),
        ) {
            let read: Vec<Requirement> = all.iter().map(Requirement::from_spec).collect();
            let narrowed = read.iter().skip(1).fold(read[0].clone(), |known, one| known.intersection(one));
            for label in labels {
                let expected = all.iter().all(|one| satisfies(label.as_ref(), one));
                let found = label.as_ref().map_or(narrowed.allows_absence(), |value| narrowed.has(value));
                prop_assert_eq!(found, expected, "{:?} of {}", label, narrowed);
                prop_assert!(!found || label.is_none() || !narrowed.has_no_value());
            }
        }
    }
}
