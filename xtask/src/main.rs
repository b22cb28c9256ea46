//! Every chore of the project: `cargo xtask --help`.

mod crds;

use std::path::{Path, PathBuf};

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
    /// Write the CRDs of crates/api to crds/, or check that they are up to date.
    Crds {
        /// Change nothing; fail if a file is not as it would be written.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Crds { check } => crds::run(&root(), check),
    }
}

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
