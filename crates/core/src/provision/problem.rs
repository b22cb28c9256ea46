//! The World as a solver's problem: words become bits, amounts become vectors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Taint, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use karpenter_api::{NodePool, labels as keys, taints};
use karpenter_solver::{Alternative, Class, InstanceType, Layout, Node, Offering, Pool, Problem, Row, Spread};

use super::pods::{Reading, readings};
use crate::cloud::InstanceType as CloudType;
use crate::requirements::{Requirement, Requirements};
use crate::resources::{self, Resources};
use crate::world::{NodeState, PodKey, PodState, template_requests};
use crate::{Cloud, World};

/// No amount is larger: sums of a few stay within 64 bits.
const AMOUNT_MAX: i64 = i64::MAX / 1024;

/// A problem and what its indices mean.
pub(super) struct Interned<'w> {
    pub(super) problem: Problem,
    pub(super) words: Words,
    pub(super) pools: Vec<(&'w NodePool, Vec<Arc<CloudType>>)>,
    /// Row of each pool without what it requires: what a node of anybody's would be.
    pub(super) types: Vec<Arc<CloudType>>,
    pub(super) pods: Vec<&'w PodState>,
    /// Pods that could not be read, and why.
    pub(super) invalid: Vec<(PodKey, String)>,
    /// Name of each node: a Node's, or a claim's that has none yet.
    pub(super) nodes: Vec<String>,
    pub(super) taints: Vec<Taint>,
    pub(super) spread_keys: Vec<String>,
    /// Pools that are ready but can buy nothing, and why.
    pub(super) barren: Vec<(&'w NodePool, String)>,
}

/// Keys, values and resources by number.
pub(super) struct Words {
    pub(super) keys: Vec<String>,
    /// Value of each bit, from `Layout::FIRST` on.
    pub(super) values: Vec<Vec<String>>,
    index: BTreeMap<String, usize>,
    pub(super) resources: Vec<String>,
}

impl Words {
    pub(super) fn key(&self, key: &str) -> Option<usize> {
        self.index.get(key).copied()
    }

    fn bit(&self, key: usize, value: &str) -> Option<usize> {
        self.values[key].binary_search_by(|known| known.as_str().cmp(value)).ok().map(|at| at + Layout::FIRST)
    }

    /// The bits a requirement allows.
    fn bits(&self, key: usize, requirement: &Requirement) -> Vec<usize> {
        let known = self.values[key].iter().enumerate().filter(|(_, value)| requirement.has(value));
        let mut bits: Vec<usize> = known.map(|(at, _)| at + Layout::FIRST).collect();
        if requirement.complement {
            bits.push(Layout::OTHER);
        }
        if requirement.allows_absence() {
            bits.push(Layout::ABSENT);
        }
        bits
    }

    fn row(&self, layout: &Layout, requirements: &Requirements) -> Row {
        let mut row = layout.any();
        for (key, requirement) in &requirements.0 {
            if let Some(at) = self.key(key) {
                layout.restrict(&mut row, at, self.bits(at, requirement));
            }
        }
        row
    }

    /// Labels that are final: what is not there is absent.
    fn label_row(&self, layout: &Layout, labels: &BTreeMap<String, String>) -> Row {
        let mut row = layout.any();
        for (at, key) in self.keys.iter().enumerate() {
            let bit = match labels.get(key) {
                Some(value) => self.bit(at, value).unwrap_or(Layout::OTHER),
                None => Layout::ABSENT,
            };
            layout.restrict(&mut row, at, [bit]);
        }
        row
    }

    /// A node that is still to be bought: well-known labels are open, others absent unless set.
    pub(super) fn pool_row(&self, layout: &Layout, requirements: &Requirements) -> Row {
        let mut row = self.row(layout, requirements);
        for (at, key) in self.keys.iter().enumerate() {
            if requirements.get(key).is_none() && !keys::is_well_known(key) && key != keys::HOSTNAME {
                layout.restrict(&mut row, at, [Layout::ABSENT]);
            }
        }
        row
    }

    fn amounts(&self, of: &Resources) -> Vec<i64> {
        self.resources.iter().map(|name| of.get(name).clamp(-AMOUNT_MAX, AMOUNT_MAX)).collect()
    }
}

/// What is collected before bits can be given out.
#[derive(Default)]
struct Vocabulary {
    values: BTreeMap<String, BTreeSet<String>>,
    resources: BTreeSet<String>,
}

impl Vocabulary {
    fn learn(&mut self, requirements: &Requirements) {
        for (key, requirement) in &requirements.0 {
            self.values.entry(key.clone()).or_default().extend(requirement.values.iter().cloned());
        }
    }

    fn words(self) -> Words {
        let keys: Vec<String> = self.values.keys().cloned().collect();
        Words {
            index: keys.iter().enumerate().map(|(at, key)| (key.clone(), at)).collect(),
            values: self.values.into_values().map(|set| set.into_iter().collect()).collect(),
            keys,
            resources: self.resources.into_iter().collect(),
        }
    }
}

/// A pending pod, read.
struct Read<'w> {
    pod: &'w PodState,
    readings: Vec<Reading>,
    /// Constraints in force in a reading: all hard ones, then as many soft ones as it says.
    hard: Vec<&'w TopologySpreadConstraint>,
    soft: Vec<&'w TopologySpreadConstraint>,
}

