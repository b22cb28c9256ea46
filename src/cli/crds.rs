//! `karpenter crds`

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Crds {
    /// Print only this kind, e.g. NodePool.
    #[arg(long)]
    kind: Option<String>,
}

impl Crds {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let wanted = |kind: &str| self.kind.as_ref().is_none_or(|asked| asked.eq_ignore_ascii_case(kind));
        let mut found = false;
        for file in karpenter_api::crd::files()?.iter().filter(|file| wanted(&file.kind)) {
            print!("---\n{}", file.yaml);
            found = true;
        }
        anyhow::ensure!(
            found,
            "--kind: found {:?}, expected NodePool, NodeClaim, NodeOverlay, EC2NodeClass or CapacityBuffer",
            self.kind.as_deref().unwrap_or_default()
        );
        Ok(())
    }
}
