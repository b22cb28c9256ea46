//! Spreads, affinities and anti-affinities as counters and rules.
//!
//! A counter counts the pods that a selector means, by the values of one label of their nodes. Kinds
//! of pods that say the same share a counter. What running and pending pods refuse (required
//! anti-affinity) binds the pods they refuse as well: a counter counts those who refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeAffinity, PodAffinityTerm, TopologySpreadConstraint};
use karpenter_api::labels as keys;
use karpenter_solver::{Counter, Filter, Layout, Node, Row, Rule};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::Interned;
use super::classes::Kind;
use super::nodes::label_of;
use super::selectors::{ByLabel, Namespaces, Selects};
use crate::World;
use crate::provision::pods::{Reading, needs};
use crate::requirements::{Requirement, Requirements};
use crate::world::{Digest, NodeState, PodKey, PodState};

/// Whom a counter counts.
#[derive(Clone, Debug, PartialEq, Hash)]
enum Whom {
    /// Pods that all of these mean.
    Meant(Vec<Selects>),
    /// Pods that refuse those that are meant.
    Refusing(Selects),
}

/// A counter in words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    whom: Whom,
    key: String,
    /// A spread's say on which nodes count: node needs (if honoured), tolerations (if honoured), other spreads' keys.
    filter: Option<FilterTold>,
    /// Pods that are being deleted count too: for affinities, not for spreads (as kube-scheduler has it).
    terminating: bool,
}

