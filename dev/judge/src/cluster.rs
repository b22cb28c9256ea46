//! A cluster as the API server and the cloud tell it, and what a round made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use karpenter_api::{NodeClaim, NodePool, labels as keys};
use karpenter_core::action::Deed;
use karpenter_core::cloud::{self, CapacityType, CatalogueProblem, LaunchBatch, LaunchProblem, NodeClassState};
use karpenter_core::observation::Change;
use karpenter_core::provision::{self, Round};
use karpenter_core::settings::{MinValuesPolicy, PreferencePolicy};
use karpenter_core::{
    Cloud, KubeWrite, Object, Observation, Requirement, Requirements, Resources, Settings, Timestamp, World,
};

use crate::labels::Labels;
use crate::{amounts, pods};

/// Of this class there is no catalogue.
pub(crate) const BROKEN_CLASS: &str = "broken";

/// A kind of node that can be bought.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    pub name: String,
    /// Well-known labels that every node of it has; zone, capacity type and its own name aside.
    pub labels: Labels,
    pub capacity: BTreeMap<String, i64>,
    pub allocatable: BTreeMap<String, i64>,
    pub offers: Vec<Offer>,
}

/// One way to buy it.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub zone: String,
    pub spot: bool,
    /// Millionths of a dollar per hour.
    pub price: u64,
    pub available: bool,
}

impl Offer {
    pub(crate) fn capacity_type(&self) -> &'static str {
        if self.spot { "spot" } else { "on-demand" }
    }
}

/// What is given.
#[derive(Clone, Default)]
pub struct Cluster {
    pub namespaces: BTreeMap<String, Labels>,
    pub kinds: Vec<Kind>,
    pub pools: Vec<NodePool>,
    pub nodes: Vec<Node>,
    /// Launched ones.
    pub claims: Vec<NodeClaim>,
    pub daemons: Vec<DaemonSet>,
    /// Bound ones and waiting ones.
    pub pods: Vec<Pod>,
    pub preferences: PreferencePolicy,
    pub min_values: MinValuesPolicy,
}

/// Where a pod was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node there is, or a claim that was launched before.
    Existing(String),
    /// A claim of the plan.
    New(String),
}

impl Target {
    pub fn name(&self) -> &str {
        match self {
            Self::Existing(name) | Self::New(name) => name,
        }
    }
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub claims: Vec<NodeClaim>,
    /// Pods by `namespace/name`.
    pub places: Vec<(String, Target)>,
    /// Of these, pods that came to a claim in a later round than that of the claim.
    pub late: BTreeSet<String>,
    /// Pods without a place, with the line their event would have.
    pub verdicts: Vec<(String, String)>,
    /// How many of the places are of rounds before the last.
    pub(crate) earlier: usize,
}

impl Cluster {
    pub fn pod(&self, key: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pods::key(pod) == key)
    }

    /// Shows the World everything and asks it for one round.
    pub fn plan(&self) -> Plan {
        self.rounds(&[self.pods.iter().collect()])
    }

    /// As two rounds in quick succession: every other pod that waits comes when the first one's claims are planned and
    /// no more than that.
    pub fn plan_in_two(&self) -> Plan {
        let (waiting, others): (Vec<&Pod>, Vec<&Pod>) = self.pods.iter().partition(|pod| pods::waits(pod));
        let every_other = |from: usize| waiting.iter().copied().skip(from).step_by(2);
        self.rounds(&[others.into_iter().chain(every_other(0)).collect(), every_other(1).collect()])
    }

    /// By round: the pods that come before it.
    fn rounds(&self, pods: &[Vec<&Pod>]) -> Plan {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut world = self.world(now);
        let settings =
            Settings { preference_policy: self.preferences, min_values_policy: self.min_values, ..Settings::default() };
        let catalogue = Catalogue(self.kinds.iter().map(|kind| Arc::new(kind.told())).collect());
        let mut plan = Plan::default();
        for pods in pods {
            for pod in pods {
                world.apply(Observation::Kube(Change::Applied(Object::Pod(Box::new((*pod).clone())))), now);
            }
            now = now.checked_add(SignedDuration::from_secs(10)).unwrap_or(now);
            let decision = provision::decide(&world, &catalogue, &settings, now);
            for learned in decision.learned {
                // One that is not solved would say what the one before it said.
                if let Observation::Planned(round) = &learned
                    && round.version.is_some()
                {
                    plan.earlier = plan.places.len();
                    plan.read(round);
                }
                world.apply(learned, now);
            }
            for action in decision.actions {
                if let Deed::Kube(KubeWrite::Create { claim, .. }) = action.deed {
                    plan.claims.push(Arc::unwrap_or_clone(claim));
                }
            }
        }
        plan
    }

    fn world(&self, now: Timestamp) -> World {
        let mut world = World::default();
        let mut apply = |object| world.apply(Observation::Kube(Change::Applied(object)), now);
        for (name, labels) in &self.namespaces {
            let metadata =
                ObjectMeta { name: Some(name.clone()), labels: Some(labels.clone()), ..ObjectMeta::default() };
            apply(Object::Namespace(Box::new(Namespace { metadata, ..Namespace::default() })));
        }
        for pool in &self.pools {
            apply(Object::NodePool(Box::new(pool.clone())));
        }
        for claim in &self.claims {
            apply(Object::NodeClaim(Box::new(claim.clone())));
        }
        for node in &self.nodes {
            apply(Object::Node(Box::new(node.clone())));
        }
        for daemon in &self.daemons {
            apply(Object::DaemonSet(Box::new(daemon.clone())));
        }
        world
    }
}

