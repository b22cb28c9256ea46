//! `cargo xtask bench drain`: every node is deleted at once. How fast do the pods leave, what does it cost?
//!
//! A real control plane, simulated kubelets, and the controller as users run it. The nodes are made by hand, as an earlier
//! controller would have left them; EC2 knows none of their instances, so nothing is waited for but the pods.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use karpenter_api::NodeClaim;
use karpenter_harness::{Controller, Environment, Parts, Request, Seen, until};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{cargo, shown};

/// Requests at once while the cluster is made.
const AT_ONCE: usize = 48;
/// Longer than any machine takes.
const WITHIN: Duration = Duration::from_mins(30);

#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    #[arg(long, default_value_t = 20)]
    pods_per_node: usize,
    /// KUBE_CLIENT_QPS of the controller.
    #[arg(long, default_value_t = 200)]
    qps: u32,
    /// One object instead of the table.
    #[arg(long)]
    json: bool,
    /// Measure an optimised build of the controller (minutes, once).
    #[arg(long)]
    release: bool,
}

#[derive(Debug, Serialize)]
struct Measured {
    nodes: usize,
    pods: usize,
    evicted: usize,
    qps: u32,
    /// From the deletion of the NodeClaims until none is left.
    seconds: f64,
    /// From the first eviction to the last.
    evicting_seconds: f64,
    evictions_per_second: f64,
    /// How long the API server thinks about one, in the median, in milliseconds.
    eviction_ms: f64,
    /// Most evictions under way at a time, as far as was seen.
    most_at_once: f64,
    /// Evictions that were refused.
    refused: usize,
    /// Requests to the API server for each pod that left: evictions and all writes to nodes and claims.
    writes_per_eviction: f64,
    /// Events published for each pod that left.
    events_per_eviction: f64,
    /// Before, and the most it ever held, in 10⁶ bytes.
    resident_mb: f64,
    peak_mb: f64,
    /// Processor time from the deletion on.
    cpu_seconds: f64,
}

pub(crate) fn run(root: &Path, wanted: &Drain) -> anyhow::Result<()> {
    let mut build = vec!["build", "--workspace", "--quiet", "--locked", "--bin", "karpenter"];
    build.extend(wanted.release.then_some("--release"));
    shown(cargo().current_dir(root).args(build))?;
    // This program lies beside it, or beside the folder of the other profile.
    let here = std::env::current_exe()?;
    let target = here.parent().and_then(Path::parent).context("a target folder")?;
    let binary = target.join(if wanted.release { "release" } else { "debug" }).join("karpenter");
    let parts = Parts::ready(&|line| eprintln!("{line}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = measure(&binary, &parts, wanted) => measured,
            interrupt = tokio::signal::ctrl_c() => {
                interrupt?;
                bail!("interrupted; nothing is left running")
            }
        }
    })?;
    if wanted.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        println!("{}", table(&measured));
    }
    Ok(())
}

