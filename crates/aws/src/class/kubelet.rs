//! `spec.kubelet`: an open map to the API server, so what the kubelet would refuse or overlook is told here.

use karpenter_api::ec2nodeclass::AmiFamily;
use karpenter_api::{duration, quantity};
use serde_json::{Map, Value};

/// What the kubelet reads a field as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Float,
    Bool,
    Text,
    Duration,
    Ints,
    Texts,
    /// A map of texts (quantities and durations are texts there).
    TextMap,
    BoolMap,
    /// Not looked into.
    Any,
}

const SIGNALS: [&str; 6] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
];
const RESERVABLE: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];
/// What can be told to a kubelet that is not started by nodeadm: see `ami::flags` and `ami::bottlerocket`.
const EVERYWHERE: [&str; 12] = [
    "clusterDNS",
    "cpuCFSQuota",
    "evictionHard",
    "evictionMaxPodGracePeriod",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "kubeReserved",
    "maxPods",
    "podsPerCore",
    "systemReserved",
];

/// Fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1, Kubernetes 1.36) by what they hold. Below a list,
/// the path goes on with the items' fields.
const FIELDS: [(Kind, &str); 10] = [
    (
        Kind::Int,
        "containerLogMaxFiles containerLogMaxWorkers eventBurst eventRecordQPS \
         evictionMaxPodGracePeriod healthzPort imageGCHighThresholdPercent imageGCLowThresholdPercent iptablesDropBit \
         iptablesMasqueradeBit kubeAPIBurst kubeAPIQPS maxOpenFiles maxParallelImagePulls maxPods \
         nodeLeaseDurationSeconds nodeStatusMaxImages oomScoreAdj podPidsLimit podsPerCore port readOnlyPort \
         registryBurst registryPullQPS reservedMemory.numaNode shutdownGracePeriodByPodPriority.priority \
         shutdownGracePeriodByPodPriority.shutdownGracePeriodSeconds tracing.samplingRatePerMillion \
         userNamespaces.idsPerPod",
    ),
    (Kind::Float, "memoryThrottlingFactor"),
    (
        Kind::Bool,
        "authentication.anonymous.enabled authentication.webhook.enabled cgroupsPerQOS cpuCFSQuota \
         enableContentionProfiling enableControllerAttachDetach enableDebugFlagsHandler enableDebuggingHandlers \
         enableProfilingHandler enableServer enableSystemLogHandler enableSystemLogQuery failCgroupV1 failSwapOn \
         kernelMemcgNotification localStorageCapacityIsolation makeIPTablesUtilChains mergeDefaultEvictionSettings \
         protectKernelDefaults registerNode rotateCertificates runOnce seccompDefault serializeImagePulls \
         serverTLSBootstrap singleProcessOOMKill",
    ),
    (
        Kind::Text,
        "address apiVersion authentication.x509.clientCAFile authorization.mode cgroupDriver cgroupRoot clusterDomain \
         configMapAndSecretChangeDetectionStrategy containerLogMaxSize containerRuntimeEndpoint contentType \
         cpuManagerPolicy hairpinMode healthzBindAddress imagePullCredentialsVerificationPolicy imageServiceEndpoint \
         kind kubeReservedCgroup kubeletCgroups memoryManagerPolicy memoryReservationPolicy memorySwap.swapBehavior \
         podCIDR podLogsDir providerID reservedSystemCPUs resolvConf showHiddenMetricsForVersion staticPodPath \
         staticPodURL systemCgroups systemReservedCgroup tlsCertFile tlsMinVersion tlsPrivateKeyFile \
         topologyManagerPolicy topologyManagerScope tracing.endpoint volumePluginDir",
    ),
    (
        Kind::Duration,
        "authentication.webhook.cacheTTL authorization.webhook.cacheAuthorizedTTL \
         authorization.webhook.cacheUnauthorizedTTL containerLogMonitorInterval cpuCFSQuotaPeriod \
         cpuManagerReconcilePeriod crashLoopBackOff.maxContainerRestartPeriod evictionPressureTransitionPeriod \
         fileCheckFrequency httpCheckFrequency imageMaximumGCAge imageMinimumGCAge nodeStatusReportFrequency \
         nodeStatusUpdateFrequency runtimeRequestTimeout shutdownGracePeriod shutdownGracePeriodCriticalPods \
         streamingConnectionIdleTimeout syncFrequency volumeStatsAggPeriod",
    ),
    (Kind::Ints, "tlsCurvePreferences"),
    (
        Kind::Texts,
        "allowedUnsafeSysctls clusterDNS enforceNodeAllocatable preloadedImagesVerificationAllowlist tlsCipherSuites",
    ),
    (
        Kind::TextMap,
        "cpuManagerPolicyOptions evictionHard evictionMinimumReclaim evictionSoft evictionSoftGracePeriod kubeReserved \
         qosReserved systemReserved topologyManagerPolicyOptions",
    ),
    (Kind::BoolMap, "featureGates"),
    (Kind::Any, "logging registerWithTaints reservedMemory.limits staticPodURLHeader"),
];

