//! One round on a fresh World, timed; the plan is then read as a launch would read it.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use karpenter_api::{NodeClaim, labels};
use karpenter_core::cloud::{InstanceType, Price};
use karpenter_core::provision::{self, Round};
use karpenter_core::{
    Change, Decision, Deed, Kind, KubeWrite, Object, Observation, Requirement, Requirements, Resources, World,
};

use crate::{FixedCloud, Input, Measured};

/// A decision faster than this is made anew, and the best of all counts.
const REPEAT_BELOW: Duration = Duration::from_secs(1);
const REPETITIONS: usize = 3;

/// Decides on an input as production would, on a World of its own each time.
pub fn run(input: &Input) -> anyhow::Result<Measured> {
    let cloud = FixedCloud::new(input)?;
    let first = Timed::round(input, &cloud)?;
    // Of the first round: what a later one finds already allocated says nothing. And before the plan is read.
    let peak_mb = peak_mb()?;
    let plan = read(&first.world, &cloud, &first.decision)?;
    let (mut seconds, mut setup_seconds) = (first.seconds, first.setup_seconds);
    drop(first);
    for _ in 1..REPETITIONS {
        if seconds >= REPEAT_BELOW {
            break;
        }
        let next = Timed::round(input, &cloud)?;
        seconds = seconds.min(next.seconds);
        setup_seconds = setup_seconds.min(next.setup_seconds);
    }
    Ok(Measured { seconds: seconds.as_secs_f64(), setup_seconds: setup_seconds.as_secs_f64(), peak_mb, ..plan })
}

/// A round that was decided, and how long it took.
struct Timed {
    world: World,
    decision: Decision<()>,
    setup_seconds: Duration,
    seconds: Duration,
}

impl Timed {
    fn round(input: &Input, cloud: &FixedCloud) -> anyhow::Result<Self> {
        let settings = input.settings()?;
        let now = Timestamp::from_second(1_767_225_660)?;
        let mut world = World::default();
        for kind in Kind::ALL {
            world.apply(Observation::Listed { kind, names: Vec::new() }, now);
        }
        let applied = |object| Observation::Kube(Change::Applied(object));
        for pool in &input.node_pools {
            world.apply(applied(Object::NodePool(Box::new(pool.clone()))), now);
        }
        for daemon in &input.daemonsets {
            world.apply(applied(Object::DaemonSet(Box::new(daemon.clone()))), now);
        }
        let mut setup_seconds = Duration::ZERO;
        for pod in input.pods() {
            let observation = applied(Object::Pod(Box::new(pod)));
            let began = Instant::now();
            world.apply(observation, now);
            setup_seconds += began.elapsed();
        }
        let due = world.batch.due_at(&settings).context("no round is due: no pod waits for a node")?;
        let now = due.max(now).checked_add(SignedDuration::from_millis(1))?;
        let began = Instant::now();
        let decision = provision::decide(&world, cloud, &settings, now);
        let seconds = began.elapsed();
        Ok(Self { world, decision, setup_seconds, seconds })
    }
}

/// The figures of the plan itself.
#[expect(clippy::cast_precision_loss, reason = "prices are far below 2^52 micro-dollars")]
fn read(world: &World, cloud: &FixedCloud, decision: &Decision<()>) -> anyhow::Result<Measured> {
    let round = decision
        .learned
        .iter()
        .find_map(|learned| match learned {
            Observation::Planned(round) => Some(round),
            _ => None,
        })
        .context("the decision holds no round")?;
    let mut kept = Vec::new();
    let mut total: Price = 0;
    let mut placed = 0;
    for action in &decision.actions {
        let Deed::Kube(KubeWrite::Create { object, claim }) = &action.deed else {
            continue;
        };
        let pods = check_requests(world, round, &object.name, claim)?;
        let (price, types) = cheapest(cloud, claim).with_context(|| object.to_string())?;
        placed += pods;
        total += price;
        kept.push(types);
    }
    kept.sort_unstable();
    let waiting = world.pods.values().filter(|pod| pod.is_provisionable()).count();
    Ok(Measured {
        seconds: 0.0,
        setup_seconds: 0.0,
        nodes: kept.len(),
        usd_per_hour: total as f64 / 1e6,
        peak_mb: 0.0,
        unscheduled: waiting.saturating_sub(placed),
        types_min: kept.first().copied().unwrap_or_default(),
        types_median: kept.get(kept.len() / 2).copied().unwrap_or_default(),
        timed_out: false,
    })
}

/// A plan is only worth its price if the claim asks for what its pods need. Says how many there are.
fn check_requests(world: &World, round: &Round, name: &str, claim: &NodeClaim) -> anyhow::Result<usize> {
    let pods = round.claims.get(name).with_context(|| format!("claim {name}: the round places no pods on it"))?;
    let mut needed = Resources::default();
    for key in pods {
        needed.add(world.pods.get(key).with_context(|| format!("claim {name}: no pod is called {key}"))?.requests());
    }
    ensure!(needed.fits(&asked(claim)), "claim {name} asks for {:?}, expected its pods' {needed:?}", asked(claim));
    Ok(pods.len())
}

fn asked(claim: &NodeClaim) -> Resources {
    let requests = claim.spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let list = requests.into_iter().flatten().map(|(name, amount)| (name.clone(), Quantity(amount.to_string())));
    Resources::from_quantities(&list.collect())
}

/// The price of the cheapest offering that the claim may be launched as, and from how many types that was chosen.
fn cheapest(cloud: &FixedCloud, claim: &NodeClaim) -> anyhow::Result<(Price, usize)> {
    let asked = asked(claim);
    let mut wanted = Requirements::default();
    for spec in &claim.spec.requirements {
        wanted.add(labels::normalized(&spec.key), Requirement::from_spec(spec));
    }
    let mut prices = Vec::new();
    let named = wanted.get(labels::INSTANCE_TYPE);
    for row in cloud.types.iter().filter(|row| named.is_none_or(|named| named.has(&row.name))) {
        if wanted.intersects(&row.requirements).is_err() {
            continue;
        }
        let Some(price) = price(row, &wanted) else {
            continue;
        };
        if !asked.fits(&row.allocatable) {
            bail!("lists {}, which has {:?}, expected at least {:?}", row.name, row.allocatable, asked);
        }
        prices.push(price);
    }
    let price = prices.iter().min().context("no offering is left")?;
    Ok((*price, prices.len()))
}

fn price(row: &InstanceType, wanted: &Requirements) -> Option<Price> {
    let allows = |key: &str, value: &str| wanted.get(key).is_none_or(|one| one.has(value));
    row.offerings
        .iter()
        .filter(|o| o.available && allows(labels::ZONE, &o.zone))
        .filter(|o| allows(labels::CAPACITY_TYPE, o.capacity_type.as_str()))
        .filter(|o| o.zone_id.is_empty() || allows(labels::ZONE_ID, &o.zone_id))
        .map(|o| o.price)
        .min()
}

/// The most memory this process ever held.
#[expect(clippy::cast_precision_loss, reason = "a machine has less than 2^52 kilobytes")]
fn peak_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.context("/proc/self/status: found no VmHWM")? as f64 * 1024.0 / 1e6)
}
