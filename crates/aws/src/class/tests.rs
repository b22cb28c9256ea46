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
    let cluster = cluster();
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

fn cluster() -> Cluster {
    Cluster { service_ipv4_cidr: Some("10.100.0.0/16".into()), version: "1.36".into(), ..Cluster::default() }
}

/// A class with these fields in place of its own.
fn class_with(spec: &serde_json::Value) -> Class {
    let mut object = serde_json::to_value(&class(1).object).unwrap();
    for (name, value) in spec.as_object().unwrap() {
        object["spec"][name] = value.clone();
    }
    Class::new(serde_json::from_value(object).unwrap())
}

/// Status and reason of a condition, at this time.
fn said(class: &Class, settings: &AwsSettings, condition: &str, now: Timestamp) -> Option<(String, String)> {
    let draft = class.draft(settings, Some(&cluster()), now);
    let trial = draft.is_complete().then_some("inputs");
    let status = class.status(settings, Some(&cluster()), draft, trial, now);
    conditions::get(status.conditions.as_deref(), condition).map(|c| (c.status.clone(), c.reason.clone()))
}

fn says(class: &Class, condition: &str) -> (String, String) {
    said(class, &AwsSettings::default(), condition, Timestamp::UNIX_EPOCH).unwrap()
}

fn both(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn refused(operation: &'static str, code: &str, message: &str) -> CallError {
    CallError { operation, code: code.to_owned(), message: message.to_owned(), uncertain: false }
}

fn image(id: &str, name: &str, arch: &str, created: i64, deprecated: Option<i64>) -> Image {
    let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
    Image {
        id: id.to_owned(),
        name: name.to_owned(),
        architecture: arch.to_owned(),
        created: Some(at(created)),
        deprecated: deprecated.map(at),
        ..Image::default()
    }
}

fn chosen(class: &mut Class, images: Vec<Image>, parameters: &[(&str, &str)]) -> Vec<(String, bool)> {
    let parameters = parameters.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect();
    class.learn_images(Timestamp::UNIX_EPOCH, Ok(Images { images, parameters }));
    let now = Timestamp::from_second(100 * 86_400).unwrap();
    let status = class.draft(&AwsSettings::default(), Some(&cluster()), now).status;
    status.amis.unwrap_or_default().into_iter().map(|ami| (ami.id, ami.deprecated.unwrap_or(false))).collect()
}

#[test]
fn of_images_for_the_same_nodes_the_newest_that_is_not_deprecated_is_taken() {
    let pick = |images| {
        let all = chosen(&mut class(1), images, &[]);
        all.into_iter().map(|(id, deprecated)| format!("{id}{}", if deprecated { "!" } else { "" })).collect::<Vec<_>>()
    };
    let x86 = |id, created, deprecated| image(id, id, "x86_64", created, deprecated);
    assert_eq!(pick(vec![x86("a", 1, None), x86("b", 2, None)]), ["b"], "the newest");
    assert_eq!(pick(vec![x86("a", 1, None), x86("b", 2, Some(99))]), ["a"], "deprecated by now");
    assert_eq!(pick(vec![x86("a", 1, Some(101)), x86("b", 2, Some(101))]), ["b"], "deprecated later");
    assert_eq!(pick(vec![x86("a", 1, Some(9)), x86("b", 2, Some(9))]), ["b!"], "if there is no other");
    assert_eq!(pick(vec![x86("a", 1, None), x86("b", 1, None)]), ["b"], "the last by name");
    let arm = image("c", "c", "arm64", 3, None);
    assert_eq!(pick(vec![x86("a", 1, None), arm.clone()]), ["c", "a"], "one of each architecture, the newest first");
    assert_eq!(pick(vec![image("m", "m", "x86_64_mac", 9, None), arm]), ["c"], "no node has this architecture");
}

#[test]
fn an_alias_knows_which_nodes_its_images_are_for() {
    let base = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023";
    let parameter = |variant| format!("{base}/x86_64/{variant}/recommended/image_id");
    let (standard, nvidia) = (parameter("standard"), parameter("nvidia"));
    let mut class = class_with(&json!({ "amiSelectorTerms": [{ "alias": "al2023@latest" }] }));
    let images = vec![image("s", "s", "x86_64", 1, None), image("n", "n", "x86_64", 2, None)];
    let all = chosen(&mut class, images, &[(&standard, "s"), (&nvidia, "n")]);
    assert_eq!(all.len(), 2, "of the same architecture, but for other nodes: {all:?}");
}

#[test]
fn terms_become_queries_and_a_name_is_looked_for_with_those_one_trusts() {
    let terms = json!({ "amiSelectorTerms": [
        { "id": "ami-1" }, { "name": "mine-*" }, { "name": "theirs", "owner": "123456789012" },
        { "tags": { "golden": "*" } }, { "ssmParameter": "/my/image" },
    ]});
    let (due, _) = class_with(&terms).polls(&AwsSettings::default(), Some("1.36"), Timestamp::UNIX_EPOCH);
    let asked = due.into_iter().find_map(|(_, call)| match call {
        Call::Images { parameters, queries, .. } => Some((parameters, queries)),
        _ => None,
    });
    let (parameters, queries) = asked.unwrap();
    assert_eq!(parameters, ["/my/image"]);
    let told: Vec<String> = queries
        .iter()
        .map(|q| format!("{:?} {:?} {:?}", q.ids, q.owners, q.filters.keys().collect::<Vec<_>>()))
        .collect();
    assert_eq!(
        told,
        [
            r#"["ami-1"] [] ["state"]"#,
            r#"[] ["self", "amazon"] ["name", "state"]"#,
            r#"[] ["123456789012"] ["name", "state"]"#,
            r#"[] [] ["state", "tag:golden"]"#,
        ]
    );
}

#[test]
fn a_placement_group_is_asked_for_only_if_one_is_named() {
    assert_eq!(says(&class(1), names::PLACEMENT_GROUP_READY), both("True", names::PLACEMENT_GROUP_READY));
    let mut class = class_with(&json!({ "placementGroupSelector": { "name": "racks" } }));
    assert_eq!(says(&class, names::PLACEMENT_GROUP_READY), both("Unknown", "AwaitingReconciliation"));
    class.learn_placement(Timestamp::UNIX_EPOCH, Err(refused("DescribePlacementGroups", "Unavailable", "")));
    assert_eq!(says(&class, names::PLACEMENT_GROUP_READY), both("False", "PlacementGroupResolutionFailed"));
    class.learn_placement(Timestamp::UNIX_EPOCH, Ok(None));
    assert_eq!(says(&class, names::PLACEMENT_GROUP_READY), both("False", "PlacementGroupNotFound"));
    let found = PlacementGroup { id: "pg-1".into(), ..PlacementGroup::default() };
    class.learn_placement(Timestamp::UNIX_EPOCH, Ok(Some(found)));
    assert_eq!(says(&class, names::PLACEMENT_GROUP_READY), both("True", names::PLACEMENT_GROUP_READY));
}

#[test]
fn reservations_are_told_while_the_gate_is_open() {
    let terms = json!({ "capacityReservationSelectorTerms": [{ "id": "cr-1" }, { "instanceMatchCriteria": "open" }] });
    let mut class = class_with(&terms);
    let ends = Timestamp::from_second(10_000).unwrap();
    let block = CapacityReservation {
        id: "cr-2".into(),
        match_criteria: "targeted".into(),
        kind: "capacity-block".into(),
        ends: Some(ends),
        ..CapacityReservation::default()
    };
    let plain = CapacityReservation { id: "cr-1".into(), kind: "default".into(), ..block.clone() };
    class.learn_reservations(Timestamp::UNIX_EPOCH, Ok(vec![block.clone(), plain.clone(), block]));
    let open = AwsSettings { reserved_capacity: true, ..AwsSettings::default() };
    let told = |settings: &AwsSettings, minutes: i64| {
        let now = ends - SignedDuration::from_mins(minutes);
        let status = class.draft(settings, Some(&cluster()), now).status;
        let all = status.capacity_reservations.unwrap_or_default();
        all.into_iter().map(|one| format!("{} {}", one.id, one.state.unwrap_or_default())).collect::<Vec<_>>()
    };
    assert_eq!(told(&open, 41), ["cr-1 active", "cr-2 active"]);
    assert_eq!(told(&open, 40), ["cr-1 active", "cr-2 expiring"], "a block that ends in 40 minutes");
    let closed = AwsSettings { reserved_capacity: false, ..AwsSettings::default() };
    assert!(told(&closed, 41).is_empty());
    let condition = |settings| said(&class, settings, names::CAPACITY_RESERVATIONS_READY, Timestamp::UNIX_EPOCH);
    assert_eq!(condition(&open), Some(both("True", names::CAPACITY_RESERVATIONS_READY)));
    assert_eq!(condition(&closed), None, "nobody judges it");
    assert!(
        class
            .polls(&open, None, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(59))
            .0
            .iter()
            .all(|(v, _)| *v != "capacity-reservations")
    );
    assert!(
        class
            .polls(&open, None, Timestamp::UNIX_EPOCH + SignedDuration::from_mins(1))
            .0
            .iter()
            .any(|(v, _)| *v == "capacity-reservations")
    );
}

#[test]
fn a_condition_of_a_gate_that_was_closed_does_not_stand_in_the_way() {
    let mut before = class(1);
    answered(&mut before);
    let mut status = judged(&before);
    let now = Timestamp::UNIX_EPOCH;
    conditions::set(
        status.conditions.as_mut().unwrap(),
        names::CAPACITY_RESERVATIONS_READY,
        "False",
        "X",
        "",
        None,
        now,
    );
    before.object.status = Some(status);
    assert_eq!(ready(&judged(&before)), "True");
}

#[test]
fn what_a_trial_came_to_is_a_reason_of_its_own() {
    for (operation, code, message, expected) in [
        ("CreateLaunchTemplate", "UnauthorizedOperation", "", both("False", "CreateLaunchTemplateAuthCheckFailed")),
        ("CreateFleet", "AccessDenied", "", both("False", "CreateFleetAuthCheckFailed")),
        ("RunInstances", "UnauthorizedOperation", "", both("False", "RunInstancesAuthCheckFailed")),
        (
            "RunInstances",
            "InvalidParameterValue",
            "Value (x) for parameter iamInstanceProfile.name is invalid",
            both("False", "InstanceProfileNotFound"),
        ),
        (
            "CreateLaunchTemplate",
            "InvalidUserData.Malformed",
            "User data is limited to 16384 bytes",
            both("False", "UserDataSizeLimitExceeded"),
        ),
        ("CreateFleet", "RequestLimitExceeded", "", both("Unknown", "AwaitingReconciliation")),
        ("CreateFleet", "InternalError", "", both("Unknown", "AwaitingReconciliation")),
    ] {
        let mut class = class(1);
        answered(&mut class);
        class.tried = None;
        let at = Timestamp::UNIX_EPOCH;
        class.learn_trial(at, "inputs".to_owned(), Err(refused(operation, code, message)));
        assert_eq!(says(&class, names::VALIDATION_SUCCEEDED), expected, "{operation} {code}");
        class.learn_trial(at, "inputs".to_owned(), Ok(()));
        assert_eq!(says(&class, names::VALIDATION_SUCCEEDED), both("True", names::VALIDATION_SUCCEEDED));
        let until = at + SignedDuration::from_mins(30);
        assert_eq!(class.trial_stands_until("inputs"), Some(until), "and for half an hour");
        assert_eq!(class.trial_stands_until("others"), None, "of these inputs only");
    }
}

#[test]
fn a_call_that_breaks_down_is_no_answer_but_a_denial_is() {
    let mut class = class(1);
    answered(&mut class);
    let at = Timestamp::UNIX_EPOCH;
    class.learn_trial(at, "inputs".to_owned(), Err(refused("CreateFleet", "RequestLimitExceeded", "")));
    assert_eq!(says(&class, names::VALIDATION_SUCCEEDED).0, "True", "what is known stands");
    class.learn_trial(at, "inputs".to_owned(), Err(refused("CreateFleet", "UnauthorizedOperation", "")));
    assert_eq!(says(&class, names::VALIDATION_SUCCEEDED).0, "False");
}

#[test]
fn nothing_is_tried_before_everything_is_there_or_when_that_is_switched_off() {
    let off = AwsSettings { disable_dry_run: true, ..AwsSettings::default() };
    let mut class = class(1);
    let validation = |class: &Class| said(class, &off, names::VALIDATION_SUCCEEDED, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(validation(&class), both("Unknown", "DependenciesNotReady"));
    answered(&mut class);
    class.tried = None;
    assert_eq!(validation(&class), both("True", "DryRunDisabled"));
    class.learn_groups(Timestamp::UNIX_EPOCH, Ok(Vec::new()));
    assert_eq!(validation(&class), both("False", "DependenciesNotReady"));
}

#[test]
fn what_a_class_says_wrongly_is_told_without_asking_aws() {
    for (spec, reason) in [
        (json!({ "tags": { "karpenter.sh/nodeclaim": "x" } }), "TagValidationFailed"),
        (json!({ "tags": { "kubernetes.io/cluster/other": "owned" } }), "TagValidationFailed"),
        (json!({ "kubelet": { "nope": 1 } }), "InvalidKubeletConfiguration"),
        (json!({ "kubelet": { "maxPods": "vcpus * 10" } }), "KubeletExpressionsDisabled"),
        (json!({ "amiFamily": "AL2", "kubelet": { "podPidsLimit": 1 } }), "UnsupportedKubeletConfiguration"),
        (json!({ "amiFamily": "Bottlerocket", "userData": "not toml" }), "UserDataInvalid"),
        (json!({ "amiFamily": "Custom", "userData": "x".repeat(16_385) }), "UserDataSizeLimitExceeded"),
    ] {
        let mut class = class_with(&spec);
        answered(&mut class);
        assert_eq!(says(&class, names::VALIDATION_SUCCEEDED), both("False", reason), "{spec}");
    }
    let mut class = class_with(&json!({ "amiFamily": "AL2023" }));
    answered(&mut class);
    let nowhere = Cluster { service_ipv4_cidr: None, ..cluster() };
    let settings = AwsSettings::default();
    let draft = class.draft(&settings, Some(&nowhere), Timestamp::UNIX_EPOCH);
    let status = class.status(&settings, Some(&nowhere), draft, Some("inputs"), Timestamp::UNIX_EPOCH);
    let told = conditions::get(status.conditions.as_deref(), names::VALIDATION_SUCCEEDED).unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "ClusterCIDRResolutionFailed"));
}

