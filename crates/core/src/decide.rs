//! The ordered list of rooms.

use crate::action::{Action, ActionKey, Deed, KubeWrite};
use crate::world::World;
use crate::{Cloud, Fact, Observation, Settings, Timestamp, lifecycle, nodepool, provision};

/// What a look at the World came to.
#[derive(Clone, Debug)]
#[must_use = "a decision that is dropped has no effect"]
pub struct Decision<C> {
    pub actions: Vec<Action<C>>,
    pub facts: Vec<Fact>,
    /// What the World must know of this decision itself (assumed pods, a closed batch); the driver
    /// applies these before it dispatches.
    pub learned: Vec<Observation>,
    /// When to look again even if nothing is observed.
    pub wake_at: Option<Timestamp>,
}

impl<C> Default for Decision<C> {
    fn default() -> Self {
        Self { actions: Vec::new(), facts: Vec::new(), learned: Vec::new(), wake_at: None }
    }
}

impl<C> Decision<C> {
    pub fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    /// Adds a write unless its key is in flight or backing off; then only the wake-up is noted.
    /// Says whether it was added, so that facts are told once per attempt.
    pub fn kube(&mut self, world: &World, now: Timestamp, key: ActionKey, write: KubeWrite) -> bool {
        self.act(world, now, key, Deed::Kube(write), Vec::new())
    }

    /// As [`Decision::kube`], with what is to be told when the write has succeeded.
    pub fn kube_then(
        &mut self,
        world: &World,
        now: Timestamp,
        key: ActionKey,
        write: KubeWrite,
        facts: Vec<Fact>,
    ) -> bool {
        self.act(world, now, key, Deed::Kube(write), facts)
    }

    /// As [`Decision::kube`], for a cloud call.
    pub fn cloud(&mut self, world: &World, now: Timestamp, key: ActionKey, call: C) -> bool {
        self.act(world, now, key, Deed::Cloud(call), Vec::new())
    }

    fn act(&mut self, world: &World, now: Timestamp, key: ActionKey, deed: Deed<C>, facts: Vec<Fact>) -> bool {
        match world.flights.ready(&key, now) {
            Ok(()) => {
                self.actions.push(Action { key, deed, facts });
                true
            }
            Err(until) => {
                if let Some(until) = until {
                    self.wake(until);
                }
                false
            }
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.actions.extend(other.actions);
        self.facts.extend(other.facts);
        self.learned.extend(other.learned);
        if let Some(at) = other.wake_at {
            self.wake(at);
        }
    }
}

/// Every room in order. Pure: same World, cloud, settings and time, same decision.
pub fn decide<C: Cloud>(world: &World, cloud: &C, settings: &Settings, now: Timestamp) -> Decision<C::Call> {
    let mut decision = Decision::default();
    if !world.is_listed() {
        return decision;
    }
    decision.merge(nodepool::decide(world, cloud, now));
    decision.merge(lifecycle::decide(world, cloud, settings, now));
    decision.merge(provision::decide(world, cloud, settings, now));
    decision
}
