//! A Kubernetes control plane of our own, with the CRDs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;

use crate::build::Parts;
use crate::cluster::Cluster;
use crate::janitor::Janitor;
use crate::part::Part;

/// A control plane without anything around it. Dropped, it is gone with everything it wrote.
#[derive(Debug)]
pub struct ControlPlane {
    pub cluster: Cluster,
    // In this order: it stops before its folder goes.
    part: Part,
    folder: TempDir,
    _janitor: Janitor,
}

impl ControlPlane {
    /// Starts it and installs the CRDs. `scheduler`: fields of the scheduler's configuration that are not the usual.
    pub async fn start(parts: &Parts, scheduler: Option<&Value>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("karpenter-rs-").tempdir()?;
        let janitor = Janitor::clearing(folder.path())?;
        let mut command = Command::new(&parts.controlplane);
        command.args(["run", "--audit", "--exit-with-stdin", "--data-dir"]).arg(data(folder.path()));
        if let Some(scheduler) = scheduler {
            let file = folder.path().join("scheduler.json");
            fs::write(&file, scheduler.to_string())?;
            command.arg("--scheduler-config").arg(file);
        }
        let part = Part::start(&mut command, &folder.path().join("controlplane.log"))?;
        let cluster = Cluster::connect(Path::new(&part.text("admin_kubeconfig")?)).await?;
        for crd in karpenter_api::crd::files()? {
            cluster.apply(&crd.yaml).await.with_context(|| crd.name.clone())?;
        }
        cluster.serves_ours().await?;
        Ok(Self { cluster, part, folder, _janitor: janitor })
    }

    /// Another connection to the API server: one belongs to the runtime that made it.
    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        Cluster::connect(Path::new(&self.kubeconfig()?)).await
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> anyhow::Result<String> {
        self.part.text("admin_kubeconfig")
    }

    pub(crate) fn endpoint(&self) -> anyhow::Result<String> {
        self.part.text("endpoint")
    }

    /// The certificate of its authority, PEM.
    pub(crate) fn authority(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.part.text("ca_file")?)?)
    }

    /// For whatever goes when it goes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        data(self.folder())
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("controlplane")
}
