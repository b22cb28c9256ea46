//! Random clusters: what the scheduler decides is what kube-scheduler would accept.
//!
//! Thirteen thousand in all, in tests that run side by side. What fails stays in `rounds.regressions`.

use std::panic;

use karpenter_core::settings::{MinValuesPolicy, PreferencePolicy};
use karpenter_judge::generate::{self, Scope};
use karpenter_judge::{Cluster, Plan, any_cluster, any_cluster_with, judge};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};

fn config(cases: u32) -> Config {
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as Box<_>);
    Config { max_shrink_iters: 10_000, failure_persistence, ..generate::config(cases) }
}

fn check(cluster: &Cluster) -> Result<(), TestCaseError> {
    check_as(cluster, Cluster::plan)
}

fn check_as(cluster: &Cluster, plan: fn(&Cluster) -> Plan) -> Result<(), TestCaseError> {
    let again = plan;
    let Ok(plan) = panic::catch_unwind(|| plan(cluster)) else {
        return Err(TestCaseError::fail("the round panics"));
    };
    prop_assert_eq!(&plan, &again(cluster), "the same input, another decision");
    let told: Vec<String> = judge(cluster, &plan).iter().map(ToString::to_string).collect();
    prop_assert!(told.is_empty(), "{}\n\n{plan}", told.join("\n"));
    Ok(())
}

fn under(preferences: PreferencePolicy, min_values: MinValuesPolicy) -> impl Strategy<Value = Cluster> {
    any_cluster().prop_map(move |cluster| Cluster { preferences, min_values, ..cluster })
}

proptest! {
    #![proptest_config(config(2_200))]

    #[test]
    fn kube_scheduler_accepts_a_round(cluster in under(PreferencePolicy::Respect, MinValuesPolicy::Strict)) {
        check(&cluster)?;
    }

    #[test]
    fn it_does_where_min_values_give_way(cluster in under(PreferencePolicy::Respect, MinValuesPolicy::BestEffort)) {
        check(&cluster)?;
    }

    #[test]
    fn it_does_where_preferences_are_ignored(cluster in under(PreferencePolicy::Ignore, MinValuesPolicy::Strict)) {
        check(&cluster)?;
    }

    #[test]
    fn it_does_where_both_are(cluster in under(PreferencePolicy::Ignore, MinValuesPolicy::BestEffort)) {
        check(&cluster)?;
    }

    #[test]
    fn it_accepts_two_rounds_of_which_the_second_finds_the_claims_of_the_first(cluster in any_cluster()) {
        check_as(&cluster, Cluster::plan_in_two)?;
    }

    #[test]
    fn what_is_odd_ends_in_a_verdict(cluster in any_cluster_with(Scope { odd: true })) {
        check(&cluster)?;
    }
}
