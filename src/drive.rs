//! The loop: one closed [`Event`] enum → apply → decide → dispatch. The only writer of the model.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use karpenter_api::Ec2NodeClass;
use karpenter_aws::report::Report;
use karpenter_aws::{Aws, KubernetesFacts};
use karpenter_core::{ActionKey, Fact, Failure, Observation, Settings, World, decide};
use tokio::sync::mpsc::Receiver;

use crate::act::{Executor, Written};
use crate::serve::Health;
use crate::telemetry::Telemetry;

/// Everything that can happen to the driver.
#[derive(Debug)]
pub(crate) enum Event {
    Observed(Observation),
    NodeClassApplied(Box<Ec2NodeClass>),
    NodeClassDeleted(String),
    /// What the API server tells of the cluster itself.
    KubernetesSeen(KubernetesFacts),
    /// A write to the API server ended.
    Written {
        key: ActionKey,
        /// Told if it succeeded.
        facts: Vec<Fact>,
        outcome: Result<Written, Failure>,
    },
    /// A call to AWS ended.
    Reported {
        key: ActionKey,
        facts: Vec<Fact>,
        report: Box<Report>,
    },
    Stop,
}

/// Events taken in before the next decision: enough to fold a burst, little enough to stay prompt.
const BURST_MAX: usize = 4096;
/// A turn that takes longer is worth a line in the log.
const SLOW_TURN: Duration = Duration::from_millis(500);
/// The driver looks at the world this often even if nothing happens.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) struct Driver {
    pub(crate) world: World,
    pub(crate) aws: Aws,
    pub(crate) settings: Settings,
    pub(crate) executor: Executor,
    pub(crate) telemetry: Telemetry,
    pub(crate) health: Health,
}

impl Driver {
    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut events: Receiver<Event>) {
        let mut wake = tokio::time::Instant::now();
        loop {
            let event = tokio::select! {
                event = events.recv() => match event {
                    None | Some(Event::Stop) => break,
                    event => event,
                },
                () = tokio::time::sleep_until(wake) => None,
            };
            let began = Instant::now();
            let now = Timestamp::now();
            let mut stop = false;
            for event in event.into_iter().chain(std::iter::from_fn(|| events.try_recv().ok())).take(BURST_MAX) {
                match event {
                    Event::Stop => stop = true,
                    event => self.apply(event, now),
                }
            }
            if stop {
                break;
            }
            wake = tokio::time::Instant::now() + self.turn(now).min(IDLE);
            let took = began.elapsed();
            self.telemetry.turn(took);
            if took > SLOW_TURN {
                tracing::warn!(?took, pods = self.world.pods.len(), "slow turn");
            }
        }
        self.executor.settle().await;
    }

    fn apply(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Observed(observation) => self.world.apply(observation, now),
            Event::NodeClassApplied(class) => {
                for observation in self.aws.node_class_applied(*class, now) {
                    self.world.apply(observation, now);
                }
            }
            Event::NodeClassDeleted(name) => self.aws.node_class_deleted(&name),
            Event::KubernetesSeen(facts) => self.aws.kubernetes_seen(facts),
            Event::Written { key, facts, outcome } => self.written(key, &facts, outcome, now),
            Event::Reported { key, facts, report } => {
                let failure = report.error().map(|error| {
                    let text = error.to_string();
                    if error.uncertain { Failure::Unknown(text) } else { Failure::Refused(text) }
                });
                for observation in self.aws.apply(*report, now) {
                    self.world.apply(observation, now);
                }
                self.done(key, &facts, failure.map_or(Ok(None), Err), now);
            }
            Event::Stop => {}
        }
    }

    fn written(&mut self, key: ActionKey, facts: &[Fact], outcome: Result<Written, Failure>, now: Timestamp) {
        let outcome = match outcome {
            Ok(Written::Object(object)) => Ok(Some(Box::new(object))),
            Ok(Written::NodeClass(class)) => {
                for observation in self.aws.node_class_written(*class, now) {
                    self.world.apply(observation, now);
                }
                Ok(None)
            }
            Ok(Written::Nothing) => Ok(None),
            Err(failure) => Err(failure),
        };
        self.done(key, facts, outcome, now);
    }

    fn done(
        &mut self,
        key: ActionKey,
        facts: &[Fact],
        outcome: Result<Option<Box<karpenter_core::Object>>, Failure>,
        now: Timestamp,
    ) {
        if outcome.is_ok() {
            for fact in facts {
                self.telemetry.tell(fact);
            }
        }
        let failure = outcome.as_ref().err().map(ToString::to_string);
        // Somebody else wrote first, or a budget holds: daily bread, not news.
        let quiet = matches!(outcome, Err(Failure::Conflict(_) | Failure::Blocked(_) | Failure::Overloaded));
        let action = key.to_string();
        self.world.apply(Observation::Done { key: key.clone(), outcome }, now);
        if let Some(failure) = failure.filter(|_| !quiet) {
            let failures = self.world.flights.failures(&key);
            self.telemetry.tell(&Fact::ActionFailed { action, failure, failures });
        }
    }

    /// Decides and dispatches; returns how long nothing is due.
    fn turn(&mut self, now: Timestamp) -> Duration {
        let catalogue = self.aws.tick(&self.world, now);
        self.telemetry.catalogue(&self.aws, !catalogue.is_empty());
        for observation in catalogue {
            self.world.apply(observation, now);
        }
        let mut decision = decide(&self.world, &self.aws, &self.settings, now);
        decision.merge(self.aws.decide(&self.world, now));
        for observation in decision.learned {
            self.world.apply(observation, now);
        }
        for action in decision.actions {
            // Two rooms may have asked for the same thing in this turn.
            if self.world.flights.ready(&action.key, now).is_err() {
                continue;
            }
            self.world.begin(&action.key, now);
            tracing::debug!(action = %action.key, "dispatch");
            if let Err(refused) = self.executor.start(action) {
                self.apply(refused, now);
            }
        }
        for fact in &decision.facts {
            self.telemetry.tell(fact);
        }
        self.telemetry.state(&self.world);
        self.health.update(&self.world, self.aws.is_ready());

        decision.wake_at.map_or(IDLE, |at| {
            // Never sooner than this: whatever is due, a turn costs something.
            Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(10))
        })
    }
}
