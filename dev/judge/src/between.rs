//! Rules between pods: spreads, affinities, anti-affinities, both ways.
//!
//! They hold in the order in which pods are bound, so the judge looks for an order: starting from what runs, it binds
//! any pod whose rules hold now, and steps back where that leads nowhere. All planned nodes are there from the start,
//! as they are when kube-scheduler gets to see them. Where a new node's label is still open, the worst case counts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};

use crate::labels::{self, Labels};
use crate::spots::{Shape, Spot};
use crate::{Cluster, Fault, Plan, Rule, pods};

/// Bindings tried before the judge gives up.
const STEPS_MAX: usize = 5_000;
/// After so many it begins anew, and whoever got stuck goes first.
const STEPS_AT_FIRST: usize = 250;

pub(crate) fn judge(cluster: &Cluster, plan: &Plan, spots: &[Spot]) -> Vec<Fault> {
    let at = |name: &str| spots.iter().position(|spot| spot.name() == name);
    let mut judge = Judge {
        cluster,
        spots,
        standing: Vec::new(),
        hinders: Vec::new(),
        urgent: Vec::new(),
        later: Vec::new(),
        values: BTreeMap::new(),
    };
    for pod in cluster.pods.iter().filter(|pod| !pods::has_ended(pod) && !pods::is_ending(pod)) {
        if let Some(spot) = pods::node_of(pod).and_then(at) {
            judge.standing.push((pod, spot));
        }
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (key, target) in &plan.places {
        let (Some(pod), Some(spot)) = (cluster.pod(key), at(target.name())) else { continue };
        let alike = |group: &&mut Group<'_>| {
            group.spot == spot
                && group.pods[0].spec == pod.spec
                && pods::labels(group.pods[0]) == pods::labels(pod)
                && pods::namespace(group.pods[0]) == pods::namespace(pod)
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.pods.push(pod),
            None => groups.push(Group { pods: vec![pod], spot, spreads: Vec::new() }),
        }
    }
    // Whom no rule concerns may come first.
    let concerned: Vec<bool> = groups.iter().map(|group| is_concerned(cluster, group.pods[0])).collect();
    let mut rest = Vec::new();
    for (group, concerned) in groups.into_iter().zip(concerned) {
        if concerned {
            rest.push(group);
        } else {
            judge.standing.extend(group.pods.iter().map(|pod| (*pod, group.spot)));
        }
    }
    for group in &mut rest {
        let pod = group.pods[0];
        let keys: Vec<&str> = pods::spreads(pod).iter().map(|spread| spread.topology_key.as_str()).collect();
        group.spreads = pods::spreads(pod).iter().map(|spread| eligible(pod, spread, &keys, spots)).collect();
        for key in keys.into_iter().chain(terms_keys(pod)) {
            judge.learn(key);
        }
    }
    for key in cluster.pods.iter().flat_map(terms_keys) {
        judge.learn(key);
    }
    match bind(&mut judge, &rest) {
        Ok(()) => Vec::new(),
        Err(stuck) => {
            stuck.into_iter().map(|(at, rule)| Fault::placed(rest[at].pods[0], &spots[rest[at].spot], rule)).collect()
        }
    }
}

/// Looks for an order. If there is none: who was refused where it got furthest. What cannot be decided in so many steps
/// (one cluster in ten thousand) is no fault.
fn bind<'a>(judge: &mut Judge<'a>, groups: &[Group<'a>]) -> Result<(), Vec<(usize, Rule)>> {
    judge.urgent = vec![0; groups.len()];
    judge.hinders = groups.iter().map(|one| groups.iter().map(|of| judge.hinders(one, of)).collect()).collect();
    let mut spent = 0;
    loop {
        let steps_max = if spent + 2 * STEPS_AT_FIRST > STEPS_MAX { STEPS_MAX } else { spent + STEPS_AT_FIRST };
        let mut search = Search { seen: BTreeSet::new(), steps: spent, steps_max, furthest: 0, stuck: Vec::new() };
        if search.bind(judge, groups, &mut vec![0; groups.len()]) {
            return Ok(());
        }
        if search.steps <= steps_max {
            return Err(search.stuck);
        }
        if steps_max == STEPS_MAX {
            return Ok(());
        }
        for (at, _) in &search.stuck {
            judge.urgent[*at] += 1;
        }
        spent = steps_max;
    }
}

/// Pods that are alike on one spot.
struct Group<'a> {
    pods: Vec<&'a Pod>,
    spot: usize,
    /// By spread of these pods, by spot.
    spreads: Vec<Vec<Eligible>>,
}

