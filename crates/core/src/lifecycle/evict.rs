//! The eviction queue of all drains: who has waited longest is asked first, and so many at once.
//!
//! It is rebuilt at every look from what is observed; what each pod waits for (a budget's back-off, an answer) is kept by
//! [`crate::world::Flights`]. So it is bounded by the pods there are, and no pod is in it twice.

use super::{deadline, drain};
use crate::action::{ActionKey, KubeWrite, ObjectRef, WriteKind};
use crate::world::{EVICT, EXPEL, NodeState, PodState};
use crate::{Decision, Fact, Timestamp, World};

/// Pods asked to leave at once. The client's rate decides how fast; the rest of its room is for other writes.
pub const AT_ONCE: usize = 128;

/// A pod whose turn it is.
#[derive(Clone, Copy)]
pub(super) struct Leaver<'w> {
    pub(super) pod: &'w PodState,
    pub(super) node: &'w NodeState,
    /// Which of the queue's reasons it is told.
    pub(super) reason: usize,
    /// It does not end in time by itself: it is deleted, with what is left as its grace period.
    pub(super) deadline: Option<Timestamp>,
}

#[derive(Default)]
pub(super) struct Queue<'w> {
    leavers: Vec<Leaver<'w>>,
    reasons: Vec<String>,
    facts: Vec<Fact>,
    wake_at: Option<Timestamp>,
}

impl<'w> Queue<'w> {
    pub(super) fn reason(&mut self, reason: String) -> usize {
        if let Some(known) = self.reasons.iter().position(|known| *known == reason) {
            return known;
        }
        self.reasons.push(reason);
        self.reasons.len() - 1
    }

    pub(super) fn push(&mut self, leaver: Leaver<'w>) {
        self.leavers.push(leaver);
    }

    pub(super) fn fact(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    pub(super) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    /// Asks as many as there is room for. Deadlines do not wait; then who has waited longest.
    pub(super) fn ask<C>(self, world: &World, now: Timestamp, decision: &mut Decision<C>) {
        decision.facts.extend(self.facts);
        if let Some(at) = self.wake_at {
            decision.wake(at.max(now));
        }
        let room = AT_ONCE.saturating_sub(world.flights.leaving());
        if room == 0 {
            // The answer to one that is under way brings us back.
            return;
        }
        let (late, in_time): (Vec<_>, Vec<_>) = self.leavers.into_iter().partition(|leaver| leaver.deadline.is_some());
        let mut ready: Vec<(bool, Timestamp, ActionKey, Leaver<'_>)> = Vec::new();
        let mut never_asked = 0;
        for leaver in late.into_iter().chain(in_time) {
            let key = key(&leaver);
            match world.flights.due(&key, now) {
                Ok(since) => {
                    never_asked += usize::from(since == Timestamp::MIN);
                    ready.push((leaver.deadline.is_none(), since, key, leaver));
                }
                Err(Some(until)) => decision.wake(until),
                Err(None) => {}
            }
            if never_asked == room {
                // Nobody has waited longer than who was never asked.
                break;
            }
        }
        ready.sort_by_key(|(in_time, since, ..)| (*in_time, *since));
        for (_, _, key, leaver) in ready.into_iter().take(room) {
            let (write, told) = asked(&leaver, &self.reasons, now);
            decision.kube_then(world, now, key, write, vec![told]);
        }
    }
}

fn key(leaver: &Leaver<'_>) -> ActionKey {
    let verb = if leaver.deadline.is_some() { EXPEL } else { EVICT };
    ActionKey::new(format!("Pod/{}", leaver.pod.key), verb)
}

fn asked(leaver: &Leaver<'_>, reasons: &[String], now: Timestamp) -> (KubeWrite, Fact) {
    let pod = drain::about_pod(leaver.pod);
    let object = ObjectRef {
        kind: WriteKind::Pod,
        namespace: Some(pod.namespace.clone()),
        name: pod.name.clone(),
        uid: Some(pod.uid.clone()),
    };
    let node = leaver.node.name().to_owned();
    let reason = reasons.get(leaver.reason).cloned().unwrap_or_default();
    match leaver.deadline {
        None => (KubeWrite::Evict { object }, Fact::PodEvicted { pod, node, reason }),
        Some(deadline) => {
            let grace = u32::try_from(deadline::remaining(deadline, now).as_secs()).unwrap_or(1);
            let write = KubeWrite::Delete { object, grace_period_seconds: Some(grace) };
            (write, Fact::PodExpelled { pod, node, reason, deadline })
        }
    }
}
