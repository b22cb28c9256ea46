//! Spreads, affinities and anti-affinities as counters and rules.
//!
//! A counter counts the pods that a selector means, by the values of one label of their nodes. Kinds
//! of pods that say the same share a counter. What running and pending pods refuse (required
//! anti-affinity) binds the pods they refuse as well: a counter counts those who refuse.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, PodAffinityTerm, TopologySpreadConstraint};
use karpenter_api::labels as keys;
use karpenter_solver::{Counter, Filter, Layout, Row, Rule};

use super::Interned;
use super::classes::Kind;
use super::selectors::{Selects, is_empty};
use crate::World;
use crate::provision::pods::{Reading, needs};
use crate::world::{Digest, PodState};

/// Whom a counter counts.
#[derive(Clone, Debug, PartialEq)]
enum Whom {
    /// Pods that are meant by all of these.
    Meant(Vec<Selects>),
    /// Pods that refuse those that are meant.
    Refusing(Selects),
}

/// A counter in words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    whom: Whom,
    key: String,
    /// A spread's say on which nodes count: node needs (if honoured) and tolerations (if honoured).
    filter: Option<FilterTold>,
}

#[derive(Clone, Debug, PartialEq)]
struct FilterTold {
    selector: BTreeMap<String, String>,
    affinity: Option<NodeAffinity>,
    /// Labels that it must have, whatever their values: the keys of all spreads that forbid, if there are several.
    keys: Vec<String>,
    /// `None`: taints do not matter.
    tolerations: Option<Vec<k8s_openapi::api::core::v1::Toleration>>,
}

/// Preferred pod-affinity terms, the heaviest last: they are dropped from the back.
pub(in crate::provision) fn preferred_affinity(of: &Digest) -> Vec<&PodAffinityTerm> {
    let all = of.affinity.iter().filter_map(|affinity| affinity.pod_affinity.as_ref());
    by_weight(all.flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten()))
}

/// As [`preferred_affinity`], of anti-affinity.
pub(in crate::provision) fn preferred_anti_affinity(of: &Digest) -> Vec<&PodAffinityTerm> {
    let all = of.affinity.iter().filter_map(|affinity| affinity.pod_anti_affinity.as_ref());
    by_weight(all.flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten()))
}

fn by_weight<'a>(
    terms: impl Iterator<Item = &'a k8s_openapi::api::core::v1::WeightedPodAffinityTerm>,
) -> Vec<&'a PodAffinityTerm> {
    let mut all: Vec<_> = terms.collect();
    all.sort_by_key(|term| term.weight);
    all.into_iter().map(|term| &term.pod_affinity_term).collect()
}

fn required_affinity(of: &Digest) -> impl Iterator<Item = &PodAffinityTerm> {
    let all = of.affinity.iter().filter_map(|affinity| affinity.pod_affinity.as_ref());
    all.flat_map(|affinity| affinity.required_during_scheduling_ignored_during_execution.iter().flatten())
}

fn required_anti_affinity(of: &Digest) -> impl Iterator<Item = &PodAffinityTerm> {
    let all = of.affinity.iter().filter_map(|affinity| affinity.pod_anti_affinity.as_ref());
    all.flat_map(|affinity| affinity.required_during_scheduling_ignored_during_execution.iter().flatten())
}

/// Labels of namespaces are not watched: a required term that selects by them cannot be judged.
pub(in crate::provision) fn namespaces_are_known(of: &Digest) -> Result<(), String> {
    let by_labels = |term: &PodAffinityTerm| term.namespace_selector.as_ref().is_some_and(|s| !is_empty(s));
    if required_affinity(of).chain(required_anti_affinity(of)).any(by_labels) {
        return Err(
            "podAffinityTerm.namespaceSelector: found labels, expected an empty selector or a list in namespaces \
                    (labels of namespaces are not supported yet)"
                .to_owned(),
        );
    }
    Ok(())
}

/// Topology keys a kind of pods speaks of.
pub(super) fn keys_of(of: &Digest) -> impl Iterator<Item = &str> {
    let terms = required_affinity(of).chain(required_anti_affinity(of));
    let preferred = preferred_affinity(of).into_iter().chain(preferred_anti_affinity(of));
    let terms = terms.chain(preferred).map(|term| term.topology_key.as_str());
    terms.chain(of.spreads.iter().map(|spread| spread.topology_key.as_str())).map(keys::normalized)
}

