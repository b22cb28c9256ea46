//! Carries actions out and reports what happened. No choices: an action holds every detail.

mod kube;
mod rate;

use std::sync::Arc;
use std::time::Duration;

use karpenter_aws::call::Call;
use karpenter_aws_wire::Wire;
use karpenter_core::{Action, Deed, Failure};
use karpenter_driver::{CALLS_MAX, Event, WRITES_MAX};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use crate::drive::Message;

pub(crate) use self::rate::Rate;

/// The machine has no more than this under way.
const UNDER_WAY_MAX: usize = WRITES_MAX + CALLS_MAX;

/// The API server itself gives up on a request after a minute (`--request-timeout`).
const ANSWERED_WITHIN: Duration = Duration::from_secs(70);

/// Hands actions to tasks of their own.
#[derive(Clone)]
pub(crate) struct Executor {
    client: ::kube::Client,
    wire: Arc<Wire>,
    messages: Sender<Message>,
    rate: Arc<Rate>,
    under_way: Arc<Semaphore>,
}

impl Executor {
    pub(crate) fn new(client: ::kube::Client, wire: Wire, messages: Sender<Message>, rate: Rate) -> Self {
        let (wire, rate) = (Arc::new(wire), Arc::new(rate));
        Self { client, wire, messages, rate, under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)) }
    }

    /// Starts an action. Its end is told through the driver's messages, exactly once, even if its executor panics.
    pub(crate) fn start(&self, action: Action<Call>) {
        let executor = self.clone();
        let (key, is_write) = (action.key.clone(), matches!(action.deed, Deed::Kube(_)));
        tokio::spawn(async move {
            // Never closed, and large enough for all.
            let permit = executor.under_way.acquire().await;
            let own = executor.clone();
            let work = tokio::spawn(async move { own.carry_out(action).await });
            let event = work.await.unwrap_or_else(|broken| Event::Lost { key, is_write, told: broken.to_string() });
            drop(permit);
            // The driver is gone only when the process ends.
            let _ = executor.messages.send(Message::Event(event)).await;
        });
    }

    async fn carry_out(&self, action: Action<Call>) -> Event {
        let Action { key, deed, facts } = action;
        match deed {
            Deed::Kube(write) => {
                self.rate.turn().await;
                let written = tokio::time::timeout(ANSWERED_WITHIN, kube::write(&self.client, &write)).await;
                let late = |_| Err(Failure::Unknown(format!("no answer within {ANSWERED_WITHIN:?}")));
                Event::Written { outcome: written.unwrap_or_else(late), key, facts }
            }
            Deed::Cloud(call) => Event::Reported { report: Box::new(self.wire.call(call).await), key, facts },
        }
    }

    /// Waits until nothing is under way.
    pub(crate) async fn settle(&self) {
        let _ = self.under_way.acquire_many(u32::try_from(UNDER_WAY_MAX).unwrap_or(u32::MAX)).await;
    }
}
