//! Random clusters: what the scheduler decides is what kube-scheduler would accept.

use std::panic;

use karpenter_judge::generate::Scope;
use karpenter_judge::{Cluster, any_cluster, any_cluster_with, judge};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};

/// Ten thousand in all, in tests that run side by side.
const CASES: u32 = 2_500;

fn config(cases: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    Config {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        ..Config::default()
    }
}

fn check(cluster: &Cluster) -> Result<(), TestCaseError> {
    let Ok(plan) = panic::catch_unwind(|| cluster.plan()) else {
        return Err(TestCaseError::fail("the round panics"));
    };
    let faults = judge(cluster, &plan);
    if !faults.is_empty() {
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        return Err(TestCaseError::fail(format!("{}\n\n{plan}", told.join("\n"))));
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(CASES))]

    #[test]
    fn kube_scheduler_accepts_a_round(cluster in any_cluster()) {
        check(&cluster)?;
    }

    #[test]
    fn what_is_odd_ends_in_a_verdict(cluster in any_cluster_with(Scope { odd: true })) {
        check(&cluster)?;
    }
}
