//! The controller dies without last words at every point between a NodeClaim and its provider id; after each, exactly
//! one instance per NodeClaim exists, and every instance has one.

use std::collections::BTreeMap;

use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::manifests::{class, deployment, pool};
use crate::stage::{SOON, Stage, is, name, provider_id, told};

const PODS: u32 = 3;

/// What everybody starts from: three pods, each on a machine of its own.
async fn three_pods_wait(stage: &Stage) -> anyhow::Result<()> {
    let alone = json!({ "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "app" } },
    }]});
    let app = deployment("app", PODS, "1500m", "1Gi", &alone);
    stage.apply(&[class("default", &json!({})), pool("general", &json!({})), app]).await
}

fn fault(stage: &Stage, fault: &Value) -> anyhow::Result<()> {
    stage.aws.tell("fault", fault).map(drop)
}

/// At least this many claims exist, none of which knows of an instance.
async fn claims_wait(stage: &Stage, count: usize) -> anyhow::Result<()> {
    stage
        .until(&format!("{count} claims without a provider id"), SOON, async || {
            let claims = stage.claims("general").await?;
            let waiting = claims.iter().filter(|claim| provider_id(claim).is_empty()).count();
            Ok(Seen::holds(waiting >= count, claims.iter().map(told).collect::<Vec<_>>()))
        })
        .await
}

/// So many calls of this action have reached AWS.
async fn called(stage: &Stage, action: &str, count: usize) -> anyhow::Result<()> {
    stage
        .until(&format!("{count} × {action}"), SOON, async || {
            let calls = stage.calls(action)?.len();
            Ok(Seen::holds(calls >= count, calls))
        })
        .await
}

/// Everything runs in the end, and what runs is one instance, one claim, one node a time.
async fn ends_well(stage: &Stage) -> anyhow::Result<()> {
    stage.pods_run("app", PODS as usize).await?;
    // An instance of nobody is found and ended within the garbage collector's first rounds.
    stage
        .until("one instance per claim, one claim per instance", SOON, async || {
            let claims = stage.claims("general").await?;
            let mut of_claim: BTreeMap<String, usize> = claims
                .iter()
                .map(|claim| (provider_id(claim).rsplit('/').next().unwrap_or_default().to_owned(), 0))
                .collect();
            let alive = stage.instances("general")?;
            let strangers: Vec<&str> =
                alive.iter().filter(|one| !of_claim.contains_key(&one.id)).map(|one| one.id.as_str()).collect();
            for instance in &alive {
                *of_claim.entry(instance.id.clone()).or_default() += 1;
            }
            let ready = claims.iter().all(|claim| is(claim, "Ready", "True"));
            let nodes = stage.cluster.nodes().await?.len();
            let done = ready && strangers.is_empty() && of_claim.values().all(|n| *n == 1) && nodes == claims.len();
            Ok(Seen::holds(done, (strangers, &of_claim, nodes, claims.iter().map(told).collect::<Vec<_>>())))
        })
        .await?;
    // Each token bought at most one instance, and each claim needed one token only.
    let mut tokens: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for instance in stage.aws.peer("state")?["instances"].as_array().cloned().unwrap_or_default() {
        let word = |key: &str| instance[key].as_str().unwrap_or_default().to_owned();
        tokens.entry(word("client_token")).or_default().push(word("id"));
    }
    assert!(tokens.values().all(|bought| bought.len() == 1), "{tokens:?}");
    assert_eq!(tokens.len(), stage.claims("general").await?.len(), "no instance came and went: {tokens:?}");
    Ok(())
}

/// The claims are there, EC2 has not heard of them.
#[tokio::test(flavor = "multi_thread")]
async fn before_the_fleet_is_asked_for() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    // A launch's template, not the one by which the class is tried: that is for no pool.
    let for_pool = json!({ "TagSpecification.1.Tag.3.Value": "general" });
    let hang = json!({ "action": "CreateLaunchTemplate", "kind": "hang_before", "count": null, "match": for_pool });
    fault(&stage, &hang)?;
    stage.start()?;
    three_pods_wait(&stage).await?;
    claims_wait(&stage, 3).await?;
    called(&stage, "CreateLaunchTemplate", 2).await?;
    stage.kill()?;
    assert_eq!(stage.calls("CreateFleet")?.len(), 0);
    assert_eq!(stage.aws.alive()?.len(), 0);
    fault(&stage, &json!({ "clear": true }))?;
    stage.start()?;
    ends_well(&stage).await
}

