//! Instance types and NodePools.

use std::collections::BTreeMap;

use karpenter_api::{NodePool, labels as keys};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{GPU, LANE, RACK, TEAM, ZONES, chance, one_of, sometimes};
use crate::cluster::BROKEN_CLASS;
use crate::{Kind, Offer};

#[derive(Clone, Debug)]
pub(super) struct DrawnKind {
    cpu: i64,
    gib_per_cpu: i64,
    pods: i64,
    arm: bool,
    family: &'static str,
    gpu: bool,
    /// On offer, by zone and capacity type; `None`: not even listed.
    offers: Vec<Option<bool>>,
    price: u64,
}

pub(super) fn kind() -> impl Strategy<Value = DrawnKind> {
    (
        proptest::sample::select(vec![1_i64, 2, 4, 8, 16]),
        1_i64..=4,
        prop_oneof![2_i64..=8, Just(110)],
        chance(25),
        one_of(&["fa", "fb", "fc"]),
        chance(15),
        vec(prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)], 6),
        50_u64..=150,
    )
        .prop_map(|(cpu, gib_per_cpu, pods, arm, family, gpu, offers, price)| DrawnKind {
            cpu,
            gib_per_cpu,
            pods,
            arm,
            family,
            gpu,
            offers,
            price,
        })
}

pub(super) fn build_kind(at: usize, drawn: DrawnKind) -> Kind {
    let mut labels = BTreeMap::from([
        (keys::ARCH.to_owned(), if drawn.arm { "arm64" } else { "amd64" }.to_owned()),
        (keys::OS.to_owned(), "linux".to_owned()),
        (keys::REGION.to_owned(), "z".to_owned()),
        (keys::INSTANCE_FAMILY.to_owned(), drawn.family.to_owned()),
        (keys::INSTANCE_CPU.to_owned(), drawn.cpu.to_string()),
    ]);
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), 1000 * drawn.cpu),
        ("memory".to_owned(), (drawn.cpu * drawn.gib_per_cpu) << 30),
        ("ephemeral-storage".to_owned(), 20 << 30),
        ("pods".to_owned(), drawn.pods),
    ]);
    if drawn.gpu {
        labels.insert(keys::INSTANCE_GPU_NAME.to_owned(), "t4".to_owned());
        capacity.insert(GPU.to_owned(), 1 + drawn.cpu / 8);
    }
    let mut allocatable = capacity.clone();
    allocatable.entry("cpu".to_owned()).and_modify(|amount| *amount -= 70);
    allocatable.entry("memory".to_owned()).and_modify(|amount| *amount -= 400 << 20);
    let offers = drawn.offers.iter().enumerate().filter_map(|(at, available)| {
        let spot = at % 2 == 1;
        let price = u64::try_from(drawn.cpu).unwrap_or(1) * drawn.price * 1000;
        Some(Offer {
            zone: ZONES[at / 2].to_owned(),
            spot,
            price: if spot { price / 3 + u64::try_from(at).unwrap_or(0) } else { price },
            available: (*available)?,
        })
    });
    Kind { name: format!("{}.{at}", drawn.family), labels, capacity, allocatable, offers: offers.collect() }
}

#[derive(Clone, Debug)]
pub(super) struct DrawnPool {
    requirements: Vec<(Requirement, Option<i64>)>,
    labels: Vec<(&'static str, &'static str)>,
    taint: Option<(&'static str, &'static str)>,
    startup: bool,
    limits: Vec<(&'static str, &'static str)>,
    weight: Option<i32>,
    state: State,
}

/// How a NodePool is.
#[derive(Clone, Copy, Debug)]
enum State {
    Ready,
    NotReady,
    Static,
    Broken,
}

