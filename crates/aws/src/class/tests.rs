//! What a class says of itself, answer by answer.

use karpenter_api::conditions as names;
use karpenter_api::ec2nodeclass::Ec2NodeClassStatus;
use karpenter_core::conditions;
use serde_json::json;

use super::*;
use crate::report::{Cluster, Image};

fn class(generation: i64) -> Class {
    let object = serde_json::from_value(json!({
        "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
        "metadata": { "name": "default", "uid": "u", "generation": generation },
        "spec": {
            "instanceProfile": "nodes", "amiSelectorTerms": [{ "id": "ami-1" }],
            "subnetSelectorTerms": [{ "id": "subnet-1" }], "securityGroupSelectorTerms": [{ "id": "sg-1" }],
        },
    }));
    Class::new(object.unwrap())
}

fn answered(class: &mut Class) {
    let at = Timestamp::UNIX_EPOCH;
    class.learn_subnets(at, Ok(vec![Subnet { id: "subnet-1".into(), zone: "a".into(), ..Subnet::default() }]));
    class.learn_groups(at, Ok(vec![SecurityGroup { id: "sg-1".into(), ..SecurityGroup::default() }]));
    let image = Image { id: "ami-1".into(), architecture: "x86_64".into(), ..Image::default() };
    class.learn_images(at, Ok(Images { images: vec![image], ..Images::default() }));
    class.learn_trial(at, "inputs".to_owned(), Ok(()));
}

fn judged(class: &Class) -> Ec2NodeClassStatus {
    let cluster = Cluster {
        endpoint: String::new(),
        certificate_authority: String::new(),
        service_ipv4_cidr: Some("10.100.0.0/16".into()),
        service_ipv6_cidr: None,
        version: "1.36".into(),
    };
    let (settings, now) = (AwsSettings::default(), Timestamp::UNIX_EPOCH);
    let draft = class.draft(&settings, Some(&cluster), now);
    let trial = draft.is_complete().then_some("inputs");
    class.status(&settings, Some(&cluster), draft, trial, now)
}

fn ready(status: &Ec2NodeClassStatus) -> &str {
    conditions::get(status.conditions.as_deref(), names::READY).map_or("", |ready| ready.status.as_str())
}

#[test]
fn a_class_is_ready_once_everything_is_found() {
    let mut class = class(1);
    assert_eq!(ready(&judged(&class)), "Unknown");
    answered(&mut class);
    assert_eq!(ready(&judged(&class)), "True");
    class.learn_subnets(Timestamp::UNIX_EPOCH, Ok(Vec::new()));
    assert_eq!(ready(&judged(&class)), "False");
}

#[test]
fn after_a_restart_what_was_judged_stands_until_it_is_known_again() {
    let mut before = class(1);
    answered(&mut before);
    let mut after = class(1);
    after.object.status = Some(judged(&before));
    assert_eq!(judged(&after), judged(&before), "nothing is known yet, and nothing is written");

    let mut changed = class(2);
    changed.object.status = Some(judged(&before));
    assert_eq!(ready(&judged(&changed)), "Unknown", "another spec was never judged");
}

#[test]
fn a_call_that_fails_does_not_undo_what_was_found_and_is_due_at_once() {
    let refused = || CallError {
        operation: "DescribeSubnets",
        code: "RequestLimitExceeded".into(),
        message: String::new(),
        uncertain: false,
    };
    let at = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(10);
    let mut known = class(1);
    answered(&mut known);
    known.learn_subnets(at, Err(refused()));
    assert_eq!(ready(&judged(&known)), "True");

    let mut first = class(1);
    first.learn_subnets(at, Err(refused()));
    assert_eq!(ready(&judged(&first)), "False", "nobody knows better");
    let (due, _) = first.polls(&AwsSettings::default(), None, at);
    assert!(due.iter().any(|(verb, _)| *verb == "subnets"), "its back-off says when");
}
