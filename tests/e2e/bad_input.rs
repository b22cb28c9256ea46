//! What cannot work is told, costs nothing, and heals when it is mended.

use karpenter_api::Ec2NodeClass;
use karpenter_harness::Seen;
use serde_json::json;

use crate::manifests::{any_of, app, class, deployment, on_demand, on_pool, pool, requiring};
use crate::stage::{SOON, Stage};

/// A condition of the NodePool has this reason and says all of these.
async fn pool_says(stage: &Stage, pool: &str, kind: &str, reason: &str, words: &[&str]) -> anyhow::Result<()> {
    stage
        .until(&format!("NodePool {pool}: {kind} is False for {reason} with {words:?}"), SOON, async || {
            let all = stage.pool(pool).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let says = all.iter().find(|known| known.type_ == kind).is_some_and(|known| {
                known.status == "False"
                    && known.reason == reason
                    && words.iter().all(|word| known.message.contains(word))
            });
            Ok(Seen::holds(says, all))
        })
        .await
}

async fn class_says(stage: &Stage, class: &str, kind: &str, reason: &str, words: &[&str]) -> anyhow::Result<()> {
    stage
        .until(&format!("EC2NodeClass {class}: {kind} is False for {reason} with {words:?}"), SOON, async || {
            let all = stage.class(class).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let is_false =
                |kind: &str| all.iter().find(|known| known.type_ == kind).filter(|known| known.status == "False");
            let says = is_false(kind)
                .is_some_and(|known| known.reason == reason && words.iter().all(|word| known.message.contains(word)));
            Ok(Seen::holds(says && is_false("Ready").is_some(), all))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_class() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    stage.apply(&[pool("general", &json!({})), app(&json!({}))]).await?;
    pool_says(&stage, "general", "NodeClassReady", "NodeClassNotFound", &["default"]).await?;
    stage.pods_wait("app", &["nodepool"]).await?;
    stage.nothing_happens().await?;

    stage.apply(&[class("default", &json!({}))]).await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subnet_and_no_security_group() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    let wrong = json!({
        "subnetSelectorTerms": [{ "tags": { "zone": "nowhere" } }],
        "securityGroupSelectorTerms": [{ "name": "no-such-group" }],
    });
    stage.apply(&[class("default", &wrong), pool("general", &json!({})), app(&json!({}))]).await?;
    class_says(&stage, "default", "SubnetsReady", "SubnetsNotFound", &["subnetSelectorTerms", "nowhere"]).await?;
    let words = ["securityGroupSelectorTerms", "no-such-group"];
    class_says(&stage, "default", "SecurityGroupsReady", "SecurityGroupsNotFound", &words).await?;
    pool_says(&stage, "general", "NodeClassReady", "SubnetsNotFound", &["nowhere"]).await?;
    stage.pods_wait("app", &["nodepool"]).await?;
    stage.nothing_happens().await?;

    stage.apply(&[class("default", &json!({}))]).await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    let wrong = json!({ "amiFamily": "AL2023", "amiSelectorTerms": [{ "id": "ami-0123456789abcdef0" }] });
    stage.apply(&[class("default", &wrong), pool("general", &json!({})), app(&json!({}))]).await?;
    let words = ["amiSelectorTerms", "ami-0123456789abcdef0"];
    class_says(&stage, "default", "AMIsReady", "AMINotFound", &words).await?;
    pool_says(&stage, "general", "NodeClassReady", "AMINotFound", &["ami-0123456789abcdef0"]).await?;
    stage.nothing_happens().await?;

    stage.apply(&[class("default", &json!({}))]).await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}

/// Amazon Linux 2 has no images for this Kubernetes.
#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_is_not_supported() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&[class("default", &json!({ "amiSelectorTerms": [{ "alias": "al2@latest" }] }))]).await?;
    class_says(&stage, "default", "AMIsReady", "UnsupportedAlias", &["al2", "1.36"]).await
}

/// The instance profile that the class wants needs a role that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_does_not_exist() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&[class("default", &json!({ "role": "NoSuchRole" }))]).await?;
    class_says(&stage, "default", "InstanceProfileReady", "NoSuchEntity", &["NoSuchRole"]).await?;
    stage.apply(&[class("default", &json!({}))]).await?;
    stage
        .until("the EC2NodeClass is Ready", SOON, async || {
            let all = stage.class("default").await?.status.and_then(|status| status.conditions).unwrap_or_default();
            Ok(Seen::holds(all.iter().any(|known| known.type_ == "Ready" && known.status == "True"), all))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_that_exclude_every_type() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    let wrong = requiring(&[
        on_demand(),
        any_of("karpenter.k8s.aws/instance-family", &["m5"]),
        any_of("kubernetes.io/arch", &["arm64"]),
    ]);
    stage.apply(&[class("default", &json!({})), pool("general", &wrong), app(&json!({}))]).await?;
    stage.is_told("NodePool", "general", "NoCompatibleInstanceTypes", &["requirements"]).await?;
    stage.pods_wait("app", &["nodepool"]).await?;
    stage.nothing_happens().await?;

    stage.apply(&[pool("general", &json!({}))]).await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_larger_than_any_type() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    stage
        .apply(&[
            class("default", &json!({})),
            pool("general", &json!({})),
            deployment("app", 1, "500", "512Mi", &json!({})),
        ])
        .await?;
    stage.pods_wait("app", &["general", "resources", "500"]).await?;
    stage.nothing_happens().await?;

    stage.apply(&[app(&json!({}))]).await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_nobody_serves() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    let picky = json!({ "nodeSelector": { "example.com/rack": "seven" } });
    stage.apply(&[class("default", &json!({})), pool("general", &json!({})), app(&picky)]).await?;
    stage.pods_wait("app", &["general", "example.com/rack", "seven"]).await?;
    stage.nothing_happens().await?;

    let labelled = json!({ "template": { "metadata": { "labels": { "example.com/rack": "seven" } } } });
    stage.apply(&[pool("general", &labelled)]).await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}

/// A pool that does not exist is nobody's fault but the pod's.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_does_not_exist_and_a_class_that_goes() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    stage.apply(&[class("default", &json!({})), pool("general", &json!({})), app(&on_pool("other"))]).await?;
    stage.pods_wait("app", &["karpenter.sh/nodepool", "other"]).await?;
    stage.delete::<Ec2NodeClass>("default").await?;
    pool_says(&stage, "general", "NodeClassReady", "NodeClassNotFound", &["default"]).await?;
    stage.nothing_happens().await
}
