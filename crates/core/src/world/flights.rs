//! What is being done, and what failed lately: one entry per [`ActionKey`].

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::Timestamp;
use crate::action::{ActionKey, CREATE};
use crate::observation::Failure;

/// Back-off doubles from the first to the last, per key.
const FIRST_DELAY: SignedDuration = SignedDuration::from_millis(100);
const LAST_DELAY: SignedDuration = SignedDuration::from_secs(60);
/// Evictions, which a budget may block, are asked again sooner: the eviction queue's limits upstream.
const LAST_DELAY_LEAVING: SignedDuration = SignedDuration::from_secs(10);
/// Its answer holds no object: that the pod is leaving arrives by watch. Asked again only if it does not.
pub const EVICT: &str = "evict";
/// The deletion of a pod whose node's deadline is near.
pub const EXPEL: &str = "expel";
const EVICTED_SEEN: SignedDuration = SignedDuration::from_secs(2);
/// After a conflict the newer object is on its way.
const CONFLICT_DELAY: SignedDuration = SignedDuration::from_millis(50);
/// There was no room; nothing is wrong with the action.
const OVERLOADED_DELAY: SignedDuration = SignedDuration::from_millis(100);

/// An action that nobody has asked for again so long after it might have been is not wanted any more.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug, Default)]
pub struct Flights {
    all: BTreeMap<ActionKey, Flight>,
    /// How many of those under way ask a pod to leave.
    leaving: usize,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    under_way: bool,
    failures: u32,
    /// Not before this.
    until: Timestamp,
}

impl Flights {
    /// `Err(None)`: in flight; `Err(Some(t))`: backing off until `t`.
    pub fn ready(&self, key: &ActionKey, now: Timestamp) -> Result<(), Option<Timestamp>> {
        match self.all.get(key) {
            Some(flight) if flight.under_way => Err(None),
            Some(flight) if flight.until > now => Err(Some(flight.until)),
            _ => Ok(()),
        }
    }

    /// Since when nothing holds the action back, as [`Flights::ready`] says it.
    pub fn due(&self, key: &ActionKey, now: Timestamp) -> Result<Timestamp, Option<Timestamp>> {
        self.ready(key, now).map(|()| self.all.get(key).map_or(Timestamp::MIN, |flight| flight.until))
    }

    pub fn is_in_flight(&self, key: &ActionKey) -> bool {
        self.all.get(key).is_some_and(|flight| flight.under_way)
    }

    /// Consecutive failures of this key.
    pub fn failures(&self, key: &ActionKey) -> u32 {
        self.all.get(key).map_or(0, |flight| flight.failures)
    }

    /// How many pods are being asked to leave, or are being deleted, at this moment.
    pub fn leaving(&self) -> usize {
        self.leaving
    }

    pub(super) fn begin(&mut self, key: &ActionKey, now: Timestamp) {
        let flight = self.all.entry(key.clone()).or_insert(Flight { under_way: false, failures: 0, until: now });
        if asks_to_leave(key) && !flight.under_way {
            self.leaving += 1;
        }
        flight.under_way = true;
    }

    pub(super) fn end(&mut self, key: &ActionKey, failure: Option<&Failure>, now: Timestamp) {
        if asks_to_leave(key) && self.is_in_flight(key) {
            self.leaving = self.leaving.saturating_sub(1);
        }
        let Some(failure) = failure else {
            if asks_to_leave(key) {
                let until = now.checked_add(EVICTED_SEEN).unwrap_or(now);
                self.all.insert(key.clone(), Flight { under_way: false, failures: 0, until });
            } else {
                self.all.remove(key);
            }
            return;
        };
        let flight = self.all.entry(key.clone()).or_insert(Flight { under_way: false, failures: 0, until: now });
        flight.under_way = false;
        let delay = match failure {
            // (What cannot be created because it is there already is on its way without being asked for again.)
            Failure::Conflict(_) if key.verb != CREATE => CONFLICT_DELAY,
            Failure::Overloaded => OVERLOADED_DELAY,
            _ => {
                flight.failures = flight.failures.saturating_add(1);
                delay(flight.failures).min(if asks_to_leave(key) { LAST_DELAY_LEAVING } else { LAST_DELAY })
            }
        };
        flight.until = now.checked_add(delay).unwrap_or(now);
    }

