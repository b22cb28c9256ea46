//! EC2NodeClasses as users have them: every field is used, and what EC2 was asked for stands in `snapshots/`.
//!
//! Ids that EC2 makes up are named after what bears them, both ways: `$dev-nodes` in `classes/*.yaml` and in the
//! snapshots is the security group of that name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Context;
use karpenter_harness::{Seen, documents, root};
use roxmltree::Document;
use serde_json::{Value, json};

use crate::crds::schema;
use crate::manifests::{deployment, on_demand, on_pool, pool, requiring, types};
use crate::stage::{SOON, Stage};

/// Name → type that its pool asks for.
const CLASSES: [(&str, &str); 5] = [
    ("al2023", "m7i.large"),
    ("al2", "m5.large"),
    ("bottlerocket", "c6id.32xlarge"),
    ("windows", "m5.large"),
    ("custom", "m6g.large"),
];

/// Tags whose values are made up for each launch.
const VARYING_TAGS: [&str; 1] = ["karpenter-rs.dev/launch"];

/// The manifest of a class, with `$name` in place of ids unless they are given.
fn manifest(name: &str, ids: &BTreeMap<String, String>) -> anyhow::Result<Value> {
    let path = root().join(format!("tests/e2e/classes/{name}.yaml"));
    let mut text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for (id, name) in ids {
        text = text.replace(name, id);
    }
    documents(&text)?.pop().with_context(|| format!("{name}: an empty file"))
}

#[test]
fn the_classes_use_every_field() -> anyhow::Result<()> {
    let mut used = BTreeSet::new();
    for (name, _) in CLASSES {
        schema::used(&manifest(name, &BTreeMap::new())?["spec"], "spec", &mut used);
    }
    let crds = karpenter_api::crd::all()?;
    let (_, crd) = crds.into_iter().find(|(kind, _)| kind == "EC2NodeClass").context("the CRD")?;
    let fields = schema::fields(schema::spec(&crd)?);
    let missing: Vec<_> = fields.difference(&used).collect();
    assert!(fields.len() > 70 && missing.is_empty(), "of {} fields not used: {missing:#?}", fields.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_resolves_and_launches_as_it_says() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    let ids = plant(&stage)?;
    stage.start()?;
    for (name, instance_type) in CLASSES {
        let of_class = requiring(&[on_demand(), types(&[instance_type])]);
        let mut pool = pool(name, &of_class);
        pool["spec"]["template"]["spec"]["nodeClassRef"]["name"] = json!(name);
        let pods = deployment(name, 1, "500m", "512Mi", &on_pool(name));
        stage.apply(&[manifest(name, &ids)?, pool, pods]).await?;
    }
    for (name, _) in CLASSES {
        let (template, fleet) = stage
            .until(&format!("{name} is launched"), SOON, async || {
                let of_class = |calls: Vec<Call>| calls.into_iter().find(|call| launches(call, name));
                let template = of_class(stage.calls("CreateLaunchTemplate")?);
                let fleet = of_class(stage.calls("CreateFleet")?);
                let class = stage.class(name).await?.status.and_then(|status| status.conditions);
                Ok(match template.zip(fleet) {
                    Some(found) => Seen::Done(found),
                    None => Seen::NotYet(format!("{class:?}")),
                })
            })
            .await?;
        let status = serde_json::to_value(stage.class(name).await?.status)?;
        let told = format!(
            "── status\n{}── CreateLaunchTemplate\n{}── user data\n{}\n── CreateFleet\n{}",
            status_told(&status)?,
            flat(&template),
            user_data(&template)?,
            flat(&fleet),
        );
        insta::assert_snapshot!(name, steady(&stage, &ids, &told)?);
    }
    Ok(())
}

type Call = BTreeMap<String, String>;

/// Whether a call is for a launch of the class's pool. The trial of the class is for no pool.
fn launches(call: &Call, class: &str) -> bool {
    let bears = |key: &str| {
        call.iter().any(|(name, value)| {
            value == key
                && name
                    .strip_suffix(".Key")
                    .and_then(|tag| call.get(&format!("{tag}.Value")))
                    .is_some_and(|v| v == class)
        })
    };
    bears("karpenter.k8s.aws/ec2nodeclass") && bears("karpenter.sh/nodepool")
}

/// What the classes name beside what is there anyway; returns ids → names.
fn plant(stage: &Stage) -> anyhow::Result<BTreeMap<String, String>> {
    let mut ids = BTreeMap::new();
    let group = [("GroupName", "parts"), ("Strategy", "partition"), ("PartitionCount", "3")];
    ids.insert(texts(&stage.aws.ec2("CreatePlacementGroup", &group)?, "groupId")?.remove(0), "$parts".to_owned());
    let reservation =
        json!({ "instance_type": "m6g.large", "zone": "us-west-2a", "total": 2, "tags": { "purpose": "batch" } });
    let reserved = stage.aws.tell("reservations", &reservation)?;
    ids.insert(reserved["id"].as_str().context("an id")?.to_owned(), "$reserved".to_owned());
    stage.aws.iam("CreateInstanceProfile", &[("InstanceProfileName", "my-profile")])?;
    let name = "amazon-eks-node-al2023-arm64-standard-1.36-*";
    let images = stage.aws.ec2("DescribeImages", &[("Filter.1.Name", "name"), ("Filter.1.Value.1", name)])?;
    let image = texts(&images, "imageId")?.remove(0);
    stage.aws.ec2("CreateTags", &[("ResourceId.1", &image), ("Tag.1.Key", "golden"), ("Tag.1.Value", "true")])?;
    ids.insert(image, "$ami".to_owned());
    for (action, item) in [("DescribeSubnets", "subnetId"), ("DescribeSecurityGroups", "groupId")] {
        let answer = stage.aws.ec2(action, &[])?;
        let document = Document::parse(&answer)?;
        for node in document.descendants().filter(|node| node.tag_name().name() == item) {
            let parent = node.parent().context("a parent")?;
            let mut tags = parent.descendants().filter(|tag| tag.text() == Some("Name"));
            let value = tags.find_map(|key| key.next_sibling_element()?.text());
            if let (Some(id), Some(name)) = (node.text(), value) {
                ids.insert(id.to_owned(), format!("${name}"));
            }
        }
    }
    Ok(ids)
}

/// The texts of all elements of this name.
fn texts(xml: &str, name: &str) -> anyhow::Result<Vec<String>> {
    let document = Document::parse(xml)?;
    let found = document.descendants().filter(|node| node.tag_name().name() == name);
    Ok(found.filter_map(|node| node.text().map(str::to_owned)).collect())
}

fn status_told(status: &Value) -> anyhow::Result<String> {
    let mut status = status.clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        *condition = json!(format!("{}={}", condition["type"], condition["status"]).replace('"', ""));
    }
    Ok(serde_norway::to_string(&status)?)
}