#[test]
fn another_role_is_another_profile_and_what_is_known_is_asked_for_first() {
    let settings = AwsSettings { cluster_name: "dev".into(), region: "us-west-2".into(), ..AwsSettings::default() };
    let of_role = |role: &str| {
        let mut class = class_with(&json!({ "instanceProfile": null, "role": role, "tags": { "team": "a" } }));
        class.object.status =
            Some(Ec2NodeClassStatus { instance_profile: Some("dev_old".into()), ..Default::default() });
        let (due, _) = class.polls(&settings, None, Timestamp::UNIX_EPOCH);
        due.into_iter().find_map(|(_, call)| match call {
            Call::EnsureInstanceProfile { known, profile, .. } => Some((known, profile)),
            _ => None,
        })
    };
    let (known, profile) = of_role("nodes").unwrap();
    assert_eq!(known.as_deref(), Some("dev_old"));
    assert_eq!(profile.path, "/karpenter/us-west-2/dev/u/");
    assert!(profile.name.starts_with("dev_"), "{}", profile.name);
    let tags: Vec<String> = profile.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        tags,
        [
            "eks:eks-cluster-name=dev",
            "karpenter.k8s.aws/ec2nodeclass=default",
            "kubernetes.io/cluster/dev=owned",
            "team=a",
            "topology.kubernetes.io/region=us-west-2",
        ]
    );
    assert_eq!(of_role("nodes").unwrap().1.name, profile.name);
    assert_ne!(of_role("others").unwrap().1.name, profile.name);
}

