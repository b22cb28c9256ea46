//! Carries actions out and reports what happened. No choices: an action holds every detail.

mod kube;

use karpenter_aws::call::Call;
use karpenter_aws_wire::Wire;
use karpenter_core::{Action, Deed, Failure};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use crate::drive::Event;

pub(crate) use self::kube::Written;

/// Actions accepted at once; beyond that they are refused and decided again.
const ACCEPTED_MAX: usize = 4096;
/// Of these, writes under way; the others wait for their turn.
const WRITES_MAX: usize = 256;

/// Hands actions to tasks of their own.
#[derive(Clone)]
pub(crate) struct Executor {
    client: ::kube::Client,
    wire: Arc<Wire>,
    events: Sender<Event>,
    accepted: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Executor {
    pub(crate) fn new(client: ::kube::Client, wire: Wire, events: Sender<Event>) -> Self {
        let (accepted, writes) = (Semaphore::new(ACCEPTED_MAX), Semaphore::new(WRITES_MAX));
        Self { client, wire: Arc::new(wire), events, accepted: Arc::new(accepted), writes: Arc::new(writes) }
    }

    /// Starts an action. Its end is told through the driver's events, exactly once, even if its executor panics; an
    /// action that finds no room is handed back at once.
    pub(crate) fn start(&self, action: Action<Call>) -> Result<(), Event> {
        let Ok(permit) = Arc::clone(&self.accepted).try_acquire_owned() else {
            return Err(Event::Written { key: action.key, facts: Vec::new(), outcome: Err(Failure::Overloaded) });
        };
        let executor = self.clone();
        let events = self.events.clone();
        let key = action.key.clone();
        let work = tokio::spawn(async move { executor.carry_out(action).await });
        tokio::spawn(async move {
            let event = work.await.unwrap_or_else(|ended| {
                // What it had done by then, nobody knows.
                let failure = Failure::Unknown(format!("the executor ended early: {ended}"));
                Event::Written { key, facts: Vec::new(), outcome: Err(failure) }
            });
            drop(permit);
            // The driver is gone only when the process ends.
            let _ = events.send(event).await;
        });
        Ok(())
    }

    /// The AWS crate limits its effects itself.
    async fn carry_out(&self, action: Action<Call>) -> Event {
        let Action { key, deed, facts } = action;
        match deed {
            Deed::Kube(write) => {
                let _turn = self.writes.acquire().await;
                Event::Written { outcome: kube::write(&self.client, &write).await, key, facts }
            }
            Deed::Cloud(call) => Event::Reported { report: Box::new(self.wire.call(call).await), key, facts },
        }
    }

    /// Waits until nothing is under way.
    pub(crate) async fn settle(&self) {
        let _ = self.accepted.acquire_many(u32::try_from(ACCEPTED_MAX).unwrap_or(u32::MAX)).await;
    }
}
