//! `karpenter-bench INPUT`: our scheduler on one input file; prints one line of JSON.

use std::path::PathBuf;

use anyhow::Context;
use karpenter_bench::{Input, run};

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).context("usage: karpenter-bench INPUT.json")?;
    let measured = run(&Input::read(&path)?)?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
