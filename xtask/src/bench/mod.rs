//! `cargo xtask bench drain`: see there. `cargo xtask bench scheduling`: our scheduler and Karpenter's own on the same inputs, in one run, in one table.
//!
//! ```text
//! diverse, real ─▶ Input (a file) ─▶ karpenter-bench (ours)      ─▶ Measured ─▶ table, JSON
//!                      │         └─▶ benches/karpenter (the peer) ─▶ Measured ─┘
//!                      └─▶ bound: what no plan can beat
//! ```

mod bound;
mod diverse;
mod drain;
mod real;
mod report;
mod sides;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use karpenter_bench::Input;

use report::Row;
use sides::Sides;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Speed, price and memory of our scheduler beside Karpenter's own, on the same inputs.
    ///
    /// Needs Rust and Go; the first run builds Karpenter's scheduler (minutes, once). Without --full the peer is spared the
    /// inputs on which it needs more than some minutes; ours runs on all of them.
    Scheduling(Scheduling),
    /// Every node of a large cluster is deleted at once: evictions per second, requests and memory.
    ///
    /// Needs Rust, Go and Python, some minutes and some GB of memory for the control plane.
    Drain(drain::Drain),
}

#[derive(Debug, Args)]
pub(crate) struct Scheduling {
    /// Only the input of this name, or those whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// An array with one object per input instead of the table.
    #[arg(long)]
    json: bool,
    /// Only ours.
    #[arg(long)]
    no_peer: bool,
    /// The peer gets the largest inputs too.
    #[arg(long)]
    full: bool,
    /// The peer may think this long about one input (such as 90s or 10m); beyond, there is no figure of it.
    #[arg(long, default_value = "300s", value_parser = duration)]
    peer_limit: Duration,
    /// How many nodes the peer looks at in parallel: 5 in Karpenter's own benchmark, 1 in a default installation.
    #[arg(long, default_value_t = 5)]
    peer_workers: usize,
    /// Keep the input files in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Write the inputs to the folder of --keep and run nothing.
    #[arg(long, requires = "keep")]
    inputs_only: bool,
}

/// One line of the table to be.
struct Case {
    name: String,
    /// The peer needs minutes for it.
    heavy: bool,
    /// No plan can cost less than the fractional assignment of its pods.
    bounded: bool,
    make: Make,
}

/// Makes the input of a name.
type Make = Box<dyn Fn(&str) -> anyhow::Result<Input>>;

pub(crate) fn run(root: &Path, bench: &Bench) -> anyhow::Result<()> {
    let wanted = match bench {
        Bench::Scheduling(wanted) => wanted,
        Bench::Drain(wanted) => return drain::run(root, wanted),
    };
    let mut cases = diverse::cases();
    cases.extend(real::cases(root));
    let cases = chosen(cases, wanted.only.as_deref())?;
    let temporary = tempfile::tempdir()?;
    let folder = wanted.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let sides = (!wanted.inputs_only).then(|| Sides::ready(root, !wanted.no_peer)).transpose()?;
    let mut rows = Vec::new();
    for case in cases {
        let input = (case.make)(&case.name).with_context(|| case.name.clone())?;
        let path = folder.join(format!("{}.json", case.name));
        std::fs::write(&path, serde_json::to_vec(&input)?).with_context(|| path.display().to_string())?;
        let Some(sides) = &sides else {
            continue;
        };
        eprintln!("{}: {} pods", case.name, input.pod_count());
        let ours = sides.ours(&path)?;
        let limit = (wanted.full || !case.heavy).then_some(wanted.peer_limit);
        let peer = limit.map(|limit| sides.peer(&path, limit, wanted.peer_workers)).transpose()?.flatten();
        let bound = case.bounded.then(|| bound::usd_per_hour(&input)).transpose()?;
        rows.push(Row { input: case.name, pods: input.pod_count(), bound, ours, peer });
    }
    if sides.is_none() {
        println!("the inputs are in {}", folder.display());
    } else if wanted.json {
        println!("{}", serde_json::to_string_pretty(&report::json(&rows))?);
    } else {
        println!("{}", report::table(&rows));
        println!(
            "seconds: the decision alone; ours the best of three where one takes less than one; see benches/README.md"
        );
        if !wanted.no_peer {
            println!("Karpenter 1.14.0, --peer-workers {}", wanted.peer_workers);
        }
    }
    Ok(())
}

