//! `cargo xtask sim`: the controller in simulated worlds, built so that days pass in seconds.

use std::path::Path;

use crate::{cargo, shown};

pub(crate) fn run(root: &Path, options: &[String]) -> anyhow::Result<()> {
    let mut command = cargo();
    command.current_dir(root).args(["run", "--quiet", "--profile", "sim", "--package", "karpenter-sim", "--"]);
    shown(command.args(options))
}