impl Plan {
    /// Adds what another round decided. Whom it looked at again it tells anew.
    fn read(&mut self, round: &Round) {
        for (claim, pods) in &round.claims {
            self.places.extend(pods.iter().map(|pod| (pod.to_string(), Target::New(claim.clone()))));
        }
        for (pod, name) in &round.nominated {
            let is_new = self.claims.iter().any(|claim| claim.metadata.name.as_ref() == Some(name));
            let target = if is_new { Target::New(name.clone()) } else { Target::Existing(name.clone()) };
            self.late.extend(is_new.then(|| pod.to_string()));
            self.places.push((pod.to_string(), target));
        }
        self.verdicts = round.unschedulable.iter().map(|(pod, why)| (pod.to_string(), why.to_string())).collect();
    }
}

impl Kind {
    pub(crate) fn amounts(of: &BTreeMap<String, i64>) -> amounts::Amounts {
        of.iter().map(|(name, amount)| (name.clone(), i128::from(*amount))).collect()
    }

    /// As the cloud tells it.
    fn told(&self) -> cloud::InstanceType {
        let mut all = Requirements::from_labels(&self.labels);
        let distinct = |values: Vec<&str>| Requirement::one_of(BTreeSet::from_iter(values));
        all.add(keys::INSTANCE_TYPE, Requirement::one_of([self.name.clone()]));
        all.add(keys::ZONE, distinct(self.offers.iter().map(|offer| offer.zone.as_str()).collect()));
        all.add(keys::CAPACITY_TYPE, distinct(self.offers.iter().map(Offer::capacity_type).collect()));
        for optional in [keys::INSTANCE_GPU_NAME, keys::INSTANCE_LOCAL_NVME] {
            if !self.labels.contains_key(optional) {
                all.add(optional, Requirement::does_not_exist());
            }
        }
        let resources = |of: &BTreeMap<String, i64>| -> Resources { of.clone().into_iter().collect() };
        let offering = |offer: &Offer| cloud::Offering {
            capacity_type: if offer.spot { CapacityType::Spot } else { CapacityType::OnDemand },
            zone: offer.zone.clone(),
            zone_id: String::new(),
            price: offer.price,
            available: offer.available,
            reservation: None,
            labels: BTreeMap::new(),
        };
        cloud::InstanceType {
            name: self.name.clone(),
            requirements: all.into(),
            capacity: resources(&self.capacity),
            allocatable: resources(&self.allocatable),
            offerings: self.offers.iter().map(offering).collect(),
        }
    }
}

/// A cloud that only has a catalogue: no decision about pending pods needs more.
#[derive(Debug)]
struct Catalogue(Arc<[Arc<cloud::InstanceType>]>);

impl Cloud for Catalogue {
    type Call = ();

    fn version(&self) -> u64 {
        0
    }

    fn node_class(&self, _name: &str) -> NodeClassState {
        NodeClassState::Ready { generation: 1 }
    }

    fn catalogue(&self, pool: &NodePool) -> Result<Arc<[Arc<cloud::InstanceType>]>, CatalogueProblem> {
        match pool.spec.template.spec.node_class_ref.name.as_str() {
            BROKEN_CLASS => Err(CatalogueProblem::NodeClassNotReady(BROKEN_CLASS.to_owned(), "broken".to_owned())),
            _ => Ok(Arc::clone(&self.0)),
        }
    }

    fn launch(&self, _batch: &LaunchBatch<'_>, _planned: &[()], _now: Timestamp) -> Result<(), LaunchProblem> {
        Err(LaunchProblem::NotYet("nothing is launched here".to_owned()))
    }

    fn find(&self, _batch: &LaunchBatch<'_>) -> Option<()> {
        None
    }

    fn terminate(&self, _provider_id: &str) {}
}

/// As manifests, a line an object: what a failing test shows.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn line<T: serde::Serialize>(f: &mut fmt::Formatter<'_>, kind: &str, object: &T) -> fmt::Result {
            writeln!(f, "{kind} {}", serde_json::to_string(object).map_err(|_| fmt::Error)?)
        }
        writeln!(f, "preferences {:?}, minValues {:?}", self.preferences, self.min_values)?;
        line(f, "namespaces", &self.namespaces)?;
        for kind in &self.kinds {
            write!(f, "type {} {}", kind.name, crate::labels::told(&kind.labels))?;
            write!(f, " capacity {:?} allocatable {:?}", kind.capacity, kind.allocatable)?;
            for offer in kind.offers.iter().filter(|offer| offer.available) {
                write!(f, " {}/{}@{}", offer.zone, offer.capacity_type(), offer.price)?;
            }
            writeln!(f)?;
        }
        self.pools.iter().try_for_each(|pool| line(f, "NodePool", pool))?;
        self.nodes.iter().try_for_each(|node| line(f, "Node", node))?;
        self.claims.iter().try_for_each(|claim| line(f, "NodeClaim", claim))?;
        self.daemons.iter().try_for_each(|daemon| line(f, "DaemonSet", daemon))?;
        self.pods.iter().try_for_each(|pod| line(f, "Pod", pod))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for claim in &self.claims {
            writeln!(f, "claim {}", serde_json::to_string(claim).map_err(|_| fmt::Error)?)?;
        }
        for (pod, target) in &self.places {
            writeln!(f, "{pod} -> {target:?}")?;
        }
        for (pod, verdict) in &self.verdicts {
            writeln!(f, "{pod} -> nowhere: {verdict}")?;
        }
        Ok(())
    }
}
