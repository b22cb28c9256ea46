//! One file per command.

mod completion;
mod crds;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::settings::Options;

/// A Kubernetes node autoscaler for EKS, drop-in successor of Karpenter.
///
/// Without a command it runs the controller. Every option can also be given by the environment
/// variable shown beside it, named as Karpenter names it, so that a Karpenter Deployment starts
/// this binary unchanged.
#[derive(Debug, Parser)]
#[command(name = "karpenter", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the custom resource definitions as YAML, for `kubectl apply -f -`.
    Crds(crds::Crds),
    /// Print a completion script for a shell, e.g. `karpenter completion bash`.
    Completion(completion::Completion),
}

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => crate::run::controller(&cli.options),
        Some(Command::Crds(command)) => command.run(),
        Some(Command::Completion(command)) => {
            command.run::<Cli>();
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("karpenter: {error:#}");
            ExitCode::FAILURE
        }
    }
}
