//! Taking over from Karpenter, and giving back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool};
use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::deletion::is_gone;
use crate::manifests::{class, deployment, pool};
use crate::stage::{SOON, Stage, label, name, node_name, provider_id};

const POOL_HASH: [&str; 2] = ["karpenter.sh/nodepool-hash", "karpenter.sh/nodepool-hash-version"];
const CLASS_HASH: [&str; 2] = ["karpenter.k8s.aws/ec2nodeclass-hash", "karpenter.k8s.aws/ec2nodeclass-hash-version"];
const CLASS: &str = "karpenter.k8s.aws/ec2nodeclass";
/// Ours alone: Karpenter knows nothing of it.
const LAUNCH_TAG: &str = "karpenter-rs.dev/launch";

/// What must be the same after another controller has taken over.
#[derive(Debug, PartialEq)]
struct Kept {
    /// By name of the claim: UID, instance, node.
    claims: BTreeMap<String, [String; 3]>,
    nodes: BTreeMap<String, Option<String>>,
    pods: BTreeMap<String, Option<String>>,
    instances: Vec<String>,
    /// Calls to EC2 that buy or end something.
    calls: Vec<usize>,
}

async fn kept(stage: &Stage) -> anyhow::Result<Kept> {
    let claims = stage.claims("general").await?;
    let of_claim = |claim: &NodeClaim| {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        (name(&claim.metadata).to_owned(), [uid, provider_id(claim).to_owned(), node_name(claim).to_owned()])
    };
    let mut instances: Vec<String> = stage.aws.alive()?.into_iter().map(|one| one.id).collect();
    instances.sort();
    let nodes =
        stage.cluster.nodes().await?.into_iter().map(|node| (name(&node.metadata).to_owned(), node.metadata.uid));
    let pods = stage.cluster.pods().await?.into_iter().map(|pod| (name(&pod.metadata).to_owned(), pod.metadata.uid));
    let bought = ["CreateFleet", "RunInstances", "CreateLaunchTemplate", "TerminateInstances"];
    // A new process tries the class again, which is for no pool.
    let is_for_pool = |call: &BTreeMap<String, String>| {
        let pool = call.iter().find_map(|(key, value)| {
            let tag = key.strip_suffix(".Key").filter(|_| value == "karpenter.sh/nodepool")?;
            call.get(&format!("{tag}.Value"))
        });
        pool.is_none_or(|pool| pool == "general")
    };
    let count = |action: &str| Ok(stage.calls(action)?.iter().filter(|call| is_for_pool(call)).count());
    Ok(Kept {
        claims: claims.iter().map(of_claim).collect(),
        nodes: nodes.collect(),
        pods: pods.collect(),
        instances,
        calls: bought.into_iter().map(count).collect::<anyhow::Result<_>>()?,
    })
}

fn annotation<'a>(meta: &'a kube::api::ObjectMeta, key: &str) -> &'a str {
    meta.annotations.as_ref().and_then(|all| all.get(key)).map_or("", String::as_str)
}

