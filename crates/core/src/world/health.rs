//! How the latest launches of each NodePool ended, from what is observed of its claims: one that registers is a success,
//! one that is deleted after the time it had is a failure.

use std::collections::{BTreeMap, VecDeque};

use jiff::SignedDuration;
use karpenter_api::{NodeClaim, NodePool, conditions as names};

use super::World;
use crate::{Timestamp, conditions};

/// How long a claim may take to be launched, and then to become a node.
pub(crate) const LAUNCH_TTL: SignedDuration = SignedDuration::from_mins(5);
pub(crate) const REGISTRATION_TTL: SignedDuration = SignedDuration::from_mins(15);

/// Launches remembered for each pool.
const KEPT: usize = 4;
/// So many failures among them, and the pool is unhealthy.
const UNHEALTHY_FROM: usize = 2;

/// How a launch ended. `None`: it became a node; otherwise reason and message.
pub(super) type Launch = Option<(String, String)>;

/// The latest launches of a NodePool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    launches: VecDeque<Launch>,
}

impl Health {
    /// What a condition of an earlier process says comes back as launches that would say the same.
    fn seeded(pool: &NodePool) -> Self {
        let list = pool.status.as_ref().and_then(|status| status.conditions.as_deref());
        let known = conditions::get(list, names::NODE_REGISTRATION_HEALTHY);
        let known = known.filter(|known| known.observed_generation == pool.metadata.generation);
        let launches = match known.map(|known| (known.status.as_str(), known)) {
            Some(("True", _)) => [None].into(),
            Some(("False", known)) => {
                let failure = Some((known.reason.clone(), known.message.clone()));
                [failure.clone(), failure].into()
            }
            _ => VecDeque::new(),
        };
        Self { launches }
    }

    pub(super) fn record(&mut self, launch: Launch) {
        if self.launches.len() == KEPT {
            self.launches.pop_front();
        }
        self.launches.push_back(launch);
    }

    /// `None`: nothing is known. `Some(Err)`: the latest failure of too many.
    pub fn verdict(&self) -> Option<Result<(), (&str, &str)>> {
        let failures = self.launches.iter().flatten();
        match failures.clone().last().filter(|_| failures.count() >= UNHEALTHY_FROM) {
            Some((reason, message)) => Some(Err((reason, message))),
            None => (!self.launches.is_empty()).then_some(Ok(())),
        }
    }
}

impl World {
    /// Another template or another class is another matter: what happened before says nothing.
    pub(super) fn pool_turned(&mut self, name: &str, pool: &NodePool) {
        let class = |pool: &NodePool| pool.status.as_ref().and_then(|status| status.node_class_observed_generation);
        let same = |known: &NodePool| {
            known.metadata.uid == pool.metadata.uid
                && known.metadata.generation == pool.metadata.generation
                && class(known) == class(pool)
        };
        match self.pools.get(name) {
            Some(known) if same(known) => {}
            Some(known) if known.metadata.uid == pool.metadata.uid => drop(self.health.remove(name)),
            _ => drop(self.health.insert(name.to_owned(), Health::seeded(pool))),
        }
    }

    /// A claim changed: how its launch came to an end, if it did, and for which pool.
    pub(super) fn launch_ended(
        &self,
        known: &NodeClaim,
        claim: &NodeClaim,
        now: Timestamp,
    ) -> Option<(String, Launch)> {
        let registered = |claim: &NodeClaim| conditions::is_true(list(claim), names::REGISTERED);
        if registered(known) {
            return None;
        }
        let deleted = claim.metadata.deletion_timestamp.is_some() && known.metadata.deletion_timestamp.is_none();
        let launch = if registered(claim) { None } else { Some(failure(claim, now).filter(|_| deleted)?) };
        Some((owner(claim, &self.pools)?, launch))
    }
}

fn list(claim: &NodeClaim) -> Option<&[conditions::Condition]> {
    claim.status.as_ref().and_then(|status| status.conditions.as_deref())
}

/// Why a claim that is given up is a failed launch: it had the time it may have.
fn failure(claim: &NodeClaim, now: Timestamp) -> Option<(String, String)> {
    let elapsed = |condition: &&conditions::Condition, ttl| {
        condition.status != "True" && condition.last_transition_time.0.checked_add(ttl).is_ok_and(|until| until <= now)
    };
    let launched = conditions::get(list(claim), names::LAUNCHED)?;
    if elapsed(&launched, LAUNCH_TTL) {
        return Some((launched.reason.clone(), launched.message.clone()));
    }
    let registered = conditions::get(list(claim), names::REGISTERED)?;
    let failed = launched.status == "True" && elapsed(&registered, REGISTRATION_TTL);
    failed.then(|| ("RegistrationFailed".to_owned(), "Failed to register node".to_owned()))
}

/// The pool of this very claim, as opposed to an earlier one of the same name.
fn owner(claim: &NodeClaim, pools: &BTreeMap<String, NodePool>) -> Option<String> {
    let owner = claim.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "NodePool")?;
    let pool = pools.get(&owner.name)?;
    (pool.metadata.uid.as_deref() == Some(owner.uid.as_str())).then(|| owner.name.clone())
}
