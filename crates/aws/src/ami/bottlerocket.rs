//! Bottlerocket: TOML settings; ours win over the user's, the rest of the user's stays.

use serde_json::Value;
use toml::{Table, Value as Toml};

use super::{BadUserData, Bootstrap, Parameter, Variant, images_for, text};

const EXPECTED: &str = "Bottlerocket settings as TOML";
/// Releases from this one on know which directories belong on instance storage.
const BINDS_BY_DEFAULT: (u32, u32) = (1, 46);

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> Result<String, BadUserData> {
    let mut document: Table = bootstrap
        .custom()
        .unwrap_or_default()
        .parse()
        .map_err(|error: toml::de::Error| BadUserData { found: error.to_string(), expected: EXPECTED })?;
    let settings = table(&mut document, "settings")?;
    let kubernetes = table(settings, "kubernetes")?;
    for (key, value) in [
        ("api-server", bootstrap.endpoint),
        ("cluster-certificate", bootstrap.ca),
        ("cluster-name", bootstrap.cluster_name),
    ] {
        kubernetes.insert(key.to_owned(), Toml::String(value.to_owned()));
    }
    kubernetes.insert("max-pods".to_owned(), Toml::Integer(bootstrap.max_pods));
    if let Some(dns) = bootstrap.cluster_dns() {
        kubernetes.insert("cluster-dns-ip".to_owned(), Toml::String(dns));
    }
    kubelet(bootstrap, kubernetes);
    let labels = table(kubernetes, "node-labels")?;
    labels.extend(
        bootstrap.node_labels().into_iter().map(|(key, value)| (key.to_owned(), Toml::String(value.to_owned()))),
    );
    // Not merged: a node must bear exactly the taints that its claim was planned with.
    let mut taints = Table::new();
    for taint in &bootstrap.taints {
        let value = Toml::String(format!("{}:{}", taint.value.as_deref().unwrap_or_default(), taint.effect));
        if let Toml::Array(all) = taints.entry(taint.key.clone()).or_insert_with(|| Toml::Array(Vec::new())) {
            all.push(value);
        }
    }
    kubernetes.insert("node-taints".to_owned(), Toml::Table(taints));
    if bootstrap.raid0 {
        table(settings, "bootstrap-commands")?
            .insert("000-mount-instance-storage".to_owned(), mount_instance_storage(bootstrap.image_version));
    }
    toml::to_string(&document).map_err(|error| BadUserData { found: error.to_string(), expected: EXPECTED })
}

/// The kubelet's settings under the names Bottlerocket has for them (settings.kubernetes).
fn kubelet(bootstrap: &Bootstrap<'_>, kubernetes: &mut Table) {
    for (field, key) in [
        ("systemReserved", "system-reserved"),
        ("kubeReserved", "kube-reserved"),
        ("evictionHard", "eviction-hard"),
        ("evictionSoft", "eviction-soft"),
        ("evictionSoftGracePeriod", "eviction-soft-grace-period"),
    ] {
        if let Some(pairs) = bootstrap.kubelet.get(field).and_then(Value::as_object) {
            let pairs = pairs.iter().map(|(key, value)| (key.clone(), Toml::String(text(value)))).collect();
            kubernetes.insert(key.to_owned(), Toml::Table(pairs));
        }
    }
    // Thresholds of image garbage collection are texts there.
    for (field, key) in [
        ("imageGCHighThresholdPercent", "image-gc-high-threshold-percent"),
        ("imageGCLowThresholdPercent", "image-gc-low-threshold-percent"),
    ] {
        if let Some(value) = bootstrap.kubelet.get(field) {
            kubernetes.insert(key.to_owned(), Toml::String(text(value)));
        }
    }
    if let Some(seconds) = bootstrap.kubelet.get("evictionMaxPodGracePeriod").and_then(Value::as_i64) {
        kubernetes.insert("eviction-max-pod-grace-period".to_owned(), Toml::Integer(seconds));
    }
    if let Some(quota) = bootstrap.kubelet.get("cpuCFSQuota").and_then(Value::as_bool) {
        kubernetes.insert("cpu-cfs-quota-enforced".to_owned(), Toml::Boolean(quota));
    }
}

fn mount_instance_storage(version: Option<&str>) -> Toml {
    let mut bind = vec!["apiclient", "ephemeral-storage", "bind"];
    if !binds_by_default(version) {
        bind.extend(["--dirs", "/var/lib/containerd", "/var/lib/kubelet", "/var/log/pods"]);
    }
    let step = |words: Vec<&str>| Toml::Array(words.into_iter().map(|word| Toml::String(word.to_owned())).collect());
    let steps = vec![step(vec!["apiclient", "ephemeral-storage", "init"]), step(bind)];
    Toml::Table(
        [
            ("commands".to_owned(), Toml::Array(steps)),
            ("essential".to_owned(), Toml::Boolean(true)),
            ("mode".to_owned(), Toml::String("always".to_owned())),
        ]
        .into_iter()
        .collect(),
    )
}