pub(super) fn build<'w, C: Cloud>(
    world: &'w World,
    cloud: &C,
    respect: bool,
    pending: &[&'w PodState],
) -> Interned<'w> {
    let (reads, invalid) = read(pending, respect);
    let (pools, barren) = pools(world, cloud);
    let mut vocabulary = Vocabulary::default();
    for name in [resources::CPU, resources::MEMORY, resources::PODS, resources::EPHEMERAL_STORAGE] {
        vocabulary.resources.insert(name.to_owned());
    }
    for read in &reads {
        vocabulary.resources.extend(read.pod.requests.0.keys().cloned());
        for reading in &read.readings {
            vocabulary.learn(&reading.requirements);
        }
        for constraint in read.hard.iter().chain(&read.soft) {
            vocabulary.values.entry(constraint.topology_key.clone()).or_default();
        }
    }
    let mut types: Vec<Arc<CloudType>> = Vec::new();
    let mut numbers: BTreeMap<*const CloudType, usize> = BTreeMap::new();
    for (pool, rows) in &pools {
        vocabulary.learn(&pool_requirements(pool));
        vocabulary.resources.extend(pool.spec.limits.iter().flatten().map(|(name, _)| name.clone()));
        for row in rows {
            numbers.entry(Arc::as_ptr(row)).or_insert_with(|| {
                types.push(Arc::clone(row));
                types.len() - 1
            });
        }
    }
    for kind in &types {
        vocabulary.learn(&kind.requirements);
    }
    for node in world.nodes.values() {
        for (key, value) in node.labels().into_iter().flatten() {
            if let Some(values) = vocabulary.values.get_mut(key) {
                values.insert(value.clone());
            }
        }
    }
    let words = vocabulary.words();
    let sizes: Vec<usize> = words.values.iter().map(Vec::len).collect();
    let layout = Layout::new(&sizes);
    let mut interned = Interned {
        problem: Problem { layout, ..Problem::default() },
        words,
        types,
        pods: reads.iter().map(|read| read.pod).collect(),
        invalid,
        nodes: Vec::new(),
        taints: Vec::new(),
        spread_keys: Vec::new(),
        pools,
        barren,
    };
    interned.add_types();
    interned.add_pools(world, &numbers);
    interned.add_nodes(world);
    interned.add_pods(world, &reads);
    interned
}