async fn measure(binary: &Path, parts: &Parts, wanted: &Drain) -> anyhow::Result<Measured> {
    let clock = Instant::now();
    let say = |what: &str| eprintln!("{:7.1} s  {what}", clock.elapsed().as_secs_f64());
    let environment = Environment::start(parts).await?;
    // EC2 does not list its instances: a kubelet that is late on a busy machine would look as if its own were gone.
    let silent =
        json!({ "action": "DescribeInstances", "kind": "error", "code": "RequestLimitExceeded", "count": null });
    environment.aws.tell("fault", &silent)?;
    let client = &environment.cluster.client;
    say("making nodes and pods");
    let nodes = (0..wanted.nodes).map(|number| node(client.clone(), number));
    stream::iter(nodes).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let all = (0..wanted.nodes).flat_map(|on| (0..wanted.pods_per_node).map(move |number| (on, number)));
    let pods = all.map(|(on, number)| pod(client.clone(), on, number));
    stream::iter(pods).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let pods = wanted.nodes * wanted.pods_per_node;
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    until("all pods run", WITHIN, async || {
        let waiting = count(&api, "status.phase!=Running").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(Seen::holds(waiting == 0, waiting))
    })
    .await?;

    say("starting the controller");
    let mut command = environment.command(binary);
    command.env("KUBE_CLIENT_QPS", wanted.qps.to_string()).env("LOG_LEVEL", "info");
    let controller = environment.controller_by(&mut command)?;
    until("the controller knows the cluster", WITHIN, async || {
        let synced = controller.metric("karpenter_cluster_state_synced").unwrap_or(0.0);
        Ok(Seen::holds(synced > 0.0, synced))
    })
    .await?;
    let resident_mb = controller.memory()?.now;
    let before = environment.requests()?.len();
    let cpu = controller.cpu_time()?;

    say("deleting all NodeClaims");
    let began = Instant::now();
    let claims: Api<NodeClaim> = Api::all(client.clone());
    let gone = (0..wanted.nodes).map(|number| {
        let claims = claims.clone();
        async move { claims.delete(&claim_name(number), &DeleteParams::default()).await.map(drop) }
    });
    stream::iter(gone).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let most_at_once = watched(&controller, &claims, &say).await?;
    let seconds = began.elapsed().as_secs_f64();
    say("all are gone");
    let requests = environment.requests()?.split_off(before);
    let figures = Figures::of(&requests, pods)?;
    Ok(Measured {
        nodes: wanted.nodes,
        pods,
        evicted: figures.evicted,
        qps: wanted.qps,
        seconds,
        evicting_seconds: figures.evicting,
        evictions_per_second: figures.rate,
        eviction_ms: figures.milliseconds,
        most_at_once,
        refused: figures.refused,
        writes_per_eviction: figures.writes,
        events_per_eviction: figures.events,
        resident_mb,
        peak_mb: controller.memory()?.peak,
        cpu_seconds: controller.cpu_time()?.saturating_sub(cpu).as_secs_f64(),
    })
}

/// Waits for the end of the last claim; returns the most evictions that were under way.
async fn watched(controller: &Controller, claims: &Api<NodeClaim>, say: &dyn Fn(&str)) -> anyhow::Result<f64> {
    let (mut most, mut told) = (0.0_f64, Instant::now());
    until("every NodeClaim is gone", WITHIN, async || {
        most = most.max(controller.metric("karpenter_rs_pods_leaving").unwrap_or(0.0));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let left = count(claims, "").await?;
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            say(&format!("{left} NodeClaims are left"));
        }
        Ok(Seen::holds(left == 0, left))
    })
    .await?;
    Ok(most)
}

struct Figures {
    evicted: usize,
    evicting: f64,
    rate: f64,
    milliseconds: f64,
    refused: usize,
    writes: f64,
    events: f64,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests, which are small")]
    fn of(requests: &[Request], pods: usize) -> anyhow::Result<Self> {
        let evictions = || requests.iter().filter(|request| request.what == "create pods/eviction");
        let accepted: Vec<Timestamp> = evictions().filter(|one| one.code < 300).map(|one| one.at).collect();
        if accepted.len() * 100 < pods * 95 {
            bail!("found {} evictions, expected one for nearly each of {pods} pods", accepted.len());
        }
        let (first, last) = (accepted.iter().min(), accepted.iter().max());
        let (first, last) = first.zip(last).context("an eviction")?;
        let evicting = last.duration_since(*first).as_secs_f64();
        let mut took: Vec<f64> =
            evictions().map(|one| one.answered.duration_since(one.at).as_secs_f64() * 1000.0).collect();
        took.sort_by(f64::total_cmp);
        let is_event = |request: &&Request| request.what.ends_with(" events");
        let is_read =
            |request: &&Request| ["get ", "list ", "watch "].iter().any(|verb| request.what.starts_with(verb));
        let writes = requests.iter().filter(|request| !is_event(request) && !is_read(request)).count();
        Ok(Self {
            evicted: accepted.len(),
            evicting,
            rate: accepted.len() as f64 / evicting.max(0.001),
            milliseconds: took.get(took.len() / 2).copied().unwrap_or_default(),
            refused: evictions().filter(|one| one.code >= 300).count(),
            writes: writes as f64 / accepted.len() as f64,
            events: requests.iter().filter(is_event).count() as f64 / accepted.len() as f64,
        })
    }
}

