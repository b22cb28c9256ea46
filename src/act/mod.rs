//! Carries actions out and reports what happened. No choices: an action holds every detail.

mod kube;
mod rate;

use karpenter_aws::call::Call;
use karpenter_aws_wire::Wire;
use karpenter_core::{Action, Deed, Failure};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use crate::drive::Event;

pub(crate) use self::kube::Written;
pub(crate) use self::rate::Rate;

/// Writes to the API server at once; beyond that they are refused and decided again.
const WRITES_MAX: usize = 256;
/// Calls to AWS at once; the wire crate limits effects further.
const CALLS_MAX: usize = 256;

/// Hands actions to tasks of their own.
#[derive(Clone)]
pub(crate) struct Executor {
    client: ::kube::Client,
    wire: Arc<Wire>,
    events: Sender<Event>,
    writes: Arc<Semaphore>,
    rate: Arc<Rate>,
    calls: Arc<Semaphore>,
}

impl Executor {
    pub(crate) fn new(client: ::kube::Client, wire: Wire, events: Sender<Event>, rate: Rate) -> Self {
        let (writes, calls) = (Semaphore::new(WRITES_MAX), Semaphore::new(CALLS_MAX));
        let (wire, rate) = (Arc::new(wire), Arc::new(rate));
        Self { client, wire, events, writes: Arc::new(writes), rate, calls: Arc::new(calls) }
    }

    /// Starts an action. Its end is told through the driver's events, exactly once; an action that
    /// finds no room is handed back at once.
    pub(crate) fn start(&self, action: Action<Call>) -> Result<(), Event> {
        let room = match &action.deed {
            Deed::Kube(_) => &self.writes,
            Deed::Cloud(_) => &self.calls,
        };
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
            return Err(Event::Written { key: action.key, facts: Vec::new(), outcome: Err(Failure::Overloaded) });
        };
        let executor = self.clone();
        tokio::spawn(async move {
            let (key, facts) = (action.key, action.facts);
            let event = match action.deed {
                Deed::Kube(write) => {
                    executor.rate.turn().await;
                    Event::Written { outcome: kube::write(&executor.client, &write).await, key, facts }
                }
                Deed::Cloud(call) => Event::Reported { report: Box::new(executor.wire.call(call).await), key, facts },
            };
            drop(permit);
            // The driver is gone only when the process ends.
            let _ = executor.events.send(event).await;
        });
        Ok(())
    }

    /// Waits until nothing is under way.
    pub(crate) async fn settle(&self) {
        let all = |max: usize| u32::try_from(max).unwrap_or(u32::MAX);
        let _ = self.writes.acquire_many(all(WRITES_MAX)).await;
        let _ = self.calls.acquire_many(all(CALLS_MAX)).await;
    }
}
