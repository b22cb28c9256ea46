//! AWS at its worst, a row a fault: whatever happens, each claim gets one instance, or says why it has none.

use karpenter_api::{Ec2NodeClass, conditions};
use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::manifests::{class, deployment, on_demand, pool, requiring, types};
use crate::stage::{SOON, Stage, provider_id, told};

/// Pods that share no machine.
fn app(replicas: u32) -> Value {
    deployment("app", replicas, "1500m", "1Gi", &json!({}))
}

fn general() -> Value {
    pool("general", &requiring(&[on_demand(), types(&["m5.large", "m5a.large"])]))
}

/// Everybody has an instance of its own, and nothing was bought that nobody has.
async fn ends_well(stage: &Stage, count: usize) -> anyhow::Result<()> {
    stage.pods_run("app", count).await?;
    let claims = stage.claims("general").await?;
    let mut owned: Vec<&str> =
        claims.iter().map(|one| provider_id(one).rsplit('/').next().unwrap_or_default()).collect();
    let state = stage.aws.peer("state")?;
    let all = state["instances"].as_array().into_iter().flatten();
    let mut bought: Vec<&str> = all.filter_map(|one| one["id"].as_str()).collect();
    owned.sort_unstable();
    bought.sort_unstable();
    assert_eq!(owned, bought, "{:?}", claims.iter().map(told).collect::<Vec<_>>());
    Ok(())
}

/// What the peer does to calls, and then nothing is left to be seen of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_survived() -> anyhow::Result<()> {
    let fault = |action: &str, kind: &str, code: &str, count: u32| {
        ("fault", json!({ "action": action, "kind": kind, "code": code, "count": count }))
    };
    let table: [(&str, Vec<(&str, Value)>); 7] = [
        ("throttled", vec![fault("CreateFleet", "error", "RequestLimitExceeded", 7)]),
        ("throttled in every call", vec![fault("*", "error", "RequestLimitExceeded", 20)]),
        ("time-out after success", vec![fault("CreateFleet", "drop_after", "", 3)]),
        (
            "eventual consistency",
            vec![fault("CreateFleet", "drop_after", "", 3), ("timings", json!({ "describe_lag": 3.0 }))],
        ),
        ("5xx burst", vec![fault("*", "error", "InternalError", 20), fault("*", "error", "ServiceUnavailable", 20)]),
        ("connections that break", vec![fault("*", "drop_before", "", 10), fault("*", "drop_after", "", 10)]),
        ("an empty page with a token", vec![("pages", json!({ "empty": true }))]),
    ];
    for (name, switches) in table {
        println!("── {name}");
        let mut stage = Stage::dark().await?;
        for (switch, body) in &switches {
            stage.aws.tell(switch, body)?;
        }
        stage.start()?;
        stage.apply(&[class("default", &json!({})), general(), app(2)]).await?;
        ends_well(&stage, 2).await.map_err(|error| error.context(name))?;
    }
    Ok(())
}

/// Nothing is bought and nothing is lost while every call is refused; the claims go on once it is over.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_and_are_renewed() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&[class("default", &json!({})), general()]).await?;
    stage.pools_are_ready(&["general"]).await?;
    let expired = json!({
        "action": "*", "kind": "error", "code": "RequestExpired", "count": null, "message": "Request has expired.",
    });
    stage.aws.tell("fault", &expired)?;
    stage.apply(&[app(2)]).await?;
    claims_say(&stage, "CredentialsExpired", "Request has expired").await?;
    stage.aws.tell("fault", &json!({ "clear": true }))?;
    ends_well(&stage, 2).await
}

async fn claims_say(stage: &Stage, reason: &str, words: &str) -> anyhow::Result<()> {
    stage
        .until(&format!("a claim says {reason}"), SOON, async || {
            let claims: Vec<String> = stage.claims("general").await?.iter().map(told).collect();
            Ok(Seen::holds(claims.iter().any(|claim| claim.contains(reason) && claim.contains(words)), claims))
        })
        .await
}

/// Another region has none of what the class selects: it says so, and nothing is bought.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_not_the_clusters() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    stage.start_with(&[("AWS_REGION", "eu-central-1")])?;
    stage.apply(&[class("default", &json!({})), general(), app(2)]).await?;
    class_says(&stage, conditions::SUBNETS_READY, "SubnetsNotFound").await?;
    assert_eq!(stage.calls("CreateFleet")?.len(), 0);
    stage.kill()?;
    stage.start()?;
    // A new process looks again at once: what the other region answered is not waited for.
    ends_well(&stage, 2).await
}