fn kind_of(path: &str) -> Option<Kind> {
    FIELDS.iter().find(|(_, names)| names.split_ascii_whitespace().any(|name| name == path)).map(|(kind, _)| *kind)
}

fn has_fields_below(path: &str) -> bool {
    let below = |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    FIELDS.iter().any(|(_, names)| names.split_ascii_whitespace().any(below))
}

/// Everything the kubelet would refuse or overlook, each with its field, what was found and what was expected.
pub(super) fn problems(kubelet: &Map<String, Value>) -> Vec<String> {
    let mut all = Vec::new();
    shape(kubelet, "", &mut all);
    meaning(kubelet, &mut all);
    all
}

/// Names and kinds of fields.
fn shape(fields: &Map<String, Value>, under: &str, all: &mut Vec<String>) {
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let path = if under.is_empty() { name.clone() } else { format!("{under}.{name}") };
        if let Some(kind) = kind_of(&path) {
            // An expression may stand for this one.
            if let Some(expected) = mismatch(kind, value).filter(|_| !(path == "maxPods" && value.is_string())) {
                all.push(format!("spec.kubelet.{path}: found {value}, expected {expected}"));
            }
        } else if has_fields_below(&path) {
            match value {
                Value::Object(fields) => shape(fields, &path, all),
                Value::Array(items) if items.iter().all(Value::is_object) => {
                    items.iter().filter_map(Value::as_object).for_each(|fields| shape(fields, &path, all));
                }
                other => all.push(format!("spec.kubelet.{path}: found {other}, expected an object")),
            }
        } else {
            all.push(format!("spec.kubelet.{path}: found an unknown field, expected one of KubeletConfiguration"));
        }
    }
}

/// What was expected instead, if the value is of another kind.
fn mismatch(kind: Kind, value: &Value) -> Option<&'static str> {
    let is_text = |value: &Value| value.is_string();
    let (fits, expected) = match kind {
        Kind::Int => (value.is_i64(), "an integer"),
        Kind::Float => (value.is_number(), "a number"),
        Kind::Bool => (value.is_boolean(), "true or false"),
        Kind::Text => (value.is_string(), "a text"),
        Kind::Duration => (value.as_str().is_some_and(is_duration), "a duration such as 30s or 1m30s"),
        Kind::Ints => (value.as_array().is_some_and(|all| all.iter().all(Value::is_i64)), "a list of integers"),
        Kind::Texts => (value.as_array().is_some_and(|all| all.iter().all(is_text)), "a list of texts"),
        Kind::TextMap => (value.as_object().is_some_and(|all| all.values().all(is_text)), "a map of texts"),
        Kind::BoolMap => {
            (value.as_object().is_some_and(|all| all.values().all(Value::is_boolean)), "a map of true or false")
        }
        Kind::Any => (true, ""),
    };
    (!fits).then_some(expected)
}

/// What names and kinds cannot say.
fn meaning(kubelet: &Map<String, Value>, all: &mut Vec<String>) {
    let mut add = |field: &str, found: &dyn std::fmt::Display, expected: &str| {
        all.push(format!("spec.kubelet.{field}: found {found}, expected {expected}"));
    };
    if kubelet.contains_key("registerWithTaints") {
        add("registerWithTaints", &"a value", "none: it is set from the NodeClaim's taints");
    }
    for field in ["evictionHard", "evictionSoft", "evictionSoftGracePeriod", "evictionMinimumReclaim"] {
        for (signal, value) in texts(kubelet, field) {
            if !SIGNALS.contains(&signal) {
                add(field, &format_args!("{signal:?}"), &format!("signals of {}", SIGNALS.join(", ")));
            }
            let place = format!("{field}[{signal}]");
            if field == "evictionSoftGracePeriod" {
                if !is_duration(value) {
                    add(&place, &format_args!("{value:?}"), "a duration such as 30s or 1m30s");
                }
            } else if !is_threshold(value) {
                add(&place, &format_args!("{value:?}"), "a percentage from 0% to 100% or a quantity from 0 up");
            }
        }
    }
    for (here, there) in [("evictionSoft", "evictionSoftGracePeriod"), ("evictionSoftGracePeriod", "evictionSoft")] {
        for (signal, _) in texts(kubelet, here) {
            if !texts(kubelet, there).any(|(other, _)| other == signal) {
                add(&format!("{here}[{signal}]"), &"no partner", &format!("the same signal in {there}"));
            }
        }
    }
    for field in ["kubeReserved", "systemReserved"] {
        for (resource, value) in texts(kubelet, field) {
            if !RESERVABLE.contains(&resource) {
                add(field, &format_args!("{resource:?}"), &format!("resources of {}", RESERVABLE.join(", ")));
            }
            if value.starts_with('-') {
                add(&format!("{field}[{resource}]"), &format_args!("{value:?}"), "a quantity from 0 up");
            }
        }
    }
    let figure = |field: &str| kubelet.get(field).and_then(Value::as_i64);
    for field in ["imageGCHighThresholdPercent", "imageGCLowThresholdPercent"] {
        if let Some(percent) = figure(field).filter(|percent| !(0..=100).contains(percent)) {
            add(field, &percent, "a percentage from 0 to 100");
        }
    }
    for field in ["podsPerCore", "evictionMaxPodGracePeriod", "maxPods"] {
        if let Some(negative) = figure(field).filter(|figure| *figure < 0) {
            add(field, &negative, "a figure from 0 up");
        }
    }
    if let (Some(high), Some(low)) = (figure("imageGCHighThresholdPercent"), figure("imageGCLowThresholdPercent"))
        && high <= low
    {
        add("imageGCHighThresholdPercent", &high, &format!("more than imageGCLowThresholdPercent, {low}"));
    }
}

