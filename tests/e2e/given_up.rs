//! Nodes that never come, or stop answering.

use jiff::{SignedDuration, Timestamp};
use karpenter_api::NodeClaim;
use karpenter_harness::Seen;
use serde_json::json;

use crate::deletion::{is_gone, one_app};
use crate::stage::{SOON, Stage, is, name, provider_id, told};

/// As if the claim had waited for its node for sixteen minutes.
async fn has_waited(stage: &Stage, claim: &NodeClaim) -> anyhow::Result<()> {
    let before = (Timestamp::now() - SignedDuration::from_mins(16)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut conditions = serde_json::to_value(claim.status.as_ref().and_then(|status| status.conditions.as_ref()))?;
    for condition in conditions.as_array_mut().into_iter().flatten() {
        if condition["type"] == "Registered" {
            condition["lastTransitionTime"] = json!(before);
        }
    }
    stage.patch_status::<NodeClaim>(name(&claim.metadata), &json!({ "status": { "conditions": conditions } })).await
}

/// The claim that waits for a node and is none of these.
async fn waiting(stage: &Stage, known: &[&NodeClaim]) -> anyhow::Result<NodeClaim> {
    stage
        .until("a claim waits for its node", SOON, async || {
            let claims = stage.claims("general").await?;
            let is_new = |one: &&NodeClaim| known.iter().all(|known| known.metadata.uid != one.metadata.uid);
            let told: Vec<_> = claims.iter().map(told).collect();
            let found = claims.iter().filter(is_new).find(|one| is(one, "Registered", "NodeNotFound"));
            Ok(found.cloned().map_or_else(|| Seen::NotYet(format!("{told:?}")), Seen::Done))
        })
        .await
}

/// After a quarter of an hour its instance ends, its pods get another one; when that happens twice, the pool says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_registers_is_given_up_and_replaced() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.tell("nodes", &json!({ "never_joins": true }))?;
    stage.apply(&one_app()).await?;
    let first = waiting(&stage, &[]).await?;
    has_waited(&stage, &first).await?;
    is_gone(&stage, &first).await?;
    let second = waiting(&stage, &[&first]).await?;
    assert_ne!(provider_id(&second), provider_id(&first));
    has_waited(&stage, &second).await?;
    is_gone(&stage, &second).await?;
    stage
        .until("the pool is told to be unhealthy", SOON, async || {
            let conditions =
                stage.pool("general").await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let health = conditions.into_iter().find(|known| known.type_ == "NodeRegistrationHealthy");
            let is_false = health.as_ref().is_some_and(|c| c.status == "False" && c.reason == "RegistrationFailed");
            Ok(Seen::holds(is_false, health))
        })
        .await?;
    stage.aws.tell("nodes", &json!({ "scripts": [] }))?;
    stage.pods_run("app", 1).await?;
    stage.ready_claim("general").await?;
    Ok(())
}

/// It stops answering, and only EC2 knows why: nobody waits for a kubelet that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_instance_is_not_drained() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&one_app()).await?;
    stage.pods_run("app", 1).await?;
    let old = stage.ready_claim("general").await?;
    let instance = stage.instances("general")?.pop().map(|one| one.id).unwrap_or_default();
    stage.aws.tell("nodes", &json!({ "instance_id": instance, "not_ready": true }))?;
    stage
        .until("the node is not ready", SOON, async || {
            let node = stage.node(crate::stage::node_name(&old)).await;
            let ready = node
                .as_ref()
                .ok()
                .and_then(|node| node.status.as_ref()?.conditions.as_ref())
                .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
            Ok(Seen::holds(!ready, node.map(|node| node.status)))
        })
        .await?;
    stage.aws.tell("instances", &json!({ "ids": [instance], "event": "terminate" }))?;
    is_gone(&stage, &old).await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}