/// The request is on its way when the controller dies; it takes effect only after the next one has launched.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_fleet_is_being_asked_for() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    fault(&stage, &json!({ "action": "CreateFleet", "kind": "hang_before", "count": 3 }))?;
    stage.start()?;
    three_pods_wait(&stage).await?;
    called(&stage, "CreateFleet", 3).await?;
    stage.kill()?;
    assert_eq!(stage.aws.alive()?.len(), 0, "nothing was bought yet");
    stage.start()?;
    stage.pods_run("app", PODS as usize).await?;
    // Now the three requests of the dead take effect.
    fault(&stage, &json!({ "clear": true }))?;
    ends_well(&stage).await
}

/// The instances exist, the answer never came.
#[tokio::test(flavor = "multi_thread")]
async fn before_the_fleet_has_answered() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    fault(&stage, &json!({ "action": "CreateFleet", "kind": "hang_after", "count": 3 }))?;
    stage.start()?;
    three_pods_wait(&stage).await?;
    stage
        .until("three instances", SOON, async || {
            let alive = stage.aws.alive()?.len();
            Ok(Seen::holds(alive == 3, alive))
        })
        .await?;
    stage.kill()?;
    claims_wait(&stage, 3).await?;
    stage.start()?;
    ends_well(&stage).await?;
    assert_eq!(stage.calls("CreateFleet")?.len(), 3, "what was bought was found, not bought again");
    Ok(())
}

/// As before, and EC2 does not show new instances for a while: a second launch has the same token and gets the same one.
#[tokio::test(flavor = "multi_thread")]
async fn before_ec2_shows_what_it_has_launched() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    stage.aws.tell("timings", &json!({ "describe_lag": 4.0 }))?;
    fault(&stage, &json!({ "action": "CreateFleet", "kind": "hang_after", "count": 3 }))?;
    stage.start()?;
    three_pods_wait(&stage).await?;
    called(&stage, "CreateFleet", 3).await?;
    stage.kill()?;
    stage.start()?;
    ends_well(&stage).await
}

/// EC2 has answered, but the API server does not take the provider id.
#[tokio::test(flavor = "multi_thread")]
async fn before_the_provider_id_is_written() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    let rules = json!([{
        "apiGroups": ["karpenter.sh"], "apiVersions": ["*"], "operations": ["UPDATE"],
        "resources": ["nodeclaims/status"],
    }]);
    let (kind, version) = ("ValidatingAdmissionPolicy", "admissionregistration.k8s.io/v1");
    let policy = json!({
        "apiVersion": version, "kind": kind, "metadata": { "name": "no-provider-id" },
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": { "resourceRules": rules },
            "validations": [{ "expression": "!has(object.status.providerID)", "message": "not now" }],
        },
    });
    let binding = json!({
        "apiVersion": version, "kind": format!("{kind}Binding"), "metadata": { "name": "no-provider-id" },
        "spec": { "policyName": "no-provider-id", "validationActions": ["Deny"] },
    });
    stage.apply(&[policy, binding]).await?;
    policy_is_in_force(&stage).await?;
    stage.start()?;
    three_pods_wait(&stage).await?;
    stage
        .until("three instances", SOON, async || {
            let alive = stage.aws.alive()?.len();
            Ok(Seen::holds(alive == 3, alive))
        })
        .await?;
    claims_wait(&stage, 3).await?;
    stage.kill()?;
    claims_wait(&stage, 3).await?;
    stage
        .delete::<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>("no-provider-id")
        .await?;
    stage.start()?;
    ends_well(&stage).await?;
    assert_eq!(stage.calls("CreateFleet")?.len(), 3, "what was bought was found, not bought again");
    Ok(())
}