fn read<'w>(pending: &[&'w PodState], respect: bool) -> (Vec<Read<'w>>, Vec<(PodKey, String)>) {
    let mut reads = Vec::new();
    let mut invalid = Vec::new();
    for pod in pending {
        let Some(spec) = &pod.pod.spec else { continue };
        let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
        let (hard, soft): (Vec<_>, Vec<_>) =
            constraints.iter().partition(|constraint| constraint.when_unsatisfiable == "DoNotSchedule");
        match readings(spec, soft.len(), respect) {
            Ok(readings) => reads.push(Read { pod, readings, hard, soft }),
            Err(problem) => invalid.push((pod.key.clone(), problem)),
        }
    }
    (reads, invalid)
}

type PoolTypes<'w> = (&'w NodePool, Vec<Arc<CloudType>>);

/// Ready, dynamic pools in the order they are tried: weight, then name, both descending.
fn pools<'w, C: Cloud>(world: &'w World, cloud: &C) -> (Vec<PoolTypes<'w>>, Vec<(&'w NodePool, String)>) {
    let mut all = Vec::new();
    let mut barren = Vec::new();
    for pool in world.pools.values() {
        let deleting = pool.metadata.deletion_timestamp.is_some();
        if deleting || pool.spec.replicas.is_some() || !crate::world::is_ready_pool(pool) {
            continue;
        }
        let Ok(rows) = cloud.catalogue(pool) else {
            continue;
        };
        let wanted = pool_requirements(pool);
        let fitting: Vec<Arc<CloudType>> =
            rows.iter().filter(|row| row.requirements.intersects(&wanted).is_ok()).cloned().collect();
        if fitting.is_empty() {
            let message = format!("the nodepool's requirements exclude all {} instance types", rows.len());
            barren.push((pool, message));
            continue;
        }
        all.push((pool, fitting));
    }
    all.sort_by(|(a, _), (b, _)| {
        let weight = |pool: &NodePool| pool.spec.weight.unwrap_or(0);
        weight(b).cmp(&weight(a)).then_with(|| b.metadata.name.cmp(&a.metadata.name))
    });
    (all, barren)
}

/// Requirements and labels of a pool's nodes.
pub(super) fn pool_requirements(pool: &NodePool) -> Requirements {
    let template = &pool.spec.template;
    let mut all = Requirements::default();
    for spec in &template.spec.requirements {
        all.add(keys::normalized(&spec.key), Requirement::from_spec(spec));
    }
    let labels = template.metadata.iter().flat_map(|metadata| metadata.labels.iter().flatten());
    for (key, value) in labels {
        all.add(key.clone(), Requirement::one_of([value.clone()]));
    }
    let name = pool.metadata.name.clone().unwrap_or_default();
    all.add(keys::NODEPOOL, Requirement::one_of([name]));
    all.add(keys::EC2_NODE_CLASS, Requirement::one_of([template.spec.node_class_ref.name.clone()]));
    all
}

