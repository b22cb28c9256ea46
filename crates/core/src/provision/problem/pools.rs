//! NodePools and the instance types they can buy.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{NodePool, labels as keys, taints};
use karpenter_solver::{InstanceType, Offering, Pool};

use super::Interned;
use super::daemons::Daemon;
use super::words::AMOUNT_MAX;
use crate::cloud::InstanceType as CloudType;
use crate::requirements::{Requirement, Requirements};
use crate::resources::{self, Resources};
use crate::world::HostPort;
use crate::{Cloud, World};

pub(in crate::provision) type PoolTypes<'w> = (&'w NodePool, Vec<Arc<CloudType>>);

/// Ready, dynamic pools in the order they are tried: weight, then name, both descending; and those
/// that can buy nothing, with the reason.
pub(super) fn pools<'w, C: Cloud>(world: &'w World, cloud: &C) -> (Vec<PoolTypes<'w>>, Vec<(&'w NodePool, String)>) {
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

impl Interned<'_> {
    pub(super) fn add_types(&mut self) {
        let (words, layout) = (&self.words, &self.problem.layout);
        self.problem.types = self
            .types
            .iter()
            .map(|kind| InstanceType {
                row: words.type_row(layout, &kind.requirements),
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

    pub(super) fn add_pools(&mut self, world: &World, numbers: &BTreeMap<*const CloudType, usize>, daemons: &[Daemon]) {
        for at in 0..self.pools.len() {
            let (pool, rows) = (self.pools[at].0, self.pools[at].1.clone());
            let wanted = pool_requirements(pool);
            let row = self.words.pool_row(&self.problem.layout, &wanted);
            let standing: Vec<Taint> = pool.spec.template.spec.taints.iter().flatten().map(taints::to_core).collect();
            let daemons: Vec<&Daemon> = daemons.iter().filter(|daemon| daemon.tolerates(&standing)).collect();
            let mut overheads: Vec<Vec<i64>> = Vec::new();
            let mut types: Vec<(usize, usize)> = Vec::new();
            let mut ports: Vec<HostPort> = Vec::new();
            for kind in &rows {
                let Some(number) = numbers.get(&Arc::as_ptr(kind)).copied() else { continue };
                let of_type = self.problem.types[number].row.and(&row);
                let mut overhead = Resources::default();
                for daemon in daemons.iter().filter(|daemon| self.runs_on(daemon, &of_type)) {
                    overhead.add(&daemon.requests);
                    ports.extend_from_slice(&daemon.ports);
                }
                let amounts = self.words.amounts(&overhead);
                let group = overheads.iter().position(|known| *known == amounts).unwrap_or_else(|| {
                    overheads.push(amounts);
                    overheads.len() - 1
                });
                types.push((number, group));
            }
            types.sort_unstable();
            let taints = standing.iter().map(|taint| self.taint(taint)).collect();
            ports.sort();
            ports.dedup();
            let ports = ports.iter().map(|port| self.port(port)).collect();
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
            let (types, overheads) = (types.into(), overheads.into());
            self.problem.pools.push(Pool { row, taints, ports, types, overheads, limits, nodes_left, min_values });
        }
    }

    /// What the pool may still add. A claim that is not launched yet counts as the largest it may become.
    fn limits(&self, world: &World, pool: &NodePool) -> (Vec<Option<i64>>, Option<i64>) {
        let Some(limits) = pool.spec.limits.as_ref() else {
            return (vec![None; self.words.resources.len()], None);
        };
        let name = pool.metadata.name.as_deref();
        let mut used = Resources::default();
        let mut nodes = 0;
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
        let limit = |resource: &str| resources::amount(resource, &limits.get(resource)?.to_string());
        let left = |name: &String| {
            let limit = limit(name).filter(|_| name != resources::NODES)?;
            Some((limit - used.get(name)).clamp(-AMOUNT_MAX, AMOUNT_MAX))
        };
        let nodes_left = limit(resources::NODES).map(|limit| limit - nodes);
        (self.words.resources.iter().map(left).collect(), nodes_left)
    }
}