/// What of it has no hash in Kubernetes' types is compared alone.
impl Hash for Told {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.whom, &self.key, self.terminating).hash(state);
        if let Some(filter) = &self.filter {
            (&filter.selector, &filter.keys, filter.affinity.is_some(), filter.tolerations.is_some()).hash(state);
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct FilterTold {
    selector: BTreeMap<String, String>,
    affinity: Option<NodeAffinity>,
    /// `None`: taints do not matter.
    tolerations: Option<Vec<k8s_openapi::api::core::v1::Toleration>>,
    /// Labels that nodes must have for their pods to count: the keys of the pod's other hard spreads.
    keys: BTreeSet<String>,
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

/// Topology keys a kind of pods speaks of.
pub(super) fn keys_of(of: &Digest) -> impl Iterator<Item = &str> {
    let terms = required_affinity(of).chain(required_anti_affinity(of));
    let preferred = preferred_affinity(of).into_iter().chain(preferred_anti_affinity(of));
    let terms = terms.chain(preferred).map(|term| term.topology_key.as_str());
    terms.chain(of.spreads.iter().map(|spread| spread.topology_key.as_str())).map(keys::normalized)
}

/// Counters by number, as they are first spoken of.
pub(super) struct Counters<'w> {
    told: Vec<Told>,
    /// By hash: numbers of those that have it.
    known: FxHashMap<u64, Vec<usize>>,
    namespaces: &'w Namespaces,
}

impl Counters<'_> {
    fn find(&self, told: &Told) -> Option<usize> {
        let alike = self.known.get(&FxBuildHasher.hash_one(told))?;
        alike.iter().copied().find(|at| self.told[*at] == *told)
    }

    fn number(&mut self, told: Told) -> usize {
        self.find(&told).unwrap_or_else(|| {
            let number = self.told.len();
            self.known.entry(FxBuildHasher.hash_one(&told)).or_default().push(number);
            self.told.push(told);
            number
        })
    }

    /// `beside`: the keys of all spreads that hold together with it, its own as well.
    fn of_spread(&mut self, of: &Digest, spread: &TopologySpreadConstraint, beside: &BTreeSet<String>) -> Rule {
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
        let key = keys::normalized(&spread.topology_key).to_owned();
        let filter = FilterTold {
            selector: if by_needs { of.node_selector.clone() } else { BTreeMap::default() },
            affinity: affinity.filter(|_| by_needs).map(required),
            tolerations: by_taints.then(|| of.tolerations.clone()),
            keys: beside.iter().filter(|beside| **beside != key).cloned().collect(),
        };
        let says_something = !filter.selector.is_empty()
            || filter.affinity.is_some()
            || filter.tolerations.is_some()
            || !filter.keys.is_empty();
        let filter = says_something.then_some(filter);
        let whom = Whom::Meant(vec![whom.without_empty()]);
        let counter = self.number(Told { whom, key, filter, terminating: false });
        Rule::Spread {
            counter,
            max_skew: u32::try_from(spread.max_skew).unwrap_or(1),
            min_domains: spread.min_domains.and_then(|n| u32::try_from(n).ok()),
            counts_self,
        }
    }

    fn of_term(&mut self, of: &Digest, term: &PodAffinityTerm, apart: bool) -> Rule {
        let whom = vec![Selects::of_term(of, term, self.namespaces)];
        let counts_self = whom.iter().all(|selects| selects.means(of));
        let counter = self.of_whom(whom, term);
        if apart { Rule::Apart { counter } } else { Rule::Together { counter, counts_self, others: Vec::new() } }
    }

    /// Terms of one pod's required affinity: each wants a pod that all of them mean (kube-scheduler's
    /// inter-pod affinity), in its own domain.
    fn of_terms(&mut self, of: &Digest) -> Vec<Rule> {
        let whom: Vec<Selects> =
            required_affinity(of).map(|term| Selects::of_term(of, term, self.namespaces)).collect();
        let counts_self = whom.iter().all(|selects| selects.means(of));
        let all: Vec<usize> = required_affinity(of).map(|term| self.of_whom(whom.clone(), term)).collect();
        let rule = |counter: &usize| {
            let others = all.iter().filter(|other| *other != counter).copied().collect();
            Rule::Together { counter: *counter, counts_self, others }
        };
        all.iter().map(rule).collect()
    }

    fn of_whom(&mut self, whom: Vec<Selects>, term: &PodAffinityTerm) -> usize {
        let key = keys::normalized(&term.topology_key).to_owned();
        self.number(Told { whom: Whom::Meant(whom), key, filter: None, terminating: true })
    }

    fn refusing(&self, of: &Digest, term: &PodAffinityTerm) -> Told {
        let key = keys::normalized(&term.topology_key).to_owned();
        let whom = Whom::Refusing(Selects::of_term(of, term, self.namespaces));
        Told { whom, key, filter: None, terminating: true }
    }

    /// By digest: the counters that count its pods, ascending.
    fn counting(&self, all: &[&Digest]) -> Vec<Vec<usize>> {
        let by_label = ByLabel::new(all.to_vec());
        let mut counting = vec![Vec::new(); all.len()];
        for (at, told) in self.told.iter().enumerate() {
            let Whom::Meant(whom) = &told.whom else { continue };
            for of in by_label.meant(whom) {
                counting[of].push(at);
            }
        }
        for (of, by) in all.iter().zip(&mut counting) {
            by.extend(required_anti_affinity(of).filter_map(|term| self.find(&self.refusing(of, term))));
            by.sort_unstable();
            by.dedup();
        }
        counting
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
    pub(super) fn new(of: &Digest, counters: &mut Counters<'_>) -> Self {
        let (hard, soft): (Vec<_>, Vec<_>) =
            of.spreads.iter().partition(|spread| spread.when_unsatisfiable == "DoNotSchedule");
        // A node that lacks the key of one hard spread does not count for the others; every node has a hostname.
        let keys = hard.iter().map(|spread| keys::normalized(&spread.topology_key).to_owned());
        let keys: BTreeSet<String> = keys.filter(|key| key != keys::HOSTNAME).collect();
        let mut all: Vec<Rule> = hard.into_iter().map(|spread| counters.of_spread(of, spread, &keys)).collect();
        let no_keys = BTreeSet::new();
        all.extend(counters.of_terms(of));
        all.extend(required_anti_affinity(of).map(|term| counters.of_term(of, term, true)));
        Self {
            hard: all,
            soft_spreads: soft.into_iter().rev().map(|spread| counters.of_spread(of, spread, &no_keys)).collect(),
            together: preferred_affinity(of).into_iter().map(|t| counters.of_term(of, t, false)).collect(),
            apart: preferred_anti_affinity(of).into_iter().map(|t| counters.of_term(of, t, true)).collect(),
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
        let mut counters = Counters { told: Vec::new(), known: FxHashMap::default(), namespaces: &world.namespaces };
        let mut rules: Vec<Rules> = kinds.iter().map(|kind| Rules::new(&kind.digest, &mut counters)).collect();
        add_refusals(world, &self.placing, kinds, &mut counters, &mut rules);
        let mut domains = KnownDomains::default();
        for told in &counters.told {
            let counter = self.counter(told, &mut domains);
            self.problem.counters.push(counter);
            self.counter_keys.push(told.key.clone());
        }
        let counted_by = counters.counting(&kinds.iter().map(|kind| &*kind.digest).collect::<Vec<_>>());
        self.count_placed(world, &counters);
        (rules, counted_by)
    }

    fn counter(&self, told: &Told, known: &mut KnownDomains) -> Counter {
        let key = (told.key != keys::HOSTNAME).then(|| self.words.key(&told.key)).flatten();
        let filter = told.filter.as_ref().map(|filter| self.filter(filter));
        let domains = key.map(|key| {
            let same = filter.as_ref().map(|filter| (filter.rows.clone(), filter.tolerates.clone()));
            known.entry((key, same)).or_insert_with(|| self.domains(key, filter.as_ref())).clone()
        });
        let domains = domains.unwrap_or_default();
        Counter { key, counts: Vec::new(), open: Vec::new(), on_nodes: Vec::new(), domains, filter }
    }

    fn filter(&self, told: &FilterTold) -> Filter {
        let layout = &self.problem.layout;
        let unrestricted = told.selector.is_empty() && told.affinity.is_none() && told.keys.is_empty();
        let needs = if unrestricted { Ok(Vec::new()) } else { needs(&told.selector, told.affinity.as_ref()) };
        let row = |mut need: Requirements| {
            for key in &told.keys {
                need.add(key.clone(), Requirement::exists());
            }
            self.words.row(layout, &need)
        };
        let rows = needs.unwrap_or_default().into_iter().map(row).collect();
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
        let values = Layout::FIRST..Layout::FIRST + self.words.values[key].len();
        let known = |all: &Vec<usize>, bit: &usize| !values.contains(bit) || all.contains(bit);
        for node in self.problem.nodes.iter().filter(|node| passes(&node.row, &node.taints)) {
            for bit in layout.bits(&node.row, key) {
                if !known(&all, &bit) {
                    all.push(bit);
                }
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
    fn count_placed(&mut self, world: &World, counters: &Counters<'_>) {
        if counters.told.is_empty() {
            return;
        }
        let placed: Vec<(&PodState, &str)> = world
            .pods
            .values()
            .map(Arc::as_ref)
            .filter(|pod| is_placed(world, &self.placing, pod))
            .filter_map(|pod| Some((pod, target(world, pod)?)))
            .collect();
        let mut numbers: FxHashMap<*const Digest, usize> = FxHashMap::default();
        let mut digests: Vec<&Digest> = Vec::new();
        for (pod, _) in &placed {
            numbers.entry(Arc::as_ptr(&pod.digest)).or_insert_with(|| {
                digests.push(&pod.digest);
                digests.len() - 1
            });
        }
        let counting = counters.counting(&digests);
        for (pod, target) in placed {
            let by = numbers.get(&Arc::as_ptr(&pod.digest)).and_then(|at| counting.get(*at));
            let terminating = pod.is_terminating();
            for at in by.into_iter().flatten().filter(|at| !terminating || counters.told[**at].terminating) {
                self.count(world, *at, &counters.told[*at], target);
            }
        }
    }

    fn count(&mut self, world: &World, at: usize, told: &Told, target: &str) {
        let Some(node) = self.node_index.get(target).copied() else {
            return world.nodes.get(target).into_iter().for_each(|node| self.count_leaving(at, told, node));
        };
        let layout = &self.problem.layout;
        let Node { row, taints, .. } = &self.problem.nodes[node];
        let counter = &mut self.problem.counters[at];
        let filter = counter.filter.as_ref();
        if filter.is_some_and(|filter| !filter.passes(layout, row, taints)) {
            return;
        }
        let Some(key) = counter.key else { return one_more(&mut counter.on_nodes, node) };
        match layout.single(row, key) {
            Some(bit) if filter.is_none_or(|filter| filter.surely_passes(row, taints)) => {
                one_more_in(&mut counter.counts, bit);
            }
            _ => counter
                .domains
                .iter()
                .filter(|bit| layout.has(row, key, **bit))
                .for_each(|bit| one_more_in(&mut counter.open, *bit)),
        }
    }

    /// On a node that is being deleted, and so takes no pods any more.
    fn count_leaving(&mut self, at: usize, told: &Told, node: &NodeState) {
        let counter = &self.problem.counters[at];
        let bit = counter.key.zip(node.label(&told.key)).and_then(|(key, value)| self.words.bit(key, value));
        let Some(bit) = bit else { return };
        // Nobody else has its taints, perhaps: they have no numbers.
        let tolerations = told.filter.as_ref().and_then(|filter| filter.tolerations.as_ref());
        let mut hard = node.taints().iter().filter(|taint| taint.effect != "PreferNoSchedule");
        let tolerates = tolerations.is_none_or(|all| hard.all(|taint| karpenter_api::taints::tolerates(all, taint)));
        let has_labels = counter.filter.as_ref().is_none_or(|filter| {
            let layout = &self.problem.layout;
            filter.passes(layout, &self.words.label_row(layout, |key| label_of(node, key)), &[])
        });
        if tolerates && has_labels {
            one_more_in(&mut self.problem.counters[at].counts, bit);
        }
    }
}

/// Labels that are not there, and values that nobody speaks of, are no domains.
fn one_more_in(domains: &mut Vec<u32>, bit: usize) {
    if bit >= Layout::FIRST {
        one_more(domains, bit);
    }
}

fn one_more(counts: &mut Vec<u32>, at: usize) {
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    counts[at] += 1;
}

/// Domains by key and filter: most counters ask for the same.
type KnownDomains = FxHashMap<(usize, Option<(Vec<Row>, Vec<bool>)>), Vec<usize>>;

/// Topology keys by which pods that have a place refuse others.
pub(super) fn keys_of_refusals<'w>(
    world: &'w World,
    placing: &BTreeSet<&PodKey>,
) -> impl Iterator<Item = &'w str> + use<'w> {
    let refuses = |pod: &&PodState| pod.digest.affinity.is_some() && is_placed(world, placing, pod);
    let refusing: Vec<&PodState> = world.pods.values().map(Arc::as_ref).filter(refuses).collect();
    let refusing = refusing.into_iter();
    let terms = refusing.flat_map(|pod| required_anti_affinity(&pod.digest));
    terms.map(|term| keys::normalized(&term.topology_key)).filter(|key| *key != keys::HOSTNAME)
}

/// Pods that refuse others, running or pending, bind the others.
fn add_refusals(
    world: &World,
    placing: &BTreeSet<&PodKey>,
    kinds: &[Kind],
    counters: &mut Counters<'_>,
    rules: &mut [Rules],
) {
    let running = world.pods.values().filter(|pod| is_placed(world, placing, pod)).map(|pod| &pod.digest);
    let refusing = running.chain(kinds.iter().map(|kind| &kind.digest)).filter(|of| of.affinity.is_some());
    let by_label = ByLabel::new(kinds.iter().map(|kind| &*kind.digest).collect());
    let (mut seen, mut numbers) = (FxHashSet::default(), FxHashSet::default());
    for of in refusing.filter(|of| seen.insert(Arc::as_ptr(of))) {
        for term in required_anti_affinity(of) {
            let bound = by_label.meant(&[Selects::of_term(of, term, counters.namespaces)]);
            if bound.is_empty() {
                continue;
            }
            let counter = counters.number(counters.refusing(of, term));
            if numbers.insert(counter) {
                for at in bound {
                    rules[at].also(Rule::Apart { counter });
                }
            }
        }
    }
}

/// Bound, or expected somewhere and not looked at anew, and not ended. One that is being deleted keeps its place until it
/// is gone; but if its node goes as well, what takes its place has to be bought, and comes later than the pod is gone.
fn is_placed(world: &World, placing: &BTreeSet<&PodKey>, pod: &PodState) -> bool {
    let node = || pod.node_name().and_then(|name| world.nodes.get(name));
    let lingers = || node().is_some_and(|node| !world.is_ending(node));
    !pod.is_terminal()
        && !placing.contains(&pod.key)
        && target(world, pod).is_some()
        && (!pod.is_terminating() || lingers())
}

/// Where it is, or will be: a pod that is nominated although it is bound has to leave.
fn target<'w>(world: &'w World, pod: &'w PodState) -> Option<&'w str> {
    world.nominated.get(&pod.key).map(|nomination| nomination.target.as_str()).or_else(|| pod.node_name())
}
