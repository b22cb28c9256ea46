//! How long a start takes, and where the time goes.

use std::time::{Duration, Instant};

use karpenter_harness::Seen;
use serde_json::json;

use crate::manifests::{class, pool};
use crate::stage::{SOON, Stage};

/// From the process's start, while AWS answers at once.
const READY_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_within_three_seconds() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    stage.apply(&[class("default", &json!({})), pool("general", &json!({}))]).await?;
    let began = Instant::now();
    stage.start()?;
    let after = stage
        .until("the readiness probe says yes", SOON, async || {
            let missing = stage.controller()?.missing().unwrap_or_else(|error| error.to_string());
            Ok(if missing.is_empty() { Seen::Done(began.elapsed()) } else { Seen::NotYet(missing) })
        })
        .await?;
    println!("{:6.3} s  the process is started", 0.0);
    for step in ["listening", "every watched kind was listed", "instance types are known", "ready"] {
        let logged = stage.controller()?.logged(step);
        let at = logged.as_ref().and_then(|line| line["after"].as_f64()).unwrap_or_default();
        println!("{at:6.3} s  {step}");
    }
    println!("{:6.3} s  the probe was asked and said so", after.as_secs_f64());
    assert!(after < READY_WITHIN, "{after:?}");
    stage.pools_are_ready(&["general"]).await?;
    println!("{:6.3} s  the NodePool is Ready", began.elapsed().as_secs_f64());
    Ok(())
}
