//! The batch window of pending pods, as data: when to solve next.

use jiff::SignedDuration;

use crate::{Settings, Timestamp};

/// Pods that wait are looked at again after this long even if nothing was observed.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(10);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// First trigger of the open window.
    opened: Option<Timestamp>,
    /// Latest trigger of the open window.
    triggered: Option<Timestamp>,
    /// When to look again at pods that wait.
    retry_at: Option<Timestamp>,
}

impl Batch {
    /// A pod became pending.
    pub(super) fn trigger(&mut self, now: Timestamp) {
        self.opened.get_or_insert(now);
        self.triggered = Some(now);
    }

    /// Something changed that may let unschedulable pods be placed; opens a window only if some wait.
    pub(super) fn retry(&mut self, now: Timestamp) {
        if self.retry_at.is_some() && self.opened.is_none() {
            self.opened = Some(now);
            self.triggered = Some(now);
        }
    }

    /// A round was solved.
    pub(super) fn close(&mut self, now: Timestamp, some_wait: bool) {
        *self = Self::default();
        if some_wait {
            self.retry_at = now.checked_add(RETRY_AFTER).ok();
        }
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
        batch.close(at(0), true);
        assert_eq!(batch.due_at(&Settings::default()), Some(at(10_000)));
        batch.retry(at(2_000));
        assert_eq!(batch.due_at(&Settings::default()), Some(at(3_000)));
    }
}