/// What a spread makes of a spot: the domains that it may be in; `None`: it may be one that does not count.
type Eligible = BTreeSet<Option<String>>;

/// Nodes count if they have the keys of all spreads of the pod, and as the inclusion policies say.
fn eligible(pod: &Pod, spread: &TopologySpreadConstraint, keys: &[&str], spots: &[Spot]) -> Vec<Eligible> {
    let by_affinity = spread.node_affinity_policy.as_deref() != Some("Ignore");
    let by_taints = spread.node_taints_policy.as_deref() == Some("Honor");
    let of_spot = |spot: &Spot| {
        let tolerated = !by_taints || labels::untolerated(&spot.taints, pods::tolerations(pod)).is_none();
        let counts = |shape: &&Shape| {
            tolerated
                && keys.iter().all(|key| shape.labels.contains_key(*key))
                && (!by_affinity || labels::pod_chooses(pod, spot.name(), &shape.labels))
        };
        let domain = |shape: &Shape| shape.labels.get(&spread.topology_key).filter(|_| counts(&shape)).cloned();
        spot.shapes.iter().map(domain).collect()
    };
    spots.iter().map(of_spot).collect()
}

/// More ways in which the labels of new nodes may turn out than these are not looked at.
const CHOICES_MAX: usize = 512;

/// Looks at every way in which the labels of new nodes may turn out: the domain of each spot, that of `spot` given.
fn choices(eligible: &[Eligible], spot: usize, own: &String, mut look: impl FnMut(&[Option<&String>]) -> bool) -> bool {
    let mut open: Vec<Vec<Option<&String>>> =
        eligible.iter().map(|domains| domains.iter().map(Option::as_ref).collect()).collect();
    open[spot] = vec![Some(own)];
    let mut at = vec![0; open.len()];
    for _ in 0..CHOICES_MAX {
        let choice: Vec<Option<&String>> = open.iter().zip(&at).filter_map(|(all, at)| all.get(*at).copied()).collect();
        if !look(&choice) {
            return false;
        }
        // As an odometer: the first wheel that is not at its end moves on, those before it start again.
        let Some(wheel) = (0..open.len()).find(|wheel| at[*wheel] + 1 < open[*wheel].len()) else { break };
        at[..wheel].fill(0);
        at[wheel] += 1;
    }
    true
}

fn terms_keys(pod: &Pod) -> impl Iterator<Item = &str> {
    pods::affinity(pod).into_iter().chain(pods::anti_affinity(pod)).map(|term| term.topology_key.as_str())
}

pub(crate) fn is_concerned(cluster: &Cluster, pod: &Pod) -> bool {
    let means = |other: &Pod| {
        let mut terms = pods::affinity(other).into_iter().chain(pods::anti_affinity(other));
        pods::spreads(other).iter().any(|spread| labels::spread_counts(other, spread, pod))
            || terms.any(|term| labels::term_means(&cluster.namespaces, other, term, pod))
    };
    has_rules(pod) || cluster.pods.iter().any(means)
}

pub(crate) fn has_rules(pod: &Pod) -> bool {
    !(pods::spreads(pod).is_empty() && pods::affinity(pod).is_empty() && pods::anti_affinity(pod).is_empty())
}

/// Who is not bound yet, group `but` aside: pods that are alike wait for the same.
fn rest<'a>(groups: &[Group<'a>], bound: &[usize], but: usize) -> Vec<(&'a Pod, usize)> {
    let others = (0..groups.len()).filter(|at| *at != but);
    others.flat_map(|at| groups[at].pods.iter().skip(bound[at]).map(move |pod| (*pod, groups[at].spot))).collect()
}

struct Search {
    seen: BTreeSet<Vec<usize>>,
    steps: usize,
    steps_max: usize,
    furthest: usize,
    /// Which groups were refused where it got furthest.
    stuck: Vec<(usize, Rule)>,
}