impl Interned<'_> {
    fn add_types(&mut self) {
        let (words, layout) = (&self.words, &self.problem.layout);
        self.problem.types = self
            .types
            .iter()
            .map(|kind| InstanceType {
                row: words.row(layout, &kind.requirements),
                capacity: words.amounts(&kind.capacity),
                allocatable: words.amounts(&kind.allocatable),
                offerings: kind
                    .offerings
                    .iter()
                    .filter(|offering| offering.available)
                    .map(|offering| {
                        let label = |key: &str, value: &str| {
                            let at = words.key(key)?;
                            Some((at, words.bit(at, value)?))
                        };
                        let labels = [
                            label(keys::ZONE, &offering.zone),
                            label(keys::ZONE_ID, &offering.zone_id),
                            label(keys::CAPACITY_TYPE, offering.capacity_type.as_str()),
                        ];
                        Offering { labels: labels.into_iter().flatten().collect(), price: offering.price }
                    })
                    .collect(),
            })
            .collect();
    }

    fn add_pools(&mut self, world: &World, numbers: &BTreeMap<*const CloudType, usize>) {
        for at in 0..self.pools.len() {
            let (pool, rows) = (self.pools[at].0, self.pools[at].1.clone());
            let wanted = pool_requirements(pool);
            let row = self.words.pool_row(&self.problem.layout, &wanted);
            let hard: Vec<Taint> = pool.spec.template.spec.taints.iter().flatten().map(taints::to_core).collect();
            let daemons = self.daemons(world, &hard);
            let mut types: Vec<(usize, Vec<i64>)> = rows
                .iter()
                .filter_map(|kind| {
                    let number = *numbers.get(&Arc::as_ptr(kind))?;
                    let of_type = self.problem.types[number].row.and(&row);
                    let mut overhead = Resources::default();
                    for (requests, readings) in &daemons {
                        if readings.iter().any(|reading| self.problem.layout.intersects(reading, &of_type)) {
                            overhead.add(requests);
                        }
                    }
                    Some((number, self.words.amounts(&overhead)))
                })
                .collect();
            types.sort_by_key(|(number, _)| *number);
            let taints = hard.into_iter().map(|taint| self.taint(taint)).collect();
            let (limits, nodes_left) = self.limits(world, pool);
            let min_values = pool
                .spec
                .template
                .spec
                .requirements
                .iter()
                .filter_map(|spec| {
                    Some((self.words.key(keys::normalized(&spec.key))?, usize::try_from(spec.min_values?).ok()?))
                })
                .collect();
            self.problem.pools.push(Pool { row, taints, types, limits, nodes_left, min_values });
        }
    }

    /// DaemonSets that would run on nodes with these taints: requests, and the nodes they choose.
    fn daemons(&self, world: &World, hard: &[Taint]) -> Vec<(Resources, Vec<Row>)> {
        let mut all = Vec::new();
        for daemon in world.daemons.values() {
            let Some(spec) = daemon.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else {
                continue;
            };
            let tolerations = spec.tolerations.as_deref().unwrap_or_default();
            let kept_off =
                hard.iter().any(|taint| taint.effect != "PreferNoSchedule" && !taints::tolerates(tolerations, taint));
            let Ok(readings) = readings(spec, 0, false) else {
                continue;
            };
            if !kept_off {
                let rows = readings.iter().map(|r| self.words.row(&self.problem.layout, &r.requirements)).collect();
                all.push((template_requests(spec), rows));
            }
        }
        all
    }

    /// What the pool may still add. A claim that is not launched yet counts as the largest it may become.
    fn limits(&self, world: &World, pool: &NodePool) -> (Vec<Option<i64>>, Option<i64>) {
        let limits = pool.spec.limits.as_ref();
        let name = pool.metadata.name.as_deref();
        let mut used = Resources::default();
        let mut nodes = 0;
        if limits.is_some() {
            for state in world.claims.values().filter(|state| state.pool() == name) {
                nodes += 1;
                let mut capacity = world.capacity_of(state);
                if capacity.0.is_empty() {
                    let listed = state.claim.spec.requirements.iter().find(|r| r.key == keys::INSTANCE_TYPE);
                    let names = listed.and_then(|r| r.values.as_ref());
                    for kind in self.types.iter().filter(|kind| names.is_some_and(|names| names.contains(&kind.name))) {
                        capacity.max(&kind.capacity);
                    }
                }
                used.add(&capacity);
            }
        }
        let left = |resource: &str| {
            let limit = limits?.get(resource)?;
            let limit = resources::amount(resource, &limit.to_string())?;
            Some((limit - used.get(resource)).clamp(-AMOUNT_MAX, AMOUNT_MAX))
        };
        let nodes_left = limits
            .and_then(|limits| limits.get(resources::NODES))
            .and_then(|limit| resources::amount(resources::NODES, &limit.to_string()))
            .map(|limit| limit - nodes);
        let of = |name: &String| {
            if name == resources::NODES { None } else { left(name) }
        };
        (self.words.resources.iter().map(of).collect(), nodes_left)
    }

    fn taint(&mut self, taint: Taint) -> usize {
        let same = |known: &Taint| known.key == taint.key && known.value == taint.value && known.effect == taint.effect;
        self.taints.iter().position(same).unwrap_or_else(|| {
            self.taints.push(taint);
            self.taints.len() - 1
        })
    }

    /// Nodes that stay, initialised ones first, then by name; then launched claims without a Node.
    fn add_nodes(&mut self, world: &World) {
        let mut nodes: Vec<&NodeState> = world.nodes.values().filter(|node| stays(world, node)).collect();
        nodes.sort_by_key(|node| (!node.is_initialized(), node.name().to_owned()));
        for node in nodes {
            let claim = claim_of(world, node);
            let status = node.node.status.as_ref();
            let mut available = status
                .and_then(|status| status.allocatable.as_ref())
                .map(Resources::from_quantities)
                .unwrap_or_default();
            let managed = node.label(keys::NODEPOOL).is_some();
            let starting = managed && !node.is_initialized();
            if starting && let Some(claim) = claim {
                fill(&mut available, claim);
            }
            for key in world.pods_by_node.get(node.name()).into_iter().flatten() {
                if let Some(pod) = world.pods.get(key).filter(|pod| !pod.is_terminal()) {
                    available.subtract(&pod.requests);
                }
            }
            let labels = node.labels().cloned().unwrap_or_default();
            let row = self.words.label_row(&self.problem.layout, &labels);
            available.subtract(&self.daemons_to_come(world, node, &row));
            let names = [Some(node.name()), claim.map(crate::world::ClaimState::name)];
            subtract_expected(world, &names, &mut available);
            let startup: Vec<Taint> = claim
                .filter(|_| starting)
                .and_then(|claim| claim.claim.spec.startup_taints.as_ref())
                .into_iter()
                .flatten()
                .map(taints::to_core)
                .collect();
            let passing = |taint: &Taint| {
                starting
                    && (taints::is_ephemeral(taint)
                        || startup.iter().any(|s| s.key == taint.key && s.effect == taint.effect))
            };
            let hard: Vec<Taint> = node
                .taints()
                .iter()
                .filter(|taint| taint.effect != "PreferNoSchedule" && !passing(taint))
                .cloned()
                .collect();
            let taints = hard.into_iter().map(|taint| self.taint(taint)).collect();
            self.push_node(node.name().to_owned(), Node { row, taints, available: self.words.amounts(&available) });
        }
        for state in world.claims.values().filter(|state| !state.is_deleting()) {
            let joined = state.provider_id().is_some_and(|id| world.nodes_by_provider_id.contains_key(id));
            let mut available = Resources::default();
            fill(&mut available, state);
            if joined || available.0.is_empty() {
                continue;
            }
            let labels = state.claim.metadata.labels.clone().unwrap_or_default();
            let row = self.words.label_row(&self.problem.layout, &labels);
            let hard: Vec<Taint> = state.claim.spec.taints.iter().flatten().map(taints::to_core).collect();
            for (requests, readings) in self.daemons(world, &hard) {
                if readings.iter().any(|reading| self.problem.layout.intersects(reading, &row)) {
                    available.subtract(&requests);
                }
            }
            subtract_expected(world, &[Some(state.name())], &mut available);
            let taints = hard.into_iter().map(|taint| self.taint(taint)).collect();
            self.push_node(state.name().to_owned(), Node { row, taints, available: self.words.amounts(&available) });
        }
    }

    fn push_node(&mut self, name: String, node: Node) {
        self.nodes.push(name);
        self.problem.nodes.push(node);
    }

    /// What daemons that are not bound to the node yet will take of it.
    fn daemons_to_come(&self, world: &World, node: &NodeState, row: &Row) -> Resources {
        let mut expected = Resources::default();
        let hard: Vec<Taint> = node.taints().iter().filter(|t| !taints::is_ephemeral(t)).cloned().collect();
        for (requests, readings) in self.daemons(world, &hard) {
            if readings.iter().any(|reading| self.problem.layout.intersects(reading, row)) {
                expected.add(&requests);
            }
        }
        for key in world.pods_by_node.get(node.name()).into_iter().flatten() {
            if let Some(pod) = world.pods.get(key).filter(|pod| pod.is_daemon() && !pod.is_terminal()) {
                expected.subtract(&pod.requests);
            }
        }
        for amount in expected.0.values_mut() {
            *amount = (*amount).max(0);
        }
        expected
    }

    fn add_pods(&mut self, world: &World, reads: &[Read<'_>]) {
        let mut spreads = Spreads::default();
        for read in reads {
            let namespace = read.pod.key.namespace.as_str();
            let labels = pod_labels(read.pod);
            for constraint in read.hard.iter().chain(&read.soft) {
                spreads.add(namespace, constraint, labels);
            }
        }
        for spread in &spreads.all {
            self.spread_keys.push(spread.key.clone());
            let built = self.spread(world, spread);
            self.problem.spreads.push(built);
        }
        let mut classes: BTreeMap<String, usize> = BTreeMap::new();
        for read in reads {
            let tolerations = read.pod.pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
            let tolerates: Vec<bool> = self.taints.iter().map(|taint| taints::tolerates(tolerations, taint)).collect();
            let namespace = read.pod.key.namespace.as_str();
            let labels = pod_labels(read.pod);
            let number = |c: &&TopologySpreadConstraint| spreads.number(namespace, c, labels);
            let hard: Vec<usize> = read.hard.iter().map(number).collect();
            let soft: Vec<usize> = read.soft.iter().map(number).collect();
            let counted_by: Vec<usize> = spreads.counting(namespace, labels);
            let alternatives: Vec<(&Requirements, Vec<usize>)> = read
                .readings
                .iter()
                .map(|reading| {
                    let soft = soft.iter().take(reading.soft_spreads);
                    (&reading.requirements, hard.iter().chain(soft).copied().collect())
                })
                .collect();
            let requests = self.words.amounts(&read.pod.requests);
            let identity = format!("{requests:?} {tolerates:?} {counted_by:?} {alternatives:?}");
            let at = if let Some(at) = classes.get(&identity) {
                *at
            } else {
                let alternatives = alternatives
                    .into_iter()
                    .map(|(requirements, spreads)| {
                        let row = self.words.row(&self.problem.layout, requirements);
                        Alternative { row, spreads }
                    })
                    .collect();
                self.problem.classes.push(Class { requests, tolerates, alternatives, counted_by });
                classes.insert(identity, self.problem.classes.len() - 1);
                self.problem.classes.len() - 1
            };
            self.problem.pods.push(at);
        }
    }

    /// A constraint with the pods that are there already counted.
    fn spread(&self, world: &World, of: &SpreadWords) -> Spread {
        let key = (of.key != keys::HOSTNAME).then(|| self.words.key(&of.key)).flatten();
        let mut spread = Spread {
            key,
            max_skew: of.max_skew,
            min_domains: of.min_domains,
            counts_self: of.counts_self,
            counts: Vec::new(),
            on_nodes: vec![0; self.nodes.len()],
            domains: Vec::new(),
        };
        let matching = |pod: &&PodState| {
            pod.key.namespace == of.namespace
                && !pod.is_terminal()
                && !pod.is_terminating()
                && selects(&of.selector, pod_labels(pod))
        };
        for pod in world.pods.values().filter(matching) {
            let target = match pod.node_name() {
                Some(node) => Some(node),
                None => world.nominated.get(&pod.key).map(|nomination| nomination.target.as_str()),
            };
            let Some(target) = target else { continue };
            if let Some(held) =
                self.nodes.iter().position(|name| name == target).and_then(|at| spread.on_nodes.get_mut(at))
            {
                *held += 1;
            }
            let bit = key.and_then(|key| self.words.bit(key, &domain(world, target, &of.key)?));
            if let Some(bit) = bit {
                if spread.counts.len() <= bit {
                    spread.counts.resize(bit + 1, 0);
                }
                spread.counts[bit] += 1;
            }
        }
        if let Some(key) = key {
            let layout = &self.problem.layout;
            let possible = |bit: &usize| {
                let by_pool = self.problem.pools.iter().any(|pool| {
                    layout.has(&pool.row, key, *bit)
                        && pool.types.iter().any(|(kind, _)| layout.has(&self.problem.types[*kind].row, key, *bit))
                });
                by_pool || self.problem.nodes.iter().any(|node| layout.has(&node.row, key, *bit))
            };
            let bits = (0..self.words.values[key].len()).map(|at| at + Layout::FIRST);
            spread.domains = bits.filter(possible).collect();
        }
        spread
    }
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

fn claim_of<'w>(world: &'w World, node: &NodeState) -> Option<&'w crate::world::ClaimState> {
    world.claims.get(world.claims_by_provider_id.get(node.provider_id()?)?)
}

