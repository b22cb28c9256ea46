//! From a deletion to the last finalizer.

use k8s_openapi::api::core::v1::Node;
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool};
use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::manifests::{app, budget, class, deployment, pool};
use crate::stage::{SOON, Stage, is, name, node_name, provider_id, told};

/// A budget blocks the drain; once it allows it, pods move and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_claim_is_drained_through_the_eviction_api_and_ends() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage
        .apply(&[
            class("default", &json!({})),
            pool("general", &json!({})),
            budget("app", 0),
            deployment("app", 2, "500m", "512Mi", &json!({})),
        ])
        .await?;
    let pods = stage.pods_run("app", 2).await?;
    let old = stage.ready_claim("general").await?;
    stage.delete::<NodeClaim>(name(&old.metadata)).await?;

    stage.is_told("Node", node_name(&old), "FailedDraining", &["2 pods"]).await?;
    let node = stage.node(node_name(&old)).await?;
    let taints: Vec<String> = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .map(|t| format!("{}:{}", t.key, t.effect))
        .collect();
    assert!(taints.contains(&"karpenter.sh/disrupted:NoSchedule".to_owned()), "{taints:?}");
    let excluded =
        node.metadata.labels.and_then(|mut all| all.remove("node.kubernetes.io/exclude-from-external-load-balancers"));
    assert_eq!(excluded.as_deref(), Some("karpenter"));
    let claim = stage.claims("general").await?.into_iter().find(|claim| name(&claim.metadata) == name(&old.metadata));
    assert!(claim.as_ref().is_some_and(|claim| is(claim, "Drained", "Draining")), "{:?}", claim.as_ref().map(told));
    assert_eq!(stage.instances("general")?.len(), 1, "the instance runs while its pods do");
    for pod in &pods {
        let evicted = stage.events("Pod", name(&pod.metadata), "Evicted").await?;
        assert!(evicted.is_empty(), "the budget allows none: {evicted:?}");
    }

    stage.apply(&[budget("app", 1)]).await?;
    is_gone(&stage, &old).await?;
    stage.pods_run("app", 2).await?;
    assert_ne!(provider_id(&stage.ready_claim("general").await?), provider_id(&old), "they run on another instance");
    stage.is_told("Pod", name(&pods[0].metadata), "Evicted", &["Forceful Termination"]).await?;
    Ok(())
}

/// A class, a pool, and one small pod.
pub(crate) fn one_app() -> [Value; 3] {
    [class("default", &json!({})), pool("general", &json!({})), app(&json!({}))]
}

/// Neither claim nor node is left, and the instance is shutting down or gone.
pub(crate) async fn is_gone(stage: &Stage, claim: &NodeClaim) -> anyhow::Result<()> {
    let id = provider_id(claim);
    stage
        .until(&format!("nothing of {} is left", name(&claim.metadata)), SOON, async || {
            let claims = stage.cluster.claims().await?;
            let claims: Vec<String> = claims.iter().filter(|one| provider_id(one) == id).map(told).collect();
            let mut nodes = stage.cluster.nodes().await?;
            // Its name says nothing: the next instance may get the same address.
            nodes.retain(|node| node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()) == Some(id));
            let nodes: Vec<&str> = nodes.iter().map(|node| name(&node.metadata)).collect();
            let mut alive = stage.aws.alive()?;
            alive.retain(|instance| id.ends_with(&instance.id));
            assert!(alive.is_empty() || !claims.is_empty(), "the claim went before its instance: {alive:?}");
            Ok(Seen::holds(claims.is_empty() && nodes.is_empty() && alive.is_empty(), (claims, nodes, alive)))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_node_ends_its_claim_and_its_instance() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&one_app()).await?;
    stage.pods_run("app", 1).await?;
    let old = stage.ready_claim("general").await?;
    stage.delete::<Node>(node_name(&old)).await?;
    is_gone(&stage, &old).await?;
    stage.pods_run("app", 1).await?;
    assert_ne!(provider_id(&stage.ready_claim("general").await?), provider_id(&old));
    Ok(())
}

/// A claim whose instance never became a node has nothing to drain.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_without_a_node_takes_its_instance_along() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.tell("nodes", &json!({ "never_joins": true }))?;
    stage.apply(&one_app()).await?;
    let claim = stage
        .until("the claim is launched", SOON, async || {
            let claims = stage.claims("general").await?;
            let told: Vec<_> = claims.iter().map(told).collect();
            let launched = claims.into_iter().find(|claim| is(claim, "Launched", "True"));
            Ok(launched.map_or_else(|| Seen::NotYet(format!("{told:?}")), Seen::Done))
        })
        .await?;
    // Without pods and pool there is no reason for another one.
    stage.delete::<NodePool>("general").await?;
    is_gone(&stage, &claim).await?;
    assert_eq!(stage.aws.alive()?.len(), 0);
    Ok(())
}

