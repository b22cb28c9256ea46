//! The kubelet's settings as its command-line flags, for the families that start it by a script.

use serde_json::Value;

use super::{Bootstrap, text};

/// All flags, in a fixed order. Maps are quoted: `<` must not reach a shell.
pub(super) fn kubelet(bootstrap: &Bootstrap<'_>) -> Vec<String> {
    let kubelet = &bootstrap.kubelet;
    let labels: Vec<String> = bootstrap.node_labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let taints: Vec<String> = bootstrap.taints.iter().map(taint).collect();
    let mut flags = vec![
        format!("--node-labels=\"{}\"", labels.join(",")),
        format!("--register-with-taints=\"{}\"", taints.join(",")),
        format!("--max-pods={}", bootstrap.max_pods),
    ];
    {
        let (field, flag) = ("podsPerCore", "--pods-per-core");
        flags.extend(kubelet.get(field).map(|value| format!("{flag}={}", text(value))));
    }
    for (field, flag, between) in [
        ("systemReserved", "--system-reserved", '='),
        ("kubeReserved", "--kube-reserved", '='),
        ("evictionHard", "--eviction-hard", '<'),
        ("evictionSoft", "--eviction-soft", '<'),
        ("evictionSoftGracePeriod", "--eviction-soft-grace-period", '='),
    ] {
        let pairs = kubelet.get(field).and_then(Value::as_object).filter(|pairs| !pairs.is_empty());
        if let Some(pairs) = pairs {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{key}{between}{}", text(value))).collect();
            flags.push(format!("{flag}=\"{}\"", pairs.join(",")));
        }
    }
    for (field, flag) in [
        ("evictionMaxPodGracePeriod", "--eviction-max-pod-grace-period"),
        ("imageGCHighThresholdPercent", "--image-gc-high-threshold"),
        ("imageGCLowThresholdPercent", "--image-gc-low-threshold"),
        ("cpuCFSQuota", "--cpu-cfs-quota"),
    ] {
        flags.extend(kubelet.get(field).map(|value| format!("{flag}={}", text(value))));
    }
    flags
}

fn taint(taint: &karpenter_api::Taint) -> String {
    match taint.value.as_deref().filter(|value| !value.is_empty()) {
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
        None => format!("{}:{}", taint.key, taint.effect),
    }
}
