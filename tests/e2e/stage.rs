//! One control plane and one AWS for all tests, emptied before each; tests take turns.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use karpenter_api::conditions::Condition;
use karpenter_api::labels::NODEPOOL;
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool};
use karpenter_core::resources::{MEMORY, amount};
use karpenter_harness::{Aws, Cluster, Controller, Environment, Instance, Parts, Request, Seen, until};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

/// Longer than any way through the controller takes on a slow machine; a wait that is over earlier ends earlier.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Longer than the controller waits between things it does one by one: it tags one instance a second.
const QUIET: Duration = Duration::from_millis(1500);

/// Made by the first test, gone when the process ends (the harness sees to that).
static HOUSE: Mutex<Option<Environment>> = Mutex::const_new(None);

/// A cluster with nothing in it but the planted cloud, and the controller.
pub(crate) struct Stage {
    house: MutexGuard<'static, Option<Environment>>,
    pub(crate) cluster: Cluster,
    pub(crate) aws: Aws,
    controller: Option<Controller>,
}

impl Stage {
    /// Everything is there and the controller runs.
    pub(crate) async fn set() -> anyhow::Result<Self> {
        let mut stage = Self::dark().await?;
        stage.start()?;
        Ok(stage)
    }

    /// Everything but the controller.
    pub(crate) async fn dark() -> anyhow::Result<Self> {
        let mut house = HOUSE.lock().await;
        if house.is_none() {
            *house = Some(Environment::start(&Parts::ready(&|line| println!("{line}"))?).await?);
        }
        let environment = house.as_ref().context("it was just started")?;
        // A connection belongs to the runtime that made it, and every test has its own.
        let cluster = environment.connect().await?;
        environment.wipe(&cluster).await?;
        let aws = environment.aws.clone();
        aws.tell(
            "timings",
            &json!({ "pending": 0.2, "shutting_down": 0.2, "node_registration": 0.2, "node_ready": 0.2, "node_devices": 0.2 }),
        )?;
        Ok(Self { house, cluster, aws, controller: None })
    }

    fn environment(&self) -> anyhow::Result<&Environment> {
        self.house.as_ref().context("it was started before this stage was made")
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.controller = Some(self.environment()?.controller(Path::new(env!("CARGO_BIN_EXE_karpenter")))?);
        Ok(())
    }

    /// As [`Stage::start`], with some of the controller's environment changed.
    pub(crate) fn start_with(&mut self, changed: &[(&str, &str)]) -> anyhow::Result<()> {
        let binary = Path::new(env!("CARGO_BIN_EXE_karpenter"));
        self.controller = Some(self.environment()?.controller_with(binary, changed)?);
        Ok(())
    }

    pub(crate) fn controller(&self) -> anyhow::Result<&Controller> {
        self.controller.as_ref().context("it runs")
    }

