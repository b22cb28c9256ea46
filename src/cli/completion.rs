//! `karpenter completion`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(super) struct Completion {
    shell: Shell,
}

impl Completion {
    pub(super) fn run<C: CommandFactory>(&self) {
        clap_complete::generate(self.shell, &mut C::command(), "karpenter", &mut std::io::stdout());
    }
}
