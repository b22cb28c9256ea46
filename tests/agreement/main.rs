//! Our plans before a judge: random workloads are planned, the planned nodes appear, and the real kube-scheduler must
//! bind every pod to the node that was planned for it.
//!
//! Legality is judged, not taste: an extender holds kube-scheduler to the plan, while all its own filters run. What it
//! does when it is left alone is counted as well.
//!
//! `AGREEMENT_SEED=7` tries another seed instead of the usual ones, `AGREEMENT_SEED=100..=200` several, and
//! `AGREEMENT_SEED=random` as many as usual, from the clock on.

mod cloud;
mod court;
mod dice;
mod extender;
mod plan;
mod pods;
mod storage;
mod workload;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use court::{Court, Judgement};
use dice::Dice;
use plan::{Plan, plan};
use workload::Workload;

/// The usual seeds.
const SEEDS: RangeInclusive<u64> = 1..=60;
/// Where others are named.
const OTHERS: &str = "AGREEMENT_SEED";

/// What came of all workloads.
#[derive(Default)]
struct Tally {
    workloads: usize,
    pods: usize,
    placed: usize,
    nodes: usize,
    /// Workloads that agree in our order of the pods, but not in every other.
    in_order: Vec<u64>,
    /// Workloads that kube-scheduler binds completely when it is left alone.
    alone: usize,
    /// Pods that it leaves without a node then, by what it says.
    crowded_out: BTreeMap<String, usize>,
    kinds: BTreeMap<String, usize>,
    failures: Vec<u64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_scheduler_binds_every_pod_where_it_was_planned() -> anyhow::Result<()> {
    let court = Court::open().await?;
    let began = Instant::now();
    let mut tally = Tally::default();
    let others = others()?;
    for seed in others.clone().unwrap_or(SEEDS) {
        let workload = Workload::random(seed);
        if let Err(error) = tally.hear(&court, &workload).await {
            tally.fail(&workload, None, &format!("{error:#}"));
        }
    }
    tally.report(began);
    ensure!(tally.failures.is_empty(), "workloads failed, by seed (details above): {:?}", tally.failures);
    if others.is_some() {
        return Ok(());
    }
    ensure!(tally.placed * 2 > tally.pods, "most pods must be placed for this to mean anything");
    let missing: Vec<_> = pods::ALL_KINDS.iter().filter(|kind| !tally.kinds.contains_key(**kind)).collect();
    ensure!(missing.is_empty(), "no pod was placed that has: {missing:?}");
    Ok(())
}

impl Tally {
    async fn hear(&mut self, court: &Court, workload: &Workload) -> anyhow::Result<()> {
        let began = Instant::now();
        let cluster = court.admit(workload).await?;
        let plan = plan(cluster, &workload.cloud, &mut Dice::new(!workload.seed))?;
        self.workloads += 1;
        self.pods += workload.pending.len();
        self.placed += plan.places.len();
        self.nodes += plan.nodes.len();
        let judgement = court.judge(workload, &plan).await?;
        let word = match &judgement {
            Judgement::Agrees => "agrees",
            Judgement::AgreesInOrder => {
                self.in_order.push(workload.seed);
                "agrees in our order"
            }
            Judgement::Refuses(refused) => {
                let told: Vec<String> = refused.iter().map(|(pod, why)| format!("{pod}: {why}")).collect();
                self.fail(workload, Some(&plan), &told.join("\n"));
                "refuses"
            }
        };
        let mut alone = "";
        if !matches!(judgement, Judgement::Refuses(_)) {
            let placed =
                workload.pending.iter().filter(|pod| plan.places.keys().any(|key| pod["metadata"]["name"] == key.name));
            let told = placed.filter_map(|pod| pod["metadata"]["annotations"][pods::KINDS].as_str());
            for (kind, count) in workload::kinds(told) {
                *self.kinds.entry(kind).or_default() += count;
            }
            let crowded_out = court.let_loose(workload, &plan).await?;
            if crowded_out.is_empty() {
                self.alone += 1;
                alone = ", alone too";
            }
            for why in crowded_out.into_values() {
                *self.crowded_out.entry(reason(&why)).or_default() += 1;
            }
        }
        println!(
            "{:6.1} s  seed {}: {} of {} pods on {} new and {} old nodes: kube-scheduler {word}{alone}",
            began.elapsed().as_secs_f64(),
            workload.seed,
            plan.places.len(),
            workload.pending.len(),
            plan.nodes.len(),
            workload.nodes.len(),
        );
        Ok(())
    }

    /// Shows everything that is needed to see a failure again.
    fn fail(&mut self, workload: &Workload, plan: Option<&Plan>, what: &str) {
        self.failures.push(workload.seed);
        println!("── seed {} ({OTHERS}={} tries it alone):", workload.seed, workload.seed);
        println!("{what}");
        for (pod, node) in plan.iter().flat_map(|plan| &plan.places) {
            println!("planned: {pod} → {node}");
        }
        for object in workload.manifests() {
            println!("{object}");
        }
        for node in plan.iter().flat_map(|plan| &plan.nodes) {
            println!("bought: {node}");
        }
        println!("── end of seed {}", workload.seed);
    }

    fn report(&self, began: Instant) {
        let Self { workloads, pods, placed, nodes, in_order, alone, .. } = self;
        println!(
            "{workloads} workloads in {:.0} s: {placed} of {pods} pods placed, {nodes} nodes bought",
            began.elapsed().as_secs_f64()
        );
        println!("placed pods by constraint: {:?}", self.kinds);
        println!("in our order only: {in_order:?}");
        println!("left alone, kube-scheduler binds {alone} workloads completely; else pods are left because of:");
        for (why, count) in &self.crowded_out {
            println!("{count:6}  {why}");
        }
    }
}

/// A message of kube-scheduler without its numbers.
fn reason(message: &str) -> String {
    let told = message.split(". ").next().unwrap_or_default();
    told.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The seeds that the environment names.
fn others() -> anyhow::Result<Option<RangeInclusive<u64>>> {
    let Ok(text) = std::env::var(OTHERS) else { return Ok(None) };
    if text == "random" {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        return Ok(Some(now..=now + (SEEDS.end() - SEEDS.start())));
    }
    let (first, last) = text.split_once("..=").unwrap_or((&text, &text));
    let number = |text: &str| {
        text.parse()
            .with_context(|| format!("{OTHERS}: found {text:?}, expected a number, a range like 7..=40 or random"))
    };
    Ok(Some(number(first)?..=number(last)?))
}