/// An EC2NodeClass stays as long as claims need it, then takes along what was made for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_class_outlives_its_claims_and_leaves_nothing_on_aws() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&one_app()).await?;
    stage.pods_run("app", 1).await?;
    let claim = stage.ready_claim("general").await?;
    stage.delete::<Ec2NodeClass>("default").await?;
    let waits = "WaitingOnNodeClaimTermination";
    stage.is_told("EC2NodeClass", "default", waits, &[name(&claim.metadata)]).await?;
    stage.delete::<NodePool>("general").await?;
    is_gone(&stage, &claim).await?;
    stage
        .until("the EC2NodeClass and its launch templates are gone", SOON, async || {
            let left: kube::Result<_> =
                kube::Api::<Ec2NodeClass>::all(stage.cluster.client.clone()).get_opt("default").await;
            let templates = stage.aws.ec2("DescribeLaunchTemplates", &[])?;
            let gone = left?.is_none() && !templates.contains("karpenter.k8s.aws/");
            Ok(Seen::holds(gone, templates))
        })
        .await?;
    let asked = stage.aws.peer("calls")?["counts"].as_object().cloned().unwrap_or_default();
    let beyond: Vec<&String> = asked.keys().filter(|action| !ALLOWED.contains(&action.as_str())).collect();
    assert!(beyond.is_empty(), "actions that the policy of Karpenter's users does not allow: {beyond:?}");
    Ok(())
}

/// What the IAM policy of Karpenter's getting-started guide allows: whoever runs Karpenter need not change theirs.
const ALLOWED: [&str; 32] = [
    "AddRoleToInstanceProfile",
    "CreateFleet",
    "CreateInstanceProfile",
    "CreateLaunchTemplate",
    "CreateTags",
    "DeleteInstanceProfile",
    "DeleteLaunchTemplate",
    "DeleteMessage",
    "DescribeCapacityReservations",
    "DescribeCluster",
    "DescribeImages",
    "DescribeInstanceStatus",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeLaunchTemplates",
    "DescribePlacementGroups",
    "DescribeSecurityGroups",
    "DescribeSpotPriceHistory",
    "DescribeSubnets",
    "GetInstanceProfile",
    "GetManagedResource",
    "GetParameter",
    "GetProducts",
    "GetQueueUrl",
    "ListInstanceProfiles",
    "PassRole",
    "ReceiveMessage",
    "RemoveRoleFromInstanceProfile",
    "RunInstances",
    "TagInstanceProfile",
    "TerminateInstances",
];

/// An instance that somebody else ended: its pods get another one, and the claim goes.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_died_is_replaced() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&one_app()).await?;
    stage.pods_run("app", 1).await?;
    let old = stage.ready_claim("general").await?;
    stage.aws.tell("instances", &json!({ "tag": { "karpenter.sh/nodepool": "general" }, "event": "terminate" }))?;
    is_gone(&stage, &old).await?;
    stage.pods_run("app", 1).await?;
    assert_ne!(provider_id(&stage.ready_claim("general").await?), provider_id(&old));
    Ok(())
}

/// EC2's own checks fail for minutes: nothing on the instance is waited for. It is found within a minute.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_ec2_finds_broken_is_replaced() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&one_app()).await?;
    stage.pods_run("app", 1).await?;
    let old = stage.ready_claim("general").await?;
    let broken = json!({ "tag": { "karpenter.sh/nodepool": "general" }, "event": "impair", "seconds_ago": 150 });
    stage.aws.tell("instances", &broken)?;
    stage
        .until("another NodeClaim", 2 * SOON, async || {
            let claims = stage.claims("general").await?;
            let others = claims.iter().filter(|claim| claim.metadata.uid != old.metadata.uid);
            Ok(Seen::holds(others.count() == 1 && claims.len() == 1, claims.iter().map(told).collect::<Vec<_>>()))
        })
        .await?;
    stage.pods_run("app", 1).await?;
    let counted = stage
        .controller()?
        .metric(r#"karpenter_interruption_instance_status_unhealthy_total{category="instance_status"}"#)?;
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
    Ok(())
}