/// Nodes that lack the label of one spread count for none of the pod's (Kubernetes, topology spread constraints).
fn joint_keys(of: &Digest, spread: &TopologySpreadConstraint) -> Vec<String> {
    let forbids = |spread: &&TopologySpreadConstraint| spread.when_unsatisfiable == "DoNotSchedule";
    let hard = of.spreads.iter().filter(forbids).map(|spread| keys::normalized(&spread.topology_key).to_owned());
    let all: std::collections::BTreeSet<String> = hard.collect();
    if all.len() > 1 && forbids(&spread) {
        all.into_iter().filter(|key| key != keys::HOSTNAME).collect()
    } else {
        Vec::new()
    }
}

/// Counters by number, as they are first spoken of.
#[derive(Default)]
pub(super) struct Counters {
    told: Vec<Told>,
}

impl Counters {
    fn number(&mut self, told: Told) -> usize {
        self.told.iter().position(|known| *known == told).unwrap_or_else(|| {
            self.told.push(told);
            self.told.len() - 1
        })
    }

    fn of_spread(&mut self, of: &Digest, spread: &TopologySpreadConstraint) -> Rule {
        let whom = Selects::of_spread(of, spread.label_selector.as_ref(), spread.match_label_keys.as_ref());
        let counts_self = whom.means(of);
        let affinity = of.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
        let honours = |policy: Option<&String>, default: bool| policy.map_or(default, |policy| policy == "Honor");
        let by_needs = honours(spread.node_affinity_policy.as_ref(), true);
        let by_taints = honours(spread.node_taints_policy.as_ref(), false);
        let required = |affinity: NodeAffinity| NodeAffinity {
            preferred_during_scheduling_ignored_during_execution: None,
            ..affinity
        };
        let filter = FilterTold {
            selector: if by_needs { of.node_selector.clone() } else { BTreeMap::default() },
            affinity: affinity.filter(|_| by_needs).map(required),
            keys: joint_keys(of, spread),
            tolerations: by_taints.then(|| of.tolerations.clone()),
        };
        let says_something = !filter.selector.is_empty()
            || filter.affinity.is_some()
            || filter.tolerations.is_some()
            || !filter.keys.is_empty();
        let key = keys::normalized(&spread.topology_key).to_owned();
        let counter =
            self.number(Told { whom: Whom::Meant(vec![whom]), key, filter: says_something.then_some(filter) });
        Rule::Spread {
            counter,
            max_skew: u32::try_from(spread.max_skew).unwrap_or(1),
            min_domains: spread.min_domains.and_then(|n| u32::try_from(n).ok()),
            counts_self,
        }
    }

    /// A pod counts for one term of required affinity only if all of them mean it: that is how kube-scheduler has it.
    fn together(&mut self, of: &Digest, terms: &[&PodAffinityTerm]) -> Vec<Rule> {
        let whom: Vec<Selects> = terms.iter().map(|term| Selects::of_term(of, term)).collect();
        let counts_self = whom.iter().all(|one| one.means(of));
        let rule = |term: &&PodAffinityTerm| {
            let counter = self.meant(whom.clone(), &term.topology_key);
            Rule::Together { counter, counts_self }
        };
        terms.iter().map(rule).collect()
    }

    fn apart(&mut self, of: &Digest, term: &PodAffinityTerm) -> Rule {
        Rule::Apart { counter: self.meant(vec![Selects::of_term(of, term)], &term.topology_key) }
    }

    fn meant(&mut self, whom: Vec<Selects>, key: &str) -> usize {
        self.number(Told { whom: Whom::Meant(whom), key: keys::normalized(key).to_owned(), filter: None })
    }

    fn refusing(&mut self, of: &Digest, term: &PodAffinityTerm) -> usize {
        let key = keys::normalized(&term.topology_key).to_owned();
        self.number(Told { whom: Whom::Refusing(Selects::of_term(of, term)), key, filter: None })
    }

    /// Whether a counter counts pods of this digest.
    fn counts(&self, at: usize, of: &Digest) -> bool {
        let told = &self.told[at];
        match &told.whom {
            Whom::Meant(all) => all.iter().all(|selects| selects.means(of)),
            Whom::Refusing(whom) => required_anti_affinity(of)
                .any(|term| keys::normalized(&term.topology_key) == told.key && Selects::of_term(of, term) == *whom),
        }
    }
}

/// The rules of one kind of pods: those that always hold, and the preferences.
pub(super) struct Rules {
    hard: Vec<Rule>,
    soft_spreads: Vec<Rule>,
    together: Vec<Rule>,
    apart: Vec<Rule>,
}

