//! Every chore of the project: `cargo xtask --help`.

mod bench;
mod crds;
mod demo;
mod licences;
mod sim;
mod test;
mod tidy;

use std::process::Command;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

/// Chores of karpenter-rs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Watch 120 pending pods become nodes, on a real control plane and AWS on loopback.
    ///
    /// Needs Rust, Go and Python. The first run builds the control plane (up to ten minutes); later ones start at once.
    Demo {
        /// Leave everything running until Enter is pressed, to look around with kubectl.
        #[arg(long)]
        stay: bool,
    },
    /// Everything a change must pass: format, clippy, tidy, CRDs, unit and end-to-end tests.
    Test {
        /// Only the steps whose name contains this.
        #[arg(long)]
        only: Option<String>,
    },
    /// Measure, beside Karpenter.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// Write the CRDs of crates/api to crds/, or check that they are up to date.
    Crds {
        /// Change nothing; fail if a file is not as it would be written.
        #[arg(long)]
        check: bool,
    },
    /// Let the controller live through simulated days full of faults, one a seed, and judge it.
    ///
    /// Options: --seeds 1000 --from 1 --hours 24 --nodes 300 --pods 3000 --jobs 2 --json --log --keep-going
    /// --mutation NAME. A world that breaks an invariant shows its seed and what led there.
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Check what the compiler does not: who depends on whom, which files are too long.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    let root = karpenter_harness::root();
    match Cli::parse().chore {
        Chore::Demo { stay } => demo::run(&root, stay),
        Chore::Test { only } => test::run(&root, only.as_deref()),
        Chore::Bench { what } => bench::run(&root, &what),
        Chore::Crds { check } => crds::run(&root, check),
        Chore::Sim { options } => sim::run(&root, &options),
        Chore::Tidy => tidy::run(&root),
    }
}

/// Runs a command with its output shown; an error names it.
fn shown(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Cargo, as it runs this; but without what it told us about ourselves, as build scripts would take that for a change and
/// build half of everything again.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command
}