    /// The subject is gone: forget its back-offs, but not what is still in flight.
    pub(super) fn forget(&mut self, subject: &str) {
        let from = ActionKey::new(subject, "");
        let of_subject = self.all.range(from..).take_while(|(key, _)| key.subject == subject);
        let idle: Vec<ActionKey> =
            of_subject.filter(|(_, flight)| !flight.under_way).map(|(key, _)| key.clone()).collect();
        for key in idle {
            self.all.remove(&key);
        }
    }

    /// What nobody has tried again for long after it might have been is over: its subject is gone, or needs it no more.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let is_over = |flight: &Flight| flight.until.checked_add(FORGOTTEN_AFTER).is_ok_and(|at| at <= now);
        self.all.retain(|_, flight| flight.under_way || !is_over(flight));
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn asks_to_leave(key: &ActionKey) -> bool {
    matches!(key.verb, EVICT | EXPEL)
}

fn delay(failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(LAST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_and_is_capped() {
        assert_eq!(delay(1), SignedDuration::from_millis(100));
        assert_eq!(delay(2), SignedDuration::from_millis(200));
        assert_eq!(delay(30), LAST_DELAY);
    }

    #[test]
    fn what_is_there_already_is_created_less_and_less_often() {
        let key = ActionKey::new("NodeClaim/a", CREATE);
        let mut now = Timestamp::UNIX_EPOCH;
        let mut flights = Flights::default();
        for delay in [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4] {
            flights.begin(&key, now);
            flights.end(&key, Some(&Failure::Conflict(String::new())), now);
            assert_eq!(flights.ready(&key, now), Err(Some(now + delay)));
            now += delay;
        }
    }

    #[test]
    fn one_action_per_key_is_in_flight_and_a_failure_delays_the_next() {
        let key = ActionKey::new("NodeClaim/a", "launch");
        let now = Timestamp::UNIX_EPOCH;
        let mut flights = Flights::default();
        assert_eq!(flights.ready(&key, now), Ok(()));
        flights.begin(&key, now);
        assert_eq!(flights.ready(&key, now), Err(None));
        flights.end(&key, Some(&Failure::Unknown(String::new())), now);
        let until = now + FIRST_DELAY;
        assert_eq!(flights.ready(&key, now), Err(Some(until)));
        assert_eq!(flights.ready(&key, until), Ok(()));
    }

    #[test]
    fn those_that_ask_pods_to_leave_are_counted_and_a_subject_is_forgotten_alone() {
        let now = Timestamp::UNIX_EPOCH;
        let evict = |name: &str| ActionKey::new(format!("Pod/{name}"), EVICT);
        let mut flights = Flights::default();
        for key in [evict("a"), evict("a"), evict("ab"), ActionKey::new("Pod/a", EXPEL), ActionKey::new("Node/a", "x")]
        {
            flights.begin(&key, now);
        }
        assert_eq!(flights.leaving(), 3);
        flights.end(&evict("a"), None, now);
        flights.end(&evict("a"), None, now);
        flights.end(&evict("ab"), Some(&Failure::Blocked(String::new())), now);
        assert_eq!(flights.leaving(), 1);
        flights.forget("Pod/a");
        assert_eq!(flights.ready(&evict("a"), now), Ok(()));
        assert!(flights.is_in_flight(&ActionKey::new("Pod/a", EXPEL)), "its end is still to come");
        assert_eq!(flights.failures(&evict("ab")), 1);
    }

    #[test]
    fn no_room_is_no_failure() {
        let key = ActionKey::new("NodeClaim/a", "write");
        let now = Timestamp::UNIX_EPOCH;
        let mut flights = Flights::default();
        for _ in 0..10 {
            flights.begin(&key, now);
            flights.end(&key, Some(&Failure::Overloaded), now);
        }
        assert_eq!((flights.failures(&key), flights.ready(&key, now + OVERLOADED_DELAY)), (0, Ok(())));
    }

    #[test]
    fn what_nobody_wants_any_more_is_swept_and_what_is_under_way_stays() {
        let (gone, under_way) = (ActionKey::new("Node/a", "taint"), ActionKey::new("Node/b", "taint"));
        let now = Timestamp::UNIX_EPOCH;
        let mut flights = Flights::default();
        flights.begin(&gone, now);
        flights.end(&gone, Some(&Failure::NotFound("a".into())), now);
        flights.begin(&under_way, now);
        flights.sweep(now + FORGOTTEN_AFTER);
        assert_eq!(flights.len(), 2, "it may still be asked for again");
        flights.sweep(now + FORGOTTEN_AFTER + FIRST_DELAY);
        assert_eq!((flights.len(), flights.is_in_flight(&under_way)), (1, true));
    }
}
