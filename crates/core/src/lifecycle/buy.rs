//! What the cloud is asked for claims without an instance: one call for all claims of a launch.
//!
//! The claims of a launch were planned together and carry its token since they were created, so the call can be
//! repeated, by whoever is there after a crash, without buying anything twice. A launch whose end is not known is
//! looked up by its token before anything else.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::{launch, liveness};
use crate::action::ActionKey;
use crate::cloud::{LaunchBatch, LaunchOutcome, LaunchProblem};
use crate::world::{ClaimState, LaunchState};
use crate::{Cloud, Decision, Timestamp, World};

/// A launch waits for those of its claims that are still being created, but no longer than this: the longest that
/// Karpenter lets a fleet's batch stay open.
const COMPLETE_WITHIN: SignedDuration = SignedDuration::from_secs(1);

/// Why claims cannot be launched now, by name.
pub(super) type Problems<'w> = BTreeMap<&'w str, LaunchProblem>;

/// All claims of one launch.
#[derive(Default)]
struct Launch<'w> {
    claims: Vec<&'w ClaimState>,
    /// Which of them the cloud may be asked to launch.
    ready: Vec<&'w ClaimState>,
    /// Of which of them an instance may exist.
    unknown: Vec<&'w ClaimState>,
    /// When the first of those that wait may be launched.
    next: Option<Timestamp>,
}

pub(super) fn decide<'w, C: Cloud>(
    world: &'w World,
    cloud: &C,
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) -> Problems<'w> {
    let mut problems = Problems::new();
    let (mut keys, mut planned) = (Vec::new(), Vec::new());
    for (token, launch) in launches(world, now) {
        let (find, buy) = (find_key(token), key(token));
        if world.flights.is_in_flight(&find) || world.flights.is_in_flight(&buy) {
            continue;
        }
        if !launch.unknown.is_empty() {
            if let Some(later) = launch.unknown.iter().map(|state| state.retry_at).max().filter(|at| *at > now) {
                decision.wake(later);
            } else if let Some(call) = cloud.find(&launch.batch(token, &launch.unknown)) {
                decision.cloud(world, now, find, call);
            }
            continue;
        }
        if let Some(next) = launch.next {
            decision.wake(next);
        }
        if launch.ready.is_empty() {
            continue;
        }
        if let Some(until) = launch.incomplete_until().filter(|until| *until > now) {
            decision.wake(until);
            continue;
        }
        if let Err(until) = world.flights.ready(&buy, now) {
            if let Some(until) = until {
                decision.wake(until);
            }
            continue;
        }
        match cloud.launch(&launch.batch(token, &launch.ready), &planned, now) {
            Ok(call) => {
                keys.push(buy);
                planned.push(call);
            }
            Err(problem) => problems.extend(launch.ready.iter().map(|state| (state.name(), problem.clone()))),
        }
    }
    for (key, call) in keys.into_iter().zip(planned) {
        decision.cloud(world, now, key, call);
    }
    problems
}

/// By token; those with nothing left to ask are left out.
fn launches(world: &World, now: Timestamp) -> BTreeMap<&str, Launch<'_>> {
    let mut open: BTreeMap<&str, Launch<'_>> = BTreeMap::new();
    for state in world.claims.values().filter(|state| state.instance().is_none()) {
        open.entry(state.launch_token()).or_default();
    }
    if open.is_empty() {
        return open;
    }
    for state in world.claims.values() {
        let Some(launch) = open.get_mut(state.launch_token()) else { continue };
        launch.claims.push(state);
        if state.instance().is_some() || !launch::is_held(state) {
            continue;
        }
        match &state.launch {
            LaunchState::Unknown => launch.unknown.push(state),
            _ if state.is_deleting() || liveness::is_overdue(state, now) => {}
            LaunchState::Absent | LaunchState::Refused(LaunchOutcome::Failed { .. }) if state.retry_at <= now => {
                launch.ready.push(state);
            }
            LaunchState::Absent | LaunchState::Refused(LaunchOutcome::Failed { .. }) => {
                launch.next = Some(launch.next.map_or(state.retry_at, |known| known.min(state.retry_at)));
            }
            LaunchState::Planned | LaunchState::Launched(_) | LaunchState::Refused(_) => {}
        }
    }
    open
}

impl<'w> Launch<'w> {
    fn batch(&self, token: &'w str, claims: &[&'w ClaimState]) -> LaunchBatch<'w> {
        let counts = |state: &&&ClaimState| state.instance().is_some() || !(state.is_deleting() || state.is_planned());
        let all = self.claims.iter().filter(counts).count();
        let attempt = claims.iter().map(|state| state.tokens_spent).max().unwrap_or(0);
        LaunchBatch {
            token,
            attempt,
            target: if attempt == 0 { all } else { claims.len() },
            claims: claims.iter().map(|state| &*state.claim).collect(),
            taken: self.claims.iter().filter_map(|state| state.instance()).map(str::to_owned).collect(),
        }
    }

    /// Until when claims are waited for that are still being created.
    fn incomplete_until(&self) -> Option<Timestamp> {
        let first = self.claims.iter().map(|state| state.since).min()?;
        let waits = self.claims.iter().any(|state| state.is_planned());
        first.checked_add(COMPLETE_WITHIN).ok().filter(|_| waits)
    }
}

/// One launch of a token at a time.
pub(super) fn key(token: &str) -> ActionKey {
    ActionKey::new(format!("Launch/{token}"), "launch")
}

fn find_key(token: &str) -> ActionKey {
    ActionKey::new(format!("Launch/{token}"), "find")
}
