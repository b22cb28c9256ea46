//! Calls that many wait for at once: what comes in within a short window goes out as one request.
//!
//! The first to come leads: it waits until nobody has come for a while, carries the request out for all, and hands out
//! the answers.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

/// Karpenter's windows for DescribeInstances and TerminateInstances.
const IDLE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Batcher<I, O> {
    /// Items of one request.
    items_max: usize,
    /// The window that takes items now.
    open: Mutex<Option<Arc<Window<I, O>>>>,
}

#[derive(Debug)]
struct Window<I, O> {
    content: Mutex<Content<I, O>>,
    full: Notify,
}

#[derive(Debug)]
struct Content<I, O> {
    items: Vec<(I, oneshot::Sender<O>)>,
    last: Instant,
}

impl<I, O> Batcher<I, O> {
    pub(crate) fn new(items_max: usize) -> Self {
        Self { items_max, open: Mutex::new(None) }
    }

    /// The answer to an item. `carry_out` makes one request for many items and answers each, in order; `None` if
    /// whoever carried it out did not get to its end.
    pub(crate) async fn ask<F>(&self, item: I, carry_out: impl FnOnce(Vec<I>) -> F) -> Option<O>
    where
        F: Future<Output = Vec<O>>,
    {
        let (sender, answer) = oneshot::channel();
        if let Some(window) = self.join(item, sender) {
            self.wait(&window).await;
            let (items, senders): (Vec<I>, Vec<_>) = self.close(&window).into_iter().unzip();
            for (sender, answer) in senders.into_iter().zip(carry_out(items).await) {
                // Who does not wait any more needs no answer.
                let _ = sender.send(answer);
            }
        }
        answer.await.ok()
    }

    /// The window that this item opened, if it did: the caller leads then.
    fn join(&self, item: I, sender: oneshot::Sender<O>) -> Option<Arc<Window<I, O>>> {
        let mut open = lock(&self.open);
        let now = Instant::now();
        let opened = open.is_none();
        let window = Arc::clone(open.get_or_insert_with(|| {
            Arc::new(Window { content: Mutex::new(Content { items: Vec::new(), last: now }), full: Notify::new() })
        }));
        let mut content = lock(&window.content);
        content.items.push((item, sender));
        content.last = now;
        if content.items.len() >= self.items_max {
            *open = None;
            window.full.notify_one();
        }
        drop(content);
        opened.then_some(window)
    }

    async fn wait(&self, window: &Window<I, O>) {
        let longest = Instant::now() + LONGEST;
        loop {
            let until = {
                let content = lock(&window.content);
                if content.items.len() >= self.items_max {
                    return;
                }
                longest.min(content.last + IDLE)
            };
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                () = window.full.notified() => {}
            }
        }
    }

    fn close(&self, window: &Arc<Window<I, O>>) -> Vec<(I, oneshot::Sender<O>)> {
        let mut open = lock(&self.open);
        if open.as_ref().is_some_and(|known| Arc::ptr_eq(known, window)) {
            *open = None;
        }
        std::mem::take(&mut lock(&window.content).items)
    }
}

/// A panic while it was held leaves it as whole as before: nothing in here can panic half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for the doubles of so many numbers at once; returns how many numbers each request was for.
    async fn requests(count: usize, items_max: usize) -> Vec<usize> {
        let batcher = Arc::new(Batcher::new(items_max));
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let mut all = tokio::task::JoinSet::new();
        for number in 0..count {
            let (batcher, sizes) = (Arc::clone(&batcher), Arc::clone(&sizes));
            all.spawn(async move {
                let carry_out = |all: Vec<usize>| {
                    lock(&sizes).push(all.len());
                    async move { all.into_iter().map(|one| one * 2).collect() }
                };
                (number, batcher.ask(number, carry_out).await)
            });
        }
        while let Some(done) = all.join_next().await {
            let (number, answer) = done.unwrap();
            assert_eq!(answer, Some(number * 2), "each gets its own answer");
        }
        std::mem::take(&mut lock(&sizes))
    }

    #[tokio::test]
    async fn what_comes_at_once_is_one_request_unless_it_is_too_much() {
        for (count, items_max, expected) in [(1, 500, vec![1]), (400, 500, vec![400]), (1100, 500, vec![500, 500, 100])]
        {
            assert_eq!(requests(count, items_max).await, expected);
        }
    }

    #[tokio::test]
    async fn a_request_that_does_not_come_to_its_end_is_told_to_all() {
        let batcher: Arc<Batcher<u8, u8>> = Arc::new(Batcher::new(2));
        let ask = |batcher: Arc<Batcher<u8, u8>>| async move { batcher.ask(1, |_| async { Vec::new() }).await };
        let (first, second) = tokio::join!(ask(Arc::clone(&batcher)), ask(batcher));
        assert_eq!((first, second), (None, None));
    }
}