/// A node that is not on its way out.
fn stays(world: &World, node: &NodeState) -> bool {
    !node.is_deleting() && claim_of(world, node).is_none_or(|claim| !claim.is_deleting())
}

/// Amounts the claim promises where the node has none yet.
fn fill(available: &mut Resources, claim: &crate::world::ClaimState) {
    let promised = claim.claim.status.as_ref().and_then(|status| status.allocatable.as_ref());
    for (name, amount) in promised.into_iter().flatten() {
        if available.get(name) == 0
            && let Some(amount) = resources::amount(name, &amount.to_string())
        {
            available.set(name.clone(), amount);
        }
    }
}

/// Pods that an earlier round sent here and that are not bound yet.
fn subtract_expected(world: &World, names: &[Option<&str>], available: &mut Resources) {
    for (key, nomination) in &world.nominated {
        if names.contains(&Some(nomination.target.as_str()))
            && let Some(pod) = world.pods.get(key).filter(|pod| pod.node_name().is_none())
        {
            available.subtract(&pod.requests);
        }
    }
}

fn pod_labels(pod: &PodState) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    pod.pod.metadata.labels.as_ref().unwrap_or(&NONE)
}

/// A constraint in words, with the pod's own values of `matchLabelKeys` in its selector.
#[derive(Debug, PartialEq)]
struct SpreadWords {
    namespace: String,
    key: String,
    max_skew: u32,
    min_domains: Option<u32>,
    selector: Option<LabelSelector>,
    counts_self: bool,
}

