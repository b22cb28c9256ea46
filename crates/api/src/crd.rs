//! The CRDs as the API server gets them: the types' schemas plus what it enforces.
//!
//! A type says the shape; `rules` says the limits, one row per node of a schema, so that the
//! table can be held against Karpenter's. Messages name the field they are about.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::rules::{Fragment, rules};
use crate::{CapacityBuffer, Ec2NodeClass, NodeClaim, NodeOverlay, NodePool};

/// A CRD as a file.
#[derive(Clone, Debug)]
pub struct File {
    pub kind: String,
    /// As Karpenter names it, e.g. `karpenter.sh_nodepools.yaml`.
    pub name: String,
    pub yaml: String,
}

/// A schema without a node that a rule is for: the types and the table do not agree.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    #[error("{kind}: the schema has no {path}, for which there is a rule")]
    NoSuchNode { kind: String, path: String },
    #[error("the CRD cannot be written: {0}")]
    Unwritable(String),
}

/// Every CRD, ready to be written to `crds/`.
pub fn files() -> Result<Vec<File>, CrdError> {
    all()?
        .into_iter()
        .map(|(kind, crd)| {
            let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let name = format!("{}_{}.yaml", text("/spec/group"), text("/spec/names/plural"));
            let yaml = serde_norway::to_string(&crd).map_err(|error| CrdError::Unwritable(error.to_string()))?;
            Ok(File { kind, name, yaml })
        })
        .collect()
}

/// Every CRD by kind, as JSON.
pub fn all() -> Result<Vec<(String, Value)>, CrdError> {
    let crds = [NodePool::crd(), NodeClaim::crd(), NodeOverlay::crd(), Ec2NodeClass::crd(), CapacityBuffer::crd()];
    crds.into_iter()
        .map(|crd| {
            let kind = crd.spec.names.kind.clone();
            let mut crd = serde_json::to_value(crd).map_err(|error| CrdError::Unwritable(error.to_string()))?;
            let schema = crd
                .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
                .ok_or_else(|| CrdError::NoSuchNode { kind: kind.clone(), path: "openAPIV3Schema".to_owned() })?;
            clean(schema);
            for (path, fragment) in rules(&kind) {
                apply(schema, &kind, &path, &fragment)?;
            }
            Ok((kind, crd))
        })
        .collect()
}

/// Optional fields are absent, never null; formats the API server does not know go.
fn clean(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("nullable");
            if let Some(Value::Array(values)) = fields.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            let combined = ["anyOf", "oneOf"].into_iter().find(|key| fields.contains_key(*key));
            if let Some(key) = combined
                && !fields.contains_key("x-kubernetes-int-or-string")
            {
                flatten(fields, key);
            }
            for value in fields.values_mut() {
                clean(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

/// An `Option<Enum>` comes as a choice between the enum and null: the enum it is.
fn flatten(fields: &mut serde_json::Map<String, Value>, key: &str) {
    let Some(Value::Array(choices)) = fields.get(key).cloned() else {
        return;
    };
    let real: Vec<Value> = choices
        .into_iter()
        .filter(|choice| {
            let null = choice.get("enum") == Some(&json!([null])) || choice.get("nullable") == Some(&json!(true));
            !null
        })
        .collect();
    if let [Value::Object(one)] = real.as_slice() {
        fields.remove(key);
        for (name, value) in one {
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn apply(schema: &mut Value, kind: &str, path: &str, fragment: &Fragment) -> Result<(), CrdError> {
    let missing = || CrdError::NoSuchNode { kind: kind.to_owned(), path: path.to_owned() };
    let mut node = schema;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let name = step.trim_end_matches("[]").trim_end_matches("{}");
        node = node.get_mut("properties").and_then(|all| all.get_mut(name)).ok_or_else(missing)?;
        if step.ends_with("[]") {
            node = node.get_mut("items").ok_or_else(missing)?;
        } else if step.ends_with("{}") {
            node = node.get_mut("additionalProperties").ok_or_else(missing)?;
        }
    }
    let fields = node.as_object_mut().ok_or_else(missing)?;
    for (key, value) in &fragment.0 {
        if value.is_null() {
            fields.remove(key);
        } else {
            fields.insert(key.clone(), value.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_are_absent_never_null() {
        fn nulls(value: &Value, path: &str, found: &mut Vec<String>) {
            match value {
                Value::Null => found.push(path.to_owned()),
                Value::Array(items) => items.iter().for_each(|item| nulls(item, &format!("{path}[]"), found)),
                Value::Object(fields) => {
                    fields.iter().for_each(|(name, value)| nulls(value, &format!("{path}.{name}"), found));
                    if fields.contains_key("nullable") {
                        found.push(format!("{path}.nullable"));
                    }
                }
                _ => {}
            }
        }
        let mut found = Vec::new();
        for (kind, crd) in all().unwrap() {
            nulls(&crd, &kind, &mut found);
        }
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_rule_for_no_node_is_an_error() {
        let mut schema = json!({ "properties": { "spec": { "type": "object" } } });
        let error = apply(&mut schema, "NodePool", "spec.weight", &Fragment(serde_json::Map::new())).unwrap_err();
        assert_eq!(error.to_string(), "NodePool: the schema has no spec.weight, for which there is a rule");
    }
}
