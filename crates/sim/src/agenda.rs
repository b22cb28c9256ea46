//! What is going to happen, in order of time; what falls on the same moment happens in the order it was planned.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Milliseconds since the world began.
pub(crate) type Ms = i64;

pub(crate) const SECOND: Ms = 1_000;
pub(crate) const MINUTE: Ms = 60 * SECOND;
pub(crate) const HOUR: Ms = 60 * MINUTE;

#[derive(Debug)]
pub(crate) struct Agenda<T> {
    order: BinaryHeap<Reverse<(Ms, u64)>>,
    what: BTreeMap<u64, T>,
    next: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), what: BTreeMap::new(), next: 0 }
    }
}

impl<T> Agenda<T> {
    pub(crate) fn at(&mut self, when: Ms, what: T) {
        self.order.push(Reverse((when, self.next)));
        self.what.insert(self.next, what);
        self.next += 1;
    }

    /// The next thing, unless it is later than `until`.
    pub(crate) fn next(&mut self, until: Ms) -> Option<(Ms, T)> {
        let Reverse((when, _)) = *self.order.peek()?;
        if when > until {
            return None;
        }
        let Reverse((when, number)) = self.order.pop()?;
        self.what.remove(&number).map(|what| (when, what))
    }
}
