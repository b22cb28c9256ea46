//! `cargo xtask tidy`: rules about the house that the compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::licences;

/// A module that fits on a few screens.
const LINES_MAX: usize = 800;
/// Crates, and what they may not depend on: decisions know nothing of clients, clocks or the SDK, and whoever judges
/// the scheduler does not share its code.
const WALLS: [(&str, &[&str]); 7] = [
    ("crates/solver", &["karpenter-", "k8s-openapi", "kube", "serde", "tokio", "aws-", "jiff"]),
    ("crates/api", &["karpenter-", "tokio", "aws-"]),
    ("crates/core", &["karpenter-aws", "kube", "tokio", "aws-"]),
    ("crates/aws", &["karpenter-aws-wire", "kube", "tokio", "aws-sdk", "aws-config"]),
    ("crates/driver", &["karpenter-aws-wire", "kube", "tokio", "aws-sdk", "aws-config"]),
    ("crates/sim", &["karpenter-aws-wire", "kube", "tokio", "aws-sdk", "aws-config"]),
    ("dev/judge", &["karpenter-solver", "karpenter-aws", "kube", "tokio", "aws-"]),
];
/// The rooms inside core; they meet in `decide` and in the world, never in each other.
const ROOMS: [&str; 3] = ["provision", "lifecycle", "nodepool"];

pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut wrong = licences::check(root)?;
    for (folder, refused) in WALLS {
        let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).context(folder)?;
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for name in dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next()) {
            // kube-core is types only.
            let is = |each: &&&str| name.starts_with(**each) && !(name == "kube" && folder == "crates/api");
            if refused.iter().any(|each| is(&each)) {
                wrong.push(format!("{folder}/Cargo.toml: depends on {name}"));
            }
        }
    }
    for file in sources(root)? {
        let text = fs::read_to_string(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file).display();
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{name}: {lines} lines, expected at most {LINES_MAX}"));
        }
    }
    for room in ROOMS {
        for file in rust_files(&root.join("crates/core/src").join(room))? {
            let text = fs::read_to_string(&file)?;
            for other in ROOMS.iter().filter(|other| **other != room) {
                if text.contains(&format!("crate::{other}::")) {
                    wrong.push(format!("{}: the room {room} reaches into the room {other}", file.display()));
                }
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["src", "crates", "xtask/src", "dev/harness/src", "dev/judge", "benches/ours/src", "tests"] {
        found.extend(rust_files(&root.join(folder))?);
    }
    Ok(found)
}

fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
