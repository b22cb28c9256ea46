//! Names in the environment that look like a setting and are none: a typing error that would go unnoticed.

use anyhow::bail;
use clap::{Args, Command};

use super::Options;

/// Read by the AWS SDK and the chart, not by an option.
const OTHERS: [&str; 3] = ["AWS_REGION", "SYSTEM_NAMESPACE", "KUBERNETES_MIN_VERSION"];
/// Only the start of a setting's name in Karpenter's documentation of long ago, and of other programs.
const PREFIX: &str = "KARPENTER_";

/// Refuses the first variable that is nearly a setting.
pub(super) fn check(variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
    let options = Options::augment_args(Command::new(""));
    let known: Vec<&str> =
        options.get_arguments().filter_map(|option| option.get_env()?.to_str()).chain(OTHERS).collect();
    let mut all: Vec<(String, String)> = variables.filter(|(name, _)| !known.contains(&name.as_str())).collect();
    all.sort();
    for (name, value) in all {
        // Kubernetes tells pods of Services this way: KARPENTER_METRICS_PORT=tcp://10.0.0.1:8080.
        if value.contains("://") && name.ends_with("_PORT") {
            continue;
        }
        let meant = known.iter().find(|known| name.strip_prefix(PREFIX) == Some(known) || is_near(&name, known));
        if let Some(meant) = meant {
            bail!("{name}: found a variable that is no setting, expected {meant}");
        }
    }
    Ok(())
}

/// One letter more, less or other; in a long name two.
fn is_near(name: &str, known: &str) -> bool {
    let most = if known.len() < 14 { 1 } else { 2 };
    name.len().abs_diff(known.len()) <= most && distance(name.as_bytes(), known.as_bytes()) <= most
}

/// How many letters to add, drop, change or swap with the next one (optimal string alignment).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(x != y)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, value: &str) -> Option<String> {
        check(std::iter::once((name.to_owned(), value.to_owned()))).err().map(|error| error.to_string())
    }

    #[test]
    fn a_name_that_is_nearly_a_setting_is_refused_with_the_setting() {
        for (name, meant) in [
            ("CLUSTER_NAM", "CLUSTER_NAME"),
            ("CLUSTERNAME", "CLUSTER_NAME"),
            ("BATCH_IDEL_DURATION", "BATCH_IDLE_DURATION"),
            ("SUBNET_REFRESH_INTERVALL", "SUBNET_REFRESH_INTERVAL"),
            ("KARPENTER_FEATURE_GATES", "FEATURE_GATES"),
            ("KARPENTER_METRICS_PORT", "METRICS_PORT"),
        ] {
            let said = told(name, "x").unwrap_or_default();
            assert!(said.starts_with(name) && said.ends_with(&format!("expected {meant}")), "{name}: {said}");
        }
    }

    #[test]
    fn what_is_none_of_ours_is_left_alone() {
        for name in
            ["PATH", "HOME", "KUBERNETES_SERVICE_HOST", "KARPENTER_SERVICE_HOST", "AWS_ROLE_ARN", "LOG", "CLUSTER_ID"]
        {
            assert_eq!(told(name, "x"), None, "{name}");
        }
        for name in ["CLUSTER_NAME", "AWS_REGION", "SYSTEM_NAMESPACE"] {
            assert_eq!(told(name, "x"), None, "{name}");
        }
        assert_eq!(told("KARPENTER_METRICS_PORT", "tcp://10.0.0.1:8080"), None, "a Service called karpenter-metrics");
    }
}
