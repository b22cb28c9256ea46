//! A NodeClaim that is no longer what its NodePool and its EC2NodeClass ask for says so, and takes it back.

use karpenter_api::{Ec2NodeClass, NodePool};
use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::manifests::{any_of, class, deployment, on_demand, pool};
use crate::stage::{SOON, Stage, condition, told};

async fn is_drifted(stage: &Stage, reason: Option<&str>) -> anyhow::Result<()> {
    stage
        .until(&format!("Drifted: {reason:?}"), SOON, async || {
            let claims = stage.claims("general").await?;
            let drifted = claims.first().and_then(|claim| condition(claim, "Drifted"));
            let drifted = drifted.map(|known| (known.status.as_str(), known.reason.as_str(), known.message.as_str()));
            let expected = reason.map(|reason| ("True", reason, reason));
            Ok(Seen::holds(claims.len() == 1 && drifted == expected, claims.iter().map(told).collect::<Vec<_>>()))
        })
        .await
}

fn template(spec: &Value) -> Value {
    json!({ "spec": { "template": { "spec": spec } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_anew_makes_claims_drifted_until_it_is_taken_back() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let requirements = |capacity_type| json!([capacity_type, any_of("karpenter.k8s.aws/instance-family", &["m5"])]);
    let spot = any_of("karpenter.sh/capacity-type", &["spot"]);
    stage
        .apply(&[
            class("default", &json!({})),
            pool("general", &json!({})),
            deployment("app", 1, "500m", "512Mi", &json!({})),
        ])
        .await?;
    stage.pods_run("app", 1).await?;
    is_drifted(&stage, None).await?;
    let groups = stage.class("default").await?.status.and_then(|status| status.security_groups).unwrap_or_default();
    let all = groups.iter().map(|group| json!({ "id": group.id })).collect::<Vec<_>>();
    assert!(all.len() > 1, "{all:?}");

    let of_pool = [
        ("NodePoolDrifted", json!({ "terminationGracePeriod": "1h" }), json!({ "terminationGracePeriod": null })),
        (
            "RequirementsDrifted",
            json!({ "requirements": requirements(spot) }),
            json!({ "requirements": requirements(on_demand()) }),
        ),
    ];
    for (reason, changed, back) in of_pool {
        stage.patch::<NodePool>("general", &template(&changed)).await?;
        is_drifted(&stage, Some(reason)).await?;
        stage.patch::<NodePool>("general", &template(&back)).await?;
        is_drifted(&stage, None).await?;
    }
    let of_class = [
        ("NodeClassDrift", json!({ "tags": { "team": "a" } }), json!({ "tags": null })),
        (
            "SecurityGroupDrift",
            json!({ "securityGroupSelectorTerms": all[..1] }),
            json!({ "securityGroupSelectorTerms": all }),
        ),
    ];
    for (reason, changed, back) in of_class {
        stage.patch::<Ec2NodeClass>("default", &json!({ "spec": changed })).await?;
        is_drifted(&stage, Some(reason)).await?;
        stage.patch::<Ec2NodeClass>("default", &json!({ "spec": back })).await?;
        is_drifted(&stage, None).await?;
    }
    Ok(())
}
