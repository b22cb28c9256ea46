//! The solver's verdicts in words.

use std::collections::BTreeMap;
use std::sync::Arc;

use karpenter_solver::{Constraint as Said, Layout, PoolVerdict, Solution, Verdicts};

use super::problem::Interned;
use super::verdict::{CONSTRAINTS_MAX, Constraint, Reason, Tree, Verdict, cut};
use crate::resources;

/// Values listed of what a pod asks for.
const VALUES_MAX: usize = 5;

/// By class of pods without a place.
pub(super) fn verdicts(interned: &Interned<'_>, solution: &Solution) -> BTreeMap<usize, Verdict> {
    let barren = barren(interned);
    let verdict = |class: usize, said: &Verdicts| {
        let mut tree = Tree::default();
        for (verdict, pools) in said {
            if *verdict == PoolVerdict::NotCounted {
                tree.more += pools.len();
                continue;
            }
            let names = pools.iter().map(|pool| interned.pools[*pool].0.metadata.name.as_deref().unwrap_or_default());
            tree.add(names, || reason(interned, class, verdict, pools));
        }
        for (problem, pools) in &barren {
            tree.add(pools.iter().copied(), || Reason::Barren(cut(*problem)));
        }
        if tree.branches.is_empty() { Verdict::NoPools } else { Verdict::ByPool(Arc::new(tree)) }
    };
    solution.verdicts.iter().map(|(class, said)| (*class, verdict(*class, said))).collect()
}

/// NodePools that can host nothing, by reason.
fn barren<'a>(interned: &'a Interned<'_>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for barren in &interned.barren {
        let name = barren.pool.metadata.name.as_deref().unwrap_or_default();
        all.entry(barren.problem.as_str()).or_default().push(name);
    }
    all
}

fn reason(interned: &Interned<'_>, class: usize, verdict: &PoolVerdict, pools: &[usize]) -> Reason {
    let key = |at: usize| cut(interned.words.keys[at].clone());
    match verdict {
        PoolVerdict::Taint(at) => {
            let taint = &interned.taints[*at];
            let value = taint.value.as_deref().map(|value| format!("={value}")).unwrap_or_default();
            Reason::Taint(cut(format!("{}{value}:{}", taint.key, taint.effect)))
        }
        PoolVerdict::Label(at) => Reason::Label { key: key(*at), asked: asked(interned, class, *at) },
        PoolVerdict::Topology(at) => Reason::Topology(cut(interned.counter_keys[*at].clone())),
        PoolVerdict::Volume(at) => Reason::Volume(key(*at)),
        PoolVerdict::Nodes => Reason::NodeLimit,
        PoolVerdict::MinValues(at) => Reason::MinValues(key(*at)),
        PoolVerdict::Types { removed, of } => {
            let told = removed.iter().take(CONSTRAINTS_MAX);
            Reason::Types {
                removed: told.map(|(said, count)| (constraint(interned, class, *said, pools), *count)).collect(),
                more: removed.iter().skip(CONSTRAINTS_MAX).map(|(_, count)| count).sum(),
                of: *of,
            }
        }
        PoolVerdict::Open | PoolVerdict::NotCounted => Reason::Crowded,
    }
}

fn constraint(interned: &Interned<'_>, class: usize, said: Said, pools: &[usize]) -> Constraint {
    let name = |at: usize| cut(interned.words.resources[at].clone());
    match said {
        Said::Label(at) => {
            Constraint::Label { key: cut(interned.words.keys[at].clone()), asked: asked(interned, class, at) }
        }
        Said::Offering => Constraint::Offering,
        Said::Limit(at) => Constraint::Limit(name(at)),
        Said::Resource(at) if interned.contested.contains_key(&interned.words.resources[at]) => {
            Constraint::Port(name(at))
        }
        Said::Resource(at) => {
            let problem = &interned.problem;
            let types = pools.first().map(|pool| &problem.pools[*pool].types);
            let amounts = types.into_iter().flat_map(|types| types.iter());
            let most = amounts.map(|(kind, _)| problem.types[*kind].allocatable[at]).max().unwrap_or(0);
            let told = |amount: i64| resources::quantity(&interned.words.resources[at], amount).to_string();
            Constraint::Resource { name: name(at), asked: told(problem.classes[class].requests[at]), most: told(most) }
        }
    }
}

/// What a class asks of a key, in words.
fn asked(interned: &Interned<'_>, class: usize, key: usize) -> String {
    let layout = &interned.problem.layout;
    let Some(one) = interned.problem.classes[class].alternatives.last() else {
        return String::new();
    };
    let known = layout.bits(&one.row, key).filter(|bit| *bit >= Layout::FIRST);
    let mut values = known.filter_map(|bit| interned.words.values[key].get(bit - Layout::FIRST));
    let told: Vec<&str> = values.by_ref().take(VALUES_MAX).map(String::as_str).collect();
    if told.is_empty() {
        return "a value nobody offers".to_owned();
    }
    let more = if values.next().is_some() { ", …" } else { "" };
    cut(format!("[{}{more}]", told.join(", ")))
}
