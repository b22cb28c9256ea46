//! NodePools and the instance types they can buy.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{NodePool, Operator, labels as keys, taints};
use karpenter_solver::{InstanceType, Layout, Offering, Pool, Row};
use rustc_hash::FxHashMap;

use super::Interned;
use super::daemons::Daemon;
use super::words::AMOUNT_MAX;
use crate::cloud::InstanceType as CloudType;
use crate::requirements::{Requirement, Requirements};
use crate::resources::{self, Resources};
use crate::{Cloud, World};

/// A pool and the types it can buy, shared by pools that are alike.
pub(in crate::provision) type PoolTypes<'w> = (&'w NodePool, Types);
type Types = Rc<[Arc<CloudType>]>;

/// A pool that can host no pod, and why.
pub(in crate::provision) struct Barren<'w> {
    pub(in crate::provision) pool: &'w NodePool,
    pub(in crate::provision) problem: String,
    /// Its own requirements leave no instance type: it is told as well.
    pub(in crate::provision) excludes_all: bool,
}

/// Ready, dynamic pools in the order they are tried: weight, then name, both descending; and those
/// that can buy nothing. (Pools of a fixed size, and those that are being deleted, are not for pods.)
pub(super) fn pools<'w, C: Cloud>(world: &'w World, cloud: &C) -> (Vec<PoolTypes<'w>>, Vec<Barren<'w>>) {
    let mut all = Vec::new();
    let mut barren = Vec::new();
    let mut known: FxHashMap<(*const Arc<CloudType>, Requirements), Types> = FxHashMap::default();
    // Held, so that each keeps its address.
    let mut catalogues: Vec<Arc<[Arc<CloudType>]>> = Vec::new();
    for pool in world.pools.values() {
        let deleting = pool.metadata.deletion_timestamp.is_some();
        if deleting || pool.spec.replicas.is_some() {
            continue;
        }
        if !crate::world::is_ready_pool(pool) {
            barren.push(Barren { pool, problem: "it is not ready".to_owned(), excludes_all: false });
            continue;
        }
        let rows = match cloud.catalogue(pool) {
            Ok(rows) => rows,
            Err(problem) => {
                barren.push(Barren { pool, problem: problem.to_string(), excludes_all: false });
                continue;
            }
        };
        // No type says of which pool it is.
        let mut wanted = pool_requirements(pool);
        wanted.0.remove(keys::NODEPOOL);
        let fits = |row: &&Arc<CloudType>, wanted: &Requirements| row.requirements.intersects(wanted).is_ok();
        let fitting = known
            .entry((rows.as_ptr(), wanted))
            .or_insert_with_key(|(_, wanted)| rows.iter().filter(|row| fits(row, wanted)).cloned().collect());
        let fitting = Rc::clone(fitting);
        if catalogues.last().is_none_or(|last| !Arc::ptr_eq(last, &rows)) {
            catalogues.push(Arc::clone(&rows));
        }
        if fitting.is_empty() {
            let problem = if rows.is_empty() {
                "no instance types are on offer".to_owned()
            } else {
                format!("the nodepool's requirements exclude all {} instance types", rows.len())
            };
            barren.push(Barren { pool, problem, excludes_all: true });
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
pub(in crate::provision) fn pool_requirements(pool: &NodePool) -> Requirements {
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

/// Types with the number of their overhead, and the overheads.
type Sold = (Arc<[(usize, usize)]>, Arc<[Vec<i64>]>);

/// What each reservation has left, the least that any offering says, without what claims that are not launched yet
/// will take of it.
pub(super) fn reservations(world: &World, types: &[Arc<CloudType>]) -> BTreeMap<String, u32> {
    let mut left: BTreeMap<String, u32> = BTreeMap::new();
    for of in types.iter().flat_map(|kind| &kind.offerings).filter_map(|offering| offering.reservation.as_ref()) {
        let known = left.entry(of.id.clone()).or_insert(of.left);
        *known = of.left.min(*known);
    }
    if left.is_empty() {
        return left;
    }
    let unlaunched = world.claims.values().filter(|state| state.provider_id().is_none());
    for spec in unlaunched.flat_map(|state| &state.claim.spec.requirements) {
        // `NotIn` names those that it keeps off.
        let is_held = spec.key == keys::CAPACITY_RESERVATION_ID && spec.operator == Operator::In;
        for id in spec.values.iter().flatten().filter(|_| is_held) {
            if let Some(left) = left.get_mut(id) {
                *left = left.saturating_sub(1);
            }
        }
    }
    left
}

impl Interned<'_> {
    pub(super) fn add_types(&mut self) {
        self.problem.reservations = self.reservations.values().copied().collect();
        self.problem.types = self
            .types
            .iter()
            .map(|kind| InstanceType {
                row: self.words.type_row(&self.problem.layout, &kind.requirements),
                capacity: self.words.amounts(&kind.capacity),
                allocatable: self.words.amounts(&self.with_ports(&kind.allocatable)),
                offerings: self.offerings(kind),
            })
            .collect();
    }

    /// The offerings that can be had, each with the labels its nodes have and those they lack.
    fn offerings(&self, kind: &CloudType) -> Vec<Offering> {
        let words = &self.words;
        let reservations: Vec<&String> = self.reservations.keys().collect();
        let further: BTreeSet<&str> =
            kind.offerings.iter().flat_map(|offering| offering.labels.keys()).map(String::as_str).collect();
        let bit = |key: &str, value: Option<&str>| {
            let at = words.key(key)?;
            Some((at, value.map_or(Some(Layout::ABSENT), |value| words.bit(at, value))?))
        };
        let open = kind.offerings.iter().filter(|offering| offering.available);
        open.map(|offering| {
            let held = offering.reservation.as_ref().map(|of| &of.id);
            let labels = [
                bit(keys::ZONE, Some(&offering.zone)),
                bit(keys::ZONE_ID, Some(&offering.zone_id)),
                bit(keys::CAPACITY_TYPE, Some(offering.capacity_type.as_str())),
                bit(keys::CAPACITY_RESERVATION_ID, held.map(String::as_str)),
            ];
            let own = further.iter().map(|key| bit(key, offering.labels.get(*key).map(String::as_str)));
            Offering {
                labels: labels.into_iter().chain(own).flatten().collect(),
                price: offering.price,
                reservation: held.and_then(|id| reservations.binary_search(&id).ok()),
            }
        })
        .collect()
    }

    pub(super) fn add_pools(&mut self, world: &World, numbers: &BTreeMap<*const CloudType, usize>, daemons: &[Daemon]) {
        let keys = self.keys_of_types(daemons);
        let mut known: FxHashMap<(*const Arc<CloudType>, Row, Vec<usize>), Sold> = FxHashMap::default();
        for at in 0..self.pools.len() {
            let (pool, rows) = (self.pools[at].0, Rc::clone(&self.pools[at].1));
            let wanted = pool_requirements(pool);
            let row = self.words.pool_row(&self.problem.layout, &wanted);
            let standing: Vec<Taint> = pool.spec.template.spec.taints.iter().flatten().map(taints::to_core).collect();
            let tolerating = |at: &usize| daemons[*at].tolerates(standing.iter());
            let here: Vec<usize> = (0..daemons.len()).filter(tolerating).collect();
            let alike = (rows.as_ptr(), self.problem.layout.only(&row, &keys), here);
            let sold = known.entry(alike).or_insert_with_key(|(_, row, here)| {
                self.sold(&rows, row, here.iter().map(|at| &daemons[*at]).collect(), numbers)
            });
            let (types, overheads) = (Arc::clone(&sold.0), Arc::clone(&sold.1));
            let taints = standing.iter().map(|taint| self.taint(taint)).collect();
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
            self.problem.pools.push(Pool { row, taints, types, overheads, limits, nodes_left, min_values });
        }
    }

    /// Keys that decide what is sold in a pool: types speak of them, or daemons.
    fn keys_of_types(&self, daemons: &[Daemon]) -> Vec<usize> {
        let of_types = self.types.iter().map(|kind| &*kind.requirements);
        let all = of_types.chain(daemons.iter().flat_map(|daemon| &daemon.needs));
        let mut keys: Vec<usize> = all.flat_map(|one| one.0.keys()).filter_map(|key| self.words.key(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Types by number, each with its daemons' overhead in a pool with this row and these daemons.
    fn sold(
        &self,
        rows: &[Arc<CloudType>],
        row: &Row,
        daemons: Vec<&Daemon>,
        numbers: &BTreeMap<*const CloudType, usize>,
    ) -> Sold {
        let mut overheads: Vec<Vec<i64>> = Vec::new();
        let mut types: Vec<(usize, usize)> = Vec::new();
        for kind in rows {
            let Some(number) = numbers.get(&Arc::as_ptr(kind)).copied() else { continue };
            let of_type = self.problem.types[number].row.and(row);
            let mut overhead = Resources::default();
            for daemon in daemons.iter().filter(|daemon| self.runs_on(daemon, &of_type)) {
                overhead.add(&daemon.requests);
            }
            self.take_ports_once(&mut overhead);
            let amounts = self.words.amounts(&overhead);
            let group = overheads.iter().position(|known| *known == amounts).unwrap_or_else(|| {
                overheads.push(amounts);
                overheads.len() - 1
            });
            types.push((number, group));
        }
        types.sort_unstable();
        (types.into(), overheads.into())
    }

    /// What the pool may still add. A claim that is not launched yet counts as the largest it may become; one that is
    /// being deleted does not count, or a pool at its limit could never replace a node that waits for its pods to leave.
    fn limits(&self, world: &World, pool: &NodePool) -> (Vec<Option<i64>>, Option<i64>) {
        let Some(limits) = pool.spec.limits.as_ref() else {
            return (vec![None; self.words.resources.len()], None);
        };
        let name = pool.metadata.name.as_deref();
        let mut used = Resources::default();
        let mut nodes = 0;
        for state in world.claims.values().filter(|state| state.pool() == name && !world.is_claim_ending(state)) {
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
        let limit = |resource: &str| resources::amount(resource, &limits.get(resource)?.to_string());
        let left = |name: &String| {
            let limit = limit(name).filter(|_| name != resources::NODES)?;
            Some(limit.saturating_sub(used.get(name)).clamp(-AMOUNT_MAX, AMOUNT_MAX))
        };
        let nodes_left = limit(resources::NODES).map(|limit| limit.saturating_sub(nodes));
        (self.words.resources.iter().map(left).collect(), nodes_left)
    }
}
