//! How soon EC2 is asked once the batch window of pending pods has ended.

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::manifests::{class, deployment, on_demand, pool, requiring, types};
use crate::stage::{SOON, Stage};

const PODS: usize = 1000;
/// In a release build. One for development plans many times slower.
const WITHIN: SignedDuration = SignedDuration::from_millis(50);
const WITHIN_UNOPTIMIZED: SignedDuration = SignedDuration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pods_are_asked_for_at_once() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    let machines = requiring(&[on_demand(), types(&["m5.24xlarge", "m5.12xlarge"])]);
    stage.apply(&[class("default", &json!({})), pool("general", &machines)]).await?;
    stage.pools_are_ready(&["general"]).await?;
    stage.kill()?;
    stage.apply(&[deployment("app", u32::try_from(PODS)?, "500m", "1Gi", &json!({}))]).await?;
    stage
        .until(&format!("{PODS} pods are there"), SOON, async || {
            let pods = stage.pods("app").await?.len();
            Ok(Seen::holds(pods == PODS, pods))
        })
        .await?;
    stage.start()?;
    let asked = stage
        .until("CreateFleet", SOON, async || {
            let calls = stage.aws.peer("calls?action=CreateFleet&limit=2000")?;
            // The class was tried before, by a dry run.
            let is_real = |call: &&Value| call["parameters"]["DryRun"].as_str() != Some("true");
            let first = calls["recent"].as_array().and_then(|all| all.iter().find(is_real)).cloned();
            Ok(first.map_or_else(|| Seen::NotYet("no call".to_owned()), Seen::Done))
        })
        .await?;
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
    let asked = Timestamp::from_microsecond((asked["at"].as_f64().context("a time")? * 1e6) as i64)?;
    let log = stage.log();
    let at = |entry: &Value, key: &str| -> anyhow::Result<Timestamp> {
        Ok(entry[key].as_str().with_context(|| format!("{key} of {entry}"))?.parse()?)
    };
    let find = |what: &dyn Fn(&Value) -> bool| log.iter().find(|entry| what(entry)).context("a line in the log");
    let does = |entry: &Value, what: &str| {
        entry["message"] == "dispatch" && entry["action"].as_str().is_some_and(|action| action.starts_with(what))
    };
    let first = at(find(&|entry| does(entry, "create NodeClaim/"))?, "timestamp")?;
    let rounds = log.iter().filter(|entry| entry["message"] == "round");
    let ends = rounds.filter_map(|entry| at(entry, "window_ended").ok()).filter(|end| *end <= first);
    let ended = ends.max().context("a round")?;
    let launch = at(find(&|entry| does(entry, "launch Launch/"))?, "timestamp")?;
    let since = |moment: Timestamp| moment.duration_since(ended).as_millis();
    println!("window ended            0 ms");
    println!("NodeClaims planned   {:4} ms", since(first));
    let created = stage.written()?.into_iter().filter(|one| one.what == "create nodeclaims");
    for (number, one) in created.enumerate() {
        println!(
            "{:2}. is created        {:4} ms  (asked for after {} ms)",
            number + 1,
            since(one.answered),
            since(one.at)
        );
    }
    println!(
        "launch decided       {:4} ms  (its NodeClaims are created, its template is made meanwhile)",
        since(launch)
    );
    println!("CreateFleet arrives  {:4} ms", since(asked));
    let within = if cfg!(debug_assertions) { WITHIN_UNOPTIMIZED } else { WITHIN };
    assert!(asked.duration_since(ended) < within, "{} ms, expected less than {within:?}", since(asked));
    Ok(())
}