/// The API server takes a moment to enforce a new policy.
async fn policy_is_in_force(stage: &Stage) -> anyhow::Result<()> {
    let probe = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "probe" },
        "spec": {
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "none" },
            "requirements": [{ "key": "kubernetes.io/os", "operator": "Exists" }],
        },
    });
    stage.apply(&[probe]).await?;
    let api: kube::Api<karpenter_api::NodeClaim> = kube::Api::all(stage.cluster.client.clone());
    let patch = kube::api::Patch::Merge(json!({ "status": { "providerID": "probe" } }));
    stage
        .until("a provider id is refused", SOON, async || {
            let written = api.patch_status("probe", &kube::api::PatchParams::default(), &patch).await;
            Ok(Seen::holds(written.as_ref().is_err_and(|error| error.to_string().contains("not now")), written))
        })
        .await?;
    stage.delete::<karpenter_api::NodeClaim>("probe").await
}

/// Killed again and again, a moment later in its life each time.
#[tokio::test(flavor = "multi_thread")]
async fn at_any_moment() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    three_pods_wait(&stage).await?;
    for moment in ["DescribeInstances", "DescribeSubnets", "CreateLaunchTemplate", "CreateFleet"] {
        let before = stage.calls(moment)?.len();
        stage.start()?;
        stage
            .until(&format!("another {moment}, or all is done"), SOON, async || {
                let calls = stage.calls(moment)?.len();
                let launched =
                    stage.claims("general").await?.iter().filter(|claim| !provider_id(claim).is_empty()).count();
                Ok(Seen::holds(calls > before || launched == 3, (calls, launched)))
            })
            .await?;
        stage.kill()?;
    }
    stage.start()?;
    ends_well(&stage).await
}

/// A new process finds everything as it should be: it asks, and writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn when_there_is_nothing_to_do() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    three_pods_wait(&stage).await?;
    ends_well(&stage).await?;
    stage.pool_counts("general", 3).await?;
    stage.has_settled().await?;
    let (written, bought) = (stage.writes()?, stage.calls("CreateFleet")?.len());
    stage.kill()?;
    let asked = stage.calls("DescribeInstances")?.len();
    stage.start()?;
    called(&stage, "DescribeInstances", asked + 1).await?;
    called(&stage, "DescribeSpotPriceHistory", 2).await?;
    stage.has_settled().await?;
    assert_eq!(stage.writes()?, written);
    assert_eq!(stage.calls("CreateFleet")?.len(), bought);
    Ok(())
}

/// The claim went while nobody watched, finalizer or not, and no node tells of its instance: the tags do.
#[tokio::test(flavor = "multi_thread")]
async fn and_the_claim_is_lost() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    stage.aws.tell("nodes", &json!({ "never_joins": true }))?;
    three_pods_wait(&stage).await?;
    stage
        .until("three claims are launched", SOON, async || {
            let claims = stage.claims("general").await?;
            let launched = claims.iter().filter(|claim| is(claim, "Launched", "True")).count();
            Ok(Seen::holds(launched == 3, claims.iter().map(told).collect::<Vec<_>>()))
        })
        .await?;
    let lost = stage.claims("general").await?.remove(0);
    stage.kill()?;
    stage.without_finalizers::<karpenter_api::NodeClaim>(name(&lost.metadata)).await?;
    stage.delete::<karpenter_api::NodeClaim>(name(&lost.metadata)).await?;
    // Instances younger than half a minute are left alone: their claims may be on their way.
    let everyone = json!({ "karpenter.sh/nodepool": "general" });
    stage.aws.tell("instances", &json!({ "tag": everyone, "event": "age", "seconds": 60 }))?;
    let before: Vec<String> = stage.aws.alive()?.into_iter().map(|one| one.id).collect();
    stage.start()?;
    stage
        .until("the instance of nobody is ended, the others are not", SOON, async || {
            let alive: Vec<String> = stage.aws.alive()?.into_iter().map(|one| one.id).collect();
            let ended: Vec<&String> = before.iter().filter(|id| !alive.contains(id)).collect();
            Ok(Seen::holds(matches!(ended.as_slice(), [one] if provider_id(&lost).ends_with(*one)), (&before, &alive)))
        })
        .await?;
    Ok(())
}
