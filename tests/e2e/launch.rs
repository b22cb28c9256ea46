//! Launches that EC2 refuses, instances that join late, badly or never.

use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::manifests::{class, deployment, on_demand, pool, requiring, types};
use crate::stage::{SOON, Stage, condition, is, name, node_name, told};

fn app(replicas: u32) -> Value {
    deployment("app", replicas, "1500m", "1Gi", &json!({}))
}

/// A pool of two types; the cheaper one is always bought first.
fn two_types() -> Value {
    pool("general", &requiring(&[on_demand(), types(&["m5.large", "m5a.large"])]))
}

fn drain(stage: &Stage, instance_type: &str) -> anyhow::Result<()> {
    stage.aws.tell("drain", &json!({ "pools": [{ "instance_type": instance_type }] })).map(drop)
}

/// The one claim of the pool, once a condition of it has this reason.
async fn claim_says(stage: &Stage, kind: &str, reason: &str) -> anyhow::Result<karpenter_api::NodeClaim> {
    stage
        .until(&format!("the claim says {kind}: {reason}"), SOON, async || {
            let claims = stage.claims("general").await?;
            let seen: Vec<_> = claims.iter().map(told).collect();
            let says = claims.into_iter().find(|claim| is(claim, kind, reason));
            Ok(says.map_or_else(|| Seen::NotYet(format!("{seen:?}")), Seen::Done))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_offering_is_passed_over() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    drain(&stage, "m5a.large")?;
    stage.apply(&[class("default", &json!({})), two_types(), app(2)]).await?;
    stage.pods_run("app", 2).await?;
    let bought: Vec<String> = stage.instances("general")?.into_iter().map(|one| one.instance_type).collect();
    assert_eq!(bought, ["m5.large", "m5.large"], "m5a.large costs less, but there is none");
    Ok(())
}

/// Nothing is left: it is told, and EC2 is not asked again and again.
#[tokio::test(flavor = "multi_thread")]
async fn when_everything_is_drained_it_is_told_without_a_storm() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    drain(&stage, "*")?;
    stage.apply(&[class("default", &json!({})), two_types(), app(2)]).await?;
    let refused = stage
        .until("a claim was refused", SOON, async || {
            let events = stage.cluster.events().await?;
            let refused = events.into_iter().find(|event| event.reason.as_deref() == Some("InsufficientCapacityError"));
            Ok(refused.map_or_else(|| Seen::NotYet("no such event".to_owned()), Seen::Done))
        })
        .await?;
    assert_eq!(refused.involved_object.kind.as_deref(), Some("NodeClaim"));
    assert!(refused.message.as_ref().is_some_and(|text| text.contains("InsufficientInstanceCapacity")), "{refused:?}");
    stage.pods_wait("app", &["general", "not available"]).await?;
    let asked = stage.calls("CreateFleet")?.len();
    stage.nothing_happens().await?;
    assert_eq!(stage.calls("CreateFleet")?.len(), asked, "known to be drained, so nobody asks");
    assert!(asked <= 2, "one refusal per claim is enough: {asked}");

    // There is capacity again; what is known of its lack is forgotten after three minutes, or with a new process.
    stage.aws.tell("refill", &json!({}))?;
    stage.kill()?;
    stage.start()?;
    stage.pods_run("app", 2).await?;
    Ok(())
}

/// A refusal that says nothing of capacity: the claim stays, says why, and launches once it may.
#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_is_not_allowed_says_so_and_is_tried_again() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.tell(
        "fault",
        &json!({
            "action": "CreateFleet", "kind": "error", "code": "UnauthorizedOperation", "count": null,
            "message": "You are not authorized to perform this operation.",
        }),
    )?;
    stage.apply(&[class("default", &json!({})), two_types(), app(1)]).await?;
    let claim = claim_says(&stage, "Launched", "Unauthorized").await?;
    let message = condition(&claim, "Launched").map_or("", |known| known.message.as_str());
    assert!(message.contains("not authorized"), "{message}");
    assert!(is(&claim, "Launched", "Unknown") && is(&claim, "Ready", "Unknown"), "{}", told(&claim));
    stage.aws.tell("fault", &json!({ "clear": true }))?;
    stage.pods_run("app", 1).await?;
    assert_eq!(name(&stage.ready_claim("general").await?.metadata), name(&claim.metadata), "the same claim");
    Ok(())
}

/// A fleet that ends without an instance is answered the same for ever under the same token.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_failed_is_not_repeated_but_tried_anew() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.tell(
        "drain",
        &json!({ "pools": [{ "code": "InvalidFleetConfiguration", "message": "the key is not there" }] }),
    )?;
    stage.apply(&[class("default", &json!({})), two_types(), app(1)]).await?;
    let claim = claim_says(&stage, "Launched", "LaunchFailed").await?;
    let message = condition(&claim, "Launched").map_or("", |known| known.message.as_str());
    assert!(message.contains("the key is not there"), "{message}");
    stage.aws.tell("refill", &json!({}))?;
    stage.pods_run("app", 1).await?;
    assert_eq!(name(&stage.ready_claim("general").await?.metadata), name(&claim.metadata), "the same claim");
    assert_eq!(stage.instances("general")?.len(), 1);
    Ok(())
}

/// EC2 fails and the connection breaks, before and after the effect: one instance all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_launch_with_an_unknown_end_is_looked_up() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    for kind in ["drop_after", "drop_after", "drop_after", "drop_before", "error"] {
        stage.aws.tell("fault", &json!({ "action": "CreateFleet", "kind": kind }))?;
    }
    stage.apply(&[class("default", &json!({})), two_types(), app(1)]).await?;
    stage.pods_run("app", 1).await?;
    let claim = stage.ready_claim("general").await?;
    let all = stage.aws.instances()?;
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(crate::stage::provider_id(&claim).ends_with(&all[0].id));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_joins_leaves_a_claim_that_says_so() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.tell("nodes", &json!({ "never_joins": true }))?;
    stage.apply(&[class("default", &json!({})), two_types(), app(1)]).await?;
    let claim = claim_says(&stage, "Registered", "NodeNotFound").await?;
    assert!(is(&claim, "Launched", "True") && is(&claim, "Ready", "Unknown"), "{}", told(&claim));
    stage.aws.tell("nodes", &json!({ "scripts": [] }))?;
    stage.pods_run("app", 1).await?;
    assert_eq!(name(&stage.ready_claim("general").await?.metadata), name(&claim.metadata), "no second one was bought");
    assert_eq!(stage.calls("CreateFleet")?.len(), 1);
    Ok(())
}

/// A node that joins late and is not ready for a while is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_late_and_not_ready_is_waited_for() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.tell("nodes", &json!({ "registration_seconds": 3.0, "not_ready": true }))?;
    stage.apply(&[class("default", &json!({})), two_types(), app(1)]).await?;
    claim_says(&stage, "Registered", "NodeNotFound").await?;
    let claim = claim_says(&stage, "Initialized", "NodeNotReady").await?;
    assert!(is(&claim, "Registered", "True"), "{}", told(&claim));
    let node = stage.node(node_name(&claim)).await?;
    let labels = node.metadata.labels.unwrap_or_default();
    assert!(labels.contains_key("karpenter.sh/registered") && !labels.contains_key("karpenter.sh/initialized"));
    stage.aws.tell("nodes", &json!({ "scripts": [] }))?;
    stage.ready_claim("general").await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}
