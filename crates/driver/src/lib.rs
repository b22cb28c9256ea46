//! The loop without its I/O.
//!
//! ```text
//! Event ─▶ Machine::apply ─▶ World, Aws
//!                              │
//! Machine::turn(now) ─▶ tick · decide · learn · begin ─▶ Turn { actions, facts, wake }
//!    ▲                                                       │
//!    └──── Written, Reported: each action ends exactly once ◀┘
//! ```
//!
//! Whoever owns a [`Machine`] (the binary, or the simulated world) carries the actions out, tells facts and comes back no
//! later than `wake`. Which actions are under way, how many may be, and when a failed one is tried again is decided here
//! and in the World, so that a simulation meets the very code that production runs.

use jiff::Timestamp;
use karpenter_api::Ec2NodeClass;
use karpenter_aws::call::Call;
use karpenter_aws::report::Report;
use karpenter_aws::{Aws, KubernetesFacts};
use karpenter_core::world::EVICT;
use karpenter_core::{Action, ActionKey, Deed, Fact, Failure, Kind, Object, Observation, Settings, World, decide};

/// Writes to the API server at once; beyond that they are refused and decided again.
pub const WRITES_MAX: usize = 256;
/// Calls to AWS at once; the wire crate joins those that can be one, and limits effects further.
pub const CALLS_MAX: usize = 1024;

/// Everything that can happen to the machine.
#[derive(Debug)]
pub enum Event {
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
    /// Whoever carried an action out broke down: nobody knows what became of it.
    Lost {
        key: ActionKey,
        is_write: bool,
        told: String,
    },
}

/// What a write returned.
#[derive(Debug)]
pub enum Written {
    Object(Object),
    NodeClass(Box<Ec2NodeClass>),
    Nothing,
}

/// What is to be done now.
#[derive(Debug)]
#[must_use = "actions that are not carried out never end"]
pub struct Turn {
    /// Each is under way from now on, and its end must be told.
    pub actions: Vec<Action<Call>>,
    pub facts: Vec<Fact>,
    /// When to look again even if nothing happens.
    pub wake: Option<Timestamp>,
}

/// The model and its only writer.
#[derive(Debug)]
pub struct Machine {
    world: World,
    aws: Aws,
    settings: Settings,
    writes: usize,
    calls: usize,
}

impl Machine {
    /// Nothing is known; everything arrives as an event.
    pub fn new(settings: Settings, aws: Aws) -> Self {
        Self { world: World::new(&settings), aws, settings, writes: 0, calls: 0 }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn aws(&self) -> &Aws {
        &self.aws
    }

    /// When the batch window of pending pods ends; `None` while nothing waits.
    pub fn window_ends(&self) -> Option<Timestamp> {
        self.world.batch.due_at(&self.settings)
    }

    /// Takes in what happened; returns what is to be told of it.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Vec<Fact> {
        match event {
            Event::Observed(observation) => {
                if let Observation::Listed { kind: Kind::NodeClass, names } = &observation {
                    self.aws.node_classes_listed(names);
                }
                self.world.apply(observation, now);
                Vec::new()
            }
            Event::NodeClassApplied(class) => {
                let learned = self.aws.node_class_applied(*class, now);
                self.learn(learned, now);
                Vec::new()
            }
            Event::NodeClassDeleted(name) => {
                self.aws.node_class_deleted(&name);
                Vec::new()
            }
            Event::Lost { key, is_write, told } => {
                let under_way = if is_write { &mut self.writes } else { &mut self.calls };
                *under_way = under_way.saturating_sub(1);
                self.done(key, Vec::new(), Err(Failure::Unknown(told)), now)
            }
            Event::KubernetesSeen(facts) => {
                self.aws.kubernetes_seen(facts);
                Vec::new()
            }
            Event::Written { key, facts, outcome } => {
                self.writes = self.writes.saturating_sub(1);
                self.written(key, facts, outcome, now)
            }
            Event::Reported { key, facts, report } => {
                self.calls = self.calls.saturating_sub(1);
                let failure = report.error().map(|error| {
                    let text = error.to_string();
                    if error.uncertain { Failure::Unknown(text) } else { Failure::Refused(text) }
                });
                let learned = self.aws.apply(*report, now);
                self.learn(learned, now);
                self.done(key, facts, failure.map_or(Ok(None), Err), now)
            }
        }
    }

