//! The kubelet's settings of one instance type, with figures in place of expressions.

use karpenter_api::ec2nodeclass::Ec2NodeClassSpec;
use karpenter_api::quantity;
use serde_json::{Map, Value, json};

use super::{Expression, Machine};
use crate::capacity::Sizing;
use crate::report::InstanceTypeInfo;

const RESERVED: [&str; 2] = ["kubeReserved", "systemReserved"];
/// Figures are rounded up to these: types that hardly differ then share a launch template.
const CPU_STEP: i64 = 10;
const MEMORY_STEP: i64 = 16;

/// Whether a value is to be computed.
fn is_expression(text: &str) -> bool {
    quantity::milli(text).is_err()
}

fn has_expressions(kubelet: &Map<String, Value>) -> bool {
    let maps = RESERVED.iter().filter_map(|field| kubelet.get(*field)?.as_object());
    let mut texts = maps.flat_map(|map| map.values().filter_map(Value::as_str));
    kubelet.get("maxPods").is_some_and(Value::is_string) || texts.any(is_expression)
}

/// The settings without what has to be computed, for when that fails.
pub(crate) fn without_expressions(kubelet: &Map<String, Value>) -> Map<String, Value> {
    let mut plain = kubelet.clone();
    if plain.get("maxPods").is_some_and(Value::is_string) {
        plain.remove("maxPods");
    }
    for field in RESERVED {
        if let Some(map) = plain.get_mut(field).and_then(Value::as_object_mut) {
            map.retain(|_, value| !value.as_str().is_some_and(is_expression));
        }
    }
    plain
}

/// The settings of a type, or why they cannot be computed; `None` if nothing has to be.
pub(crate) fn resolved(sizing: &Sizing<'_>, info: &InstanceTypeInfo) -> Option<Result<Map<String, Value>, String>> {
    let kubelet = sizing.spec.kubelet.as_ref().filter(|kubelet| has_expressions(kubelet))?;
    Some(resolve(sizing, kubelet, info))
}

fn resolve(
    sizing: &Sizing<'_>,
    kubelet: &Map<String, Value>,
    info: &InstanceTypeInfo,
) -> Result<Map<String, Value>, String> {
    let pods = |kubelet: &Map<String, Value>| {
        let spec = Ec2NodeClassSpec { kubelet: Some(kubelet.clone()), ..sizing.spec.clone() };
        Sizing::new(sizing.family, &spec, sizing.settings).max_pods(info)
    };
    let cards = &info.network.cards;
    let card = cards.iter().find(|card| card.index == info.network.default_card);
    let machine = |max_pods: i64| Machine {
        vcpus: info.vcpus,
        memory_mib: info.memory_mib,
        default_enis: card.map_or(info.network.maximum_interfaces, |card| card.maximum_interfaces),
        ips_per_eni: info.network.ipv4_per_interface,
        max_pods,
        instance_type: &info.name,
    };
    let figure = |field: &str, text: &str, machine: &Machine<'_>| {
        let told = |problem: String| format!("spec.kubelet.{field}: {text:?} for {}: {problem}", info.name);
        let figure = Expression::parse(text).and_then(|expression| expression.figure(machine)).map_err(told)?;
        let fits = (0..=i64::from(i32::MAX)).contains(&figure);
        if fits { Ok(figure) } else { Err(told(format!("found {figure}, expected 0 to {}", i32::MAX))) }
    };
    let mut all = without_expressions(kubelet);
    if let Some(text) = kubelet.get("maxPods").and_then(Value::as_str) {
        all.insert("maxPods".to_owned(), json!(figure("maxPods", text, &machine(pods(&all)))?));
    }
    let machine = machine(pods(&all));
    for field in RESERVED {
        let map = kubelet.get(field).and_then(Value::as_object);
        for (resource, value) in map.into_iter().flatten() {
            if let Some(text) = value.as_str().filter(|text| is_expression(text)) {
                let amount = amount(resource, figure(&format!("{field}[{resource}]"), text, &machine)?);
                all[field][resource] = json!(amount);
            }
        }
    }
    Ok(all)
}

/// A figure in the unit that people write for the resource: millicores, mebibytes, gibibytes, processes.
fn amount(resource: &str, figure: i64) -> String {
    let up = |step: i64| figure.saturating_add(step - 1) / step * step;
    match resource {
        "cpu" => format!("{}m", up(CPU_STEP)),
        "memory" => format!("{}Mi", up(MEMORY_STEP)),
        "ephemeral-storage" => format!("{figure}Gi"),
        _ => figure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AwsSettings;
    use crate::report::{NetworkCard, NetworkInfo};
    use karpenter_api::ec2nodeclass::AmiFamily;

    fn m5_large(kubelet: &Value) -> Option<Result<Map<String, Value>, String>> {
        let info = InstanceTypeInfo {
            name: "m5.large".into(),
            architectures: vec!["x86_64".into()],
            vcpus: 2,
            memory_mib: 8192,
            network: NetworkInfo {
                maximum_interfaces: 3,
                ipv4_per_interface: 10,
                cards: vec![NetworkCard { index: 0, maximum_interfaces: 3 }],
                ..NetworkInfo::default()
            },
            ..InstanceTypeInfo::default()
        };
        let spec = Ec2NodeClassSpec { kubelet: kubelet.as_object().cloned(), ..Ec2NodeClassSpec::default() };
        resolved(&Sizing::new(AmiFamily::Al2023, &spec, &AwsSettings::default()), &info)
    }

    #[test]
    fn figures_take_the_place_of_expressions_in_the_units_people_write() {
        let kubelet = json!({
            "maxPods": "max_pods - 3", "podPidsLimit": 9,
            "kubeReserved": { "cpu": "vcpus * 31", "memory": "memory_mib / 100", "ephemeral-storage": "1 + 1" },
            "systemReserved": { "pid": "max_pods * 10", "memory": "100Mi" },
        });
        let expected = json!({
            "maxPods": 26, "podPidsLimit": 9,
            "kubeReserved": { "cpu": "70m", "memory": "96Mi", "ephemeral-storage": "2Gi" },
            "systemReserved": { "pid": "260", "memory": "100Mi" },
        });
        assert_eq!(m5_large(&kubelet), Some(Ok(expected.as_object().cloned().unwrap())));
        assert_eq!(m5_large(&json!({ "maxPods": 20, "kubeReserved": { "cpu": "100m" } })), None);
    }

    #[test]
    fn what_cannot_be_computed_names_field_and_type() {
        for (kubelet, says) in [
            (json!({ "maxPods": "vcpus - 3" }), "found -1, expected 0 to 2147483647"),
            (json!({ "maxPods": "vcpus / 0" }), "division by zero"),
            (json!({ "kubeReserved": { "cpu": "memory_mib * 1000000" } }), "spec.kubelet.kubeReserved[cpu]"),
        ] {
            let error = m5_large(&kubelet).unwrap().unwrap_err();
            assert!(error.contains(says) && error.contains("m5.large"), "{error}");
        }
    }
}
