//! Where pods can stand: nodes there are, nodes on their way, and every node that a new claim may become.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use karpenter_api::{NodeClaim, labels as keys};

use crate::amounts::{self, Amounts};
use crate::labels::{self, Labels};
use crate::pods::{self, Port};
use crate::{Cluster, Fault, Kind, Plan, Rule, Target};

/// A node, present or future.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) target: Target,
    pub(crate) taints: Vec<Taint>,
    /// What it may be; what is placed there must hold for all of them.
    pub(crate) shapes: Vec<Shape>,
    leaves: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: String,
    pub(crate) labels: Labels,
    /// Beside what stands there, and the daemons that are still to come.
    pub(crate) room: Amounts,
    pub(crate) ports: Vec<Port>,
}

impl Spot {
    pub(crate) fn is(&self, target: &Target) -> bool {
        self.target == *target
    }

    pub(crate) fn name(&self) -> &str {
        self.target.name()
    }

    /// Whether a pod may come here beside what is here, rules between pods aside.
    pub(crate) fn accepts(&self, pod: &Pod) -> Result<(), Rule> {
        if self.leaves {
            return Err(Rule::NodeLeaves);
        }
        if let Some(taint) = labels::untolerated(&self.taints, pods::tolerations(pod)) {
            return Err(Rule::Taint(format!("{}={:?}:{}", taint.key, taint.value, taint.effect)));
        }
        let asked = amounts::of_pod(pod);
        let ports = pod.spec.as_ref().map(pods::ports).unwrap_or_default();
        for shape in &self.shapes {
            shape.accepts(pod, self.name(), &asked, &ports)?;
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, pod: &Pod) {
        let asked = amounts::of_pod(pod);
        let ports = pod.spec.as_ref().map(pods::ports).unwrap_or_default();
        for shape in &mut self.shapes {
            amounts::subtract(&mut shape.room, &asked);
            shape.ports.extend(ports.iter().cloned());
        }
    }
}

impl Spot {
    /// The room of a pod that was taken in; not its ports.
    pub(crate) fn give_back(&mut self, pod: &Pod) {
        let asked = amounts::of_pod(pod);
        for shape in &mut self.shapes {
            amounts::add(&mut shape.room, &asked);
        }
    }
}

impl Shape {
    pub(crate) fn accepts(&self, pod: &Pod, node: &str, asked: &Amounts, ports: &[Port]) -> Result<(), Rule> {
        if !labels::pod_chooses(pod, node, &self.labels) {
            return Err(Rule::NodeAffinity { labels: labels::told(&self.labels) });
        }
        if let Some((resource, asked, left)) = amounts::lacking(asked, &self.room) {
            let of = if self.kind.is_empty() { String::new() } else { format!(" of instance type {}", self.kind) };
            return Err(Rule::Room { resource, asked, left, of });
        }
        match ports.iter().find(|port| self.ports.iter().any(|taken| taken.conflicts(port))) {
            Some(port) => Err(Rule::Port(port.to_string())),
            None => Ok(()),
        }
    }

    /// Daemons that are to run here take their part.
    fn reserve(&mut self, daemons: &[DaemonSet], node: &str, taints: &[Taint], there: &[&Pod]) {
        for daemon in daemons {
            let Some(spec) = daemon.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { continue };
            let is_there = there.iter().any(|pod| {
                let owners = pod.metadata.owner_references.iter().flatten();
                owners
                    .into_iter()
                    .any(|owner| owner.kind == "DaemonSet" && Some(&owner.uid) == daemon.metadata.uid.as_ref())
            });
            if !is_there && runs(daemon, node, &self.labels, taints) {
                amounts::subtract(&mut self.room, &amounts::of_template(spec));
                self.ports.extend(pods::ports(spec));
            }
        }
    }
}

/// Whether a DaemonSet has a pod on such a node. Its controller adds tolerations of what nodes suffer from.
pub(crate) fn runs(daemon: &DaemonSet, node: &str, labels: &Labels, taints: &[Taint]) -> bool {
    let Some(spec) = daemon.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return false };
    let mut tolerations = spec.tolerations.clone().unwrap_or_default();
    let suffered = ["not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"];
    tolerations.extend(suffered.map(|what| Toleration {
        key: Some(format!("node.kubernetes.io/{what}")),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    }));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    labels::untolerated(taints, &tolerations).is_none()
        && labels::chooses(spec.node_selector.as_ref(), affinity, node, labels)
}

/// Nodes, launched claims without one, new claims.
pub(crate) fn all(cluster: &Cluster, plan: &Plan) -> Vec<Spot> {
    let provider = |claim: &NodeClaim| claim.status.as_ref().and_then(|status| status.provider_id.clone());
    let claim_of = |node: &Node| {
        let id = node.spec.as_ref()?.provider_id.as_ref()?;
        cluster.claims.iter().find(|claim| provider(claim).as_ref() == Some(id))
    };
    let mut all: Vec<Spot> = cluster.nodes.iter().map(|node| of_node(cluster, node, claim_of(node))).collect();
    let has_node = |claim: &NodeClaim| cluster.nodes.iter().any(|node| claim_of(node).is_some_and(|of| of == claim));
    all.extend(cluster.claims.iter().filter(|claim| !has_node(claim)).map(|claim| on_its_way(cluster, claim)));
    all.extend(plan.claims.iter().map(|claim| of_claim(cluster, claim)));
    all
}