#[test]
fn polls_come_as_often_as_their_answers_last() {
    let mut class = class(1);
    answered(&mut class);
    let after = |settings: &AwsSettings, minutes: i64| {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let (due, _) = class.polls(settings, Some("1.36"), now);
        due.into_iter().map(|(verb, _)| verb).collect::<Vec<_>>()
    };
    let usual = AwsSettings::default();
    assert_eq!(after(&usual, 0), Vec::<&str>::new());
    assert_eq!(after(&usual, 1), ["subnets"]);
    assert_eq!(after(&usual, 5), ["subnets", "security-groups", "images"]);
    let mins = SignedDuration::from_mins;
    let slower = AwsSettings { subnet_refresh: mins(3), ami_refresh: mins(10), ..AwsSettings::default() };
    assert_eq!(after(&slower, 2), Vec::<&str>::new());
    assert_eq!(after(&slower, 5), ["subnets", "security-groups"]);
    assert_eq!(after(&slower, 10), ["subnets", "security-groups", "images"]);
    class.learn_groups(Timestamp::UNIX_EPOCH, Ok(Vec::new()));
    let (due, _) = class.polls(&usual, None, Timestamp::UNIX_EPOCH + mins(1));
    assert!(due.iter().any(|(verb, _)| *verb == "security-groups"), "while nothing is found");
}

