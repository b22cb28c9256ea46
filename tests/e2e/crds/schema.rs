//! What a CRD's schema holds: its fields, and the rules that the API server enforces on them.
//!
//! Paths are written like `spec.requirements[].key`; the values of a map are `spec.limits.*`.

use std::collections::BTreeSet;

use anyhow::Context;
use serde_json::Value;

/// The schema of a CRD's spec, with its parent, which says whether it is required.
pub(crate) fn spec(crd: &Value) -> anyhow::Result<&Value> {
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").context("the CRD has no schema")
}

/// Every field of the spec.
pub(crate) fn fields(root: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    nodes(&root["properties"]["spec"], "spec", &mut |path, _| {
        all.insert(path.to_owned());
    });
    all
}

/// Every field that a value has, in the same words. A map's keys are fields as well; they do no harm.
pub(crate) fn used(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    if !value.is_null() {
        all.insert(path.to_owned());
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                used(value, &format!("{path}.{name}"), all);
                all.insert(format!("{path}.*"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| used(item, &format!("{path}[]"), all)),
        _ => {}
    }
}

/// Something the API server enforces.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) path: String,
    /// What it says when that is broken.
    pub(super) says: String,
}

impl Rule {
    /// Whether it is a field as an answer names it, such as `spec.requirements[0].key`.
    pub(super) fn is_at(&self, field: &str) -> bool {
        let mut general = String::new();
        for (at, part) in field.split('[').enumerate() {
            let rest = if at == 0 { part } else { part.split_once(']').map_or("", |(_, rest)| rest) };
            general += if at == 0 { "" } else { "[]" };
            general += rest;
        }
        match self.path.strip_suffix('*') {
            Some(map) => general.starts_with(map),
            None => general == self.path,
        }
    }
}

/// Every rule on the spec and below, one for each thing that can be wrong.
pub(super) fn rules(root: &Value) -> Vec<Rule> {
    let mut all = Vec::new();
    let mut add = |path: String, says: &str| all.push(Rule { path, says: says.to_owned() });
    let mut of_node = |path: &str, schema: &Value| {
        for (word, says) in [
            ("pattern", "should match"),
            ("enum", "Unsupported value"),
            ("minimum", "greater than or equal to"),
            ("maximum", "less than or equal to"),
            ("minLength", "at least"),
            ("maxLength", "Too long"),
            ("minItems", "at least"),
            ("maxItems", "must have at most"),
            ("maxProperties", "must have at most"),
        ] {
            if schema.get(word).is_some() {
                add(path.to_owned(), says);
            }
        }
        if schema["x-kubernetes-list-type"] == "set" {
            add(format!("{path}[]"), "Duplicate value");
        }
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            add(path.to_owned(), rule["message"].as_str().unwrap_or_default());
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            // A default is there before anyone looks.
            if schema["properties"][name].get("default").is_none() {
                add(format!("{path}.{name}"), "Required value");
            }
        }
    };
    nodes(&root["properties"]["spec"], "spec", &mut of_node);
    let required = root["required"].as_array().is_some_and(|names| names.iter().any(|name| name == "spec"));
    if required {
        all.push(Rule { path: "spec".to_owned(), says: "Required value".to_owned() });
    }
    all
}

/// Visits a schema and everything below it.
fn nodes(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        nodes(property, &format!("{path}.{name}"), visit);
    }
    if schema["items"].is_object() {
        nodes(&schema["items"], &format!("{path}[]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        nodes(&schema["additionalProperties"], &format!("{path}.*"), visit);
    }
}