impl Rules {
    pub(super) fn new(of: &Digest, counters: &mut Counters) -> Self {
        let (hard, soft): (Vec<_>, Vec<_>) =
            of.spreads.iter().partition(|spread| spread.when_unsatisfiable == "DoNotSchedule");
        let mut all: Vec<Rule> = hard.into_iter().map(|spread| counters.of_spread(of, spread)).collect();
        all.extend(counters.together(of, &required_affinity(of).collect::<Vec<_>>()));
        all.extend(required_anti_affinity(of).map(|term| counters.apart(of, term)));
        Self {
            hard: all,
            soft_spreads: soft.into_iter().rev().map(|spread| counters.of_spread(of, spread)).collect(),
            together: preferred_affinity(of).into_iter().flat_map(|term| counters.together(of, &[term])).collect(),
            apart: preferred_anti_affinity(of).into_iter().map(|term| counters.apart(of, term)).collect(),
        }
    }

    /// Those in force in a reading.
    pub(super) fn of(&self, reading: &Reading) -> Vec<Rule> {
        let mut all = self.hard.clone();
        all.extend_from_slice(&self.soft_spreads[..reading.soft_spreads.min(self.soft_spreads.len())]);
        all.extend_from_slice(&self.together[..reading.soft_affinities.min(self.together.len())]);
        all.extend_from_slice(&self.apart[..reading.soft_anti_affinities.min(self.apart.len())]);
        all
    }

    pub(super) fn also(&mut self, rule: Rule) {
        self.hard.push(rule);
    }
}

impl Interned<'_> {
    /// Counters of everything these kinds speak of, rules by kind, and who is counted where.
    pub(super) fn rules(&mut self, world: &World, kinds: &[Kind]) -> (Vec<Rules>, Vec<Vec<usize>>) {
        let mut counters = Counters::default();
        let mut rules: Vec<Rules> = kinds.iter().map(|kind| Rules::new(&kind.digest, &mut counters)).collect();
        add_refusals(world, kinds, &mut counters, &mut rules);
        for told in &counters.told {
            let counter = self.counter(told);
            self.problem.counters.push(counter);
            self.counter_keys.push(told.key.clone());
        }
        let counted_by = kinds
            .iter()
            .map(|kind| (0..counters.told.len()).filter(|at| counters.counts(*at, &kind.digest)).collect())
            .collect();
        self.count_placed(world, &counters);
        (rules, counted_by)
    }

    fn counter(&self, told: &Told) -> Counter {
        let key = (told.key != keys::HOSTNAME).then(|| self.words.key(&told.key)).flatten();
        let filter = told.filter.as_ref().map(|filter| self.filter(filter));
        let domains = key.map(|key| self.domains(key, filter.as_ref())).unwrap_or_default();
        Counter { key, counts: Vec::new(), on_nodes: vec![0; self.nodes.len()], domains, filter }
    }

    fn filter(&self, told: &FilterTold) -> Filter {
        let layout = &self.problem.layout;
        let unrestricted = told.selector.is_empty() && told.affinity.is_none();
        let needs = if unrestricted { Ok(Vec::new()) } else { needs(&told.selector, told.affinity.as_ref()) };
        let mut rows: Vec<Row> = needs.unwrap_or_default().iter().map(|need| self.words.row(layout, need)).collect();
        let keys: Vec<usize> = told.keys.iter().filter_map(|key| self.words.key(key)).collect();
        if rows.is_empty() && !keys.is_empty() {
            rows.push(layout.any());
        }
        for row in &mut rows {
            for key in &keys {
                layout.exclude(row, *key, Layout::ABSENT);
            }
        }
        let tolerates = |taint| match &told.tolerations {
            None => true,
            Some(tolerations) => karpenter_api::taints::tolerates(tolerations, taint),
        };
        let hard = |taint: &&k8s_openapi::api::core::v1::Taint| taint.effect == "PreferNoSchedule";
        Filter { rows, tolerates: self.taints.iter().map(|taint| hard(&taint) || tolerates(taint)).collect() }
    }

    /// Values of a key that a node there is, or one that can be bought, may have.
    fn domains(&self, key: usize, filter: Option<&Filter>) -> Vec<usize> {
        let layout = &self.problem.layout;
        let passes = |row: &Row, taints: &[usize]| filter.is_none_or(|filter| filter.passes(layout, row, taints));
        let mut all: Vec<usize> = Vec::new();
        let known = |all: &Vec<usize>, bit: &usize| *bit < Layout::FIRST || all.contains(bit);
        for node in self.problem.nodes.iter().filter(|node| passes(&node.row, &node.taints)) {
            if let Some(bit) = layout.single(&node.row, key).filter(|bit| !known(&all, bit)) {
                all.push(bit);
            }
        }
        for pool in &self.problem.pools {
            let open: Vec<usize> = layout.bits(&pool.row, key).filter(|bit| !known(&all, bit)).collect();
            if open.is_empty() || !passes(&pool.row, &pool.taints) {
                continue;
            }
            for (kind, _) in pool.types.iter() {
                let row = &self.problem.types[*kind].row;
                let new: Vec<usize> =
                    open.iter().copied().filter(|bit| layout.has(row, key, *bit) && !all.contains(bit)).collect();
                if !new.is_empty() && passes(&pool.row.and(row), &pool.taints) {
                    all.extend(new);
                    if open.iter().all(|bit| all.contains(bit)) {
                        break;
                    }
                }
            }
        }
        all.sort_unstable();
        all
    }

    /// Counts the pods that have a place already.
    fn count_placed(&mut self, world: &World, counters: &Counters) {
        let mut counted: rustc_hash::FxHashMap<*const Digest, Vec<usize>> = rustc_hash::FxHashMap::default();
        for pod in world.pods.values() {
            let Some(target) = target(world, pod).filter(|_| is_placed(world, pod)) else { continue };
            let by = counted
                .entry(std::sync::Arc::as_ptr(&pod.digest))
                .or_insert_with(|| (0..counters.told.len()).filter(|at| counters.counts(*at, &pod.digest)).collect());
            for at in by.iter() {
                self.count(world, *at, &counters.told[*at].key, target);
            }
        }
    }

    fn count(&mut self, world: &World, at: usize, key: &str, target: &str) {
        let node = self.node_index.get(target).copied();
        let counter = &self.problem.counters[at];
        if let (Some(filter), Some(node)) = (&counter.filter, node) {
            let node = &self.problem.nodes[node];
            if !filter.passes(&self.problem.layout, &node.row, &node.taints) {
                return;
            }
        }
        let bit = counter.key.and_then(|at| self.words.bit(at, &domain(world, target, key)?));
        let counter = &mut self.problem.counters[at];
        if counter.key.is_none() {
            if let Some(held) = node.and_then(|node| counter.on_nodes.get_mut(node)) {
                *held += 1;
            }
        } else if let Some(bit) = bit {
            if counter.counts.len() <= bit {
                counter.counts.resize(bit + 1, 0);
            }
            counter.counts[bit] += 1;
        }
    }
}

