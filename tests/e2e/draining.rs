//! How a node is drained: in which order, until when, and what is waited for besides.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use karpenter_api::NodeClaim;
use karpenter_harness::Seen;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::deletion::is_gone;
use crate::manifests::{annotated, app, budget, class, daemon_set, deployment, merge, pool};
use crate::stage::{SOON, Stage, condition, is, name, node_name, told};
use crate::volumes::{claim, volume};

const SLOWLY: &str = "dev.karpenter-rs.dev/terminate-after";

/// Pods that take three seconds to end, of which the API server's clock may swallow one.
fn slow(workload: Value) -> Value {
    annotated(workload, SLOWLY, "3s")
}

fn critical(class: &str) -> Value {
    json!({ "priorityClassName": class, "terminationGracePeriodSeconds": 5 })
}

/// Five groups of priority, of which the two critical ones without a DaemonSet go together; who tolerates the end of the
/// node stays to see it.
#[tokio::test(flavor = "multi_thread")]
async fn pods_leave_in_the_order_of_their_importance() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let daemon = |name: &str, pod: &Value| slow(daemon_set(name, "50m", "32Mi", pod));
    let usual = json!({ "terminationGracePeriodSeconds": 5 });
    let stays = json!({ "tolerations": [{ "operator": "Exists" }] });
    stage
        .apply(&[
            class("default", &json!({})),
            pool("general", &json!({})),
            daemon("daemon", &usual),
            daemon("critical-daemon", &critical("system-node-critical")),
            daemon("stays", &stays),
            slow(deployment("plain", 3, "100m", "64Mi", &usual)),
            slow(deployment("cluster-critical", 1, "100m", "64Mi", &critical("system-cluster-critical"))),
            slow(deployment("node-critical", 1, "100m", "64Mi", &critical("system-node-critical"))),
        ])
        .await?;
    for (app, count) in [
        ("plain", 3),
        ("cluster-critical", 1),
        ("node-critical", 1),
        ("daemon", 1),
        ("critical-daemon", 1),
        ("stays", 1),
    ] {
        stage.pods_run(app, count).await?;
    }
    let old = stage.ready_claim("general").await?;
    let before = stage.written()?.len();
    stage.delete::<NodeClaim>(name(&old.metadata)).await?;
    is_gone(&stage, &old).await?;

    let mut asked: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for write in stage.written()?.split_off(before) {
        if write.what == "create pods/eviction" && write.code < 300 {
            // A pod is called as its workload, and then some.
            let app = ["cluster-critical", "node-critical", "critical-daemon", "daemon", "plain", "stays"];
            let app = app.into_iter().find(|app| write.name.starts_with(app)).unwrap_or("another");
            asked.entry(app.to_owned()).or_default().push(write.at);
        }
    }
    let first = |app: &str| asked.get(app).and_then(|all| all.iter().min()).copied();
    let last = |apps: &[&str]| apps.iter().filter_map(|app| asked.get(*app)?.iter().max().copied()).max();
    assert_eq!(asked.get("plain").map(Vec::len), Some(3), "{asked:?}");
    for (group, next) in [
        (&["plain"][..], &["daemon"][..]),
        (&["daemon"], &["cluster-critical", "node-critical"]),
        (&["cluster-critical", "node-critical"], &["critical-daemon"]),
    ] {
        for app in next {
            let (last, first) = (last(group), first(app));
            let gap = last.zip(first).map(|(last, first)| first.duration_since(last).as_secs_f64());
            assert!(gap.is_some_and(|gap| gap >= 2.0), "{app} waits for the end of {group:?}: {gap:?}, {asked:?}");
        }
    }
    assert_eq!((asked.get("stays"), asked.get("another")), (None, None), "{asked:?}");
    Ok(())
}

