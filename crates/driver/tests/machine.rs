//! The loop's own rules: how much is under way at once, and that each key is heard once.

use jiff::Timestamp;
use karpenter_api::NodeClaim;
use karpenter_aws::{Aws, AwsSettings};
use karpenter_core::{Action, Change, Deed, Failure, Kind, Object, Observation, Settings};
use karpenter_driver::{Event, Machine, WRITES_MAX, Written};
use serde_json::json;

#[expect(clippy::unwrap_used, reason = "what is written here is what the type says")]
fn claim(number: usize) -> NodeClaim {
    let claim = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": {"name": format!("c-{number:03}"), "uid": format!("uid-{number}"), "resourceVersion": "1"},
        "spec": {
            "requirements": [],
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
        },
    });
    serde_json::from_value(claim).unwrap()
}

/// A machine that knows `claims` NodeClaims, each of which wants its finalizer.
fn machine(claims: usize, now: Timestamp) -> Machine {
    let mut machine = Machine::new(Settings::default(), Aws::new(AwsSettings::default()));
    let mut names = Vec::new();
    for number in 0..claims {
        let claim = claim(number);
        names.extend(claim.metadata.name.clone());
        let change = Change::Applied(Object::NodeClaim(Box::new(claim)));
        machine.apply(Event::Observed(Observation::Kube(change)), now);
    }
    for kind in Kind::ALL {
        let names = if kind == Kind::NodeClaim { names.clone() } else { Vec::new() };
        machine.apply(Event::Observed(Observation::Listed { kind, names }), now);
    }
    machine
}

fn writes<C: Clone>(actions: &[Action<C>]) -> Vec<Action<C>> {
    actions.iter().filter(|action| matches!(action.deed, Deed::Kube(_))).cloned().collect()
}

#[test]
fn no_more_writes_than_the_limit_are_under_way_and_the_rest_follows() {
    let now = Timestamp::UNIX_EPOCH;
    let mut machine = machine(WRITES_MAX + 44, now);
    let turn = machine.turn(now);
    assert_eq!(writes(&turn.actions).len(), WRITES_MAX);
    let wake = turn.wake.expect("what found no room is tried again");
    assert!(wake > now);
    assert!(writes(&machine.turn(wake).actions).is_empty(), "nothing has ended");
    for action in writes(&turn.actions).into_iter().take(50) {
        let outcome = Err(Failure::Conflict("somebody else wrote".to_owned()));
        machine.apply(Event::Written { key: action.key, facts: action.facts, outcome }, now);
    }
    let later = now + jiff::SignedDuration::from_mins(1);
    assert_eq!(writes(&machine.turn(later).actions).len(), 50);
}

#[test]
fn a_fact_of_a_write_is_told_when_it_has_succeeded() {
    let now = Timestamp::UNIX_EPOCH;
    let mut machine = machine(1, now);
    let told = karpenter_core::Fact::OrphanInstance { provider_id: "i-1".to_owned() };
    let action = writes(&machine.turn(now).actions).remove(0);
    let ended = |outcome| Event::Written { key: action.key.clone(), facts: vec![told.clone()], outcome };
    let facts = machine.apply(ended(Err(Failure::Unknown("time-out".to_owned()))), now);
    assert!(matches!(facts.as_slice(), [karpenter_core::Fact::ActionFailed { failures: 1, .. }]), "{facts:?}");
    let facts = machine.apply(ended(Ok(Written::Nothing)), now);
    assert_eq!(facts, [told]);
}