impl Search {
    /// Whether the rest can be bound in some order; `bound`: how many of each group are.
    fn bind<'a>(&mut self, judge: &mut Judge<'a>, groups: &[Group<'a>], bound: &mut Vec<usize>) -> bool {
        let mut waiting: Vec<usize> = (0..groups.len()).filter(|at| bound[*at] < groups[*at].pods.len()).collect();
        if waiting.is_empty() {
            return true;
        }
        let mut refused: Vec<(usize, Rule)> = Vec::new();
        while !waiting.is_empty() {
            self.steps += 1;
            if self.steps > self.steps_max {
                return false;
            }
            let at = judge.next(groups, &mut waiting, bound);
            let group = &groups[at];
            let pod = group.pods[bound[at]];
            if let Err(rule) = judge.allows(pod, group) {
                refused.push((at, rule));
                // Whom not even all of the others can help makes it a dead end.
                judge.later = rest(groups, bound, at);
                let hopeless = judge.allows(pod, group).is_err();
                judge.later.clear();
                if hopeless {
                    break;
                }
                continue;
            }
            bound[at] += 1;
            judge.standing.push((pod, group.spot));
            if self.seen.insert(bound.clone()) && self.bind(judge, groups, bound) {
                return true;
            }
            judge.standing.pop();
            bound[at] -= 1;
        }
        let sum = bound.iter().sum();
        if self.stuck.is_empty() || sum > self.furthest {
            (self.furthest, self.stuck) = (sum, refused);
        }
        false
    }
}