/// Everything as an earlier Karpenter would have left it when it was stopped in the middle of a disruption: hashes of
/// another version, no label of the class, no tag of ours, a node that is about to be disrupted.
async fn as_karpenter_left_it(stage: &Stage) -> anyhow::Result<()> {
    let old = |keys: [&str; 2], version: &str| json!({ keys[0]: "1", keys[1]: version });
    let mut both = old(POOL_HASH, "v2");
    crate::manifests::merge(&mut both, &old(CLASS_HASH, "v4"));
    crate::manifests::merge(&mut both, &json!({ "karpenter.k8s.aws/tagged": "true" }));
    let unlabelled = json!({ CLASS: null });
    for claim in stage.claims("general").await? {
        let patch = json!({ "metadata": { "annotations": both, "labels": unlabelled } });
        stage.patch::<NodeClaim>(name(&claim.metadata), &patch).await?;
    }
    let disrupted = json!([{ "key": "karpenter.sh/disrupted", "effect": "NoSchedule" }]);
    for node in stage.cluster.nodes().await? {
        let patch = json!({ "metadata": { "labels": unlabelled }, "spec": { "taints": disrupted } });
        stage.patch::<Node>(name(&node.metadata), &patch).await?;
    }
    let hashed = |hash: Value| json!({ "metadata": { "annotations": hash } });
    stage.patch::<NodePool>("general", &hashed(old(POOL_HASH, "v2"))).await?;
    stage.patch::<Ec2NodeClass>("default", &hashed(old(CLASS_HASH, "v4"))).await?;
    for instance in stage.aws.alive()? {
        stage.aws.ec2("DeleteTags", &[("ResourceId.1", instance.id.as_str()), ("Tag.1.Key", LAUNCH_TAG)])?;
    }
    assert!(stage.aws.alive()?.iter().all(|instance| !instance.tags.contains_key(LAUNCH_TAG)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_karpenters_is_taken_over_as_it_is() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    stage
        .apply(&[
            class("default", &json!({})),
            pool("general", &json!({})),
            deployment("app", 4, "1500m", "512Mi", &anti_affine()),
        ])
        .await?;
    stage.pods_run("app", 4).await?;
    stage.pool_counts("general", 4).await?;
    stage.has_settled().await?;
    stage.kill()?;
    as_karpenter_left_it(&stage).await?;
    let before = kept(&stage).await?;
    let writes = stage.written()?.len();

    stage.start()?;
    stage
        .until("every hash is of the present version", SOON, async || {
            let (pool, class) = (stage.pool("general").await?.metadata, stage.class("default").await?.metadata);
            let mut wrong = Vec::new();
            for (keys, of, version) in [(POOL_HASH, &pool, "v3"), (CLASS_HASH, &class, "v6")] {
                for claim in stage.claims("general").await? {
                    let same = keys.iter().all(|key| annotation(&claim.metadata, key) == annotation(of, key));
                    if !same || annotation(of, keys[1]) != version || annotation(of, keys[0]) == "1" {
                        wrong.push(format!("{keys:?}: {:?}, {:?}", of.annotations, claim.metadata.annotations));
                    }
                }
            }
            Ok(Seen::holds(wrong.is_empty(), wrong))
        })
        .await?;
    stage.has_settled().await?;
    assert_eq!(kept(&stage).await?, before);
    let changed = stage.written()?.split_off(writes);
    let drastic = changed.iter().filter(|write| {
        ["create nodeclaims", "delete nodeclaims", "delete nodes", "create pods/eviction"]
            .contains(&write.what.as_str())
    });
    assert_eq!(drastic.count(), 0, "{changed:?}");
    for claim in stage.claims("general").await? {
        assert_eq!(label(&claim, CLASS), "default");
    }
    for node in stage.cluster.nodes().await? {
        assert_eq!(
            node.metadata.labels.iter().flatten().find(|(key, _)| *key == CLASS).map(|(_, v)| v.as_str()),
            Some("default")
        );
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        assert!(taints.is_empty(), "nobody disrupts it any longer: {taints:?}");
    }

    // What Karpenter reads of them when it takes over again.
    for instance in stage.aws.alive()? {
        for (key, value) in [
            ("karpenter.sh/nodepool", "general"),
            (CLASS, "default"),
            ("eks:eks-cluster-name", "dev"),
            ("kubernetes.io/cluster/dev", "owned"),
        ] {
            assert_eq!(instance.tags.get(key).map(String::as_str), Some(value), "{key} of {}", instance.id);
        }
    }
    for (what, meta) in stage
        .claims("general")
        .await?
        .into_iter()
        .map(|claim| ("NodeClaim", claim.metadata))
        .chain(stage.cluster.nodes().await?.into_iter().map(|node| ("Node", node.metadata)))
    {
        let finalizers = meta.finalizers.unwrap_or_default();
        assert_eq!(finalizers, ["karpenter.sh/termination"], "{what}");
    }

    // And an end like any other.
    let claim = stage.claims("general").await?.remove(0);
    stage.delete::<NodeClaim>(name(&claim.metadata)).await?;
    is_gone(&stage, &claim).await?;
    stage.pods_run("app", 4).await?;
    Ok(())
}

/// One pod a node.
fn anti_affine() -> Value {
    json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "app" } } },
    ] } } })
}
