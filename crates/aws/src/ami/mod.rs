//! Image families: where their images are found, what their user data looks like.

mod al2;
mod al2023;
mod bottlerocket;
mod mime;
mod windows;

use std::collections::BTreeMap;

use karpenter_api::Taint;
use karpenter_api::ec2nodeclass::{AmiFamily, AmiRequirement, AmiSelectorTerm, Ec2NodeClassSpec};
use karpenter_api::labels as keys;
use serde_json::{Map, Value};

use crate::call::BlockDevice;

/// Everything a node must be told to join.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap<'a> {
    pub(crate) cluster_name: &'a str,
    pub(crate) endpoint: &'a str,
    /// Base64 PEM.
    pub(crate) ca: &'a str,
    pub(crate) service_cidr: Option<&'a str>,
    pub(crate) labels: BTreeMap<String, String>,
    /// In order: the template's, the start-up ones, and the one that says "not registered yet".
    pub(crate) taints: Vec<Taint>,
    pub(crate) kubelet: Map<String, Value>,
    pub(crate) max_pods: i64,
    pub(crate) raid0: bool,
    pub(crate) custom: Option<&'a str>,
}

/// User data that cannot be merged with ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.userData: found {found}, expected {expected}")]
pub(crate) struct BadUserData {
    pub(crate) found: String,
    pub(crate) expected: &'static str,
}

/// The user data of an instance, as text.
pub(crate) fn user_data(family: AmiFamily, bootstrap: &Bootstrap<'_>) -> Result<String, BadUserData> {
    match family {
        AmiFamily::Al2023 => al2023::user_data(bootstrap),
        AmiFamily::Al2 => al2::user_data(bootstrap),
        AmiFamily::Bottlerocket => bottlerocket::user_data(bootstrap),
        AmiFamily::Custom => Ok(bootstrap.custom.unwrap_or_default().to_owned()),
        AmiFamily::Windows2019 | AmiFamily::Windows2022 | AmiFamily::Windows2025 => Ok(windows::user_data(bootstrap)),
    }
}

/// The device that holds the kubelet's files.
pub(crate) fn ephemeral_device(family: AmiFamily) -> &'static str {
    match family {
        AmiFamily::Bottlerocket => "/dev/xvdb",
        AmiFamily::Windows2019 | AmiFamily::Windows2022 | AmiFamily::Windows2025 => "/dev/sda1",
        AmiFamily::Al2 | AmiFamily::Al2023 | AmiFamily::Custom => "/dev/xvda",
    }
}

/// The block devices of a class that names none.
pub(crate) fn default_block_devices(family: AmiFamily) -> Vec<BlockDevice> {
    let volume = |device: &str, gib: i32| BlockDevice {
        device_name: device.to_owned(),
        encrypted: Some(true),
        delete_on_termination: Some(true),
        volume_size_gib: Some(gib),
        volume_type: Some("gp3".to_owned()),
        ..BlockDevice::default()
    };
    match family {
        AmiFamily::Al2 | AmiFamily::Al2023 => vec![volume("/dev/xvda", 20)],
        AmiFamily::Bottlerocket => vec![volume("/dev/xvda", 4), volume("/dev/xvdb", 20)],
        AmiFamily::Custom => Vec::new(),
        AmiFamily::Windows2019 | AmiFamily::Windows2022 | AmiFamily::Windows2025 => vec![volume("/dev/sda1", 50)],
    }
}

/// `family@version`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) family: AmiFamily,
    pub(crate) version: String,
}

pub(crate) fn alias(term: &AmiSelectorTerm) -> Option<Alias> {
    let (family, version) = term.alias.as_deref()?.split_once('@')?;
    let family = match family {
        "al2" => AmiFamily::Al2,
        "al2023" => AmiFamily::Al2023,
        "bottlerocket" => AmiFamily::Bottlerocket,
        "windows2019" => AmiFamily::Windows2019,
        "windows2022" => AmiFamily::Windows2022,
        "windows2025" => AmiFamily::Windows2025,
        _ => return None,
    };
    Some(Alias { family, version: version.to_owned() })
}

/// The class's family: its own word, else its alias's.
pub(crate) fn family(spec: &Ec2NodeClassSpec) -> AmiFamily {
    spec.ami_family
        .or_else(|| spec.ami_selector_terms.iter().find_map(alias).map(|alias| alias.family))
        .unwrap_or(AmiFamily::Custom)
}

/// An SSM parameter of an alias, and the nodes its image is for.
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) requirements: Vec<AmiRequirement>,
}

/// Where the images of an alias are named.
pub(crate) fn parameters(alias: &Alias, kubernetes: &str) -> Vec<Parameter> {
    let version = alias.version.as_str();
    match alias.family {
        AmiFamily::Al2023 => al2023::parameters(version, kubernetes),
        AmiFamily::Al2 => al2::parameters(version, kubernetes),
        AmiFamily::Bottlerocket => bottlerocket::parameters(version, kubernetes),
        AmiFamily::Windows2019 => windows::parameters("2019", kubernetes),
        AmiFamily::Windows2022 => windows::parameters("2022", kubernetes),
        AmiFamily::Windows2025 => windows::parameters("2025", kubernetes),
        AmiFamily::Custom => Vec::new(),
    }
}

/// The variants of images that differ by accelerator.
#[derive(Clone, Copy)]
enum Variant {
    Standard,
    Nvidia,
    Neuron,
    /// Standard and Neuron alike.
    NotNvidia,
}

fn requirements(arch: &str, variant: Variant) -> Vec<AmiRequirement> {
    let of = |key: &str, operator: &str, values: Option<Vec<String>>| AmiRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values,
    };
    let mut all = vec![of(keys::ARCH, "In", Some(vec![arch.to_owned()]))];
    let (gpu, accelerator) = (keys::INSTANCE_GPU_COUNT, keys::INSTANCE_ACCELERATOR_COUNT);
    match variant {
        Variant::Standard => {
            all.push(of(gpu, "DoesNotExist", None));
            all.push(of(accelerator, "DoesNotExist", None));
        }
        Variant::Nvidia => all.push(of(gpu, "Exists", None)),
        Variant::Neuron => all.push(of(accelerator, "Exists", None)),
        Variant::NotNvidia => all.push(of(gpu, "DoesNotExist", None)),
    }
    all
}

/// Labels that a kubelet may set on its own Node: those of Kubernetes' domains are the
/// controller's to sync (NodeRestriction admission).
fn kubelet_labels(labels: &BTreeMap<String, String>) -> String {
    let mut all: BTreeMap<&str, &str> = labels
        .iter()
        .filter(|(key, _)| {
            let domain = key.split_once('/').map_or("", |(domain, _)| domain);
            !["kubernetes.io", "k8s.io"].iter().any(|d| domain == *d || domain.ends_with(&format!(".{d}")))
        })
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    all.insert(keys::DO_NOT_SYNC_TAINTS, "true");
    all.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The tenth address of the service range: where cluster DNS is on EKS.
fn cluster_dns(service_cidr: &str) -> Option<String> {
    let (network, _) = service_cidr.split_once('/')?;
    if let Ok(v4) = network.parse::<std::net::Ipv4Addr>() {
        let [a, b, c, _] = v4.octets();
        return Some(format!("{a}.{b}.{c}.10"));
    }
    let v6: std::net::Ipv6Addr = network.parse().ok()?;
    Some(std::net::Ipv6Addr::from(u128::from(v6) + 10).to_string())
}