#[test]
fn expressions_are_judged_behind_their_gate() {
    let open = AwsSettings { kubelet_expressions: true, ..AwsSettings::default() };
    let judged = |text: &str, figures: Option<&str>, settings: &AwsSettings| {
        let mut class = class_with(&json!({ "kubelet": { "maxPods": text } }));
        answered(&mut class);
        let mut draft = class.draft(settings, Some(&cluster()), Timestamp::UNIX_EPOCH);
        draft.figures = figures.map(str::to_owned);
        let status = class.status(settings, Some(&cluster()), draft, Some("inputs"), Timestamp::UNIX_EPOCH);
        let told = conditions::get(status.conditions.as_deref(), names::VALIDATION_SUCCEEDED).unwrap();
        (told.status.clone(), told.reason.clone())
    };
    let shut = AwsSettings::default();
    assert_eq!(judged("max_pods - 1", None, &shut), both("False", "KubeletExpressionsDisabled"));
    assert_eq!(judged("max_pods - 1", None, &open), both("True", names::VALIDATION_SUCCEEDED));
    assert_eq!(judged("pods - 1", None, &open), both("False", "KubeletExpressionInvalid"));
    assert_eq!(judged("max_pods - 999", Some("x"), &open), both("False", "KubeletExpressionEvaluationFailed"));
}
