//! Claims against their NodePools: requirements, taints, limits, `minValues`, what they list and ask for.

use std::collections::BTreeSet;

use karpenter_api::{NodeClaim, NodePool, Operator, RequirementSpec, labels as keys};
use karpenter_core::settings::MinValuesPolicy;

use crate::amounts::{self, Amounts};
use crate::labels::{self, Labels};
use crate::spots::{Spot, listed};
use crate::{ClaimFault, Cluster, Fault, Kind, Plan, Target, cluster};

/// A claim may list this many types.
const TYPES_MAX: usize = 600;

pub(crate) fn judge(cluster: &Cluster, plan: &Plan, spots: &[Spot]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for claim in &plan.claims {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let spot = spots.iter().find(|spot| spot.is(&Target::New(name.clone())));
        let found = match (pool_of(cluster, claim), spot) {
            (Ok(pool), Some(spot)) => of_pool(claim, pool)
                .and_then(|()| types(cluster, claim, spot))
                .and_then(|()| requirements(claim, pool, spot))
                .and_then(|()| min_values(cluster, claim, pool))
                .and_then(|()| requests(cluster, plan, claim)),
            (Err(problem), _) => Err(problem),
            (Ok(_), None) => Err(ClaimFault::NoTypes),
        };
        faults.extend(found.err().map(|problem| Fault::Claim { claim: name, problem }));
    }
    for pool in &cluster.pools {
        faults.extend(limits(cluster, plan, pool));
    }
    faults
}

fn pool_of<'a>(cluster: &'a Cluster, claim: &NodeClaim) -> Result<&'a NodePool, ClaimFault> {
    let name =
        claim.metadata.labels.as_ref().and_then(|labels| labels.get(keys::NODEPOOL)).cloned().unwrap_or_default();
    let pool = cluster.pools.iter().find(|pool| pool.metadata.name.as_ref() == Some(&name));
    pool.filter(|pool| can_buy(pool)).ok_or(ClaimFault::Pool(name))
}

/// Ready, there to stay, not of a fixed size, and its class has a catalogue.
pub(crate) fn can_buy(pool: &NodePool) -> bool {
    let conditions = pool.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && pool.metadata.deletion_timestamp.is_none()
        && pool.spec.replicas.is_none()
        && pool.spec.template.spec.node_class_ref.name != cluster::BROKEN_CLASS
}

/// Labels that every node of a pool has.
pub(crate) fn labels_of(pool: &NodePool) -> Labels {
    let metadata = pool.spec.template.metadata.as_ref();
    let mut all = metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    all.insert(keys::NODEPOOL.to_owned(), pool.metadata.name.clone().unwrap_or_default());
    all.insert(keys::EC2_NODE_CLASS.to_owned(), pool.spec.template.spec.node_class_ref.name.clone());
    all
}

fn of_pool(claim: &NodeClaim, pool: &NodePool) -> Result<(), ClaimFault> {
    let (found, expected) = (&claim.spec, &pool.spec.template.spec);
    let same = |field, found: String, expected: String| {
        if found == expected { Ok(()) } else { Err(ClaimFault::NotOfPool { field, found, expected }) }
    };
    same("spec.taints", format!("{:?}", found.taints), format!("{:?}", expected.taints))?;
    same("spec.startupTaints", format!("{:?}", found.startup_taints), format!("{:?}", expected.startup_taints))?;
    same("spec.nodeClassRef", format!("{:?}", found.node_class_ref), format!("{:?}", expected.node_class_ref))?;
    same("spec.expireAfter", format!("{:?}", found.expire_after), format!("{:?}", expected.expire_after))?;
    let labels = claim.metadata.labels.clone().unwrap_or_default();
    for (key, value) in labels_of(pool) {
        same("metadata.labels", format!("{key}={:?}", labels.get(&key)), format!("{key}={:?}", Some(value)))?;
    }
    for requirement in &found.requirements {
        let told = format!("{} {} {:?}", requirement.key, requirement.operator, requirement.values);
        if keys::restriction(&requirement.key).is_some() {
            return Err(ClaimFault::Restricted(told));
        }
        let count = requirement.values.iter().flatten().count();
        let fine = match requirement.operator {
            Operator::In => count > 0,
            Operator::NotIn => true,
            Operator::Exists | Operator::DoesNotExist => count == 0,
            _ => count == 1,
        };
        if !fine {
            return Err(ClaimFault::Malformed(told));
        }
    }
    Ok(())
}