/// Parameters as they were sent; a tag is one line, and the user data is shown by itself.
fn flat(call: &Call) -> String {
    let shown = call.iter().filter(|(name, _)| !name.ends_with("UserData"));
    let lines = shown.filter_map(|(name, value)| {
        if let Some(tag) = name.strip_suffix(".Value").filter(|tag| call.contains_key(&format!("{tag}.Key"))) {
            let (place, _) = tag.rsplit_once('.')?;
            let key = &call[&format!("{tag}.Key")];
            let value = if VARYING_TAGS.contains(&key.as_str()) { "$varies" } else { value };
            return Some(format!("{place}[{key}] = {value}\n"));
        }
        let is_key = name.strip_suffix(".Key").is_some_and(|tag| call.contains_key(&format!("{tag}.Value")));
        let value = if name.ends_with("ClientToken") { "$varies" } else { value };
        (!is_key).then(|| format!("{name} = {value}\n"))
    });
    lines.collect()
}

fn user_data(call: &Call) -> anyhow::Result<String> {
    let encoded = call.get("LaunchTemplateData.UserData").context("user data")?;
    let bytes: k8s_openapi::ByteString = serde_json::from_value(json!(encoded))?;
    Ok(String::from_utf8(bytes.0)?)
}

/// What differs from run to run gets a name.
fn steady(stage: &Stage, ids: &BTreeMap<String, String>, told: &str) -> anyhow::Result<String> {
    let mut told = told.to_owned();
    for (id, name) in ids {
        told = told.replace(id, name);
    }
    let cluster = stage.aws.peer("state")?["cluster"].clone();
    for field in ["endpoint", "ca"] {
        told = told.replace(cluster[field].as_str().context("text")?, &format!("${field}"));
    }
    let hashed = |line: &str| {
        let prefix = ["karpenter.k8s.aws/", "dev_"]
            .into_iter()
            .find(|prefix| line.rsplit_once(prefix).is_some_and(|(_, hash)| hash.parse::<u64>().is_ok()));
        prefix.and_then(|prefix| Some(format!("{}{prefix}$hash", line.rsplit_once(prefix)?.0)))
    };
    let lines: Vec<String> = told.lines().map(|line| hashed(line).unwrap_or_else(|| line.to_owned())).collect();
    Ok(lines.join("\n"))
}
