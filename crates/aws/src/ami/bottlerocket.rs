//! Bottlerocket: TOML settings; ours win over the user's, the rest of the user's stays.

use serde_json::Value;
use toml::{Table, Value as Toml};

use super::{BadUserData, Bootstrap, Parameter, Variant, requirements};

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> Result<String, BadUserData> {
    let expected = "Bottlerocket settings as TOML";
    let mut document: Table = bootstrap
        .custom
        .unwrap_or_default()
        .parse()
        .map_err(|error: toml::de::Error| BadUserData { found: error.message().to_owned(), expected })?;
    let settings = table(&mut document, "settings").ok_or_else(|| not_a_table("settings"))?;
    let kubernetes = table(settings, "kubernetes").ok_or_else(|| not_a_table("settings.kubernetes"))?;
    let mut set = |key: &str, value: &str| {
        kubernetes.insert(key.to_owned(), Toml::String(value.to_owned()));
    };
    set("api-server", bootstrap.endpoint);
    set("cluster-certificate", bootstrap.ca);
    set("cluster-name", bootstrap.cluster_name);
    kubernetes.insert("max-pods".to_owned(), Toml::Integer(bootstrap.max_pods));
    for (field, key) in
        [("systemReserved", "system-reserved"), ("kubeReserved", "kube-reserved"), ("evictionHard", "eviction-hard")]
    {
        if let Some(pairs) = bootstrap.kubelet.get(field).and_then(Value::as_object) {
            let pairs = pairs.iter().filter_map(|(k, v)| Some((k.clone(), Toml::String(v.as_str()?.to_owned()))));
            kubernetes.insert(key.to_owned(), Toml::Table(pairs.collect()));
        }
    }
    let labels = table(kubernetes, "node-labels").ok_or_else(|| not_a_table("settings.kubernetes.node-labels"))?;
    for pair in super::kubelet_labels(&bootstrap.labels).split(',') {
        if let Some((key, value)) = pair.split_once('=') {
            labels.insert(key.to_owned(), Toml::String(value.to_owned()));
        }
    }
    let taints = table(kubernetes, "node-taints").ok_or_else(|| not_a_table("settings.kubernetes.node-taints"))?;
    for taint in &bootstrap.taints {
        let text = Toml::String(format!("{}:{}", taint.value.as_deref().unwrap_or_default(), taint.effect));
        match taints.entry(taint.key.clone()).or_insert_with(|| Toml::Array(Vec::new())) {
            Toml::Array(all) if !all.contains(&text) => all.push(text),
            _ => {}
        }
    }
    if bootstrap.raid0 {
        let commands = table(settings, "bootstrap-commands").ok_or_else(|| not_a_table("settings.bootstrap-commands"))?;
        let mut command = Table::new();
        let steps = [["apiclient", "ephemeral-storage", "init"], ["apiclient", "ephemeral-storage", "bind"]];
        let steps = steps.map(|step| Toml::Array(step.map(|word| Toml::String(word.to_owned())).to_vec()));
        command.insert("commands".to_owned(), Toml::Array(steps.to_vec()));
        command.insert("essential".to_owned(), Toml::Boolean(true));
        command.insert("mode".to_owned(), Toml::String("always".to_owned()));
        commands.insert("000-mount-instance-storage".to_owned(), Toml::Table(command));
    }
    toml::to_string(&document).map_err(|error| BadUserData { found: error.to_string(), expected })
}

fn table<'a>(parent: &'a mut Table, key: &str) -> Option<&'a mut Table> {
    parent.entry(key.to_owned()).or_insert_with(|| Toml::Table(Table::new())).as_table_mut()
}

fn not_a_table(name: &str) -> BadUserData {
    BadUserData { found: format!("{name} that is no table"), expected: "Bottlerocket settings as TOML" }
}

pub(super) fn parameters(version: &str, kubernetes: &str) -> Vec<Parameter> {
    let version = version.trim_start_matches('v');
    [
        ("", "x86_64", "amd64", Variant::NotNvidia),
        ("", "arm64", "arm64", Variant::Standard),
        ("-nvidia", "x86_64", "amd64", Variant::Nvidia),
        ("-nvidia", "arm64", "arm64", Variant::Nvidia),
    ]
    .into_iter()
    .map(|(flavour, ec2_arch, arch, variant)| Parameter {
        name: format!("/aws/service/bottlerocket/aws-k8s-{kubernetes}{flavour}/{ec2_arch}/{version}/image_id"),
        requirements: requirements(arch, variant),
    })
    .collect()
}