fn table(measured: &Measured) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "NODES",
        "PODS",
        "EVICTED",
        "QPS",
        "SECONDS",
        "EVICTING",
        "EVICTIONS/S",
        "MS EACH",
        "AT ONCE",
        "REFUSED",
        "WRITES/EVICTION",
        "EVENTS/EVICTION",
        "RESIDENT MB",
        "PEAK MB",
        "CPU S",
    ]);
    let row = [
        measured.nodes.to_string(),
        measured.pods.to_string(),
        measured.evicted.to_string(),
        measured.qps.to_string(),
        format!("{:.1}", measured.seconds),
        format!("{:.1}", measured.evicting_seconds),
        format!("{:.1}", measured.evictions_per_second),
        format!("{:.0}", measured.eviction_ms),
        format!("{:.0}", measured.most_at_once),
        measured.refused.to_string(),
        format!("{:.2}", measured.writes_per_eviction),
        format!("{:.2}", measured.events_per_eviction),
        format!("{:.0}", measured.resident_mb),
        format!("{:.0}", measured.peak_mb),
        format!("{:.1}", measured.cpu_seconds),
    ];
    table.add_row(row);
    table
}

/// How many objects there are, without their contents.
async fn count<K>(api: &Api<K>, fields: &str) -> anyhow::Result<i64>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut params = ListParams::default().limit(500);
    if !fields.is_empty() {
        params = params.fields(fields);
    }
    let page = api.list_metadata(&params).await?;
    let shown = i64::try_from(page.items.len()).unwrap_or(i64::MAX);
    // The API server counts the rest of a list only if nothing is selected; what is selected is there or not.
    Ok(shown + page.metadata.remaining_item_count.unwrap_or(0))
}

fn claim_name(number: usize) -> String {
    format!("drain-{number:04}")
}

fn node_name(number: usize) -> String {
    format!("ip-10-0-{}-{}.us-west-2.compute.internal", number / 250, number % 250)
}

/// A claim in use and its node.
async fn node(client: kube::Client, number: usize) -> anyhow::Result<()> {
    let (claim, node) = (claim_name(number), node_name(number));
    let provider_id = format!("aws:///us-west-2a/i-{number:017x}");
    let labels = json!({
        "karpenter.sh/nodepool": "general", "karpenter.k8s.aws/ec2nodeclass": "default",
        "karpenter.sh/registered": "true", "karpenter.sh/initialized": "true",
        "node.kubernetes.io/instance-type": "m5.4xlarge", "topology.kubernetes.io/zone": "us-west-2a",
        "karpenter.sh/capacity-type": "on-demand", "kubernetes.io/hostname": node,
    });
    let resources = json!({ "cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "20Gi" });
    let since = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |name: &str| json!({ "type": name, "status": "True", "reason": name, "message": "", "lastTransitionTime": since });
    let conditions = ["Launched", "Registered", "Initialized", "Ready"].map(condition);
    let api: Api<Node> = Api::all(client.clone());
    let made = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": node, "labels": labels, "finalizers": ["karpenter.sh/termination"],
            "annotations": { "kwok.x-k8s.io/node": "fake" },
        },
        "spec": { "providerID": provider_id },
        "status": { "capacity": resources, "allocatable": resources },
    });
    api.create(&PostParams::default(), &serde_json::from_value(made)?).await?;
    let api: Api<NodeClaim> = Api::all(client);
    let made = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": { "name": claim, "labels": labels, "finalizers": ["karpenter.sh/termination"] },
        "spec": {
            "requirements": [],
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
        },
    });
    api.create(&PostParams::default(), &serde_json::from_value(made)?).await?;
    let status: Value = json!({ "status": {
        "providerID": provider_id, "nodeName": node, "imageID": "ami-1", "capacity": resources,
        "allocatable": resources, "conditions": conditions,
    } });
    api.patch_status(&claim, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

async fn pod(client: kube::Client, on: usize, number: usize) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::default_namespaced(client);
    let made = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("app-{on:04}-{number:02}"), "labels": { "app": "app" } },
        "spec": {
            "nodeName": node_name(on), "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": "registry.k8s.io/pause:3.10",
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
            }],
        },
    });
    api.create(&PostParams::default(), &serde_json::from_value(made)?).await?;
    Ok(())
}
