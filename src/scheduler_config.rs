//! The scheduler configuration (`--scheduler-config`): spread constraints of pods that have none. Strict: a field that is
//! not known is refused, since whoever wrote it expects it to do something.

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct SchedulerConfig {
    pod_topology_spread: PodTopologySpread,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct PodTopologySpread {
    default_constraints: Vec<Constraint>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Constraint {
    max_skew: i32,
    topology_key: String,
    when_unsatisfiable: String,
    min_domains: Option<i32>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
    /// Known, but refused: it is derived from what selects a pod.
    label_selector: Option<serde_json::Value>,
    /// Known, but refused.
    match_label_keys: Option<Vec<String>>,
}

/// The default constraints in YAML or JSON; an empty text has none.
pub(crate) fn default_spreads(text: &str) -> anyhow::Result<Vec<TopologySpreadConstraint>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let config: SchedulerConfig = serde_norway::from_str(text)
        .context("found what cannot be read, expected podTopologySpread.defaultConstraints in YAML or JSON")?;
    let constraints = config.pod_topology_spread.default_constraints;
    for (at, constraint) in constraints.iter().enumerate() {
        let field = format!("podTopologySpread.defaultConstraints[{at}]");
        constraint.check(&field)?;
        let is_twin = |other: &&Constraint| {
            (&other.topology_key, &other.when_unsatisfiable)
                == (&constraint.topology_key, &constraint.when_unsatisfiable)
        };
        if constraints.iter().take(at).any(|other| is_twin(&other)) {
            let (key, when) = (&constraint.topology_key, &constraint.when_unsatisfiable);
            bail!("{field}: found topologyKey {key:?} with {when} again, expected each pair once");
        }
    }
    Ok(constraints.into_iter().map(Constraint::spread).collect())
}

impl Constraint {
    fn check(&self, field: &str) -> anyhow::Result<()> {
        if self.max_skew < 1 {
            bail!("{field}.maxSkew: found {}, expected a number greater than 0", self.max_skew);
        }
        if !is_qualified(&self.topology_key) {
            bail!(
                "{field}.topologyKey: found {:?}, expected a label key, such as topology.kubernetes.io/zone",
                self.topology_key
            );
        }
        one_of(field, "whenUnsatisfiable", &self.when_unsatisfiable, ["DoNotSchedule", "ScheduleAnyway"])?;
        if let Some(found) = self.min_domains.filter(|count| *count < 1) {
            bail!("{field}.minDomains: found {found}, expected a number greater than 0");
        }
        let policies =
            [("nodeAffinityPolicy", &self.node_affinity_policy), ("nodeTaintsPolicy", &self.node_taints_policy)];
        for (name, policy) in policies {
            if let Some(found) = policy {
                one_of(field, name, found, ["Honor", "Ignore"])?;
            }
        }
        if let Some(found) = &self.label_selector {
            bail!("{field}.labelSelector: found {found}, expected none: it is derived from what selects a pod");
        }
        if let Some(found) = &self.match_label_keys {
            bail!("{field}.matchLabelKeys: found {found:?}, expected none");
        }
        Ok(())
    }

    fn spread(self) -> TopologySpreadConstraint {
        TopologySpreadConstraint {
            max_skew: self.max_skew,
            topology_key: self.topology_key,
            when_unsatisfiable: self.when_unsatisfiable,
            min_domains: self.min_domains,
            node_affinity_policy: self.node_affinity_policy,
            node_taints_policy: self.node_taints_policy,
            label_selector: None,
            match_label_keys: None,
        }
    }
}

fn one_of(field: &str, name: &str, found: &str, [a, b]: [&str; 2]) -> anyhow::Result<()> {
    if found == a || found == b {
        return Ok(());
    }
    bail!("{field}.{name}: found {found:?}, expected {a} or {b}")
}

/// A label key: a name of at most 63 characters, before it perhaps a DNS subdomain and a slash.
fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let inner = |text: &str, more: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        text.chars().all(allowed) && ends(text.chars().next()) && ends(text.chars().last())
    };
    let is_name = name.len() <= 63 && inner(name, "-_.");
    let is_domain = |prefix: &str| {
        prefix.len() <= 253
            && !prefix.contains(|c: char| c.is_ascii_uppercase())
            && prefix.split('.').all(|part| inner(part, "-"))
    };
    is_name && prefix.is_none_or(is_domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraint(fields: &str) -> String {
        format!("podTopologySpread: {{ defaultConstraints: [{{ {fields} }}] }}")
    }

    #[test]
    fn constraints_are_read_from_yaml_and_from_json() {
        let yaml = "
podTopologySpread:
  defaultConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: DoNotSchedule
    minDomains: 2
    nodeTaintsPolicy: Honor
  - maxSkew: 3
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
";
        let read = default_spreads(yaml).unwrap();
        let brief: Vec<_> = read.iter().map(|one| (one.max_skew, one.topology_key.as_str(), one.min_domains)).collect();
        assert_eq!(brief, [(1, "topology.kubernetes.io/zone", Some(2)), (3, "kubernetes.io/hostname", None)]);
        let json = r#"{"podTopologySpread":{"defaultConstraints":[
            {"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway"}]}}"#;
        assert_eq!(default_spreads(json).unwrap().len(), 1);
        for none in ["", "  ", "{}", "podTopologySpread: {}"] {
            assert_eq!(default_spreads(none).unwrap(), [], "{none:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = "maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule";
        assert!(default_spreads(&constraint(good)).is_ok());
        let twice = format!("podTopologySpread: {{ defaultConstraints: [{{ {good} }}, {{ {good} }}] }}");
        for (text, told) in [
            (constraint(&good.replace("maxSkew: 1", "maxSkew: 0")), "defaultConstraints[0].maxSkew: found 0"),
            (constraint(&good.replace("maxSkew: 1, ", "")), "maxSkew: found 0"),
            (constraint(&good.replace("maxSkew: 1", "maxSkew: one")), "maxSkew"),
            (constraint(&good.replace("zone", "''")), "topologyKey: found \"\""),
            (constraint(&good.replace("zone", "-a")), "topologyKey: found \"-a\""),
            (constraint(&good.replace("zone", "A.b/c")), "topologyKey: found \"A.b/c\""),
            (constraint(&good.replace("zone", "a/b/c")), "topologyKey"),
            (constraint(&good.replace("DoNotSchedule", "Never")), "found \"Never\", expected DoNotSchedule or"),
            (constraint(&good.replace(", whenUnsatisfiable: DoNotSchedule", "")), "whenUnsatisfiable: found \"\""),
            (constraint(&format!("{good}, labelSelector: {{}}")), "labelSelector: found {}, expected none"),
            (constraint(&format!("{good}, matchLabelKeys: [a]")), "matchLabelKeys: found [\"a\"], expected none"),
            (constraint(&format!("{good}, minDomains: 0")), "minDomains: found 0"),
            (constraint(&format!("{good}, nodeTaintsPolicy: Maybe")), "nodeTaintsPolicy: found \"Maybe\""),
            (constraint(&format!("{good}, skew: 1")), "unknown field `skew`"),
            (twice, "defaultConstraints[1]: found topologyKey \"zone\" with DoNotSchedule again"),
            ("podTopologySpreads: {}".to_owned(), "unknown field `podTopologySpreads`"),
            ("podTopologySpread: { defaults: [] }".to_owned(), "unknown field `defaults`"),
            ("[".to_owned(), "expected podTopologySpread.defaultConstraints in YAML or JSON"),
        ] {
            let error = format!("{:#}", default_spreads(&text).unwrap_err());
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
