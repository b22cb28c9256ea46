//! The CRDs on the real API server: every example is taken and nothing of it lost, what is wrong is refused by name.
//!
//! What is wrong stands in `invalid/*.yaml` as data; see [`cases`]. Whether the examples use every field, and the
//! cases break every rule, is computed from the CRDs themselves; see [`schema`].

mod cases;
pub(crate) mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use karpenter_api::{CapacityBuffer, Ec2NodeClass, NodeClaim, NodeOverlay, NodePool};
use karpenter_harness::{Cluster, documents, refusal, root};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::manifests;
use crate::stage::Stage;
use cases::{Attempt, Expected};

/// Every document of every example, with the name of its file.
fn examples() -> anyhow::Result<Vec<(String, Value)>> {
    let mut files: Vec<_> = fs::read_dir(root().join("examples"))?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    let mut all = Vec::new();
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(file.path())?;
        all.extend(documents(&text).context(name.clone())?.into_iter().map(|document| (name.clone(), document)));
    }
    Ok(all)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn every_example_is_accepted_and_comes_back_whole() -> anyhow::Result<()> {
    let stage = Stage::dark().await?;
    let mut wrong = Vec::new();
    let mut ours = 0;
    for (file, applied) in examples()? {
        let what = format!("{file}: {} {}", text(&applied, "/kind"), text(&applied, "/metadata/name"));
        let stored = match stage.cluster.dry_run(&applied).await? {
            Ok(stored) => stored,
            Err(error) => {
                wrong.push(format!("{what}: {error}"));
                continue;
            }
        };
        wrong.extend(lost(&applied, &stored).into_iter().map(|path| format!("{what}: the API server dropped {path}")));
        if let Some(back) = through_its_type(&stored).context(what.clone())? {
            ours += 1;
            wrong.extend(lost(&stored, &back).into_iter().map(|path| format!("{what}: our type lost {path}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ours >= 30, "{ours} objects of ours in examples/");
    Ok(())
}

#[tokio::test]
async fn what_is_left_out_is_filled_in() -> anyhow::Result<()> {
    let stage = Stage::dark().await?;
    let spec = async |object: Value| -> anyhow::Result<Value> {
        Ok(stage.cluster.dry_run(&object).await??.pointer("/spec").cloned().unwrap_or_default())
    };
    let pool = spec(manifests::pool("least", &json!({}))).await?;
    let disruption = json!({
        "consolidateAfter": "0s", "consolidationPolicy": "WhenEmptyOrUnderutilized", "budgets": [{ "nodes": "10%" }],
    });
    assert_eq!(pool["disruption"], disruption);
    assert_eq!(pool["template"]["spec"]["expireAfter"], "720h");
    let pool = spec(manifests::pool("least", &json!({ "disruption": { "budgets": [{}] } }))).await?;
    assert_eq!(pool["disruption"], disruption);
    let class = spec(manifests::class("least", &json!({}))).await?;
    let options = json!({
        "httpEndpoint": "enabled", "httpProtocolIPv6": "disabled", "httpPutResponseHopLimit": 1, "httpTokens": "required",
    });
    assert_eq!(class["metadataOptions"], options);
    let class = spec(manifests::class("least", &json!({ "metadataOptions": {} }))).await?;
    assert_eq!(class["metadataOptions"], options);
    let claim = spec(json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "least" },
        "spec": { "nodeClassRef": pool["template"]["spec"]["nodeClassRef"], "requirements": [] },
    }))
    .await?;
    assert_eq!(claim["expireAfter"], "720h");
    let buffer = spec(json!({
        "apiVersion": "autoscaling.x-k8s.io/v1beta1", "kind": "CapacityBuffer",
        "metadata": { "name": "least", "namespace": "default" },
        "spec": { "scalableRef": { "kind": "Deployment", "name": "web" } },
    }))
    .await?;
    assert_eq!(buffer["provisioningStrategy"], "buffer.x-k8s.io/active-capacity");
    Ok(())
}

/// Read as what it is and written again; nothing for kinds that are not ours.
fn through_its_type(object: &Value) -> serde_json::Result<Option<Value>> {
    fn back<T: DeserializeOwned + Serialize>(object: &Value) -> serde_json::Result<Option<Value>> {
        serde_json::to_value(serde_json::from_value::<T>(object.clone())?).map(Some)
    }
    match text(object, "/kind") {
        "NodePool" => back::<NodePool>(object),
        "NodeClaim" => back::<NodeClaim>(object),
        "NodeOverlay" => back::<NodeOverlay>(object),
        "EC2NodeClass" => back::<Ec2NodeClass>(object),
        "CapacityBuffer" => back::<CapacityBuffer>(object),
        _ => Ok(None),
    }
}

/// The paths at which `after` has not what `before` had.
fn lost(before: &Value, after: &Value) -> Vec<String> {
    fn walk(before: &Value, after: Option<&Value>, path: &str, found: &mut Vec<String>) {
        match (before, after) {
            (Value::Object(fields), Some(Value::Object(others))) => {
                for (name, value) in fields {
                    walk(value, others.get(name), &format!("{path}.{name}"), found);
                }
            }
            (Value::Array(items), Some(Value::Array(others))) if items.len() == others.len() => {
                for (at, (item, other)) in items.iter().zip(others).enumerate() {
                    walk(item, Some(other), &format!("{path}[{at}]"), found);
                }
            }
            (before, Some(after)) if before == after => {}
            (before, after) => found.push(format!("{path} = {before}, found {}", after.unwrap_or(&Value::Null))),
        }
    }
    let mut found = Vec::new();
    walk(before, Some(after), "", &mut found);
    found
}

#[test]
fn the_examples_use_every_field() -> anyhow::Result<()> {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, document) in examples()? {
        schema::used(&document["spec"], "spec", used.entry(text(&document, "/kind").to_owned()).or_default());
    }
    let mut missing = Vec::new();
    for (kind, crd) in karpenter_api::crd::all()? {
        let fields = schema::fields(schema::spec(&crd)?);
        assert!(fields.len() >= 10, "{kind}: {fields:?}");
        let used = used.remove(&kind).unwrap_or_default();
        missing.extend(fields.difference(&used).map(|path| format!("{kind} {path}")));
    }
    assert!(missing.is_empty(), "no example uses:\n{}", missing.join("\n"));
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name_and_what_is_just_right_is_not() -> anyhow::Result<()> {
    let stage = Stage::dark().await?;
    let mut wrong = Vec::new();
    let (mut refused, mut accepted) = (0, 0);
    for (kind, crd) in karpenter_api::crd::all()? {
        let mut refusals = Vec::new();
        for attempt in cases::of(&folder(), &kind)? {
            match (&attempt.expected, answer(&stage.cluster, &attempt).await?) {
                (Expected::Accepted, None) => accepted += 1,
                (Expected::Accepted, Some(said)) => {
                    wrong.push(format!("{attempt}: expected to be taken, found {said}"));
                }
                (Expected::Refused { field, says }, Some(said)) => {
                    refused += 1;
                    if !names(&said, field) || !said.contains(says) {
                        wrong.push(format!("{attempt}: expected {field:?} and {says:?} in the answer, found {said}"));
                    }
                    refusals.push((field.clone(), said));
                }
                (Expected::Refused { .. }, None) => wrong.push(format!("{attempt}: expected to be refused, was taken")),
            }
        }
        let never = schema::rules(schema::spec(&crd)?)
            .into_iter()
            .filter(|rule| !refusals.iter().any(|(field, said)| rule.is_at(field) && said.contains(&rule.says)));
        wrong.extend(never.map(|rule| format!("{kind} {}: no case is refused with {:?}", rule.path, rule.says)));
    }
    println!("{refused} refused, {accepted} accepted");
    assert!(wrong.is_empty(), "{refused} refused, {accepted} accepted; wrong:\n{}", wrong.join("\n"));
    Ok(())
}

/// Whether an answer is about a field, not about one whose name begins alike.
fn names(said: &str, field: &str) -> bool {
    let after = said.match_indices(field).filter_map(|(at, _)| said.get(at + field.len()..));
    after.into_iter().any(|rest| rest.is_empty() || rest.starts_with(':'))
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/invalid")
}

/// What the API server said to a refused attempt; nothing if it took it.
async fn answer(cluster: &Cluster, attempt: &Attempt) -> anyhow::Result<Option<String>> {
    let result = match &attempt.patch {
        None => cluster.dry_run(&attempt.object).await?,
        Some(patch) => {
            cluster.apply(&attempt.object.to_string()).await.with_context(|| attempt.to_string())?;
            cluster.dry_merge(&attempt.object, patch).await?
        }
    };
    match result {
        Ok(_) => Ok(None),
        Err(error) => match refusal(&error) {
            Some(said) => Ok(Some(said.to_owned())),
            None => bail!("{attempt}: {error}"),
        },
    }
}
