//! Claims are bought together, and each gets an instance of its own, whatever happens on the way.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use karpenter_api::NodeClaim;
use serde_json::{Value, json};

use crate::ec2::Ec2;
use crate::stage::Stage;

const SOON: SignedDuration = SignedDuration::from_mins(2);

fn on_demand() -> Value {
    json!([{ "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] }])
}

/// So many pods, each too large to share a machine.
fn stage(pods: usize) -> Stage {
    let mut stage = Stage::new(Ec2::new(&[("m5.xlarge", 4)]));
    stage.pool("general", 1, &on_demand());
    for n in 0..pods {
        stage.pod(&format!("p{n}"), "3", &json!({}));
    }
    stage
}

fn instances(stage: &Stage) -> Vec<String> {
    stage.claims().iter().filter_map(instance_of).collect()
}

fn instance_of(claim: &NodeClaim) -> Option<String> {
    claim.status.as_ref()?.provider_id.clone()
}

/// One instance a claim, one claim an instance.
fn is_well(stage: &Stage, pods: usize) {
    let ids = instances(stage);
    assert_eq!((ids.len(), stage.ec2.instances.len()), (pods, pods), "{:?} {:?}", stage.ec2.calls, stage.given_up);
    assert!(stage.ec2.is_each_one_once(ids.iter().map(String::as_str)), "{ids:?}");
}

#[test]
fn claims_that_are_alike_are_one_fleet_with_one_token() {
    let mut stage = stage(500);
    stage.run(SOON, |stage| stage.bound.len() == 500);
    is_well(&stage, 500);
    assert_eq!(stage.ec2.calls["CreateFleet"], 1, "as Karpenter's batch, which takes 1,000");
    let mut single = self::stage(1);
    single.run(SOON, |stage| stage.bound.len() == 1);
    println!("500 launches: {:?}\n1 launch: {:?}", stage.ec2.calls, single.ec2.calls);
    for (call, count) in &stage.ec2.calls {
        let of_one = single.ec2.calls.get(call).copied().unwrap_or(0);
        assert!(*count <= of_one + 1, "{call}: {count} for 500 launches, {of_one} for one");
    }
    let launch = &stage.ec2.launches[0];
    assert_eq!((launch.target, launch.claims.len()), (500, 500));
    assert!(launch.client_token.len() <= 64, "{}", launch.client_token);
    let claims = stage.claims();
    let token = |claim: &NodeClaim| claim.metadata.annotations.as_ref()?.get("karpenter-rs.dev/launch").cloned();
    assert!(claims.iter().all(|claim| token(claim).as_ref() == Some(&launch.client_token)));
}

/// Templates are made while the API server creates the claims: as their launch needs them.
#[test]
fn templates_are_there_when_claims_are() {
    let mut stage = stage(1);
    stage.run(SOON, |stage| stage.bound.len() == 1);
    let needed = stage.ec2.launches[0].configs.iter().map(|config| config.template.name.as_str());
    assert_eq!(stage.ec2.made, needed.collect::<Vec<_>>());
}

/// The process dies anywhere on the way, its last call arrives or not, and EC2 describes what was bought at once or
/// late: the next process finds it, or repeats the call under its token.
#[test]
fn a_process_that_dies_buys_nothing_twice() {
    const PODS: usize = 7;
    let mut repeated = 0;
    for (arrives, lag) in [(false, 0), (true, 0), (true, 5)] {
        for at in (0..4000).step_by(100) {
            let mut stage = stage(PODS);
            stage.ec2.lag = SignedDuration::from_secs(lag);
            stage.run(SignedDuration::from_millis(at), |_| false);
            stage.restart(arrives);
            stage.run(SOON, |stage| stage.bound.len() == PODS);
            is_well(&stage, PODS);
            let tokens: BTreeSet<&str> = stage.ec2.launches.iter().map(|launch| launch.client_token.as_str()).collect();
            assert_eq!(tokens.len(), 1, "arrives: {arrives}, at {at} ms: {tokens:?}");
            repeated += stage.ec2.launches.len() - 1;
        }
    }
    println!("120 restarts: {repeated} calls were repeated");
    assert!(repeated > 0, "some die between the call and its answer");
}

/// A fleet that gets less than it was asked for: those without an instance are given up and planned anew.
#[test]
fn a_fleet_that_is_filled_in_part_gives_each_instance_once() {
    let mut stage = stage(10);
    stage.ec2.at_most = 4;
    stage.run(SignedDuration::from_secs(5), |stage| !stage.given_up.is_empty());
    assert_eq!(stage.given_up.get("insufficient_capacity"), Some(&6));
    assert!(stage.ec2.is_each_one_once(instances(&stage).iter().map(String::as_str)));
    stage.ec2.at_most = usize::MAX;
    stage.run(SignedDuration::from_mins(5), |stage| stage.bound.len() == 10);
    is_well(&stage, 10);
}

/// Each instance is told its node's name, one a second; a template that nobody uses any more goes after a minute, and
/// so does what a predecessor has left behind.
#[test]
fn instances_are_tagged_once_they_have_registered_and_unused_templates_go() {
    let mut stage = stage(5);
    stage.run(SOON, |stage| stage.bound.len() == 5);
    let tagged = |stage: &Stage| stage.ec2.instances.values().filter(|one| one.tags.contains_key("Name")).count();
    let before = tagged(&stage);
    stage.run(SignedDuration::from_secs(10), |stage| tagged(stage) == 5);
    assert!(before < 5, "one by one: {before}");
    let claims = stage.claims();
    for claim in &claims {
        let id = instance_of(claim).unwrap_or_default();
        let tags = &stage.ec2.instances[id.rsplit('/').next().unwrap_or_default()].tags;
        assert_eq!(tags.get("karpenter.sh/nodeclaim"), claim.metadata.name.as_ref());
        assert_eq!(tags.get("Name"), claim.status.as_ref().and_then(|status| status.node_name.as_ref()));
    }
    stage.run(SOON, |_| false);
    let mut used: BTreeSet<&str> = ["left-behind"].into();
    used.extend(
        stage.ec2.launches.iter().flat_map(|launch| &launch.configs).map(|config| config.template.name.as_str()),
    );
    assert_eq!(stage.ec2.deleted.iter().map(String::as_str).collect::<BTreeSet<_>>(), used);
    assert_eq!(stage.ec2.calls["CreateTags"], 5, "what is written down is not asked again");
    let noted = |claim: &NodeClaim| claim.metadata.annotations.as_ref()?.get("karpenter.k8s.aws/tagged").cloned();
    assert!(stage.claims().iter().all(|claim| noted(claim).as_deref() == Some("true")));
}

/// Shared hardware unless it is ruled out; nodes say which, also those that are found after a call without an answer.
#[test]
fn hardware_of_its_own_is_launched_for_those_who_ask_for_it() {
    for (allowed, expected) in
        [(vec!["default", "dedicated"], "default"), (vec!["default"], "default"), (vec!["dedicated"], "dedicated")]
    {
        for restart in [false, true] {
            let mut stage = Stage::new(Ec2::new(&[("m5.xlarge", 4)]));
            let asked = json!({ "key": "karpenter.k8s.aws/instance-tenancy", "operator": "In", "values": allowed });
            stage.pool("general", 1, &json!([asked]));
            stage.pod("p", "3", &json!({}));
            if restart {
                stage.run(SOON, |stage| !stage.ec2.launches.is_empty());
                stage.restart(true);
            }
            stage.run(SOON, |stage| stage.bound.len() == 1);
            is_well(&stage, 1);
            let placed = stage.ec2.instances.values().map(|one| one.tenancy.as_str()).collect::<Vec<_>>();
            let claim = stage.claims().remove(0);
            let label = claim.metadata.labels.as_ref().and_then(|all| all.get("karpenter.k8s.aws/instance-tenancy"));
            assert_eq!((placed, label.map(String::as_str)), (vec![expected], Some(expected)), "{allowed:?} {restart}");
        }
    }
}
