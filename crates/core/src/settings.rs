//! The settings decisions read. Parsing flags and environment is the binary's.

use std::str::FromStr;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::TopologySpreadConstraint;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub cluster_name: String,
    /// Idle gap that ends a batch of pending pods (`BATCH_IDLE_DURATION`).
    pub batch_idle: SignedDuration,
    /// Longest a batch stays open (`BATCH_MAX_DURATION`).
    pub batch_max: SignedDuration,
    pub preference_policy: PreferencePolicy,
    pub min_values_policy: MinValuesPolicy,
    /// Nodes that are broken for long are replaced (feature gate `NodeRepair`).
    pub node_repair: bool,
    /// Of pods that have none of their own; their selectors are derived from what selects the pod (`SCHEDULER_CONFIG`).
    pub default_spreads: Vec<TopologySpreadConstraint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PreferencePolicy {
    #[default]
    Respect,
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MinValuesPolicy {
    #[default]
    Strict,
    BestEffort,
}

impl FromStr for PreferencePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Respect" => Ok(Self::Respect),
            "Ignore" => Ok(Self::Ignore),
            other => Err(format!("found {other:?}, expected Respect or Ignore")),
        }
    }
}

impl FromStr for MinValuesPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Strict" => Ok(Self::Strict),
            "BestEffort" => Ok(Self::BestEffort),
            other => Err(format!("found {other:?}, expected Strict or BestEffort")),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_name: String::new(),
            batch_idle: SignedDuration::from_secs(1),
            batch_max: SignedDuration::from_secs(10),
            preference_policy: PreferencePolicy::default(),
            min_values_policy: MinValuesPolicy::default(),
            node_repair: false,
            default_spreads: Vec::new(),
        }
    }
}
