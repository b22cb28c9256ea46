//! `cargo xtask crds`

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let folder = root.join("crds");
    let mut stale = Vec::new();
    for file in karpenter_api::crd::files()? {
        let path = folder.join(&file.name);
        let known = fs::read_to_string(&path).unwrap_or_default();
        if known == file.yaml {
            continue;
        }
        stale.push(file.name.clone());
        if !check {
            fs::create_dir_all(&folder).context("crds/")?;
            fs::write(&path, &file.yaml).with_context(|| format!("crds/{}", file.name))?;
            println!("wrote crds/{}", file.name);
        }
    }
    if check && !stale.is_empty() {
        bail!("crds/: {} not as crates/api says; `cargo xtask crds` writes them", stale.join(", "));
    }
    Ok(())
}
