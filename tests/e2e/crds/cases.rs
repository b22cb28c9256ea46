//! Manifests that are wrong in one place, and those at the border that are not, from a compact table.
//!
//! A file of `invalid/` has a small valid `base` and a list of cases. Each puts one value after the other `at` a place
//! of the base, `with` something else merged into it first:
//! ```yaml
//! - { at: spec.weight, refused: [101], says: less than or equal to 100, accepted: [100] }
//! - { at: spec.template, missing: true }
//! ```
//! A refusal names `field` (the place itself unless told otherwise) and `says` why. `missing` takes the place away;
//! `update` stores the base and changes it. `shared` files hold cases for several kinds, with places relative to
//! `under`. Long values are written `{ $text: 64 }` (a text of that length) and `{ $times: 101, of: … }` (a list, or
//! with `key` a map, in which `$i` is the item's number).

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    base: Option<Value>,
    #[serde(default)]
    shared: Vec<Shared>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    file: String,
    under: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    at: String,
    #[serde(default)]
    missing: bool,
    #[serde(default)]
    refused: Vec<Value>,
    #[serde(default)]
    accepted: Vec<Value>,
    field: Option<String>,
    says: Option<String>,
    with: Option<Value>,
    #[serde(default)]
    update: bool,
}

/// One object to try on the API server.
pub(super) struct Attempt {
    name: String,
    pub(super) object: Value,
    /// Merged into the object once it is stored; without it, creating the object is all.
    pub(super) patch: Option<Value>,
    pub(super) expected: Expected,
}

pub(super) enum Expected {
    Accepted,
    Refused { field: String, says: String },
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Every attempt on a kind.
pub(super) fn of(folder: &Path, kind: &str) -> anyhow::Result<Vec<Attempt>> {
    let table = read(folder, &kind.to_lowercase())?;
    let base = table.base.with_context(|| format!("{kind}: the table has no base"))?;
    let mut all = Vec::new();
    for case in &table.cases {
        attempts(&base, "", case, &mut all).with_context(|| format!("{kind}: {}", case.at))?;
    }
    for Shared { file, under } in &table.shared {
        for case in &read(folder, file)?.cases {
            attempts(&base, under, case, &mut all).with_context(|| format!("{file}: {}", case.at))?;
        }
    }
    // What is stored needs a name of its own.
    for (number, attempt) in all.iter_mut().enumerate() {
        attempt.object["metadata"]["name"] = json!(format!("base-{number}"));
    }
    Ok(all)
}

fn read(folder: &Path, name: &str) -> anyhow::Result<Table> {
    let path = folder.join(format!("{name}.yaml"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_norway::from_str(&text).with_context(|| path.display().to_string())
}

fn attempts(base: &Value, under: &str, case: &Case, all: &mut Vec<Attempt>) -> anyhow::Result<()> {
    let place = join(under, &case.at);
    let field = case.field.as_ref().map_or_else(|| place.clone(), |field| join(under, field));
    let mut base = base.clone();
    if let Some(with) = &case.with {
        merge(slot(&mut base, under)?, with);
    }
    let refused = |default: &str| Expected::Refused {
        field: field.clone(),
        says: case.says.clone().unwrap_or_else(|| default.to_owned()),
    };
    let mut push = |value: Option<&Value>, expected: Expected| -> anyhow::Result<()> {
        let kind = base["kind"].as_str().unwrap_or_default();
        let shown = value.map_or_else(|| "(missing)".to_owned(), Value::to_string);
        let name = format!("{kind} {place}: {}", shown.chars().take(100).collect::<String>());
        let value = value.map(expand).transpose()?;
        let (object, patch) = if case.update {
            let mut patch = json!({});
            *slot(&mut patch, &place)? = value.unwrap_or_default();
            (base.clone(), Some(patch))
        } else {
            (put(&base, &place, value)?, None)
        };
        all.push(Attempt { name, object, patch, expected });
        Ok(())
    };
    if case.missing {
        push(None, refused("Required value"))?;
    }
    for value in &case.refused {
        push(Some(value), refused(""))?;
    }
    for value in &case.accepted {
        push(Some(value), Expected::Accepted)?;
    }
    Ok(())
}

fn join(under: &str, at: &str) -> String {
    match (under, at) {
        ("", at) => at.to_owned(),
        (under, "") => under.to_owned(),
        (under, at) if at.starts_with('[') => format!("{under}{at}"),
        (under, at) => format!("{under}.{at}"),
    }
}

/// The object with a value at a place, or without the place.
fn put(object: &Value, place: &str, value: Option<Value>) -> anyhow::Result<Value> {
    let mut object = object.clone();
    if let Some(value) = value {
        *slot(&mut object, place)? = value;
        return Ok(object);
    }
    let (parent, name) = place.rsplit_once('.').unwrap_or(("", place));
    match slot(&mut object, parent)? {
        Value::Object(fields) => fields.remove(name),
        other => bail!("{parent}: expected an object, found {other}"),
    };
    Ok(object)
}

/// The value at a place such as `spec.taints[0].key`; what is not there yet is made.
fn slot<'a>(mut value: &'a mut Value, place: &str) -> anyhow::Result<&'a mut Value> {
    for step in place.split('.').filter(|step| !step.is_empty()) {
        let (name, index) = match step.split_once('[') {
            Some((name, index)) => (name, Some(index.trim_end_matches(']').parse::<usize>()?)),
            None => (step, None),
        };
        if value.is_null() {
            *value = json!({});
        }
        value = value
            .as_object_mut()
            .with_context(|| format!("{step}: not in an object"))?
            .entry(name)
            .or_insert(Value::Null);
        if let Some(index) = index {
            if value.is_null() {
                *value = json!([]);
            }
            let items = value.as_array_mut().with_context(|| format!("{step}: not a list"))?;
            if index == items.len() {
                items.push(Value::Null);
            }
            value = items.get_mut(index).with_context(|| format!("{step}: the list is shorter"))?;
        }
    }
    Ok(value)
}

/// JSON merge patch (RFC 7396).
fn merge(base: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *base = patch.clone();
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            base.as_object_mut().map(|base| base.remove(name));
        } else {
            merge(&mut base[name], value);
        }
    }
}

