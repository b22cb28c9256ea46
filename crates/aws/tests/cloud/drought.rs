//! Hours without capacity: told once, tried again by one claim at a time, and what is left serves at once.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::ec2::Ec2;
use crate::stage::Stage;

const DROUGHT: SignedDuration = SignedDuration::from_mins(90);
const PODS: usize = 2000;

/// One family without spot for 90 minutes. The second family always has some.
fn dry() -> Ec2 {
    let types = [
        ("m5.xlarge", 4),
        ("m5.2xlarge", 8),
        ("m5.4xlarge", 16),
        ("m5.8xlarge", 32),
        ("m5.24xlarge", 96),
        ("c5.24xlarge", 96),
    ];
    let mut ec2 = Ec2::new(&types);
    let ends = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap() + DROUGHT;
    ec2.stock = Box::new(move |spot, name, _, now| !(spot && name.starts_with("m5.") && now < ends));
    // EC2 does not tell of everything that it has tried.
    ec2.named = 1;
    ec2
}

fn only(family: &str, capacity_type: &str) -> Value {
    json!([
        { "key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": [family] },
        { "key": "karpenter.sh/capacity-type", "operator": "In", "values": [capacity_type] },
    ])
}

fn given_up(stage: &Stage) -> usize {
    stage.given_up.values().sum()
}

#[test]
fn another_pool_serves_within_a_minute() {
    let mut stage = Stage::new(dry());
    stage.pool("spot", 100, &only("m5", "spot"));
    stage.pool("fallback", 1, &only("c5", "on-demand"));
    for n in 0..PODS {
        stage.pod(&format!("p{n}"), "1", &json!({}));
    }
    let began = stage.now;
    stage.run(SignedDuration::from_mins(5), |stage| stage.bound.len() == PODS);
    let (served, failed) = (stage.now.duration_since(began), given_up(&stage));
    println!("{PODS} pods: all bound after {served:.1?}, {failed} claims given up");
    assert_eq!(stage.bound.len(), PODS, "{:?}", stage.given_up);
    assert!(served < SignedDuration::from_mins(1), "{served:?}");
    stage.run(DROUGHT, |_| false);
    println!("after 90 minutes: {} claims given up, {:?}, {:?}", given_up(&stage), stage.given_up, stage.ec2.calls);
    assert!(given_up(&stage) < 100, "{:?}", stage.given_up);
}

/// Nobody else can serve: the pods wait for the whole drought, and come up soon after it.
#[test]
fn without_another_pool_one_claim_at_a_time_tries_again() {
    let mut stage = Stage::new(dry());
    stage.pool("spot", 100, &only("m5", "spot"));
    for n in 0..PODS {
        stage.pod(&format!("p{n}"), "1", &json!({}));
    }
    stage.run(DROUGHT, |_| false);
    let (failed, fleets) = (given_up(&stage), stage.ec2.calls["CreateFleet"]);
    println!("90 minutes, {PODS} pods: {failed} claims given up, {fleets} fleets");
    assert!(stage.bound.is_empty());
    assert!(failed < 100, "{:?}", stage.given_up);
    assert!(fleets < 30, "{fleets}");
    let ended = stage.now;
    stage.run(SignedDuration::from_mins(15), |stage| stage.bound.len() == PODS);
    println!("all bound {:.0?} after its end", stage.now.duration_since(ended));
    assert_eq!(stage.bound.len(), PODS, "{:?}", stage.given_up);
}