async fn class_says(stage: &Stage, condition: &str, reason: &str) -> anyhow::Result<()> {
    stage
        .until(&format!("the class says {condition}: {reason}"), SOON, async || {
            let status = stage.class("default").await?.status.unwrap_or_default();
            let known = status.conditions.unwrap_or_default();
            let says = known.iter().any(|one| one.type_ == condition && one.reason == reason);
            Ok(Seen::holds(says, known))
        })
        .await
}

/// Two pools of capacity, one with two instances left and one with none: two claims of three are served, the third one
/// is given up and told, and comes back when there is capacity.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_filled_in_part() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    let rest = json!({ "pools": [{ "instance_type": "*" }, { "instance_type": "m5a.large", "remaining": 2 }] });
    stage.aws.tell("drain", &rest)?;
    stage.apply(&[class("default", &json!({})), general(), app(3)]).await?;
    stage
        .until("two instances, and a claim that was refused", SOON, async || {
            let alive = stage.instances("general")?.len();
            let events = stage.cluster.events().await?;
            let refused = events.iter().any(|event| event.reason.as_deref() == Some("InsufficientCapacityError"));
            Ok(Seen::holds(alive == 2 && refused, (alive, refused)))
        })
        .await?;
    stage.aws.tell("refill", &json!({}))?;
    stage.kill()?;
    stage.start()?;
    ends_well(&stage, 3).await
}

/// What the class had found is deleted while its pool runs; the next launch finds out, and what is left is used.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_under_a_running_pool_is_looked_for_again() -> anyhow::Result<()> {
    for name in ["subnet", "security group", "instance profile"] {
        println!("── {name}");
        let stage = Stage::set().await?;
        stage.apply(&[class("default", &json!({})), general(), app(1)]).await?;
        stage.pods_run("app", 1).await?;
        let status = stage.class("default").await?.status.unwrap_or_default();
        let taken: Vec<String> = stage.aws.peer("state")?["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["subnet_id"].as_str().map(str::to_owned))
            .collect();
        match name {
            "subnet" => {
                let subnets = status.subnets.unwrap_or_default();
                let free = subnets.iter().find(|subnet| !taken.contains(&subnet.id)).map_or("", |subnet| &subnet.id);
                stage.aws.ec2("DeleteSubnet", &[("SubnetId", free)])?;
            }
            "security group" => {
                let groups = status.security_groups.unwrap_or_default();
                let nodes = groups.iter().find(|group| group.name.as_deref() == Some("dev-nodes"));
                stage.aws.ec2("DeleteSecurityGroup", &[("GroupId", nodes.map_or("", |group| &group.id))])?;
            }
            _ => {
                let profile = status.instance_profile.unwrap_or_default();
                let role = [("InstanceProfileName", profile.as_str()), ("RoleName", "KarpenterNodeRole-dev")];
                stage.aws.iam("RemoveRoleFromInstanceProfile", &role)?;
                stage.aws.iam("DeleteInstanceProfile", &role[..1])?;
            }
        }
        stage.apply(&[app(3)]).await?;
        ends_well(&stage, 3).await.map_err(|error| error.context(name))?;
    }
    Ok(())
}

/// The image is gone, and there is no other: the class says so, nothing is bought, and nobody asks all the time.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_gone_is_told_of() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&[class("default", &json!({})), general(), app(1)]).await?;
    stage.pods_run("app", 1).await?;
    let status = stage.class("default").await?.status.unwrap_or_default();
    for image in status.amis.unwrap_or_default() {
        stage.aws.ec2("DeregisterImage", &[("ImageId", &image.id)])?;
    }
    let before = stage.calls("CreateFleet")?.len();
    stage.apply(&[app(2)]).await?;
    class_says(&stage, conditions::AMIS_READY, "AMINotFound").await?;
    stage.has_settled().await?;
    let asked = stage.calls("CreateFleet")?.len() - before;
    assert!(asked <= 2, "{asked} launches without an image");
    assert_eq!(stage.instances("general")?.len(), 1);
    stage.delete::<Ec2NodeClass>("default").await
}