fn binds_by_default(version: Option<&str>) -> bool {
    let Some(version) = version else { return false };
    if version == "latest" {
        return true;
    }
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|part| part.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= BINDS_BY_DEFAULT)
}

/// The release in an image's name: `bottlerocket-aws-k8s-1.33-x86_64-v1.46.0-431fe75a`.
pub(super) fn version_in(name: &str) -> Option<&str> {
    name.contains("bottlerocket").then(|| name.split('-').find(|part| part.starts_with('v') && part.contains('.')))?
}

fn table<'a>(parent: &'a mut Table, key: &str) -> Result<&'a mut Table, BadUserData> {
    parent
        .entry(key.to_owned())
        .or_insert_with(|| Toml::Table(Table::new()))
        .as_table_mut()
        .ok_or_else(|| BadUserData { found: format!("{key:?}, which is no table"), expected: EXPECTED })
}

/// Bottlerocket's documentation: "Finding an AMI". Releases are named with a `v` in public, but
/// not in SSM.
pub(super) fn parameters(version: &str, kubernetes: &str) -> Vec<Parameter> {
    let version = version.trim_start_matches('v');
    [
        ("", "x86_64", "amd64", &[Variant::Standard, Variant::Neuron][..]),
        ("", "arm64", "arm64", &[Variant::Standard]),
        ("-nvidia", "x86_64", "amd64", &[Variant::Nvidia]),
        ("-nvidia", "arm64", "arm64", &[Variant::Nvidia]),
    ]
    .into_iter()
    .map(|(flavour, ec2_arch, arch, variants)| Parameter {
        name: format!("/aws/service/bottlerocket/aws-k8s-{kubernetes}{flavour}/{ec2_arch}/{version}/image_id"),
        fits: images_for(arch, variants),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bootstrap, names};
    use super::*;

    #[test]
    fn the_settings_say_who_the_node_is_and_keep_the_users_own() {
        let own = "[settings.motd]\nmotd = \"hello\"\n\n[settings.kubernetes]\nmax-pods = 5\nserver-tls-bootstrap = true\n\n\
                   [settings.kubernetes.node-labels]\nmine = \"1\"\n\n[settings.kubernetes.node-taints]\nmine = [\":NoSchedule\"]\n";
        let expected = r#"[settings.kubernetes]
api-server = "https://api.example"
cluster-certificate = "Q0E="
cluster-dns-ip = "10.100.0.10"
cluster-name = "dev"
max-pods = 29
server-tls-bootstrap = true

[settings.kubernetes.eviction-hard]
"memory.available" = "5%"

[settings.kubernetes.node-labels]
"karpenter.sh/do-not-sync-taints" = "true"
"karpenter.sh/nodepool" = "default"
mine = "1"
team = "a"

[settings.kubernetes.node-taints]
dedicated = ["ml:NoSchedule"]
"karpenter.sh/unregistered" = [":NoExecute"]

[settings.kubernetes.system-reserved]
memory = "1Gi"

[settings.motd]
motd = "hello"
"#;
        assert_eq!(user_data(&bootstrap(Some(own))).unwrap(), expected);
    }

    #[test]
    fn older_releases_are_told_which_directories_to_bind() {
        for (version, told) in [(Some("latest"), false), (Some("v1.46.0"), false), (Some("1.45.9"), true), (None, true)]
        {
            let asked = Bootstrap { raid0: true, image_version: version, ..bootstrap(None) };
            let text = user_data(&asked).unwrap();
            assert!(text.contains("000-mount-instance-storage"), "{text}");
            assert_eq!(text.contains("/var/lib/kubelet"), told, "{version:?}");
        }
        assert_eq!(version_in("bottlerocket-aws-k8s-1.33-x86_64-v1.46.0-431fe75a"), Some("v1.46.0"));
    }

    #[test]
    fn settings_that_are_not_toml_are_refused_by_name() {
        let error = user_data(&bootstrap(Some("#!/bin/sh\necho"))).unwrap_err();
        assert!(error.to_string().starts_with("spec.userData: found TOML parse error"), "{error}");
        let error = user_data(&bootstrap(Some("settings = 1"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "spec.userData: found \"settings\", which is no table, expected Bottlerocket settings as TOML"
        );
    }

    #[test]
    fn images_are_named_by_parameters_of_bottlerocket() {
        assert_eq!(
            names(&parameters("v1.46.0", "1.36")),
            [
                "/aws/service/bottlerocket/aws-k8s-1.36/x86_64/1.46.0/image_id",
                "/aws/service/bottlerocket/aws-k8s-1.36/arm64/1.46.0/image_id",
                "/aws/service/bottlerocket/aws-k8s-1.36-nvidia/x86_64/1.46.0/image_id",
                "/aws/service/bottlerocket/aws-k8s-1.36-nvidia/arm64/1.46.0/image_id",
            ]
        );
    }
}