#[derive(Clone, Debug)]
enum Requirement {
    Of(&'static str, &'static str, Vec<&'static str>),
    /// Every second instance type.
    SomeTypes,
}

pub(super) fn pool() -> impl Strategy<Value = DrawnPool> {
    let state = prop_oneof![
        16 => Just(State::Ready), 1 => Just(State::NotReady), 1 => Just(State::Static), 1 => Just(State::Broken)
    ];
    (
        vec((requirement(), sometimes(20, 1_i64..=3)), 0..=3),
        vec(prop_oneof![Just((TEAM, "red")), Just((RACK, "r1")), Just((RACK, "r2"))], 0..=1),
        sometimes(25, (one_of(&["dedicated", "special"]), one_of(&["NoSchedule", "NoExecute", "PreferNoSchedule"]))),
        chance(15),
        vec(
            prop_oneof![
                (Just("cpu"), one_of(&["2", "8", "20"])),
                (Just("memory"), one_of(&["4Gi", "30Gi"])),
                (Just("nodes"), one_of(&["0", "1", "3"])),
                (Just(GPU), one_of(&["0", "1"])),
            ],
            0..=1,
        ),
        sometimes(40, 1..=3),
        state,
    )
        .prop_map(|(requirements, labels, taint, startup, limits, weight, state)| DrawnPool {
            requirements,
            labels,
            taint,
            startup,
            limits,
            weight,
            state,
        })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let of = |key, operator, values: &[&'static str]| Just(Requirement::Of(key, operator, values.to_vec()));
    prop_oneof![
        3 => proptest::sample::subsequence(ZONES.to_vec(), 1..=3).prop_map(|zones| Requirement::Of(keys::ZONE, "In", zones)),
        1 => of(keys::ZONE, "NotIn", &["z-b"]),
        1 => of(keys::ZONE, "Exists", &[]),
        2 => of(keys::CAPACITY_TYPE, "In", &["on-demand"]),
        1 => of(keys::CAPACITY_TYPE, "In", &["spot", "on-demand"]),
        1 => of(keys::ARCH, "In", &["amd64"]),
        1 => of(keys::ARCH, "In", &["amd64", "arm64"]),
        2 => of(TEAM, "In", &["red", "blue"]),
        1 => of(TEAM, "NotIn", &["red"]),
        1 => of(LANE, "Exists", &[]),
        1 => of(TEAM, "DoesNotExist", &[]),
        1 => of(RACK, "In", &["r1", "r2"]),
        1 => of(RACK, "Gte", &["3"]),
        1 => of(keys::INSTANCE_CPU, "Gt", &["1"]),
        1 => of(keys::INSTANCE_CPU, "Lt", &["16"]),
        1 => of(keys::INSTANCE_CPU, "Gte", &["4"]),
        1 => of(keys::INSTANCE_CPU, "Lte", &["8"]),
        1 => of(keys::INSTANCE_FAMILY, "In", &["fa", "fb"]),
        1 => of(keys::INSTANCE_FAMILY, "NotIn", &["fa"]),
        1 => of(keys::INSTANCE_GPU_NAME, "DoesNotExist", &[]),
        1 => of(keys::INSTANCE_GPU_NAME, "Exists", &[]),
        2 => Just(Requirement::SomeTypes),
        1 => of(keys::INSTANCE_TYPE, "Exists", &[]),
    ]
}

pub(super) fn build(at: usize, drawn: &DrawnPool, kinds: &[Kind]) -> NodePool {
    let mut requirements: Vec<Value> = Vec::new();
    for (requirement, min_values) in &drawn.requirements {
        let (key, operator, values) = match requirement {
            Requirement::Of(key, operator, values) => {
                (*key, *operator, values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
            }
            Requirement::SomeTypes => {
                (keys::INSTANCE_TYPE, "In", kinds.iter().step_by(2).map(|kind| kind.name.clone()).collect())
            }
        };
        if values.is_empty() && operator == "In" {
            continue;
        }
        let mut one = json!({ "key": key, "operator": operator });
        // The API server refuses more minValues than values.
        let count = i64::try_from(values.len()).unwrap_or(0);
        if let Some(wanted) = min_values.filter(|wanted| operator == "Exists" || (operator == "In" && *wanted <= count))
        {
            one["minValues"] = wanted.into();
        }
        if !values.is_empty() {
            one["values"] = values.into();
        }
        requirements.push(one);
    }
    let effect = drawn.taint.map(|(key, effect)| json!([{ "key": key, "value": "yes", "effect": effect }]));
    let startup = json!([{ "key": "example.com/agent", "effect": "NoSchedule" }]);
    let class = if matches!(drawn.state, State::Broken) { BROKEN_CLASS } else { "default" };
    let ready = if matches!(drawn.state, State::NotReady) { "False" } else { "True" };
    let object = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
        "metadata": { "name": format!("p{at}"), "uid": format!("pool-{at}") },
        "spec": {
            "weight": drawn.weight,
            "replicas": matches!(drawn.state, State::Static).then_some(1),
            "limits": drawn.limits.iter().copied().collect::<BTreeMap<_, _>>(),
            "template": {
                "metadata": { "labels": drawn.labels.iter().copied().collect::<BTreeMap<_, _>>() },
                "spec": {
                    "requirements": requirements,
                    "taints": effect,
                    "startupTaints": drawn.startup.then_some(startup),
                    "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": class },
                },
            },
        },
        "status": { "conditions": [{
            "type": "Ready", "status": ready, "reason": "Ready", "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }] },
    });
    super::read(object)
}
