//! Facts for people: each becomes a log line, metrics and perhaps an event. Decisions repeat
//! themselves as long as nothing changes; here the repetition ends.

mod events;
pub(crate) mod log;
mod market;
mod metrics;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use karpenter_aws::Aws;
use karpenter_core::{Fact, World};
use prometheus::Registry;
use tokio::task::JoinSet;

use events::Events;
use market::Market;
use metrics::Metrics;

/// The same fact is told again only after this long.
const TOLD_FOR: Duration = Duration::from_mins(2);
/// Unschedulable pods and pools without types have clocks of their own (events.tsv).
const UNSCHEDULABLE_FOR: Duration = Duration::from_mins(5);
/// Facts remembered; beyond that the oldest are forgotten, and may be told twice.
const REMEMBERED_MAX: usize = 20_000;

pub(crate) struct Telemetry {
    metrics: Metrics,
    market: Market,
    events: Events,
    told: BTreeMap<String, Instant>,
}

impl Telemetry {
    pub(crate) fn start(client: &kube::Client, tasks: &mut JoinSet<()>) -> anyhow::Result<(Self, Registry)> {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry)?;
        let market = Market::register(&registry)?;
        let events = Events::start(client.clone(), tasks);
        Ok((Self { metrics, market, events, told: BTreeMap::new() }, registry))
    }

    pub(crate) fn tell(&mut self, fact: &Fact) {
        self.metrics.count(fact);
        if matches!(fact, Fact::EvictionAnswered { .. }) {
            return;
        }
        if self.is_news(fact) {
            log::write(fact);
            self.events.publish(fact);
        }
    }

    /// Gauges of the model as a whole.
    pub(crate) fn state(&mut self, world: &World) {
        self.metrics.state(world);
    }

    /// The catalogue, if it changed.
    pub(crate) fn catalogue(&mut self, aws: &Aws) {
        self.market.tell(aws);
    }

    pub(crate) fn turn(&mut self, took: Duration) {
        self.metrics.turn(took);
    }

    fn is_news(&mut self, fact: &Fact) -> bool {
        let ttl = match fact {
            Fact::PodUnschedulable { .. } => UNSCHEDULABLE_FOR,
            Fact::PoolWithoutInstanceTypes { .. } => Duration::from_mins(1),
            Fact::Event { reason: "NodeRepairBlocked", .. } => Duration::from_mins(15),
            Fact::RoundSolved { .. } => return true,
            _ => TOLD_FOR,
        };
        let now = Instant::now();
        if self.told.len() >= REMEMBERED_MAX {
            self.told.retain(|_, until| *until > now);
            if self.told.len() >= REMEMBERED_MAX {
                self.told.clear();
            }
        }
        let key = match fact {
            // The figures change while the pod waits; only another reason is news.
            Fact::PodUnschedulable { pod, verdict } => {
                let reason = verdict.to_string().replace(|c: char| c.is_ascii_digit(), "");
                format!("unschedulable {} {reason}", pod.uid)
            }
            // So does the number of pods while a node drains.
            Fact::DrainBlocked { node, .. } => format!("drain {}", node.uid),
            fact => format!("{fact:?}"),
        };
        let known = self.told.get(&key).is_some_and(|until| *until > now);
        if !known {
            self.told.insert(key, now + ttl);
        }
        !known
    }
}
