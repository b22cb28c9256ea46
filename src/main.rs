//! The binary `karpenter`: the shell around the pure crates.

mod act;
mod apiserver;
mod cli;
mod drive;
mod observe;
mod run;
mod scheduler_config;
mod serve;
mod settings;
mod telemetry;

fn main() -> std::process::ExitCode {
    cli::main()
}