struct Judge<'a> {
    cluster: &'a Cluster,
    spots: &'a [Spot],
    standing: Vec<(&'a Pod, usize)>,
    /// By group: whether its pods fill domains that the pods of another group need.
    hinders: Vec<Vec<bool>>,
    /// By group: how often it was left over.
    urgent: Vec<usize>,
    /// Pods that may come later, for the question whether a rule can ever hold.
    later: Vec<(&'a Pod, usize)>,
    /// By topology key, by spot: the values that the label may have; `None`: it may be absent.
    values: BTreeMap<String, Vec<BTreeSet<Option<String>>>>,
}

impl Judge<'_> {
    fn learn(&mut self, key: &str) {
        let of_spot = |spot: &Spot| spot.shapes.iter().map(|shape| shape.labels.get(key).cloned()).collect();
        let spots = self.spots;
        self.values.entry(key.to_owned()).or_insert_with(|| spots.iter().map(of_spot).collect());
    }

    /// Takes from those that wait the one to try next: who was left over before, then those with rules of their own, as
    /// the others can only get in their way; among equals, whoever fills the fewest domains that others wait for.
    fn next(&self, groups: &[Group<'_>], waiting: &mut Vec<usize>, bound: &[usize]) -> usize {
        let waits = |at: &usize| bound[*at] < groups[*at].pods.len();
        let hinders = |at: usize| (0..groups.len()).filter(|of| waits(of) && self.hinders[at][*of]).count();
        // The first of a group that wants to be together must come before the others that are meant. Later affinity
        // can wait, as it will hold as well then; so can anti-affinity, which holds both ways.
        let rank = |at: usize| {
            let pod = groups[at].pods[0];
            let is_first =
                !pods::affinity(pod).is_empty() && !self.standing.iter().any(|(other, _)| self.meant(pod, other));
            let order = if is_first { 0 } else { 1 + usize::from(pods::spreads(pod).is_empty()) };
            (std::cmp::Reverse(self.urgent[at]), order, hinders(at))
        };
        let best = (0..waiting.len()).min_by_key(|at| rank(waiting[*at])).unwrap_or(0);
        waiting.remove(best)
    }

    fn hinders(&self, one: &Group<'_>, of: &Group<'_>) -> bool {
        let (pod, other) = (of.pods[0], one.pods[0]);
        let shares = |key: &str| !self.values[key][one.spot].is_disjoint(&self.values[key][of.spot]);
        let mut spreads = pods::spreads(pod).into_iter();
        !std::ptr::eq(one, of)
            && spreads.any(|spread| labels::spread_counts(pod, spread, other) && shares(&spread.topology_key))
    }

    /// Whether the pod's rules hold on its spot now, whatever node it becomes.
    fn allows(&self, pod: &Pod, group: &Group<'_>) -> Result<(), Rule> {
        // Shapes that differ in nothing that a rule looks at need one look.
        let mut seen: BTreeSet<Vec<Option<&String>>> = BTreeSet::new();
        for shape in &self.spots[group.spot].shapes {
            let keys = self.values.keys().map(|key| shape.labels.get(key)).collect();
            if !seen.insert(keys) {
                continue;
            }
            for (at, spread) in pods::spreads(pod).into_iter().enumerate() {
                self.spread(pod, spread, &group.spreads[at], group.spot, &shape.labels)?;
            }
            self.affinity(pod, group.spot, &shape.labels)?;
            self.anti_affinity(pod, group.spot, &shape.labels)?;
        }
        Ok(())
    }

    fn spread(
        &self,
        pod: &Pod,
        spread: &TopologySpreadConstraint,
        eligible: &[Eligible],
        spot: usize,
        labels: &Labels,
    ) -> Result<(), Rule> {
        let key = spread.topology_key.clone();
        let Some(own) = labels.get(&key) else { return Err(Rule::NoDomain { key }) };
        // By spot: pods there that count, now and later.
        let mut held = vec![(0_usize, 0_usize); eligible.len()];
        for (other, at) in &self.standing {
            held[*at].0 += usize::from(labels::spread_counts(pod, spread, other));
        }
        for (other, at) in &self.later {
            held[*at].1 += usize::from(labels::spread_counts(pod, spread, other));
        }
        let this = usize::from(labels::spread_counts(pod, spread, pod));
        let max_skew = usize::try_from(spread.max_skew).unwrap_or(0);
        let wanted = spread.min_domains.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let mut broken = None;
        choices(eligible, spot, own, |choice| {
            let mut domains: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
            for (domain, (now, later)) in choice.iter().zip(&held) {
                if let Some(domain) = domain {
                    let sum = domains.entry(domain).or_default();
                    *sum = (sum.0 + now, sum.1 + now + later);
                }
            }
            let least = if domains.len() < wanted { None } else { domains.values().map(|(_, sum)| *sum).min() };
            let least = least.unwrap_or(0);
            let held = domains.get(own.as_str()).map_or(0, |(now, _)| *now) + this;
            if held.saturating_sub(least) > max_skew {
                broken = Some(Rule::Skew { key: key.clone(), domain: own.clone(), held, least, max_skew });
            }
            broken.is_none()
        });
        broken.map_or(Ok(()), Err)
    }

    /// The values of a key on the spot of another pod.
    fn is_surely(&self, key: &str, other: usize, spot: usize, own: &str) -> bool {
        let values = &self.values[key][other];
        other == spot || (values.len() == 1 && values.contains(&Some(own.to_owned())))
    }

    fn is_perhaps(&self, key: &str, other: usize, spot: usize, own: &str) -> bool {
        other == spot || self.values[key][other].contains(&Some(own.to_owned()))
    }

    /// Whether all terms of a pod's affinity mean another.
    fn meant(&self, pod: &Pod, other: &Pod) -> bool {
        pods::affinity(pod).iter().all(|term| labels::term_means(&self.cluster.namespaces, pod, term, other))
    }

    /// In each term's domain there must be a pod that all terms mean. If there is none anywhere, a pod that its own
    /// terms mean may be the first.
    fn affinity(&self, pod: &Pod, spot: usize, labels: &Labels) -> Result<(), Rule> {
        let terms = pods::affinity(pod);
        let meant = |other: &Pod| self.meant(pod, other);
        let mut missing = None;
        for term in &terms {
            let key = term.topology_key.as_str();
            let there = labels.get(key).is_some_and(|own| {
                let mut others = self.standing.iter().chain(&self.later);
                others.any(|(other, at)| meant(other) && self.is_surely(key, *at, spot, own))
            });
            if !labels.contains_key(key) {
                return Err(Rule::Affinity { key: key.to_owned(), labels: labels::told(labels) });
            }
            if !there {
                missing.get_or_insert(key);
            }
        }
        let Some(key) = missing else { return Ok(()) };
        let counted =
            |at: usize| terms.iter().any(|term| self.values[&term.topology_key][at].iter().any(Option::is_some));
        let is_first = meant(pod) && !self.standing.iter().any(|(other, at)| meant(other) && counted(*at));
        if is_first { Ok(()) } else { Err(Rule::Affinity { key: key.to_owned(), labels: labels::told(labels) }) }
    }

    /// Nobody whom its terms mean, and nobody whose terms mean it, is in the same domain.
    fn anti_affinity(&self, pod: &Pod, spot: usize, labels: &Labels) -> Result<(), Rule> {
        let namespaces = &self.cluster.namespaces;
        for (other, at) in &self.standing {
            let shares = |key: &str| labels.get(key).is_some_and(|own| self.is_perhaps(key, *at, spot, own));
            for term in pods::anti_affinity(pod) {
                let key = term.topology_key.clone();
                if labels::term_means(namespaces, pod, term, other) && shares(&key) {
                    return Err(Rule::AntiAffinity { key, other: pods::key(other) });
                }
            }
            for term in pods::anti_affinity(other) {
                let key = term.topology_key.clone();
                if labels::term_means(namespaces, other, term, pod) && shares(&key) {
                    return Err(Rule::Refused { key, other: pods::key(other) });
                }
            }
        }
        Ok(())
    }
}
