//! Whether a claim still is what its pool and its class ask for, as the condition `Drifted`. It is told in this order:
//! the pool's template, the pool's requirements, whether its type is on offer at all, what the cloud knows of its
//! instance. What cannot be told now leaves the condition as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use karpenter_api::{NodePool, conditions as names, labels};

use super::Stage;
use crate::cloud::{CapacityType, Drift, InstanceType};
use crate::requirements::{Requirement, Requirements};
use crate::world::ClaimState;
use crate::{Cloud, Decision, Timestamp, World};

/// A type may be late in the catalogue, so a young claim is not judged by it.
const CATALOGUE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// What claims are held against, made once for all claims of a pool.
pub(super) struct Pools<'w> {
    by_name: BTreeMap<&'w str, Asked<'w>>,
}

struct Asked<'w> {
    pool: &'w NodePool,
    requirements: Requirements,
    /// By name; `None` while nothing is known of it.
    rows: Option<Arc<[Arc<InstanceType>]>>,
}

impl<'w> Pools<'w> {
    pub(super) fn new<C: Cloud>(world: &'w World, cloud: &C) -> Self {
        let asked = |pool: &'w NodePool| {
            let mut requirements = Requirements::default();
            for spec in &pool.spec.template.spec.requirements {
                requirements.add(labels::normalized(&spec.key), Requirement::from_spec(spec));
            }
            Asked { pool, requirements, rows: cloud.catalogue(pool).ok() }
        };
        Self { by_name: world.pools.iter().map(|(name, pool)| (name.as_str(), asked(pool))).collect() }
    }
}

pub(super) fn decide<C: Cloud>(pools: &Pools<'_>, cloud: &C, stage: &mut Stage<'_>, decision: &mut Decision<C::Call>) {
    let Some(asked) = stage.state.pool().and_then(|name| pools.by_name.get(name)) else {
        return;
    };
    if !stage.is_true(names::LAUNCHED) {
        return stage.clear(names::DRIFTED);
    }
    let of_pool = asked.drift(stage.state, stage.now, decision);
    match of_pool.unwrap_or_else(|| cloud.drift(&stage.state.claim)) {
        Drift::Unknown => {}
        Drift::None => stage.clear(names::DRIFTED),
        Drift::Drifted(reason) => stage.set(names::DRIFTED, "True", reason, reason),
    }
}

impl Asked<'_> {
    /// `None` if it is the cloud's to say.
    fn drift<C>(&self, state: &ClaimState, now: Timestamp, decision: &mut Decision<C>) -> Option<Drift> {
        if self.has_another_template(state) {
            return Some(Drift::Drifted("NodePoolDrifted"));
        }
        let keeps = |(key, asked): (&String, &Requirement)| {
            state.label(key).map_or_else(|| asked.allows_absence(), |value| asked.has(value))
        };
        if !self.requirements.0.iter().all(keeps) {
            return Some(Drift::Drifted("RequirementsDrifted"));
        }
        let rows = self.rows.as_ref()?;
        if is_on_offer(rows, state) {
            return None;
        }
        let created = state.claim.metadata.creation_timestamp.as_ref().map(|at| at.0)?;
        let judged_from = created.checked_add(CATALOGUE_AFTER).ok()?;
        if judged_from > now {
            decision.wake(judged_from);
            return None;
        }
        Some(Drift::Drifted("InstanceTypeNotFound"))
    }

    /// Hashes of different versions say nothing of each other.
    fn has_another_template(&self, state: &ClaimState) -> bool {
        let of_pool = self.pool.metadata.annotations.as_ref();
        let both = |key| Some((of_pool?.get(key)?.as_str(), state.annotation(key)?));
        match (both(labels::NODEPOOL_HASH_VERSION), both(labels::NODEPOOL_HASH)) {
            (Some((pools, claims)), Some((wanted, had))) => pools == claims && wanted != had,
            _ => false,
        }
    }
}

/// Available now or not. A reservation ends, and its instances go on as on-demand ones.
fn is_on_offer(rows: &[Arc<InstanceType>], state: &ClaimState) -> bool {
    let Some(name) = state.label(labels::INSTANCE_TYPE) else {
        return true;
    };
    let Ok(at) = rows.binary_search_by(|row| row.name.as_str().cmp(name)) else {
        return false;
    };
    let same = |key, of: &str| state.label(key).is_none_or(|value| value == of);
    let capacity_type = state.label(labels::CAPACITY_TYPE);
    let reserved = capacity_type == Some(CapacityType::Reserved.as_str());
    rows[at].offerings.iter().any(|offering| {
        let of = offering.capacity_type;
        let same_capacity = capacity_type.is_none_or(|value| value == of.as_str());
        same(labels::ZONE, &offering.zone) && (same_capacity || (reserved && of == CapacityType::OnDemand))
    })
}