    /// Decides. Of two rooms that ask for the same thing in one turn the first is heard; what finds no room is told as
    /// failed at once and decided again.
    pub fn turn(&mut self, now: Timestamp) -> Turn {
        let learned = self.aws.tick(&self.world, now);
        self.learn(learned, now);
        let mut decision = decide(&self.world, &self.aws, &self.settings, now);
        decision.merge(self.aws.decide(&self.world, now));
        self.learn(decision.learned, now);
        let mut turn = Turn { actions: Vec::new(), facts: decision.facts, wake: decision.wake_at };
        for action in decision.actions {
            if self.world.flights.ready(&action.key, now).is_err() {
                continue;
            }
            self.world.begin(&action.key, now);
            let (under_way, max) = match &action.deed {
                Deed::Kube(_) => (&mut self.writes, WRITES_MAX),
                Deed::Cloud(_) => (&mut self.calls, CALLS_MAX),
            };
            if *under_way < max {
                *under_way += 1;
                if let Deed::Cloud(call) = &action.deed {
                    self.aws.begin(call, now);
                }
                turn.actions.push(action);
            } else {
                turn.facts.extend(self.done(action.key.clone(), Vec::new(), Err(Failure::Overloaded), now));
                if let Err(Some(until)) = self.world.flights.ready(&action.key, now) {
                    turn.wake = Some(turn.wake.map_or(until, |known| known.min(until)));
                }
            }
        }
        turn
    }

    /// Looks at everything anew, after a turn: what is still to be done then was overlooked, as something that was found
    /// quiet is not. For tests: it costs a turn.
    pub fn overlooked(&mut self, now: Timestamp) -> Vec<ActionKey> {
        self.world.look_at_all();
        let decision = decide(&self.world, &self.aws, &self.settings, now);
        decision.actions.into_iter().map(|action| action.key).collect()
    }

    fn written(
        &mut self,
        key: ActionKey,
        facts: Vec<Fact>,
        outcome: Result<Written, Failure>,
        now: Timestamp,
    ) -> Vec<Fact> {
        let outcome = match outcome {
            Ok(Written::Object(object)) => Ok(Some(Box::new(object))),
            Ok(Written::NodeClass(class)) => {
                let learned = self.aws.node_class_written(*class, now);
                self.learn(learned, now);
                Ok(None)
            }
            Ok(Written::Nothing) => Ok(None),
            Err(failure) => Err(failure),
        };
        self.done(key, facts, outcome, now)
    }

    fn done(
        &mut self,
        key: ActionKey,
        mut facts: Vec<Fact>,
        outcome: Result<Option<Box<Object>>, Failure>,
        now: Timestamp,
    ) -> Vec<Fact> {
        let failure = outcome.as_ref().err().map(ToString::to_string);
        // Somebody else wrote first, or it is gone, or a budget holds: daily bread, not news.
        let quiet = matches!(
            outcome,
            Err(Failure::Conflict(_) | Failure::Blocked(_) | Failure::NotFound(_) | Failure::Overloaded)
        );
        if failure.is_some() {
            facts.clear();
        }
        if key.verb == EVICT
            && let Some(code) = code(outcome.as_ref().err())
        {
            facts.push(Fact::EvictionAnswered { code });
        }
        self.world.apply(Observation::Done { key: key.clone(), outcome }, now);
        if let Some(failure) = failure.filter(|_| !quiet) {
            let failures = self.world.flights.failures(&key);
            facts.push(Fact::ActionFailed { action: key.to_string(), failure, failures });
        }
        facts
    }

    fn learn(&mut self, observations: Vec<Observation>, now: Timestamp) {
        for observation in observations {
            self.world.apply(observation, now);
        }
    }
}

/// The HTTP status of an answer, as far as it is known; `None` if nothing was asked.
fn code(failure: Option<&Failure>) -> Option<&'static str> {
    Some(match failure {
        None => "200",
        Some(Failure::NotFound(_)) => "404",
        Some(Failure::Conflict(_)) => "409",
        Some(Failure::Blocked(_)) => "429",
        Some(Failure::Refused(_)) => "4xx",
        Some(Failure::Unknown(_)) => "5xx",
        Some(Failure::Overloaded) => return None,
    })
}