    /// SIGKILL: the controller has no last words.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.controller.take().context("it runs")?.kill()
    }

    /// Applies objects in order.
    pub(crate) async fn apply(&self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            self.cluster.apply(&object.to_string()).await?;
        }
        Ok(())
    }

    /// Looks until it is done; a failure shows what the controller said.
    pub(crate) async fn until<T, F>(&self, what: &str, within: Duration, look: F) -> anyhow::Result<T>
    where
        F: AsyncFnMut() -> anyhow::Result<Seen<T>>,
    {
        let began = Instant::now();
        let found = until(what, within, look).await.map_err(|error| error.context(self.last_words()))?;
        println!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
        Ok(found)
    }

    fn last_words(&self) -> String {
        let said = self.controller.as_ref().map(Controller::said).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        format!("the controller said last:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    /// The controller's log, a line an entry.
    pub(crate) fn log(&self) -> Vec<Value> {
        let said = self.controller.as_ref().map(Controller::said).unwrap_or_default();
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    // ── what is there ──

    pub(crate) async fn pods(&self, app: &str) -> anyhow::Result<Vec<Pod>> {
        let params = ListParams::default().labels(&format!("app={app}"));
        Ok(Api::default_namespaced(self.cluster.client.clone()).list(&params).await?.items)
    }

    pub(crate) async fn claims(&self, pool: &str) -> anyhow::Result<Vec<NodeClaim>> {
        let params = ListParams::default().labels(&format!("karpenter.sh/nodepool={pool}"));
        Ok(Api::all(self.cluster.client.clone()).list(&params).await?.items)
    }

    pub(crate) async fn node(&self, name: &str) -> anyhow::Result<Node> {
        Ok(Api::all(self.cluster.client.clone()).get(name).await?)
    }

    pub(crate) async fn pool(&self, name: &str) -> anyhow::Result<NodePool> {
        Ok(Api::all(self.cluster.client.clone()).get(name).await?)
    }

    pub(crate) async fn class(&self, name: &str) -> anyhow::Result<Ec2NodeClass> {
        Ok(Api::all(self.cluster.client.clone()).get(name).await?)
    }

    pub(crate) async fn delete<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned,
    {
        Api::<K>::all(self.cluster.client.clone()).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    pub(crate) async fn without_finalizers<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned,
    {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        Api::<K>::all(self.cluster.client.clone()).patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Instances that cost money, launched for this pool.
    pub(crate) fn instances(&self, pool: &str) -> anyhow::Result<Vec<Instance>> {
        let mut alive = self.aws.alive()?;
        alive.retain(|instance| instance.tags.get("karpenter.sh/nodepool").is_some_and(|of| of == pool));
        Ok(alive)
    }

    /// Messages of the events of this reason on an object.
    pub(crate) async fn events(&self, kind: &str, name: &str, reason: &str) -> anyhow::Result<Vec<String>> {
        let all = self.cluster.events().await?.into_iter().filter(|event| {
            let about = &event.involved_object;
            about.kind.as_deref() == Some(kind)
                && about.name.as_deref() == Some(name)
                && event.reason.as_deref() == Some(reason)
        });
        Ok(all.filter_map(|event| event.message).collect())
    }

    /// Parameters of every call of this action so far, as on the wire; dry runs are none.
    pub(crate) fn calls(&self, action: &str) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
        let told = self.aws.peer(&format!("calls?action={action}&limit=2000"))?;
        let recent = told["recent"].as_array().cloned().unwrap_or_default();
        Ok(recent
            .into_iter()
            .map(|call| call["parameters"].clone())
            .filter(|parameters| parameters["DryRun"] != "true")
            .map(serde_json::from_value)
            .collect::<Result<_, _>>()?)
    }

    /// The object, changed by an administrator.
    pub(crate) async fn patch<K>(&self, name: &str, patch: &Value) -> anyhow::Result<()>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned,
    {
        Api::<K>::all(self.cluster.client.clone()).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    pub(crate) async fn patch_status<K>(&self, name: &str, patch: &Value) -> anyhow::Result<()>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned,
    {
        let api = Api::<K>::all(self.cluster.client.clone());
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    // ── what is waited for ──

    /// All pods of an app run on nodes; returns them.
    pub(crate) async fn pods_run(&self, app: &str, count: usize) -> anyhow::Result<Vec<Pod>> {
        self.until(&format!("{count} pods of {app} run"), SOON, async || {
            let pods = self.pods(app).await?;
            let phases: Vec<_> = pods.iter().map(phase_and_node).collect();
            let running = phases.iter().filter(|(phase, node)| phase == "Running" && !node.is_empty()).count();
            Ok(if running == count && pods.len() == count {
                Seen::Done(pods)
            } else {
                Seen::NotYet(format!("{phases:?}"))
            })
        })
        .await
    }

    /// NodePools that may be used, in the state in which a round of provisioning finds them.
    pub(crate) async fn pools_are_ready(&self, names: &[&str]) -> anyhow::Result<()> {
        self.until(&format!("{names:?} are Ready"), SOON, async || {
            let mut waiting = Vec::new();
            for name in names {
                let conditions = self.pool(name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
                if !conditions.iter().any(|known| known.type_ == "Ready" && known.status == "True") {
                    waiting.push(format!("{name}: {conditions:?}"));
                }
            }
            Ok(Seen::holds(waiting.is_empty(), waiting))
        })
        .await
    }

    /// The status of a NodePool says that it has so many nodes, and the memory of those that have joined. Counters are
    /// written every few seconds only, so a controller that rests may have some to write.
    pub(crate) async fn pool_counts(&self, name: &str, nodes: i64) -> anyhow::Result<()> {
        self.until(&format!("{name} counts {nodes} nodes"), SOON, async || {
            let status = self.pool(name).await?.status.unwrap_or_default();
            let all = self.cluster.nodes().await?;
            let of_pool = all.iter().filter(|node| node.labels().get(NODEPOOL).map(String::as_str) == Some(name));
            let memory = |all: Option<&BTreeMap<String, Quantity>>| amount(MEMORY, &all?.get(MEMORY)?.0);
            let joined: Vec<_> = of_pool.filter_map(|node| memory(node.status.as_ref()?.capacity.as_ref())).collect();
            let counted = status.resources.as_ref().and_then(|all| amount(MEMORY, &all.get(MEMORY)?.to_string()));
            let agree = i64::try_from(joined.len())? < nodes || counted == Some(joined.iter().sum());
            Ok(Seen::holds(status.nodes == Some(nodes) && agree, (status, joined)))
        })
        .await
    }

    /// The one claim of a pool, once it is Ready.
    pub(crate) async fn ready_claim(&self, pool: &str) -> anyhow::Result<NodeClaim> {
        self.until(&format!("the NodeClaim of {pool} is Ready"), SOON, async || {
            let mut claims = self.claims(pool).await?;
            let told: Vec<_> = claims.iter().map(told).collect();
            let is_ready = matches!(claims.as_slice(), [one] if is(one, "Ready", "True"));
            Ok(match claims.pop() {
                Some(claim) if is_ready => Seen::Done(claim),
                _ => Seen::NotYet(format!("{told:?}")),
            })
        })
        .await
    }

    /// A message of an event, once there is one that says all of these.
    pub(crate) async fn is_told(&self, kind: &str, name: &str, reason: &str, words: &[&str]) -> anyhow::Result<()> {
        self.until(&format!("{kind} {name}: event {reason} with {words:?}"), SOON, async || {
            let messages = self.events(kind, name, reason).await?;
            let says = |message: &String| words.iter().all(|word| message.contains(word));
            Ok(Seen::holds(messages.iter().any(says), messages))
        })
        .await
    }

    /// The pods of an app wait, and an event of each says why.
    pub(crate) async fn pods_wait(&self, app: &str, words: &[&str]) -> anyhow::Result<()> {
        let pods = self
            .until(&format!("there are pods of {app}"), SOON, async || {
                let pods = self.pods(app).await?;
                Ok(if pods.is_empty() { Seen::NotYet("none".to_owned()) } else { Seen::Done(pods) })
            })
            .await?;
        for pod in pods {
            self.is_told("Pod", name(&pod.metadata), "FailedScheduling", words).await?;
        }
        Ok(())
    }

    /// Neither claims nor instances came into being, and the controller is at rest while nothing changes.
    pub(crate) async fn nothing_happens(&mut self) -> anyhow::Result<()> {
        /// How long it is watched: this measures a rate and waits for nothing.
        const WATCHED: Duration = Duration::from_secs(2);
        self.has_settled().await?;
        let before = self.sample()?;
        tokio::time::sleep(WATCHED).await;
        let after = self.sample()?;
        let claims = self.cluster.claims().await?;
        assert!(claims.is_empty(), "{:?}", claims.iter().map(told).collect::<Vec<_>>());
        assert!(self.aws.alive()?.is_empty(), "{:?}", self.aws.alive()?);
        assert!(self.controller.as_mut().is_some_and(Controller::is_running), "it ended: {}", self.last_words());
        assert_eq!(after.writes, before.writes, "nothing changed, so nothing is written");
        assert!(after.calls - before.calls <= 4, "{} AWS calls in {WATCHED:?}", after.calls - before.calls);
        let cpu = after.cpu.saturating_sub(before.cpu);
        assert!(cpu < WATCHED / 4, "{cpu:?} of processor time in {WATCHED:?}");
        let turns = after.turns - before.turns;
        assert!(turns < 50.0, "{turns} turns of the driver in {WATCHED:?}");
        Ok(())
    }

    /// What was still being done when a test looked is done: for a while it has written nothing and called nobody.
    pub(crate) async fn has_settled(&self) -> anyhow::Result<()> {
        let mut last = self.sample()?;
        let mut since = Instant::now();
        self.until("the controller comes to rest", SOON, async || {
            let now = self.sample()?;
            if (&now.writes, now.calls) != (&last.writes, last.calls) {
                (last, since) = (now, Instant::now());
            }
            Ok(Seen::holds(since.elapsed() > QUIET, (&last.writes, last.calls)))
        })
        .await
    }

    /// What the controller has written to the API server since the control plane started.
    pub(crate) fn writes(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        self.environment()?.writes()
    }

    /// The same, one by one.
    pub(crate) fn written(&self) -> anyhow::Result<Vec<Request>> {
        self.environment()?.written()
    }

    fn sample(&self) -> anyhow::Result<Sample> {
        let controller = self.controller.as_ref().context("it runs")?;
        Ok(Sample {
            writes: self.writes()?,
            calls: self.aws.peer("calls")?["count"].as_u64().context("a count")?,
            cpu: controller.cpu_time()?,
            turns: controller.metric("karpenter_rs_turn_duration_seconds_count")?,
        })
    }
}

/// What the controller has done so far.
struct Sample {
    writes: BTreeMap<String, usize>,
    calls: u64,
    cpu: Duration,
    /// How often its loop went round.
    turns: f64,
}

pub(crate) fn name(meta: &kube::api::ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub(crate) fn node_of(pod: &Pod) -> String {
    phase_and_node(pod).1
}

fn phase_and_node(pod: &Pod) -> (String, String) {
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    (phase.unwrap_or_default(), node.unwrap_or_default())
}

pub(crate) fn condition<'a>(claim: &'a NodeClaim, kind: &str) -> Option<&'a Condition> {
    claim.status.as_ref()?.conditions.as_ref()?.iter().find(|known| known.type_ == kind)
}

/// Whether a condition of a claim has this status, or this reason.
pub(crate) fn is(claim: &NodeClaim, kind: &str, word: &str) -> bool {
    condition(claim, kind).is_some_and(|known| known.status == word || known.reason == word)
}

pub(crate) fn label<'a>(claim: &'a NodeClaim, key: &str) -> &'a str {
    claim.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map_or("", String::as_str)
}

pub(crate) fn provider_id(claim: &NodeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.provider_id.as_deref()).unwrap_or_default()
}

pub(crate) fn node_name(claim: &NodeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.node_name.as_deref()).unwrap_or_default()
}

/// A claim on one line.
pub(crate) fn told(claim: &NodeClaim) -> String {
    let conditions = claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let conditions = conditions.map(|c| format!("{}={} ({} {})", c.type_, c.status, c.reason, c.message));
    let deleting = if claim.metadata.deletion_timestamp.is_some() { " deleting" } else { "" };
    format!("{}{deleting} {}: {}", name(&claim.metadata), provider_id(claim), conditions.collect::<Vec<_>>().join(", "))
}