/// Topology keys by which pods that have a place refuse others.
pub(super) fn keys_of_refusals(world: &World) -> impl Iterator<Item = &str> {
    let refusing = world.pods.values().filter(|pod| pod.digest.affinity.is_some() && is_placed(world, pod));
    let terms = refusing.flat_map(|pod| required_anti_affinity(&pod.digest));
    terms.map(|term| keys::normalized(&term.topology_key)).filter(|key| *key != keys::HOSTNAME)
}

/// Pods that refuse others, running or pending, bind the others.
fn add_refusals(world: &World, kinds: &[Kind], counters: &mut Counters, rules: &mut [Rules]) {
    let running = world.pods.values().filter(|pod| is_placed(world, pod)).map(|pod| &pod.digest);
    let refusing = running.chain(kinds.iter().map(|kind| &kind.digest)).filter(|of| of.affinity.is_some());
    let mut seen: Vec<*const Digest> = Vec::new();
    for of in refusing {
        let pointer = std::sync::Arc::as_ptr(of);
        if seen.contains(&pointer) {
            continue;
        }
        seen.push(pointer);
        for term in required_anti_affinity(of) {
            let whom = Selects::of_term(of, term);
            let bound: Vec<usize> = (0..kinds.len()).filter(|at| whom.means(&kinds[*at].digest)).collect();
            if bound.is_empty() {
                continue;
            }
            let counter = counters.refusing(of, term);
            for at in bound {
                let rule = Rule::Apart { counter };
                if !rules[at].hard.contains(&rule) {
                    rules[at].also(rule);
                }
            }
        }
    }
}

/// Bound, or expected somewhere, and neither ended nor ending.
fn is_placed(world: &World, pod: &PodState) -> bool {
    !pod.is_terminal() && !pod.is_terminating() && target(world, pod).is_some()
}

fn target<'w>(world: &'w World, pod: &'w PodState) -> Option<&'w str> {
    pod.node_name().or_else(|| world.nominated.get(&pod.key).map(|nomination| nomination.target.as_str()))
}

/// The value of a label of a node, or of a claim whose node is still to come.
fn domain(world: &World, target: &str, key: &str) -> Option<String> {
    if let Some(node) = world.nodes.get(target) {
        return node.label(key).map(str::to_owned);
    }
    let claim = world.claims.get(target)?;
    if let Some(value) = claim.label(key) {
        return Some(value.to_owned());
    }
    let settled =
        claim.claim.spec.requirements.iter().find(|r| r.key == key && r.operator == karpenter_api::Operator::In)?;
    match settled.values.as_deref()? {
        [one] => Some(one.clone()),
        _ => None,
    }
}
