//! The batch window of pending pods, as data: when to solve next.

use jiff::SignedDuration;

use crate::{Settings, Timestamp};

/// Pods that wait are looked at again after this long even if nothing was observed.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// And a round is solved for them: their events tell why they wait, and are kept for an hour.
const SOLVE_AGAIN: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// First trigger of the open window.
    opened: Option<Timestamp>,
    /// Latest trigger of the open window.
    triggered: Option<Timestamp>,
    /// When to look again at pods that wait.
    retry_at: Option<Timestamp>,
    /// Something was observed since the latest round that may let it come out otherwise.
    changed: bool,
    /// When the latest round was solved, and the cloud's version then.
    solved: Option<(Timestamp, u64)>,
}

impl Batch {
    /// A pod became pending.
    pub(super) fn trigger(&mut self, now: Timestamp) {
        self.changed = true;
        self.opened.get_or_insert(now);
        self.triggered = Some(now);
    }

    /// Something changed that may let unschedulable pods be placed; opens a window only if some wait.
    pub(super) fn retry(&mut self, now: Timestamp) {
        self.changed = true;
        if self.retry_at.is_some() && self.opened.is_none() {
            self.opened = Some(now);
            self.triggered = Some(now);
        }
    }

    /// Something changed that is worth a look when pods that wait are looked at anyway.
    pub(super) fn stir(&mut self) {
        self.changed = true;
    }

    /// A round was solved with the cloud at this version, or would have come out as the one before.
    pub(super) fn close(&mut self, now: Timestamp, some_wait: bool, version: Option<u64>) {
        let solved = version.map_or(self.solved, |version| Some((now, version)));
        *self = Self { solved, ..Self::default() };
        if some_wait {
            self.retry_at = now.checked_add(RETRY_AFTER).ok();
        }
    }

    /// Whether a round for pods that the latest one had no place for would have none either.
    pub fn is_unchanged(&self, version: u64, now: Timestamp) -> bool {
        !self.changed
            && self.solved.is_some_and(|(at, then)| {
                then == version && at <= now && at.checked_add(SOLVE_AGAIN).is_ok_and(|again| now < again)
            })
    }

    /// When the next round is due; `None` while nothing waits.
    pub fn due_at(&self, settings: &Settings) -> Option<Timestamp> {
        let window = match (self.opened, self.triggered) {
            (Some(opened), Some(triggered)) => {
                let idle = triggered.checked_add(settings.batch_idle).ok();
                let max = opened.checked_add(settings.batch_max).ok();
                idle.into_iter().chain(max).min()
            }
            _ => None,
        };
        window.into_iter().chain(self.retry_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_millis(millis)
    }

    #[test]
    fn a_window_ends_one_idle_second_after_the_last_pod() {
        let mut batch = Batch::default();
        batch.trigger(at(0));
        batch.trigger(at(700));
        assert_eq!(batch.due_at(&Settings::default()), Some(at(1_700)));
    }

    #[test]
    fn a_window_never_stays_open_longer_than_the_maximum() {
        let mut batch = Batch::default();
        for n in 0..30 {
            batch.trigger(at(n * 500));
        }
        assert_eq!(batch.due_at(&Settings::default()), Some(at(10_000)));
    }

    #[test]
    fn pods_without_a_place_are_tried_again_after_ten_seconds_or_when_something_changes() {
        let mut batch = Batch::default();
        batch.retry(at(0));
        assert_eq!(batch.due_at(&Settings::default()), None, "nothing waits");
        batch.close(at(0), true, Some(1));
        assert_eq!(batch.due_at(&Settings::default()), Some(at(10_000)));
        batch.retry(at(2_000));
        assert_eq!(batch.due_at(&Settings::default()), Some(at(3_000)));
    }
    #[test]
    fn a_round_is_solved_again_when_something_changed_or_after_five_minutes() {
        let mut batch = Batch::default();
        assert!(!batch.is_unchanged(1, at(0)), "none was solved");
        batch.close(at(0), true, Some(1));
        assert!(batch.is_unchanged(1, at(10_000)));
        assert!(!batch.is_unchanged(2, at(10_000)), "the cloud has changed");
        assert!(!batch.is_unchanged(1, at(-1)), "the clock was put back");
        batch.close(at(10_000), true, None);
        assert!(batch.is_unchanged(1, at(299_999)));
        assert!(!batch.is_unchanged(1, at(300_000)));
        batch.stir();
        assert!(!batch.is_unchanged(1, at(20_000)));
        assert_eq!(batch.due_at(&Settings::default()), Some(at(20_000)), "no window is opened");
    }
}