/// Fields whose value is to be computed for each instance type, with what they say.
pub(super) fn expressions(kubelet: &Map<String, Value>) -> Vec<(String, &str)> {
    let max_pods = kubelet.get("maxPods").and_then(Value::as_str).map(|text| ("spec.kubelet.maxPods".to_owned(), text));
    let reserved = ["kubeReserved", "systemReserved"].into_iter().flat_map(|field| {
        texts(kubelet, field)
            .filter(|(_, value)| quantity::milli(value).is_err())
            .map(move |(resource, value)| (format!("spec.kubelet.{field}[{resource}]"), value))
    });
    max_pods.into_iter().chain(reserved).collect()
}

/// Fields that a family has no way to tell the kubelet. Custom tells it nothing at all, and AL2023 everything.
pub(super) fn not_applied(kubelet: &Map<String, Value>, family: AmiFamily) -> Vec<String> {
    if matches!(family, AmiFamily::Al2023 | AmiFamily::Custom) {
        return Vec::new();
    }
    let name = family.name();
    let lost = |field: &&String| {
        !EVERYWHERE.contains(&field.as_str()) || (family == AmiFamily::Bottlerocket && *field == "podsPerCore")
    };
    let mut all: Vec<String> = kubelet
        .keys()
        .filter(lost)
        .map(|field| format!("spec.kubelet.{field}: found a value, expected none: {name} has no setting for it"))
        .collect();
    let servers = kubelet.get("clusterDNS").and_then(Value::as_array).map_or(0, Vec::len);
    if servers > 1 {
        all.push(format!("spec.kubelet.clusterDNS: found {servers} addresses, expected one: {name} takes no more"));
    }
    all
}

/// The entries of a map of texts.
fn texts<'a>(kubelet: &'a Map<String, Value>, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let map = kubelet.get(field).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

fn is_threshold(text: &str) -> bool {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse().is_ok_and(|percent: f64| (0.0..=100.0).contains(&percent)),
        None => quantity::milli(text).is_ok_and(|amount| amount >= 0),
    }
}

