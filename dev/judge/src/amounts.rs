//! Quantities and what a pod books, as kube-scheduler reads them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by resource: thousandths of a core, whole units of everything else.
pub(crate) type Amounts = BTreeMap<String, i128>;

/// What cannot be read fits nowhere.
pub(crate) const TOO_MUCH: i128 = i64::MAX as i128;

/// A quantity in the unit of its resource, rounded away from zero; `None` if it is none.
pub(crate) fn read(resource: &str, text: &str) -> Option<i128> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|known| *known == suffix);
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"].iter().position(|known| *known == suffix);
    let mut power: i64 = match (binary, decimal) {
        (Some(_), _) => 0,
        (_, Some(at)) => 3 * i64::try_from(at).ok()? - 9,
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
    };
    let mut top: i128 = 0;
    for digit in whole.chars().chain(fraction.chars()) {
        top = top.saturating_mul(10).saturating_add(i128::from(digit.to_digit(10)?));
    }
    power -= i64::try_from(fraction.len()).ok()?;
    if resource == "cpu" {
        power += 3;
    }
    if let Some(at) = binary {
        top = top.saturating_mul(1 << (10 * (at + 1)));
    }
    while power > 0 && top != 0 && top < i128::MAX {
        (top, power) = (top.saturating_mul(10), power - 1);
    }
    let mut inexact = false;
    while power < 0 && top != 0 {
        inexact |= top % 10 != 0;
        (top, power) = (top / 10, power + 1);
    }
    Some(sign * (top + i128::from(inexact)).min(TOO_MUCH))
}

/// Whether a quantity has no more digits than amounts need: others may be read less exactly.
pub(crate) fn is_short(text: &str) -> bool {
    text.len() <= 30
}

/// What is asked for: nobody can ask for less than nothing.
pub(crate) fn list(list: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let read = |name: &str, text: &str| read(name, text).filter(|amount| *amount >= 0).unwrap_or(TOO_MUCH);
    list.into_iter().flatten().map(|(name, amount)| (name.clone(), read(name, &amount.0))).collect()
}

/// What a node has.
pub(crate) fn offered(list: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    list.into_iter().flatten().map(|(name, amount)| (name.clone(), read(name, &amount.0).unwrap_or(0))).collect()
}

/// What our own objects hold.
pub(crate) fn of_api(list: Option<&BTreeMap<String, karpenter_api::Quantity>>) -> Amounts {
    let each = list.into_iter().flatten();
    each.map(|(name, amount)| (name.clone(), read(name, &amount.to_string()).unwrap_or(TOO_MUCH))).collect()
}

pub(crate) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_default() += amount;
    }
}

pub(crate) fn subtract(from: &mut Amounts, less: &Amounts) {
    for (name, amount) in less {
        *from.entry(name.clone()).or_default() -= amount;
    }
}

fn larger(of: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let known = of.entry(name.clone()).or_default();
        *known = (*known).max(*amount);
    }
}

/// The first resource of which more is asked for than there is.
pub(crate) fn lacking(asked: &Amounts, left: &Amounts) -> Option<(String, i128, i128)> {
    asked.iter().find_map(|(name, amount)| {
        let there = left.get(name).copied().unwrap_or(0);
        (*amount > 0 && *amount > there).then(|| (name.clone(), *amount, there))
    })
}

/// What the scheduler books for a pod: the larger of everything that runs together in the end and of every moment on
/// the way there; sidecars run from their start on. Requests of the pod as a whole stand in place of the sum; overhead
/// comes on top; each pod is one of `pods`.
pub(crate) fn of_pod(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let status = pod.status.as_ref();
    let running = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let starting = status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default();
    sum(spec, &|container, init| of_container(container, if init { starting } else { running }))
}

/// What a DaemonSet's pod will book: the API server sets a request that is missing beside a limit to the limit.
pub(crate) fn of_template(spec: &PodSpec) -> Amounts {
    sum(spec, &|container, _| {
        let resources = container.resources.as_ref();
        let mut all = list(resources.and_then(|r| r.limits.as_ref()));
        all.extend(list(resources.and_then(|r| r.requests.as_ref())));
        all
    })
}

fn sum(spec: &PodSpec, of: &dyn Fn(&Container, bool) -> Amounts) -> Amounts {
    let mut end = Amounts::new();
    for container in &spec.containers {
        add(&mut end, &of(container, false));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut moment = of(container, true);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &moment);
            moment = sidecars.clone();
        } else {
            add(&mut moment, &sidecars);
        }
        larger(&mut peak, &moment);
    }
    add(&mut end, &sidecars);
    larger(&mut end, &peak);
    end.extend(list(spec.resources.as_ref().and_then(|r| r.requests.as_ref())));
    add(&mut end, &list(spec.overhead.as_ref()));
    end.insert("pods".to_owned(), 1);
    end
}

/// While a container is resized the node books the larger of what is wanted and what was given.
fn of_container(container: &Container, statuses: &[ContainerStatus]) -> Amounts {
    let mut all = list(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
    if let Some(status) = statuses.iter().find(|status| status.name == container.name) {
        larger(&mut all, &list(status.allocated_resources.as_ref()));
        larger(&mut all, &list(status.resources.as_ref().and_then(|r| r.requests.as_ref())));
    }
    all
}

#[cfg(test)]
mod tests {
    use karpenter_core::resources;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(crate::generate::config(2_000))]

        /// As the scheduler reads them.
        #[test]
        fn quantities_are_read_alike(
            text in "[+-]?[0-9]{0,12}(\\.[0-9]{0,12})?([eE][+-]?[0-9]{1,11}|[numkMGTPE]|[KMGTPE]i|\\PC{0,3})?",
            resource in prop::sample::select(vec!["cpu", "memory"]),
        ) {
            prop_assert_eq!(resources::amount(resource, &text).map(i128::from), read(resource, &text));
        }
    }

    #[test]
    fn quantities_round_up_to_the_unit_of_their_resource() {
        let cases = [
            ("cpu", "1", Some(1000)),
            ("cpu", "0.1", Some(100)),
            ("cpu", "1n", Some(1)),
            ("memory", "1.5Gi", Some(3 << 29)),
            ("memory", "1e3", Some(1000)),
            ("memory", "2E", Some(2_000_000_000_000_000_000)),
            ("memory", "100m", Some(1)),
            ("memory", "-1Ki", Some(-1024)),
            ("memory", "16Ei", Some(TOO_MUCH)),
            ("memory", "1Xi", None),
            ("memory", "", None),
            ("memory", ".", None),
        ];
        for (resource, text, expected) in cases {
            assert_eq!(read(resource, text), expected, "{resource} {text}");
        }
    }
}
