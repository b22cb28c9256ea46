//! Prices, zones and capacity as AWS tells them, through to what is bought and what metrics say.

use karpenter_harness::Seen;
use serde_json::json;

use crate::manifests::{any_of, app, class, deployment, on_demand, pool, requiring, types};
use crate::stage::{SOON, Stage, label, name, node_name};

/// A sample of the metrics, once it is this.
async fn metric_is(stage: &Stage, name: &str, value: f64) -> anyhow::Result<()> {
    stage
        .until(&format!("{name} is {value}"), SOON, async || {
            let seen = stage.controller()?.metric(name).map_err(|error| error.to_string());
            Ok(Seen::holds(seen.as_ref().is_ok_and(|seen| (seen - value).abs() < 1e-6), seen))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_sizes_prices_and_what_is_on_offer() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    let offering = json!({ "instance_type": "m5.large", "zone": "us-west-2a", "usd": 0.0123 });
    stage
        .aws
        .tell("prices", &json!({ "spot": [offering], "on_demand": [{ "instance_type": "m5.large", "usd": 0.111 }] }))?;
    stage.apply(&[class("default", &json!({})), pool("general", &json!({}))]).await?;
    stage.start()?;
    let of = "karpenter_cloudprovider_instance_type";
    metric_is(&stage, &format!("{of}_cpu_cores{{instance_type=\"m5.large\"}}"), 2.0).await?;
    metric_is(&stage, &format!("{of}_memory_bytes{{instance_type=\"m5.large\"}}"), f64::from(8_u32 << 20) * 1024.0)
        .await?;
    let labels =
        |capacity: &str| format!("{{capacity_type=\"{capacity}\",instance_type=\"m5.large\",zone=\"us-west-2a\"}}");
    for capacity in ["spot", "on-demand"] {
        metric_is(&stage, &format!("{of}_offering_available{}", labels(capacity)), 1.0).await?;
    }
    metric_is(&stage, &format!("{of}_offering_price_estimate{}", labels("spot")), 0.0123).await?;
    metric_is(&stage, &format!("{of}_offering_price_estimate{}", labels("on-demand")), 0.111).await?;
    Ok(())
}

/// What a node has is what the next one is planned with.
#[tokio::test(flavor = "multi_thread")]
async fn memory_that_a_node_has_is_what_later_ones_are_planned_with() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let one_type = requiring(&[on_demand(), types(&["m5.large"])]);
    // One pod a node.
    let pods = |count: usize| deployment("app", u32::try_from(count).unwrap_or(1), "1500m", "1Gi", &json!({}));
    stage.apply(&[class("default", &json!({})), pool("general", &one_type), pods(1)]).await?;
    stage.pods_run("app", 1).await?;
    let first = stage.ready_claim("general").await?;
    let real = stage.node(node_name(&first)).await?.status.and_then(|status| status.capacity?.get("memory").cloned());
    let real = karpenter_api::quantity::units(&real.map(|amount| amount.0).unwrap_or_default()).unwrap_or_default();
    stage
        .until("a later NodeClaim is promised what the first node has", SOON, async || {
            let claims = stage.claims("general").await?;
            let promised =
                claims.iter().filter(|claim| name(&claim.metadata) != name(&first.metadata)).filter_map(|claim| {
                    let capacity = claim.status.as_ref()?.capacity.as_ref()?;
                    karpenter_api::quantity::units(&capacity.get("memory")?.to_string()).ok()
                });
            let promised: Vec<i64> = promised.collect();
            if claims.len() == promised.len() + 1 && !promised.contains(&real) {
                // Bought before the first node was looked at, which is done every ten seconds.
                stage.apply(&[pods(claims.len() + 1)]).await?;
            }
            Ok(Seen::holds(promised.contains(&real), (real, promised)))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_bought_in_a_zone_that_is_shifted_away() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    let zones: Vec<(String, String)> = [("us-west-2a", "usw2-az2"), ("us-west-2b", "usw2-az1")]
        .map(|(zone, id)| (zone.to_owned(), id.to_owned()))
        .to_vec();
    stage.aws.tell("shift", &json!({ "zone_id": zones[0].1 }))?;
    stage.start_with(&[("ENABLE_ZONAL_SHIFT", "true")])?;
    let two = requiring(&[
        on_demand(),
        types(&["m5.large"]),
        any_of("topology.kubernetes.io/zone", &[&zones[0].0, &zones[1].0]),
    ]);
    stage.apply(&[class("default", &json!({})), pool("general", &two)]).await?;
    stage.is_told("NodePool", "general", "ZonalShiftActive", &[&zones[0].1]).await?;
    let there = json!({ "nodeSelector": { "topology.kubernetes.io/zone": zones[0].0 } });
    stage.apply(&[app(&there), deployment("anywhere", 1, "500m", "512Mi", &json!({}))]).await?;
    stage.pods_run("anywhere", 1).await?;
    stage.pods_wait("app", &["general"]).await?;
    let claims = stage.claims("general").await?;
    let bought: Vec<&str> = claims.iter().map(|claim| label(claim, "topology.kubernetes.io/zone")).collect();
    assert_eq!(bought, [zones[1].0.as_str()]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_arc_does_not_manage_stops_the_start_if_shifts_are_to_be_followed() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    stage.aws.tell(
        "fault",
        &json!({ "action": "GetManagedResource", "kind": "error", "code": "ResourceNotFoundException", "status": 404, "count": null }),
    )?;
    stage.start_with(&[("ENABLE_ZONAL_SHIFT", "true")])?;
    stage
        .until("the controller ends and says why", SOON, async || {
            let said = stage.controller()?.said();
            let ended = said.contains("ENABLE_ZONAL_SHIFT") && said.contains("ResourceNotFoundException");
            Ok(Seen::holds(ended, said))
        })
        .await
}

/// What is paid for already is used first, by as many as it holds.
#[tokio::test(flavor = "multi_thread")]
async fn reserved_capacity_is_used_first_and_no_further_than_it_goes() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let tags = json!({ "for": "us" });
    let reservation = json!({ "instance_type": "m5.large", "zone": "us-west-2a", "total": 1, "tags": tags });
    let id = stage.aws.tell("reservations", &reservation)?["id"].as_str().unwrap_or_default().to_owned();
    let either = requiring(&[any_of("karpenter.sh/capacity-type", &["reserved", "on-demand"]), types(&["m5.large"])]);
    let selecting = json!({ "capacityReservationSelectorTerms": [{ "tags": tags }] });
    let pods = deployment("app", 2, "1500m", "1Gi", &json!({}));
    stage.apply(&[class("default", &selecting), pool("general", &either), pods]).await?;
    stage.pods_run("app", 2).await?;
    let claims = stage.claims("general").await?;
    let mut told: Vec<(&str, &str)> = claims
        .iter()
        .map(|claim| {
            (label(claim, "karpenter.sh/capacity-type"), label(claim, "karpenter.k8s.aws/capacity-reservation-id"))
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("on-demand", ""), ("reserved", id.as_str())]);
    let state = stage.aws.peer("state")?;
    let inside = |one: &serde_json::Value| one["capacity_reservation_id"] == json!(id);
    let used = state["instances"].as_array().map_or(0, |all| all.iter().filter(|one| inside(one)).count());
    assert_eq!(used, 1, "{state}");
    Ok(())
}