/// A Go duration from 0 up: `30s`, `1m30s`, `1.5h`, `0`.
fn is_duration(text: &str) -> bool {
    duration::parse(text).is_some_and(|duration| !duration.is_negative())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(kubelet: &Value) -> Map<String, Value> {
        kubelet.as_object().cloned().unwrap()
    }

    #[test]
    fn what_the_kubelet_understands_is_taken() {
        let all = json!({
            "maxPods": 110, "podsPerCore": 4, "clusterDNS": ["10.0.0.10"], "cpuCFSQuota": true,
            "kubeReserved": { "cpu": "200m", "memory": "vcpus * 10" }, "systemReserved": { "pid": "100" },
            "evictionHard": { "memory.available": "5%", "nodefs.available": "1Gi" },
            "evictionSoft": { "memory.available": "10%" }, "evictionSoftGracePeriod": { "memory.available": "1m30s" },
            "evictionMinimumReclaim": { "imagefs.inodesFree": "0" },
            "imageGCHighThresholdPercent": 85, "imageGCLowThresholdPercent": 80, "memoryThrottlingFactor": 0.9,
            "featureGates": { "A": true }, "shutdownGracePeriod": "30s", "podPidsLimit": 4096, "registryPullQPS": null,
            "authentication": { "anonymous": { "enabled": false }, "webhook": { "cacheTTL": "2m" } },
            "shutdownGracePeriodByPodPriority": [{ "priority": 1, "shutdownGracePeriodSeconds": 10 }],
            "reservedMemory": [{ "numaNode": 0, "limits": { "memory": "1Gi" } }],
            "logging": { "verbosity": 2 }, "crashLoopBackOff": { "maxContainerRestartPeriod": "1m" },
        });
        assert_eq!(problems(&of(&all)), Vec::<String>::new());
    }

    #[test]
    fn what_it_would_refuse_or_overlook_is_told_by_field() {
        for (kubelet, says) in [
            (json!({ "maxPod": 1 }), "spec.kubelet.maxPod: found an unknown field"),
            (
                json!({ "authentication": { "token": true } }),
                "spec.kubelet.authentication.token: found an unknown field",
            ),
            (json!({ "authentication": 1 }), "spec.kubelet.authentication: found 1, expected an object"),
            (json!({ "podsPerCore": "4" }), "spec.kubelet.podsPerCore: found \"4\", expected an integer"),
            (json!({ "maxPods": 1.5 }), "spec.kubelet.maxPods: found 1.5, expected an integer"),
            (json!({ "cpuCFSQuota": "yes" }), "spec.kubelet.cpuCFSQuota: found \"yes\", expected true or false"),
            (json!({ "shutdownGracePeriod": "30" }), "expected a duration"),
            (json!({ "clusterDNS": "10.0.0.10" }), "expected a list of texts"),
            (json!({ "evictionHard": { "memory.available": 5 } }), "expected a map of texts"),
            (json!({ "evictionHard": { "memory.free": "5%" } }), "found \"memory.free\", expected signals of"),
            (json!({ "evictionHard": { "memory.available": "101%" } }), "spec.kubelet.evictionHard[memory.available]"),
            (
                json!({ "evictionMinimumReclaim": { "disk": "1Gi" } }),
                "spec.kubelet.evictionMinimumReclaim: found \"disk\"",
            ),
            (json!({ "evictionHard": { "memory.available": "-1Gi" } }), "a quantity from 0 up"),
            (json!({ "evictionSoft": { "pid.available": "5%" } }), "the same signal in evictionSoftGracePeriod"),
            (json!({ "evictionSoftGracePeriod": { "pid.available": "5m" } }), "the same signal in evictionSoft"),
            (json!({ "kubeReserved": { "gpu": "1" } }), "found \"gpu\", expected resources of cpu, memory"),
            (json!({ "systemReserved": { "cpu": "-1" } }), "spec.kubelet.systemReserved[cpu]: found \"-1\""),
            (json!({ "imageGCHighThresholdPercent": 101 }), "expected a percentage from 0 to 100"),
            (json!({ "imageGCHighThresholdPercent": 50, "imageGCLowThresholdPercent": 50 }), "more than"),
            (json!({ "maxPods": -1 }), "spec.kubelet.maxPods: found -1"),
            (json!({ "registerWithTaints": [] }), "spec.kubelet.registerWithTaints"),
        ] {
            let found = problems(&of(&kubelet));
            assert_eq!(found.len(), 1, "{kubelet}: {found:?}");
            assert!(found[0].contains(says), "{kubelet}: {found:?}");
        }
    }

    #[test]
    fn texts_that_are_no_quantities_are_expressions() {
        let kubelet = json!({
            "maxPods": "max_pods - 2", "kubeReserved": { "cpu": "100m", "memory": "memory_mib / 50" },
        });
        let all = expressions(&of(&kubelet)).into_iter().map(|(field, _)| field).collect::<Vec<_>>();
        assert_eq!(all, ["spec.kubelet.maxPods", "spec.kubelet.kubeReserved[memory]"]);
    }

    #[test]
    fn families_refuse_what_they_cannot_tell_the_kubelet() {
        let kubelet = of(&json!({ "maxPods": 20, "podsPerCore": 4, "podPidsLimit": 9, "clusterDNS": ["a", "b"] }));
        let count = |family| not_applied(&kubelet, family).len();
        assert_eq!([AmiFamily::Al2023, AmiFamily::Custom].map(count), [0, 0]);
        assert_eq!([AmiFamily::Al2, AmiFamily::Windows2022, AmiFamily::Bottlerocket].map(count), [2, 2, 3]);
        let told = not_applied(&kubelet, AmiFamily::Bottlerocket).join("\n");
        assert!(
            told.contains("podPidsLimit") && told.contains("podsPerCore") && told.contains("2 addresses"),
            "{told}"
        );
    }
}
