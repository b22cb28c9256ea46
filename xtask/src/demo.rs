//! `cargo xtask demo`: 120 pods, from pending to running on nodes that were not there before.

use std::collections::{BTreeMap, BTreeSet};
use std::io::stdin;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use karpenter_harness::{Environment, Instance, Parts, Seen, until};
use serde_json::Value;

use crate::{cargo, shown};

/// All of it, from `kubectl apply` to the last pod.
const RUNNING_WITHIN: Duration = Duration::from_mins(3);
const PODS: usize = 120;
/// The Deployment that spreads over zones.
const SPREAD: &str = "web";

pub(crate) fn run(root: &Path, stay: bool) -> anyhow::Result<()> {
    let clock = Instant::now();
    let say = move |line: &str| println!("{:7.1} s  {line}", clock.elapsed().as_secs_f64());
    say("building the controller");
    shown(cargo().current_dir(root).args(["build", "--workspace", "--quiet", "--locked", "--bin", "karpenter"]))?;
    // This program lies beside it.
    let binary = std::env::current_exe()?.with_file_name("karpenter");
    let parts = Parts::ready(&say)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            ended = play(root, &binary, &parts, stay, &say) => ended,
            interrupt = tokio::signal::ctrl_c() => {
                interrupt?;
                bail!("interrupted; nothing is left running")
            }
        }
    })
}

async fn play(root: &Path, binary: &Path, parts: &Parts, stay: bool, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    say("starting the control plane and AWS");
    let environment = Environment::start(parts).await?;
    let mut controller = environment.controller(binary)?;
    say("the controller runs as its ServiceAccount; applying a NodePool, an EC2NodeClass and three Deployments");
    let cluster = &environment.cluster;
    cluster.apply(&std::fs::read_to_string(root.join("examples/general-purpose.yaml"))?).await?;
    cluster.apply(&std::fs::read_to_string(root.join("dev/harness/manifests/demo.yaml"))?).await?;
    let mut told = String::new();
    let running = until("all pods run", RUNNING_WITHIN, async || {
        if !controller.is_running() {
            bail!("the controller ended: {}", controller.said());
        }
        let (pods, claims, nodes) = (cluster.pods().await?, cluster.claims().await?, cluster.nodes().await?);
        let is_running = |phase: Option<&str>| phase == Some("Running");
        let running =
            pods.iter().filter(|pod| is_running(pod.status.as_ref().and_then(|status| status.phase.as_deref())));
        let running = running.count();
        let line = format!("{} NodeClaims, {} nodes, {running}/{PODS} pods run", claims.len(), nodes.len());
        if line != told {
            say(&line);
            told.clone_from(&line);
        }
        Ok(if running == PODS { Seen::Done(()) } else { Seen::NotYet(line) })
    });
    if let Err(error) = running.await {
        return Err(error.context(controller.said()));
    }
    report(&environment).await?;
    if stay {
        println!("KUBECONFIG={}\nPress Enter to end.", environment.kubeconfig()?);
        tokio::task::spawn_blocking(|| stdin().read_line(&mut String::new())).await??;
    }
    controller.stop()?;
    say("stopping");
    drop(environment);
    say("nothing is left running");
    Ok(())
}

/// A node as the table shows it.
struct Row {
    instance: Instance,
    price: f64,
    pods: BTreeMap<String, usize>,
}

async fn report(environment: &Environment) -> anyhow::Result<()> {
    let instances = environment.aws.alive()?;
    let bill = environment.aws.peer("state")?;
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for node in environment.cluster.nodes().await? {
        let name = node.metadata.name.unwrap_or_default();
        let provider_id = node.spec.and_then(|spec| spec.provider_id).unwrap_or_default();
        let instance = instances.iter().find(|instance| provider_id.ends_with(&instance.id));
        let instance = instance.with_context(|| format!("node {name}: EC2 knows no running {provider_id}"))?.clone();
        let price = price(&bill, &instance.id).with_context(|| format!("{}: no price", instance.id))?;
        rows.insert(name, Row { instance, price, pods: BTreeMap::new() });
    }
    for pod in environment.cluster.pods().await? {
        let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        let app = pod.metadata.labels.unwrap_or_default().remove("app").unwrap_or_default();
        let row = rows.get_mut(&node).with_context(|| format!("a pod of {app} is on {node:?}, which is no node"))?;
        *row.pods.entry(app).or_default() += 1;
    }
    let total: f64 = rows.values().map(|row| row.price).sum();
    println!("{}", table(&rows, total));
    check(&rows, &instances, total, bill["usd_per_hour"].as_f64().unwrap_or_default())
}

fn table(rows: &BTreeMap<String, Row>, total: f64) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["NODE", "INSTANCE", "TYPE", "ZONE", "CAPACITY", "$/HOUR", "PODS", "OF"]);
    for (node, row) in rows {
        let pods: usize = row.pods.values().sum();
        let of = row.pods.iter().map(|(app, count)| format!("{app} {count}")).collect::<Vec<_>>().join(", ");
        let capacity = if row.instance.spot { "spot" } else { "on-demand" };
        let node = node.split('.').next().unwrap_or(node);
        table.add_row([
            node,
            &row.instance.id,
            &row.instance.instance_type,
            &row.instance.zone,
            capacity,
            &format!("{:.4}", row.price),
            &pods.to_string(),
            &of,
        ]);
    }
    let pods: usize = rows.values().flat_map(|row| row.pods.values()).sum();
    let (nodes, total) = (format!("{} nodes", rows.len()), format!("{total:.4}"));
    table.add_row([nodes.as_str(), "", "", "", "", &total, &pods.to_string(), ""]);
    for column in [5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table must add up: to what EC2 says is running, to what it charges, and to the spread that was asked for.
fn check(rows: &BTreeMap<String, Row>, instances: &[Instance], total: f64, charged: f64) -> anyhow::Result<()> {
    let shown: BTreeSet<&str> = rows.values().map(|row| row.instance.id.as_str()).collect();
    let running: BTreeSet<&str> = instances.iter().map(|instance| instance.id.as_str()).collect();
    if shown != running {
        bail!("the nodes are {shown:?}, EC2 runs {running:?}");
    }
    if (total - charged).abs() > 1e-4 {
        bail!("the table adds up to {total:.4} $/hour, EC2 charges {charged:.4}");
    }
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows.values() {
        *zones.entry(&row.instance.zone).or_default() += row.pods.get(SPREAD).copied().unwrap_or_default();
    }
    let skew = zones.values().max().unwrap_or(&0) - zones.values().min().unwrap_or(&0);
    if zones.len() != 3 || skew > 1 {
        bail!("{SPREAD} is spread {zones:?}, expected three zones and a skew of at most 1");
    }
    println!(
        "EC2 runs the same {} instances for the same {charged:.4} $/hour; {SPREAD} is spread {zones:?}, skew {skew}",
        running.len()
    );
    Ok(())
}

fn price(bill: &Value, id: &str) -> Option<f64> {
    bill["instances"].as_array()?.iter().find(|each| each["id"] == id)?["price"].as_f64()
}
