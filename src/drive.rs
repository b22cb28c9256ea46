//! The loop around the [`Machine`]: events in, actions out, facts told. The only owner of the model.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use karpenter_aws::call::Call;
use karpenter_core::Deed;
use karpenter_driver::{Event, Machine};
use tokio::sync::mpsc::Receiver;

use crate::act::Executor;
use crate::serve::Health;
use crate::telemetry::Telemetry;

/// What reaches the loop.
#[derive(Debug)]
pub(crate) enum Message {
    Event(Event),
    Stop,
}

/// Events taken in before the next decision: enough to fold a burst, little enough to stay prompt.
const BURST_MAX: usize = 4096;
/// A turn that takes longer is worth a line in the log.
const SLOW_TURN: Duration = Duration::from_millis(500);
/// The driver looks at the world this often even if nothing happens.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) struct Driver {
    pub(crate) machine: Machine,
    pub(crate) executor: Executor,
    pub(crate) telemetry: Telemetry,
    pub(crate) health: Health,
}

impl Driver {
    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut messages: Receiver<Message>) {
        let mut wake = tokio::time::Instant::now();
        loop {
            let message = tokio::select! {
                message = messages.recv() => match message {
                    None | Some(Message::Stop) => break,
                    message => message,
                },
                () = tokio::time::sleep_until(wake) => None,
            };
            let began = Instant::now();
            let now = Timestamp::now();
            let mut stop = false;
            let burst = message.into_iter().chain(std::iter::from_fn(|| messages.try_recv().ok())).take(BURST_MAX);
            for message in burst {
                match message {
                    Message::Stop => stop = true,
                    Message::Event(event) => {
                        for fact in self.machine.apply(event, now) {
                            self.telemetry.tell(&fact);
                        }
                    }
                }
            }
            if stop {
                break;
            }
            wake = tokio::time::Instant::now() + self.turn(now).min(IDLE);
            let took = began.elapsed();
            self.telemetry.turn(took);
            if took > SLOW_TURN {
                tracing::warn!(?took, pods = self.machine.world().pods.len(), "slow turn");
            }
        }
        self.executor.settle().await;
    }

    /// Decides and dispatches; returns how long nothing is due.
    fn turn(&mut self, now: Timestamp) -> Duration {
        let window = self.machine.window_ends().filter(|end| *end <= now);
        let turn = self.machine.turn(now);
        if let Some(end) = window {
            let late = Timestamp::now().duration_since(end);
            tracing::debug!(window_ended = %end, ?late, actions = turn.actions.len(), "round");
        }
        self.telemetry.catalogue(self.machine.aws());
        for action in turn.actions {
            tracing::debug!(action = %action.key, "dispatch");
            if let Deed::Cloud(Call::Launch(launch)) = &action.deed
                && let Some(types) = launch.knowledge.few_types
            {
                let class = &launch.knowledge.class;
                tracing::warn!(ec2nodeclass = class, types, "few instance types for on-demand, at least 5 are wise");
            }
            self.executor.start(action);
        }
        for fact in &turn.facts {
            self.telemetry.tell(fact);
        }
        self.telemetry.state(self.machine.world());
        self.health.update(self.machine.world(), self.machine.aws().is_ready());
        turn.wake.map_or(IDLE, |at| {
            // Never sooner than this: whatever is due, a turn costs something.
            Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(10))
        })
    }
}