#[derive(Default)]
struct Spreads {
    all: Vec<SpreadWords>,
}

impl Spreads {
    fn add(&mut self, namespace: &str, constraint: &TopologySpreadConstraint, labels: &BTreeMap<String, String>) {
        let words = words(namespace, constraint, labels);
        if !self.all.contains(&words) {
            self.all.push(words);
        }
    }

    fn number(
        &self,
        namespace: &str,
        constraint: &TopologySpreadConstraint,
        labels: &BTreeMap<String, String>,
    ) -> usize {
        let words = words(namespace, constraint, labels);
        self.all.iter().position(|known| *known == words).unwrap_or_default()
    }

    fn counting(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<usize> {
        let counts = |of: &SpreadWords| of.namespace == namespace && selects(&of.selector, labels);
        self.all.iter().enumerate().filter(|(_, of)| counts(of)).map(|(at, _)| at).collect()
    }
}

fn words(namespace: &str, of: &TopologySpreadConstraint, labels: &BTreeMap<String, String>) -> SpreadWords {
    let mut selector = of.label_selector.clone();
    for key in of.match_label_keys.iter().flatten() {
        if let (Some(selector), Some(value)) = (&mut selector, labels.get(key)) {
            selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
        }
    }
    SpreadWords {
        namespace: namespace.to_owned(),
        key: keys::normalized(&of.topology_key).to_owned(),
        max_skew: u32::try_from(of.max_skew).unwrap_or(1),
        min_domains: of.min_domains.and_then(|n| u32::try_from(n).ok()),
        counts_self: selects(&selector, labels),
        selector,
    }
}

/// Kubernetes label selectors: no selector selects nothing, an empty one everything.
fn selects(selector: &Option<LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else {
        return false;
    };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|expression| {
        let value = labels.get(&expression.key);
        let listed = |value: &String| expression.values.iter().flatten().any(|one| one == value);
        match expression.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal && expressions
}