/// Writes out `$text` and `$times`, wherever they stand.
fn expand(value: &Value) -> anyhow::Result<Value> {
    let number = |value: &Value| {
        value.as_u64().and_then(|n| usize::try_from(n).ok()).with_context(|| format!("{value}: expected a number"))
    };
    match value {
        Value::Object(fields) => {
            if let Some(length) = fields.get("$text") {
                return Ok(json!("a".repeat(number(length)?)));
            }
            if let Some(times) = fields.get("$times") {
                let numbers = 0..number(times)?;
                let of = &fields["of"];
                return Ok(match fields.get("key").and_then(Value::as_str) {
                    None => numbers.map(|i| numbered(of, i)).collect(),
                    Some(key) => {
                        let entry = |i: usize| (key.replace("$i", &i.to_string()), numbered(of, i));
                        Value::Object(numbers.map(entry).collect::<Map<_, _>>())
                    }
                });
            }
            let fields: anyhow::Result<Map<_, _>> =
                fields.iter().map(|(name, value)| Ok((name.clone(), expand(value)?))).collect();
            Ok(Value::Object(fields?))
        }
        Value::Array(items) => items.iter().map(expand).collect::<anyhow::Result<Value>>(),
        other => Ok(other.clone()),
    }
}

/// The value with its number in place of `$i`.
fn numbered(value: &Value, i: usize) -> Value {
    match value {
        Value::String(text) if text == "$i" => json!(i),
        Value::String(text) => json!(text.replace("$i", &i.to_string())),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), numbered(value, i))).collect())
        }
        Value::Array(items) => items.iter().map(|item| numbered(item, i)).collect(),
        other => other.clone(),
    }
}