/// The case of that name, or all whose name contains it.
fn chosen(mut cases: Vec<Case>, only: Option<&str>) -> anyhow::Result<Vec<Case>> {
    let Some(only) = only else {
        return Ok(cases);
    };
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let is_name = names.iter().any(|name| name == only);
    cases.retain(|case| if is_name { case.name == only } else { case.name.contains(only) });
    if cases.is_empty() {
        bail!("--only {only}: found no such input, expected (a part of) one of {}", names.join(", "));
    }
    Ok(cases)
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("found {text:?}, expected a duration such as 90s or 10m");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each input may cost, as a multiple of what no plan can beat, and how many nodes it may have.
    #[test]
    fn plans_stay_near_the_bound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        // Twice the nodes of Karpenter's own plan (948 and 51) where daemons run on every node.
        let expected = [
            ("trace-whole", 1.08, usize::MAX),
            ("trace-cpu", 1.15, usize::MAX),
            ("trace-whole-daemonsets", 1.88, 2 * 948),
            ("trace-cpu-daemonsets", 1.35, 2 * 51),
            ("sizes-1000", 1.08, usize::MAX),
        ];
        let cases = real::cases(root);
        for (name, factor, nodes_max) in expected {
            let case = cases.iter().find(|case| case.name == name).unwrap();
            let input = (case.make)(name).unwrap();
            let ours = karpenter_bench::run(&input).unwrap();
            let bound = bound::usd_per_hour(&input).unwrap();
            let ratio = ours.usd_per_hour / bound;
            println!("{name}: {ratio:.4} times the bound, {} nodes, {:.2} s", ours.nodes, ours.seconds);
            assert!(ratio <= factor, "{name}: {} $/h, {ratio:.3} times the bound {bound:.2}", ours.usd_per_hour);
            assert!(ours.nodes <= nodes_max, "{name}: {} nodes", ours.nodes);
            assert_eq!(ours.unscheduled, 0, "{name}");
        }
    }

    /// What a preferred pool cannot hold is planned as well for the next one as if that were the only one.
    #[test]
    fn plans_over_pools_near_their_limits_stay_near_the_bound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let cases = real::cases(root);
        let case = cases.iter().find(|case| case.name == "trace-cpu").unwrap();
        let mut input = (case.make)("trace-cpu").unwrap();
        let bound = bound::usd_per_hour(&input).unwrap();
        let mut preferred = input.node_pools[0].clone();
        preferred.metadata.name = Some("preferred".to_owned());
        preferred.metadata.uid = Some("7a1e6f0c-0000-4000-8000-000000000005".to_owned());
        preferred.spec.weight = Some(10);
        input.node_pools.push(preferred);
        for limit in ["3", "100", "1000", "5000"] {
            let limits = serde_json::from_value(serde_json::json!({ "cpu": limit })).unwrap();
            input.node_pools[1].spec.limits = Some(limits);
            let ours = karpenter_bench::run(&input).unwrap();
            let ratio = ours.usd_per_hour / bound;
            println!("limit of {limit} cores: {ratio:.3} times the bound, {} nodes", ours.nodes);
            assert!(ratio <= 1.15, "{limit}: {} $/h, {ratio:.3} times the bound {bound:.2}", ours.usd_per_hour);
            assert_eq!(ours.unscheduled, 0, "{limit}");
        }
    }

    fn named(only: &str) -> Vec<String> {
        let cases = chosen(diverse::cases(), Some(only)).unwrap_or_default();
        cases.into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn a_full_name_chooses_one_input_and_a_part_all_that_contain_it() {
        assert_eq!(named("diverse-50"), ["diverse-50"]);
        assert_eq!(named("preferences").len(), 2);
        assert!(named("nobody").is_empty());
    }
}