/// A preStop hook of ten minutes, a budget that allows nothing, and a node that has twelve seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_would_outlive_its_node_gets_what_time_there_is() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let mut sleeper = app(&json!({ "terminationGracePeriodSeconds": 660 }));
    sleeper["spec"]["template"]["spec"]["containers"][0]["lifecycle"] =
        json!({ "preStop": { "sleep": { "seconds": 600 } } });
    let short = json!({ "template": { "spec": { "terminationGracePeriod": "12s" } } });
    stage.apply(&[class("default", &json!({})), pool("general", &short), budget("app", 0), sleeper]).await?;
    let pods = stage.pods_run("app", 1).await?;
    let old = stage.ready_claim("general").await?;
    let before = stage.written()?.len();
    stage.delete::<NodeClaim>(name(&old.metadata)).await?;
    stage.is_told("NodeClaim", name(&old.metadata), "TerminationGracePeriodExpiring", &["will be deleted by"]).await?;
    stage.is_told("Pod", name(&pods[0].metadata), "Disrupted", &["deadline"]).await?;
    is_gone(&stage, &old).await?;
    let written = stage.written()?.split_off(before);
    let at = |what: &str| written.iter().filter(|write| write.what == what).map(|write| write.at).collect::<Vec<_>>();
    assert_eq!(at("delete pods").len(), 1, "once: {written:?}");
    assert_eq!(at("create pods/eviction").len(), 0, "the budget would refuse it: {written:?}");
    let released = at("patch nodes").into_iter().max();
    let took = at("delete pods").first().zip(released).map(|(from, to)| to.duration_since(*from).as_secs_f64());
    assert!(took.is_some_and(|took| (9.0..40.0).contains(&took)), "it had its time, and no more: {took:?}");
    stage.pods_run("app", 1).await?;
    Ok(())
}

/// The volume takes fifteen seconds to be detached; the instance runs until then.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_outlives_the_volumes_that_are_attached_to_it() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let mut slow = volume("us-west-2b");
    merge(&mut slow["metadata"], &json!({ "annotations": { "dev.karpenter-rs.dev/detach-after": "15s" } }));
    let bound = claim(&json!({ "volumeName": "data", "storageClassName": "" }));
    stage.apply(&[class("default", &json!({})), pool("general", &json!({})), slow, bound]).await?;
    stage
        .apply(&[app(&json!({ "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }] }))])
        .await?;
    stage.pods_run("app", 1).await?;
    let old = stage.ready_claim("general").await?;
    let attachments: Api<VolumeAttachment> = Api::all(stage.cluster.client.clone());
    stage
        .until("the volume is attached", SOON, async || {
            let all = attachments.list(&ListParams::default()).await?.items;
            let attached = all.iter().any(|one| one.status.as_ref().is_some_and(|status| status.attached));
            Ok(Seen::holds(attached, all))
        })
        .await?;
    stage.delete::<NodeClaim>(name(&old.metadata)).await?;
    stage.is_told("Node", node_name(&old), "AwaitingVolumeDetachment", &["1 VolumeAttachments"]).await?;
    let claims = stage.claims("general").await?;
    let waiting = claims.iter().find(|one| name(&one.metadata) == name(&old.metadata));
    assert!(waiting.is_some_and(|one| is(one, "Drained", "True")), "{:?}", waiting.map(told));
    stage
        .until("the volume is detached", SOON, async || {
            let on_old = |one: &VolumeAttachment| one.spec.node_name == node_name(&old);
            let left = attachments.list(&ListParams::default()).await?.items.iter().filter(|one| on_old(one)).count();
            let claims = stage.claims("general").await?;
            let ending = claims.iter().find(|one| name(&one.metadata) == name(&old.metadata));
            let terminating = ending.and_then(|one| condition(one, "InstanceTerminating"));
            assert!(left == 0 || terminating.is_none(), "{left} attached: {:?}", ending.map(told));
            Ok(Seen::holds(left == 0, left))
        })
        .await?;
    is_gone(&stage, &old).await?;
    stage.pods_run("app", 1).await?;
    Ok(())
}
