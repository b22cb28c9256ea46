//! Placement groups, as EC2 has them.

use std::collections::BTreeSet;

use anyhow::Context;
use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::manifests::{any_of, class, deployment, on_demand, pool, requiring, types};
use crate::stage::{SOON, Stage, condition, label, node_of, told};

const PARTITION: &str = "karpenter.k8s.aws/placement-group-partition";
const PARTITIONED: [(&str, &str); 3] = [("GroupName", "group"), ("Strategy", "partition"), ("PartitionCount", "3")];

fn grouped() -> Value {
    class("default", &json!({ "placementGroupSelector": { "name": "group" } }))
}

/// kube-scheduler spreads by the labels of nodes: each is where its label says, by EC2's own account.
#[tokio::test(flavor = "multi_thread")]
async fn pods_are_spread_over_the_partitions_of_a_group() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.ec2("CreatePlacementGroup", &PARTITIONED)?;
    let spread = json!({ "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": PARTITION, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "app" } },
    }] });
    stage.apply(&[grouped(), pool("general", &json!({})), deployment("app", 3, "500m", "512Mi", &spread)]).await?;
    let pods = stage.pods_run("app", 3).await?;
    let mut seen = BTreeSet::new();
    for pod in &pods {
        let node = stage.node(&node_of(pod)).await?;
        seen.extend(node.metadata.labels.unwrap_or_default().remove(PARTITION));
    }
    assert_eq!(seen, ["1", "2", "3"].map(str::to_owned).into(), "one pod in each");
    let sent = stage.calls("CreateLaunchTemplate")?;
    let asked = sent.iter().filter_map(|call| call.get("LaunchTemplateData.Placement.PartitionNumber").cloned());
    assert_eq!(asked.collect::<BTreeSet<_>>(), seen, "EC2 was asked for each of them");
    Ok(())
}

/// Nobody asks for a partition: EC2 chooses, and the node is not registered before it is known which.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_learns_the_partition_that_ec2_chose() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.ec2("CreatePlacementGroup", &PARTITIONED)?;
    stage.apply(&[grouped(), pool("general", &json!({})), deployment("app", 1, "500m", "512Mi", &json!({}))]).await?;
    let pods = stage.pods_run("app", 1).await?;
    let node = stage.node(&node_of(&pods[0])).await?;
    let told = node.metadata.labels.unwrap_or_default().remove(PARTITION);
    assert_eq!(told.as_deref(), Some("1"), "the lowest, in an empty group");
    assert_eq!(label(&stage.ready_claim("general").await?, PARTITION), "1");
    Ok(())
}

/// Eight nodes of a spread group in one zone: EC2 gives seven. The last pod is told, not launched for again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_spread_group_has_seven_nodes_in_a_zone() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.ec2("CreatePlacementGroup", &[("GroupName", "group"), ("Strategy", "spread")])?;
    let zone = any_of("topology.kubernetes.io/zone", &["us-west-2a"]);
    let general = pool("general", &requiring(&[on_demand(), types(&["m5.large"]), zone]));
    stage.apply(&[grouped(), general]).await?;
    // A pod is told once in a while only: not before there is a pool to speak of.
    stage.pools_are_ready(&["general"]).await?;
    stage.apply(&[deployment("app", 8, "1500m", "1Gi", &json!({}))]).await?;
    stage
        .until("seven pods run, and the last waits without a claim", 2 * SOON, async || {
            let running = stage.pods("app").await?.iter().filter(|pod| !node_of(pod).is_empty()).count();
            let claims = stage.claims("general").await?;
            let ready = claims.iter().filter(|claim| condition(claim, "Ready").is_some_and(|c| c.status == "True"));
            let holds = (running, claims.len(), ready.count()) == (7, 7, 7);
            Ok(Seen::holds(holds, (running, claims.iter().map(told).collect::<Vec<_>>())))
        })
        .await?;
    let pods = stage.pods("app").await?;
    let last = pods.iter().find(|pod| node_of(pod).is_empty()).context("a pod that waits")?;
    let last = last.metadata.name.as_deref().unwrap_or_default();
    stage.is_told("Pod", last, "FailedScheduling", &["general", "available"]).await?;
    assert_eq!(stage.instances("general")?.len(), 7);
    let fleets = stage.calls("CreateFleet")?.len();
    assert!(fleets <= 3, "{fleets} calls of CreateFleet, the class's trial among them");
    Ok(())
}