fn of_node(cluster: &Cluster, node: &Node, claim: Option<&NodeClaim>) -> Spot {
    let name = node.metadata.name.clone().unwrap_or_default();
    let node_labels = node.metadata.labels.clone().unwrap_or_default();
    let starts = node_labels.contains_key(keys::NODEPOOL)
        && node_labels.get(keys::INITIALIZED).map(String::as_str) != Some("true");
    let mut room = amounts::offered(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
    if let Some(claim) = claim.filter(|_| starts) {
        for (resource, amount) in promised(claim) {
            room.entry(resource)
                .and_modify(|known| *known = if *known == 0 { amount } else { *known })
                .or_insert(amount);
        }
    }
    let mut taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    if starts {
        let startup = claim.and_then(|claim| claim.spec.startup_taints.clone()).unwrap_or_default();
        taints.retain(|taint| {
            !passes(taint) && !startup.iter().any(|known| known.key == taint.key && known.effect == taint.effect)
        });
    }
    let there: Vec<&Pod> =
        cluster.pods.iter().filter(|pod| pods::node_of(pod) == Some(&name) && !pods::has_ended(pod)).collect();
    let mut shape = Shape { kind: String::new(), labels: node_labels, room, ports: Vec::new() };
    for pod in &there {
        amounts::subtract(&mut shape.room, &amounts::of_pod(pod));
        shape.ports.extend(pod.spec.as_ref().map(pods::ports).unwrap_or_default());
    }
    shape.reserve(&cluster.daemons, &name, &taints, &there);
    let leaves = node.metadata.deletion_timestamp.is_some()
        || claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_some());
    Spot { target: Target::Existing(name), taints, shapes: vec![shape], leaves }
}

/// A taint that every node has for a while as it starts.
fn passes(taint: &Taint) -> bool {
    match (taint.key.as_str(), taint.effect.as_str()) {
        ("node.kubernetes.io/not-ready", "NoSchedule" | "NoExecute")
        | ("node.kubernetes.io/unreachable", "NoSchedule")
        | ("karpenter.sh/unregistered", "NoExecute") => true,
        ("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule") => taint.value.as_deref() == Some("true"),
        (key, _) => key.starts_with("readiness.k8s.io/"),
    }
}

fn promised(claim: &NodeClaim) -> Amounts {
    amounts::of_api(claim.status.as_ref().and_then(|status| status.allocatable.as_ref()))
}

fn taints_of(claim: &NodeClaim) -> Vec<Taint> {
    let taints = claim.spec.taints.iter().flatten();
    let core = |t: &karpenter_api::Taint| Taint {
        key: t.key.clone(),
        value: t.value.clone(),
        effect: t.effect.clone(),
        time_added: None,
    };
    taints.map(core).collect()
}

fn on_its_way(cluster: &Cluster, claim: &NodeClaim) -> Spot {
    let name = claim.metadata.name.clone().unwrap_or_default();
    let labels = claim.metadata.labels.clone().unwrap_or_default();
    let mut shape =
        Shape { kind: String::new(), labels: with_hostname(labels, &name), room: promised(claim), ports: Vec::new() };
    let taints = taints_of(claim);
    shape.reserve(&cluster.daemons, &name, &taints, &[]);
    let leaves = claim.metadata.deletion_timestamp.is_some();
    Spot { target: Target::Existing(name), taints, shapes: vec![shape], leaves }
}

/// Every instance type that the claim lists, in every way in which it can be bought and that the claim allows.
fn of_claim(cluster: &Cluster, claim: &NodeClaim) -> Spot {
    let name = claim.metadata.name.clone().unwrap_or_default();
    let taints = taints_of(claim);
    let mut shapes: Vec<Shape> = Vec::new();
    for kind in listed(cluster, claim) {
        for labels in kind.nodes() {
            let of_claim = claim.metadata.labels.clone().unwrap_or_default();
            let labels = with_hostname(labels.into_iter().chain(of_claim).collect(), &name);
            let open = claim.spec.requirements.iter().filter(|r| karpenter_api::labels::is_well_known(&r.key));
            if !open.into_iter().all(|r| labels::satisfies(labels.get(&r.key), r)) {
                continue;
            }
            let room = Kind::amounts(&kind.allocatable);
            let mut shape = Shape { kind: kind.name.clone(), labels, room, ports: Vec::new() };
            shape.reserve(&cluster.daemons, &name, &taints, &[]);
            shapes.push(shape);
        }
    }
    Spot { target: Target::New(name), taints, shapes, leaves: false }
}

/// The instance types on a claim's list.
pub(crate) fn listed<'a>(cluster: &'a Cluster, claim: &'a NodeClaim) -> impl Iterator<Item = &'a Kind> {
    let list = claim.spec.requirements.iter().filter(|requirement| requirement.key == keys::INSTANCE_TYPE);
    let names = list.flat_map(|requirement| requirement.values.iter().flatten());
    names.filter_map(|name| cluster.kinds.iter().find(|kind| kind.name == *name))
}

/// Kubelet gives every node a hostname of its own.
fn with_hostname(mut labels: Labels, name: &str) -> Labels {
    labels.insert(keys::HOSTNAME.to_owned(), format!("host-of-{name}"));
    labels
}

impl Kind {
    /// Labels of the nodes it can become, by available offer; what is not well known only a NodePool gives.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Labels> {
        self.offers.iter().filter(|offer| offer.available).map(|offer| {
            let mut labels = self.labels.clone();
            labels.insert(keys::INSTANCE_TYPE.to_owned(), self.name.clone());
            labels.insert(keys::ZONE.to_owned(), offer.zone.clone());
            labels.insert(keys::CAPACITY_TYPE.to_owned(), offer.capacity_type().to_owned());
            labels
        })
    }
}

impl Fault {
    pub(crate) fn placed(pod: &Pod, spot: &Spot, rule: Rule) -> Self {
        Self::Placed { pod: pods::key(pod), node: spot.name().to_owned(), rule }
    }
}
