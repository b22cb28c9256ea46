//! Facts as Kubernetes events, by Karpenter's reasons. Published aside: a slow API server loses
//! events, never time of the driver.
//!
//! An event that is told again, word for word, is counted up; another message is another event, so
//! that the newest reason is always there to be read.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use karpenter_core::Fact;
use karpenter_core::fact::About;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

/// Events waiting to be published; beyond that they are dropped.
const WAITING_MAX: usize = 1024;
/// Events that can be counted up; beyond that the oldest start anew.
const COUNTED_MAX: usize = 4096;
/// The API server forgets events after an hour.
const COUNTED_FOR: SignedDuration = SignedDuration::from_mins(50);
const COMPONENT: &str = "karpenter";

pub(super) struct Events(Sender<News>);

/// An event to be published.
struct News {
    about: About,
    type_: Type,
    reason: String,
    message: String,
}

#[derive(Clone, Copy)]
enum Type {
    Normal,
    Warning,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        })
    }
}

impl Events {
    pub(super) fn start(client: Client, tasks: &mut JoinSet<()>) -> Self {
        let (sender, mut waiting) = mpsc::channel::<News>(WAITING_MAX);
        let mut publisher = Publisher { client, counted: BTreeMap::new() };
        tasks.spawn(async move {
            while let Some(news) = waiting.recv().await {
                let reason = news.reason.clone();
                if let Err(error) = publisher.publish(news, Timestamp::now()).await {
                    tracing::debug!(%error, reason, "event not published");
                }
            }
        });
        Self(sender)
    }

    pub(super) fn publish(&self, fact: &Fact) {
        if let Some((about, type_, reason, message)) = told(fact) {
            let news = News { about: about.clone(), type_, reason: reason.to_owned(), message };
            if self.0.try_send(news).is_err() {
                tracing::debug!(reason, "event dropped: too many are waiting");
            }
        }
    }
}

/// What an event is counted up by: object, reason, message.
type Key = (String, String, String);

/// An event on the API server.
struct Counted {
    name: String,
    count: i32,
    since: Timestamp,
}

struct Publisher {
    client: Client,
    counted: BTreeMap<Key, Counted>,
}

impl Publisher {
    async fn publish(&mut self, news: News, now: Timestamp) -> kube::Result<()> {
        // Events of cluster-scoped objects live in the default namespace.
        let namespace =
            if news.about.namespace.is_empty() { "default".to_owned() } else { news.about.namespace.clone() };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let key = (news.about.uid.clone(), news.reason.clone(), news.message.clone());
        let is_fresh = |known: &Counted| known.since.checked_add(COUNTED_FOR).is_ok_and(|until| until > now);
        if let Some(known) = self.counted.get_mut(&key).filter(|known| is_fresh(known)) {
            known.count = known.count.saturating_add(1);
            let patch = Patch::Merge(json!({ "count": known.count, "lastTimestamp": Time(now) }));
            return api.patch(&known.name, &PatchParams::default(), &patch).await.map(drop);
        }
        if self.counted.len() >= COUNTED_MAX {
            self.counted.retain(|_, known| is_fresh(known));
        }
        if self.counted.len() >= COUNTED_MAX {
            self.counted.clear();
        }
        let name = format!("{}.{:x}", news.about.name, now.as_nanosecond());
        let event = event(news, name.clone(), namespace, now);
        api.create(&PostParams::default(), &event).await?;
        self.counted.insert(key, Counted { name, count: 1, since: now });
        Ok(())
    }
}

fn event(news: News, name: String, namespace: String, now: Timestamp) -> Event {
    Event {
        involved_object: reference(&news.about),
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        type_: Some(news.type_.to_string()),
        reason: Some(news.reason),
        message: Some(news.message),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        ..Event::default()
    }
}

/// The event of a fact: object, type, reason, message.
fn told(fact: &Fact) -> Option<(&About, Type, &str, String)> {
    use Type::{Normal, Warning};
    Some(match fact {
        Fact::PodNominated { pod, node, claim } => {
            let target = [("node", node), ("nodeclaim", claim)]
                .into_iter()
                .filter_map(|(kind, name)| name.as_ref().map(|name| format!("{kind}/{name}")))
                .collect::<Vec<_>>()
                .join(", ");
            (pod, Normal, "Nominated", format!("Pod should schedule on: {target}"))
        }
        Fact::PodUnschedulable { pod, verdict } => {
            (pod, Warning, "FailedScheduling", format!("Failed to schedule pod, {verdict}"))
        }
        Fact::PoolWithoutInstanceTypes { pool, message } => {
            (pool, Warning, "NoCompatibleInstanceTypes", message.clone())
        }
        Fact::ClaimOutOfCapacity { claim, message, .. } => {
            (claim, Warning, "InsufficientCapacityError", format!("NodeClaim {} event: {message}", claim.name))
        }
        Fact::UnregisteredTaintMissing { claim, node } => (
            claim,
            Warning,
            "UnregisteredTaintMissing",
            format!("node {node} lacks the taint karpenter.sh/unregistered"),
        ),
        Fact::ClaimTerminated { claim: gone, .. } | Fact::NodeTerminated { node: gone, .. } => {
            (gone, Normal, "Finalized", "Finalizer karpenter.sh/termination removed".to_owned())
        }
        Fact::PodEvicted { pod, reason, .. } => (pod, Normal, "Evicted", format!("Evicted pod: {reason}")),
        Fact::PodExpelled { pod, deadline, .. } => {
            (pod, Normal, "Disrupted", format!("Deleted the pod to meet its node's deadline {deadline}"))
        }
        Fact::DrainBlocked { node, message } => (node, Warning, "FailedDraining", message.clone()),
        Fact::ClaimLaunchFailed { claim, reason, message, .. } => {
            (claim, Warning, "LaunchFailed", format!("{reason}: {message}"))
        }
        Fact::ConditionChanged { object, condition, before, status, reason, message } => {
            let mut told = vec![format!("{condition} turned from {before} to {status}")];
            // A reason that only repeats the condition says nothing.
            told.extend([reason, message].into_iter().filter(|word| !word.is_empty() && *word != condition).cloned());
            (object, Normal, condition, told.join(", "))
        }
        Fact::Event { object, warning, reason, message } => {
            (object, if *warning { Warning } else { Normal }, reason, message.clone())
        }
        _ => return None,
    })
}

fn reference(about: &About) -> ObjectReference {
    let api_version = match about.kind {
        "Pod" | "Node" => "v1",
        "EC2NodeClass" => "karpenter.k8s.aws/v1",
        _ => "karpenter.sh/v1",
    };
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(about.kind.to_owned()),
        name: Some(about.name.clone()),
        namespace: (!about.namespace.is_empty()).then(|| about.namespace.clone()),
        uid: Some(about.uid.clone()),
        ..ObjectReference::default()
    }
}