/// Every type on the list exists, once, and can be bought as the claim allows; so can every capacity type.
fn types(cluster: &Cluster, claim: &NodeClaim, spot: &Spot) -> Result<(), ClaimFault> {
    let values = |key: &str| {
        let of_key = claim.spec.requirements.iter().filter(|r| r.key == key && r.operator == Operator::In);
        of_key.flat_map(|r| r.values.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    let names = values(keys::INSTANCE_TYPE);
    if names.is_empty() || names.len() > TYPES_MAX {
        return Err(ClaimFault::NoTypes);
    }
    let mut seen = BTreeSet::new();
    for kind in names {
        let why = if !seen.insert(kind.clone()) {
            "twice"
        } else if !cluster.kinds.iter().any(|known| known.name == kind) {
            "that does not exist"
        } else if !spot.shapes.iter().any(|shape| shape.kind == kind) {
            "that cannot be bought under its requirements"
        } else {
            continue;
        };
        return Err(ClaimFault::Type { kind, why });
    }
    for capacity_type in values(keys::CAPACITY_TYPE) {
        if !spot.shapes.iter().any(|shape| shape.labels.get(keys::CAPACITY_TYPE) == Some(&capacity_type)) {
            return Err(ClaimFault::CapacityType(capacity_type));
        }
    }
    Ok(())
}

/// Whatever node it becomes has the labels that it and its pool ask for.
fn requirements(claim: &NodeClaim, pool: &NodePool, spot: &Spot) -> Result<(), ClaimFault> {
    let of_claim = claim.spec.requirements.iter().map(|r| ("claim", r));
    let of_pool = pool.spec.template.spec.requirements.iter().map(|r| ("nodepool", r));
    for (whose, requirement) in of_claim.chain(of_pool) {
        for shape in &spot.shapes {
            if !labels::satisfies(shape.labels.get(&requirement.key), requirement) {
                let requirement = told(requirement);
                return Err(ClaimFault::Requirement { whose, requirement, labels: labels::told(&shape.labels) });
            }
        }
    }
    Ok(())
}

fn told(requirement: &RequirementSpec) -> String {
    format!("{} {} {:?}", requirement.key, requirement.operator, requirement.values.as_deref().unwrap_or_default())
}

/// As many values of each key as the pool wants are left among the types listed; `BestEffort` may lower what is asked
/// for, and says so.
fn min_values(cluster: &Cluster, claim: &NodeClaim, pool: &NodePool) -> Result<(), ClaimFault> {
    let most = |all: &[RequirementSpec], key: &str| {
        all.iter().filter(|r| r.key == key).filter_map(|r| r.min_values).max().unwrap_or(0)
    };
    let keys: BTreeSet<&str> = pool.spec.template.spec.requirements.iter().map(|r| r.key.as_str()).collect();
    for key in keys {
        let wanted = most(&pool.spec.template.spec.requirements, key);
        let found = most(&claim.spec.requirements, key);
        let kinds: Vec<&Kind> = listed(cluster, claim).collect();
        let left = distinct(&kinds, key);
        let holds = usize::try_from(found).is_ok_and(|found| found <= left);
        let relaxed = cluster.min_values == MinValuesPolicy::BestEffort;
        if !holds || (found != wanted && !(relaxed && found < wanted)) {
            let expected = if relaxed { format!("at most {wanted}, and as many left") } else { wanted.to_string() };
            return Err(ClaimFault::MinValues { key: key.to_owned(), found, left, expected });
        }
    }
    Ok(())
}

/// How many values of a key types have together.
pub(crate) fn distinct(kinds: &[&Kind], key: &str) -> usize {
    let values = kinds.iter().flat_map(|kind| match key {
        keys::INSTANCE_TYPE => vec![kind.name.clone()],
        keys::ZONE => kind.offers.iter().map(|offer| offer.zone.clone()).collect(),
        keys::CAPACITY_TYPE => kind.offers.iter().map(|offer| offer.capacity_type().to_owned()).collect(),
        key => kind.labels.get(key).cloned().into_iter().collect(),
    });
    values.collect::<BTreeSet<_>>().len()
}

/// What it asks for is what its pods ask for, and no more than each of its types has: a launch goes by it.
fn requests(cluster: &Cluster, plan: &Plan, claim: &NodeClaim) -> Result<(), ClaimFault> {
    let asked = amounts::of_api(claim.spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let mut of_pods = Amounts::new();
    let name = claim.metadata.name.clone().unwrap_or_default();
    let own = |(key, target): &&(String, Target)| *target == Target::New(name.clone()) && !plan.late.contains(key);
    for (key, _) in plan.places.iter().filter(own) {
        amounts::add(&mut of_pods, &cluster.pod(key).map(amounts::of_pod).unwrap_or_default());
    }
    if of_pods.is_empty() {
        return Err(ClaimFault::Empty);
    }
    if let Some((resource, expected, found)) = amounts::lacking(&of_pods, &asked) {
        return Err(ClaimFault::Requests { resource, found, expected: format!("at least its pods' {expected}") });
    }
    for kind in listed(cluster, claim) {
        if let Some((resource, found, there)) = amounts::lacking(&asked, &Kind::amounts(&kind.allocatable)) {
            let expected = format!("at most the {there} of {}", kind.name);
            return Err(ClaimFault::Requests { resource, found, expected });
        }
    }
    Ok(())
}

/// What a pool has and what this round adds, each new node as the largest that it may become.
pub(crate) fn used(cluster: &Cluster, plan: &Plan, pool: &NodePool) -> (Amounts, Amounts) {
    let is_of = |claim: &&NodeClaim| {
        claim.metadata.labels.as_ref().and_then(|labels| labels.get(keys::NODEPOOL)) == pool.metadata.name.as_ref()
    };
    let mut before = Amounts::from([("nodes".to_owned(), 0)]);
    for claim in cluster.claims.iter().filter(is_of) {
        amounts::add(&mut before, &Amounts::from([("nodes".to_owned(), 1)]));
        amounts::add(&mut before, &capacity(cluster, claim));
    }
    let mut added = Amounts::from([("nodes".to_owned(), 0)]);
    for claim in plan.claims.iter().filter(is_of) {
        let mut most = Amounts::from([("nodes".to_owned(), 1)]);
        for kind in listed(cluster, claim) {
            for (name, amount) in Kind::amounts(&kind.capacity) {
                let known = most.entry(name).or_default();
                *known = (*known).max(amount);
            }
        }
        amounts::add(&mut added, &most);
    }
    (before, added)
}

/// The node's own figures where it has them, else what the claim was promised.
fn capacity(cluster: &Cluster, claim: &NodeClaim) -> Amounts {
    let status = claim.status.as_ref();
    let mut all = amounts::of_api(status.and_then(|status| status.capacity.as_ref()));
    let name = status.and_then(|status| status.node_name.as_ref());
    let node = cluster.nodes.iter().find(|node| name.is_some() && node.metadata.name.as_ref() == name);
    let real = amounts::offered(node.and_then(|node| node.status.as_ref()?.capacity.as_ref()));
    all.extend(real.into_iter().filter(|(_, amount)| *amount > 0));
    all
}

fn limits(cluster: &Cluster, plan: &Plan, pool: &NodePool) -> Vec<Fault> {
    let (before, added) = used(cluster, plan, pool);
    if added.get("nodes") == Some(&0) {
        return Vec::new();
    }
    let limits = amounts::of_api(pool.spec.limits.as_ref());
    let over = limits.into_iter().filter_map(|(resource, limit)| {
        let more = added.get(&resource).copied().unwrap_or(0);
        let found = before.get(&resource).copied().unwrap_or(0) + more;
        let pool = pool.metadata.name.clone().unwrap_or_default();
        (found > limit && more > 0).then_some(Fault::OverLimit { pool, resource, found, limit })
    });
    over.collect()
}

pub(crate) fn name(pool: &NodePool) -> String {
    pool.metadata.name.clone().unwrap_or_default()
}
