//! A NodeClaim that somebody wrote by hand: no NodePool stands behind it.

use karpenter_api::NodeClaim;
use karpenter_harness::Seen;
use kube::Api;
use serde_json::json;

use crate::deletion::is_gone;
use crate::manifests::{class, on_demand, types};
use crate::stage::{SOON, Stage, is, node_name, told};

async fn ready(stage: &Stage) -> anyhow::Result<NodeClaim> {
    let api: Api<NodeClaim> = Api::all(stage.cluster.client.clone());
    stage
        .until("the claim is Ready", SOON, async || {
            let claim = api.get("alone").await?;
            let is_ready = is(&claim, "Ready", "True");
            Ok(if is_ready { Seen::Done(claim) } else { Seen::NotYet(told(&claim)) })
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_without_a_pool_becomes_a_node_and_ends() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    let claim = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": { "name": "alone", "labels": { "team": "a" } },
        "spec": {
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
            "requirements": [on_demand(), types(&["m5.large"])],
            "resources": { "requests": { "cpu": "1" } },
            "taints": [{ "key": "mine", "effect": "NoSchedule" }],
        },
    });
    stage.apply(&[class("default", &json!({}))]).await?;
    stage
        .until("the EC2NodeClass is Ready", SOON, async || {
            let conditions = stage.class("default").await?.status.and_then(|status| status.conditions);
            let ready = conditions.iter().flatten().any(|known| known.type_ == "Ready" && known.status == "True");
            Ok(Seen::holds(ready, conditions))
        })
        .await?;
    stage.apply(&[claim]).await?;
    let claim = ready(&stage).await?;
    let node = stage.node(node_name(&claim)).await?;
    let labels = node.metadata.labels.unwrap_or_default();
    assert_eq!(labels.get("team").map(String::as_str), Some("a"));
    assert_eq!(labels.get("karpenter.sh/initialized").map(String::as_str), Some("true"));
    assert_eq!(labels.get("karpenter.sh/nodepool"), None);
    assert_eq!(stage.aws.alive()?.len(), 1);

    // Another process finds it as it is; its instance is listed although it is of no pool.
    stage.kill()?;
    stage.start()?;
    let calls = stage.calls("DescribeInstances")?.len();
    stage
        .until("the instances were listed again", SOON, async || {
            let now = stage.calls("DescribeInstances")?.len();
            Ok(Seen::holds(now > calls + 1, now))
        })
        .await?;
    let again = ready(&stage).await?;
    assert_eq!(again.metadata.uid, claim.metadata.uid);
    assert_eq!(again.status.and_then(|status| status.provider_id), claim.status.clone().and_then(|s| s.provider_id));
    stage.delete::<NodeClaim>("alone").await?;
    is_gone(&stage, &claim).await
}
