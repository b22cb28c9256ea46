//! What is being done, and what failed lately: one entry per [`ActionKey`].

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::Timestamp;
use crate::action::ActionKey;
use crate::observation::Failure;

/// Back-off doubles from the first to the last, per key.
const FIRST_DELAY: SignedDuration = SignedDuration::from_millis(100);
const LAST_DELAY: SignedDuration = SignedDuration::from_secs(60);
/// Evictions that a budget blocks are asked again sooner: the eviction queue's limits upstream.
const LAST_DELAY_BLOCKED: SignedDuration = SignedDuration::from_secs(10);
/// Its answer holds no object: that the pod is leaving arrives by watch. Asked again only if it does not.
pub(crate) const EVICT: &str = "evict";
const EVICTED_SEEN: SignedDuration = SignedDuration::from_secs(2);
/// After a conflict the newer object is on its way.
const CONFLICT_DELAY: SignedDuration = SignedDuration::from_millis(50);

#[derive(Debug, Default)]
pub struct Flights(BTreeMap<ActionKey, Flight>);

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
        match self.0.get(key) {
            Some(flight) if flight.under_way => Err(None),
            Some(flight) if flight.until > now => Err(Some(flight.until)),
            _ => Ok(()),
        }
    }

    pub fn is_in_flight(&self, key: &ActionKey) -> bool {
        self.0.get(key).is_some_and(|flight| flight.under_way)
    }

    pub fn is_any_in_flight(&self, verb: &str) -> bool {
        self.0.iter().any(|(key, flight)| flight.under_way && key.verb == verb)
    }

    /// Consecutive failures of this key.
    pub fn failures(&self, key: &ActionKey) -> u32 {
        self.0.get(key).map_or(0, |flight| flight.failures)
    }

    pub(super) fn begin(&mut self, key: &ActionKey, now: Timestamp) {
        let flight = self.0.entry(key.clone()).or_insert(Flight { under_way: false, failures: 0, until: now });
        flight.under_way = true;
    }

    pub(super) fn end(&mut self, key: &ActionKey, failure: Option<&Failure>, now: Timestamp) {
        let Some(failure) = failure else {
            if key.verb == EVICT {
                let until = now.checked_add(EVICTED_SEEN).unwrap_or(now);
                self.0.insert(key.clone(), Flight { under_way: false, failures: 0, until });
            } else {
                self.0.remove(key);
            }
            return;
        };
        let flight = self.0.entry(key.clone()).or_insert(Flight { under_way: false, failures: 0, until: now });
        flight.under_way = false;
        let delay = match failure {
            Failure::Conflict(_) => CONFLICT_DELAY,
            Failure::Blocked(_) => {
                flight.failures = flight.failures.saturating_add(1);
                delay(flight.failures).min(LAST_DELAY_BLOCKED)
            }
            _ => {
                flight.failures = flight.failures.saturating_add(1);
                delay(flight.failures)
            }
        };
        flight.until = now.checked_add(delay).unwrap_or(now);
    }

    /// The subject is gone: forget its back-offs, but not what is still in flight.
    pub(super) fn forget(&mut self, subject: &str) {
        self.0.retain(|key, flight| flight.under_way || key.subject != subject);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
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
}
