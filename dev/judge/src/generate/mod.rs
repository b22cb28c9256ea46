//! Random clusters, small enough to be obvious: every kind of constraint, often in conflict.
//!
//! What is drawn is plain (which constraint, which value); objects are built from it, so that a failing case shrinks
//! to few and simple objects.

mod nodes;
mod pools;
mod workloads;

use std::collections::BTreeMap;

use karpenter_core::settings::{MinValuesPolicy, PreferencePolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed};

use crate::{Cluster, Kind};

pub(crate) const ZONES: [&str; 3] = ["z-a", "z-b", "z-c"];
/// Keys of no meaning to Kubernetes: nodes have them if a NodePool says so.
pub(crate) const TEAM: &str = "example.com/team";
pub(crate) const RACK: &str = "example.com/rack";
/// As these, and every value will do: no rule between pods divides them by it.
pub(crate) const LANE: &str = "example.com/lane";
/// A key that no node has.
pub(crate) const NOBODY: &str = "example.com/nobody";
pub(crate) const GPU: &str = "example.com/gpu";
const PODS_MAX: usize = 25;

/// So many cases, the same ones each time: what is found depends on the code alone. `PROPTEST_CASES` sets another
/// number, `PROPTEST_RNG_SEED` another seed: a number, or `random`.
pub fn config(cases: u32) -> Config {
    let set = |name: &str| std::env::var(name).ok();
    let rng_seed = match set("PROPTEST_RNG_SEED") {
        None => RngSeed::Fixed(1),
        Some(seed) => seed.parse().map_or(RngSeed::Random, RngSeed::Fixed),
    };
    let cases = set("PROPTEST_CASES").and_then(|number| number.parse().ok()).unwrap_or(cases);
    Config { cases, rng_seed, failure_persistence: None, ..Config::default() }
}

/// What may be drawn.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Specs that the API server would refuse, or that the scheduler is known not to follow: they end in a verdict.
    pub odd: bool,
}

/// A cluster of which every object is one that the API server would take.
pub fn any_cluster() -> impl Strategy<Value = Cluster> {
    any_cluster_with(Scope { odd: false })
}

pub fn any_cluster_with(scope: Scope) -> impl Strategy<Value = Cluster> {
    let kinds = prop_oneof![1 => vec(pools::kind(), 0..=1), 20 => vec(pools::kind(), 1..=8)];
    (
        kinds,
        vec(pools::pool(), 1..=4),
        vec(nodes::node(), 0..=6),
        vec(nodes::daemon(), 0..=2),
        vec(workloads::workload(scope), 1..=6),
        (any::<bool>(), any::<bool>()),
    )
        .prop_map(|(kinds, pools, nodes, daemons, workloads, (ignore, best_effort))| {
            let mut cluster = Cluster {
                namespaces: namespaces(),
                kinds: kinds.into_iter().enumerate().map(|(at, kind)| pools::build_kind(at, kind)).collect(),
                preferences: if ignore { PreferencePolicy::Ignore } else { PreferencePolicy::Respect },
                min_values: if best_effort { MinValuesPolicy::BestEffort } else { MinValuesPolicy::Strict },
                ..Cluster::default()
            };
            cluster.pools = pools.iter().enumerate().map(|(at, pool)| pools::build(at, pool, &cluster.kinds)).collect();
            for (at, node) in nodes.iter().enumerate() {
                nodes::build(&mut cluster, at, node);
            }
            for (at, daemon) in daemons.iter().enumerate() {
                nodes::build_daemon(&mut cluster, at, daemon);
            }
            for (at, workload) in workloads.iter().enumerate() {
                workloads::build(&mut cluster, at, workload, PODS_MAX);
            }
            cluster
        })
}

fn namespaces() -> BTreeMap<String, BTreeMap<String, String>> {
    ["default", "other"].map(|name| (name.to_owned(), label("name", name))).into()
}

fn label(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

/// True in so many of a hundred cases.
fn chance(percent: u32) -> impl Strategy<Value = bool> {
    prop_oneof![100 - percent => Just(false), percent => Just(true)]
}

/// Something in so many of a hundred cases.
fn sometimes<S: Strategy>(percent: u32, what: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: Clone,
{
    proptest::option::weighted(f64::from(percent) / 100.0, what)
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    select(values)
}

/// The kind at a drawn number, if there are any.
fn kind_at(kinds: &[Kind], at: usize) -> Option<&Kind> {
    kinds.get(at.checked_rem(kinds.len())?)
}

/// An object from its manifest, of which the caller knows that it can be read.
///
/// # Panics
/// If it cannot.
#[expect(clippy::expect_used, reason = "what is written here is what the types say")]
pub fn read<T: serde::de::DeserializeOwned>(object: serde_json::Value) -> T {
    serde_json::from_value(object).expect("a generated object")
}
