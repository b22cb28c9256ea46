//! `cargo xtask test`: what CI runs, in the order in which a mistake is cheapest to find.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context;
use karpenter_harness::Parts;

use crate::{cargo, crds, shown, tidy};

type Step<'a> = (&'static str, Box<dyn Fn() -> anyhow::Result<()> + 'a>);

pub(crate) fn run(root: &Path, only: Option<&str>) -> anyhow::Result<()> {
    let began = Instant::now();
    let parts = || Parts::ready(&|line| println!("   {line}"));
    let cargo = |arguments: &[&str]| shown(cargo().current_dir(root).args(arguments));
    let steps: Vec<Step> = vec![
        ("format", Box::new(|| cargo(&["fmt", "--all", "--check"]))),
        ("tidy", Box::new(|| tidy::run(root))),
        ("crds", Box::new(|| crds::run(root, true))),
        ("parts", Box::new(|| parts().map(drop))),
        ("clippy", Box::new(|| cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))),
        (
            "python",
            Box::new(|| {
                let python = parts()?.python;
                let folder = root.join("dev/aws");
                shown(Command::new(python).current_dir(folder).args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]))
            }),
        ),
        (
            "go",
            Box::new(|| {
                shown(Command::new("go").current_dir(root.join("dev/controlplane")).args(["vet", "-trimpath", "."]))
            }),
        ),
        ("unit and end-to-end", Box::new(|| cargo(&["test", "--workspace", "--locked"]))),
    ];
    for (name, step) in steps {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let from = Instant::now();
        println!("── {name}");
        step().with_context(|| format!("{name} (again: cargo xtask test --only '{name}')"))?;
        println!("   {name}: ok, {:.0} s", from.elapsed().as_secs_f64());
    }
    println!("all passed in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
