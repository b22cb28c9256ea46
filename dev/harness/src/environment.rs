//! Everything a controller needs around it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::build::{Parts, root};
use crate::cluster::Cluster;
use crate::controller::Controller;
use crate::controlplane::ControlPlane;
use crate::part::Part;

/// The name of the cluster; what the AWS peer plants is tagged with it.
const CLUSTER: &str = "dev";
const SERVICE_ACCOUNT: &str = "kube-system/karpenter";
/// The same, as the API server's audit log calls it.
const USER: &str = "system:serviceaccount:kube-system:karpenter";

/// A request of the controller, as the API server's audit log tells it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Verb and resource, such as `create pods/eviction`.
    pub what: String,
    /// Of the object.
    pub name: String,
    pub at: Timestamp,
    pub answered: Timestamp,
    /// HTTP status of the answer.
    pub code: u64,
}

/// A control plane, AWS and the nodes of its instances. Dropped, it is gone with everything it wrote.
#[derive(Debug)]
pub struct Environment {
    pub cluster: Cluster,
    pub aws: Aws,
    // In the order in which they stop: who joins nodes goes before what they join.
    _aws: Part,
    controlplane: ControlPlane,
}

impl Environment {
    /// Starts everything and installs the CRDs, the ServiceAccount and its rules.
    pub async fn start(parts: &Parts) -> anyhow::Result<Self> {
        let controlplane = ControlPlane::start(parts, None).await?;
        let mut command = Command::new(&parts.python);
        command.env("PYTHONPATH", root().join("dev/aws")).env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["-m", "karpenter_aws_peer", "serve", "--exit-with-stdin"]);
        let peer = Part::start(&mut command, &controlplane.folder().join("aws.log"))?;
        let aws = Aws { endpoint: peer.text("endpoint")?, region: peer.text("region")? };
        let (kubeconfig, ca) = (controlplane.kubeconfig()?, controlplane.authority()?);
        let endpoint = controlplane.endpoint()?;
        aws.tell("cluster", &json!({"kubeconfig": kubeconfig, "endpoint": endpoint, "ca": base64(ca.as_bytes())}))?;
        let cluster = controlplane.cluster.clone();
        cluster.apply(include_str!("../manifests/rbac.yaml")).await?;
        let environment = Self { cluster, aws, _aws: peer, controlplane };
        environment.token(&parts.controlplane)?;
        Ok(environment)
    }

    fn token(&self, controlplane: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(controlplane);
        command.args(["kubeconfig", "--service-account", SERVICE_ACCOUNT, "--data-dir"]).arg(self.controlplane.data());
        let output = command.arg("--out").arg(self.token_file()).output()?;
        if !output.status.success() {
            bail!("a kubeconfig for {SERVICE_ACCOUNT}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Another connection to the API server: one belongs to the runtime that made it.
    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        self.controlplane.connect().await
    }

    /// Everything as after the start. No controller may run meanwhile.
    pub async fn wipe(&self, cluster: &Cluster) -> anyhow::Result<()> {
        cluster.wipe().await?;
        self.aws.tell("reset", &json!({}))?;
        let _ = fs::remove_file(self.log());
        Ok(())
    }

    /// What the controller has written to the API server so far, by verb and resource; events aside.
    pub fn writes(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for write in self.written()? {
            *counts.entry(write.what).or_default() += 1;
        }
        Ok(counts)
    }

    /// The same, one by one, in the order in which they were answered.
    pub fn written(&self) -> anyhow::Result<Vec<Request>> {
        let mut all = self.requests()?;
        all.retain(|one| {
            let verb = one.what.split(' ').next().unwrap_or_default();
            !matches!(verb, "get" | "list" | "watch") && !one.what.ends_with(" events")
        });
        Ok(all)
    }

    /// Everything that the controller has asked of the API server.
    pub fn requests(&self) -> anyhow::Result<Vec<Request>> {
        let logs = self.controlplane.data().join("logs");
        let mut parts = Vec::new();
        for entry in fs::read_dir(&logs).with_context(|| logs.display().to_string())? {
            let path = entry?.path();
            parts.extend(path.file_name().is_some_and(is_audit_log).then_some(path));
        }
        // Those that were full have their time in their names, which come before that of the one in use.
        parts.sort();
        let mut all = Vec::new();
        for part in parts {
            let text = fs::read_to_string(&part).with_context(|| part.display().to_string())?;
            // The last line may be half written.
            let entries =
                text.lines().filter(|line| line.contains(USER)).filter_map(|line| serde_json::from_str(line).ok());
            all.extend(entries.filter_map(|entry| request(&entry)));
        }
        Ok(all)
    }

    fn log(&self) -> PathBuf {
        self.controlplane.folder().join("karpenter.log")
    }

    fn token_file(&self) -> PathBuf {
        self.controlplane.folder().join("karpenter.kubeconfig")
    }

    /// A command with the environment that a pod of the controller has: nothing of it is for tests only.
    pub fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("KUBECONFIG", self.token_file())
            .env("AWS_ENDPOINT_URL", &self.aws.endpoint)
            .env("AWS_REGION", &self.aws.region)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("CLUSTER_NAME", CLUSTER)
            .env("METRICS_PORT", "0")
            .env("LOG_LEVEL", "debug")
            .env("HEALTH_PROBE_PORT", "0");
        command
    }

    /// Starts the controller as its ServiceAccount, with some of its environment changed.
    pub fn controller_with(&self, binary: &Path, changed: &[(&str, &str)]) -> anyhow::Result<Controller> {
        Controller::start(self.command(binary).envs(changed.iter().copied()), self.log())
    }

    /// Starts the controller as its ServiceAccount.
    pub fn controller(&self, binary: &Path) -> anyhow::Result<Controller> {
        self.controller_by(&mut self.command(binary))
    }

    /// Starts the controller by a [`Environment::command`] with settings of its own.
    pub fn controller_by(&self, command: &mut Command) -> anyhow::Result<Controller> {
        Controller::start(command, self.log())
    }

    /// An administrator's kubeconfig, for kubectl beside it.
    pub fn kubeconfig(&self) -> anyhow::Result<String> {
        self.controlplane.kubeconfig()
    }
}

/// The API server begins a new one at 100 MB: `audit-<time>.log` is what it has written before.
fn is_audit_log(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("audit"))
}

/// An entry of the audit log, if it is of the controller's.
fn request(entry: &Value) -> Option<Request> {
    let word = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (verb, resource) = (word("/verb"), word("/objectRef/resource"));
    if word("/user/username") != USER {
        return None;
    }
    let part = entry.pointer("/objectRef/subresource").and_then(Value::as_str);
    let part = part.map(|part| format!("/{part}")).unwrap_or_default();
    Some(Request {
        what: format!("{verb} {resource}{part}"),
        name: word("/objectRef/name").to_owned(),
        at: word("/requestReceivedTimestamp").parse().ok()?,
        answered: word("/stageTimestamp").parse().ok()?,
        code: entry.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
    })
}

/// Base64, standard alphabet, with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    k8s_openapi::serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
