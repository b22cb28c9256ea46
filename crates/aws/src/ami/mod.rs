//! Image families: where their images are found, what their user data looks like.
//!
//! A new family is one file here, its line in each `match` below, and its name in the API.

mod al2;
mod al2023;
mod bottlerocket;
mod custom;
mod flags;
#[cfg(test)]
mod golden;
mod mime;
mod windows;

use std::collections::BTreeMap;

use karpenter_api::Taint;
use karpenter_api::ec2nodeclass::{AmiFamily, AmiRequirement, AmiSelectorTerm, Ec2NodeClassSpec};
use karpenter_api::labels as keys;
use serde_json::{Map, Value};

use crate::call::BlockDevice;

pub(crate) use windows::release as windows_release;

/// EC2's limit of decoded user data, in bytes.
pub(crate) const USER_DATA_MAX: usize = 16_384;
const FITS: &str = "at most 16384 bytes, EC2's limit";
/// The condition's reason for user data beyond that.
pub(crate) const USER_DATA_TOO_LARGE: &str = "UserDataSizeLimitExceeded";

/// Everything a node must be told to join.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap<'a> {
    pub(crate) cluster_name: &'a str,
    pub(crate) endpoint: &'a str,
    /// Base64 PEM.
    pub(crate) ca: &'a str,
    pub(crate) service_cidr: Option<&'a str>,
    /// Address of the Service that is the cluster's DNS.
    pub(crate) dns: Option<std::net::IpAddr>,
    pub(crate) labels: BTreeMap<String, String>,
    /// In order: the template's, the start-up ones, and the one that says "not registered yet".
    pub(crate) taints: Vec<Taint>,
    pub(crate) kubelet: Map<String, Value>,
    pub(crate) max_pods: i64,
    pub(crate) raid0: bool,
    /// The image's release as far as it is known, e.g. `latest`, `v1.46.0`.
    pub(crate) image_version: Option<&'a str>,
    pub(crate) custom: Option<&'a str>,
}

impl<'a> Bootstrap<'a> {
    /// Labels that a kubelet may set on its own Node: those of Kubernetes' domains are the
    /// controller's to sync (NodeRestriction admission).
    fn node_labels(&self) -> BTreeMap<&str, &str> {
        let foreign = |key: &str| {
            let domain = key.split_once('/').map_or("", |(domain, _)| domain);
            !["kubernetes.io", "k8s.io"].iter().any(|d| domain == *d || domain.ends_with(&format!(".{d}")))
        };
        let own = self.labels.iter().filter(|(key, _)| foreign(key)).map(|(k, v)| (k.as_str(), v.as_str()));
        own.chain([(keys::DO_NOT_SYNC_TAINTS, "true")]).collect()
    }

    /// The kubelet's first name server: the user's, else the cluster's, else the tenth address of the service range,
    /// where cluster DNS is on EKS.
    fn cluster_dns(&self) -> Option<String> {
        let own = self.kubelet.get("clusterDNS").and_then(|all| all.get(0)).and_then(Value::as_str);
        let found = || self.dns.map(|dns| dns.to_string());
        own.map(str::to_owned).or_else(found).or_else(|| tenth_address(self.service_cidr?))
    }

    fn custom(&self) -> Option<&'a str> {
        self.custom.map(str::trim).filter(|text| !text.is_empty())
    }
}

fn tenth_address(cidr: &str) -> Option<String> {
    let (network, _) = cidr.split_once('/')?;
    Some(match network.parse().ok()? {
        std::net::IpAddr::V4(network) => std::net::Ipv4Addr::from(u32::from(network).checked_add(10)?).to_string(),
        std::net::IpAddr::V6(network) => std::net::Ipv6Addr::from(u128::from(network).checked_add(10)?).to_string(),
    })
}

/// User data that cannot be merged with ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.userData: found {found}, expected {expected}")]
pub(crate) struct BadUserData {
    pub(crate) found: String,
    pub(crate) expected: &'static str,
}

impl BadUserData {
    /// As a condition's reason.
    pub(crate) fn reason(&self) -> &'static str {
        if self.expected == FITS { USER_DATA_TOO_LARGE } else { "UserDataInvalid" }
    }
}

/// The user data of an instance, as text.
pub(crate) fn user_data(family: AmiFamily, bootstrap: &Bootstrap<'_>) -> Result<String, BadUserData> {
    let text = match family {
        AmiFamily::Al2023 => al2023::user_data(bootstrap)?,
        AmiFamily::Al2 => al2::user_data(bootstrap)?,
        AmiFamily::Bottlerocket => bottlerocket::user_data(bootstrap)?,
        AmiFamily::Custom => custom::user_data(bootstrap),
        AmiFamily::Windows2019 | AmiFamily::Windows2022 | AmiFamily::Windows2025 => windows::user_data(bootstrap),
    };
    if text.len() > USER_DATA_MAX {
        return Err(BadUserData { found: format!("{} bytes with our part", text.len()), expected: FITS });
    }
    Ok(text)
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
        AmiFamily::Windows2019 | AmiFamily::Windows2022 | AmiFamily::Windows2025 => {
            vec![volume("/dev/sda1", 50)]
        }
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
    Some(Alias { family: AmiFamily::of_alias(family)?, version: version.to_owned() })
}

/// The release of an image: the alias's, else what the image's name tells.
pub(crate) fn image_version(spec: &Ec2NodeClassSpec, image_name: Option<&str>) -> Option<String> {
    let of_alias = spec.ami_selector_terms.iter().find_map(alias).map(|alias| alias.version);
    of_alias.or_else(|| image_name.and_then(bottlerocket::version_in).map(str::to_owned))
}

/// An alias that does not exist for the cluster's version of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.amiSelectorTerms: found alias {alias:?}, expected {expected} (Kubernetes is {kubernetes})")]
pub(crate) struct UnsupportedAlias {
    alias: String,
    expected: &'static str,
    kubernetes: String,
}

/// Whether the images of the class's alias are made for this version of Kubernetes.
pub(crate) fn check_alias(terms: &[AmiSelectorTerm], kubernetes: &str) -> Result<(), UnsupportedAlias> {
    for text in terms.iter().filter_map(|term| term.alias.as_deref()) {
        let refuse =
            |expected| Err(UnsupportedAlias { alias: text.to_owned(), expected, kubernetes: kubernetes.to_owned() });
        let term = AmiSelectorTerm { alias: Some(text.to_owned()), ..AmiSelectorTerm::default() };
        let Some(alias) = alias(&term) else {
            return refuse("family@version with al2, al2023, bottlerocket, windows2019, windows2022 or windows2025");
        };
        let minor = kubernetes.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        match (alias.family, minor) {
            (AmiFamily::Al2, Some(minor)) if minor >= al2::ENDS_AT_MINOR => {
                return refuse("another family: EKS publishes AL2 images up to Kubernetes 1.32");
            }
            (AmiFamily::Windows2025, Some(minor)) if minor < windows::WINDOWS_2025_FROM_MINOR => {
                return refuse("another family: Windows Server 2025 needs Kubernetes 1.35");
            }
            _ => {}
        }
    }
    Ok(())
}

/// An SSM parameter that names an image, and the kinds of nodes the image is for.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// Each a set of requirements; empty if the image itself has to tell.
    pub(crate) fits: Vec<Vec<AmiRequirement>>,
}

/// Where the images of an alias are named.
pub(crate) fn parameters(alias: &Alias, kubernetes: &str) -> Vec<Parameter> {
    let version = alias.version.as_str();
    match alias.family {
        AmiFamily::Al2023 => al2023::parameters(version, kubernetes),
        AmiFamily::Al2 => al2::parameters(version, kubernetes),
        AmiFamily::Bottlerocket => bottlerocket::parameters(version, kubernetes),
        family @ (AmiFamily::Windows2019 | AmiFamily::Windows2022 | AmiFamily::Windows2025) => {
            windows::parameters(family, kubernetes)
        }
        AmiFamily::Custom => Vec::new(),
    }
}

/// The variants of images that differ by accelerator.
#[derive(Clone, Copy, Debug)]
enum Variant {
    Standard,
    Nvidia,
    Neuron,
}

/// The nodes that each variant of an image is for.
fn images_for(arch: &str, variants: &[Variant]) -> Vec<Vec<AmiRequirement>> {
    let is =
        |key: &str, operator: &str| AmiRequirement { key: key.to_owned(), operator: operator.to_owned(), values: None };
    let (gpu, accelerator) = (keys::INSTANCE_GPU_COUNT, keys::INSTANCE_ACCELERATOR_COUNT);
    let of = |variant: &Variant| {
        let mut all = vec![one_of(keys::ARCH, arch)];
        all.extend(match variant {
            Variant::Standard => vec![is(gpu, "DoesNotExist"), is(accelerator, "DoesNotExist")],
            Variant::Nvidia => vec![is(gpu, "Exists")],
            Variant::Neuron => vec![is(accelerator, "Exists")],
        });
        all
    };
    variants.iter().map(of).collect()
}

pub(crate) fn one_of(key: &str, value: &str) -> AmiRequirement {
    AmiRequirement { key: key.to_owned(), operator: "In".to_owned(), values: Some(vec![value.to_owned()]) }
}

/// A setting as the kubelet's flags and files write it.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn names(parameters: &[Parameter]) -> Vec<&str> {
        parameters.iter().map(|parameter| parameter.name.as_str()).collect()
    }

    pub(super) fn bootstrap(custom: Option<&'static str>) -> Bootstrap<'static> {
        let labels =
            [("team", "a"), ("topology.kubernetes.io/zone", "us-west-2a"), ("karpenter.sh/nodepool", "default")];
        let taint = |key: &str, value: Option<&str>, effect: &str| Taint {
            key: key.into(),
            value: value.map(str::to_owned),
            effect: effect.into(),
            time_added: None,
        };
        let kubelet = json!({ "systemReserved": { "memory": "1Gi" }, "evictionHard": { "memory.available": "5%" } });
        Bootstrap {
            cluster_name: "dev",
            endpoint: "https://api.example",
            ca: "Q0E=",
            service_cidr: Some("10.100.0.0/16"),
            dns: None,
            labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            taints: vec![
                taint("dedicated", Some("ml"), "NoSchedule"),
                taint("karpenter.sh/unregistered", None, "NoExecute"),
            ],
            kubelet: kubelet.as_object().cloned().unwrap(),
            max_pods: 29,
            raid0: false,
            image_version: None,
            custom,
        }
    }

    #[test]
    fn nodes_ask_the_clusters_dns_unless_the_user_says_otherwise() {
        let own = json!({ "clusterDNS": ["10.0.0.1"] });
        for (kubelet, dns, expected) in [
            (json!({}), None, "10.100.0.10"),
            (json!({}), Some("10.100.0.53"), "10.100.0.53"),
            (own, Some("10.100.0.53"), "10.0.0.1"),
        ] {
            let dns = dns.and_then(|dns| dns.parse().ok());
            let kubelet = kubelet.as_object().cloned().unwrap();
            let bootstrap = Bootstrap { dns, kubelet, ..bootstrap(None) };
            assert_eq!(bootstrap.cluster_dns().as_deref(), Some(expected));
        }
    }

    #[test]
    fn cluster_dns_is_the_tenth_service_address() {
        assert_eq!(tenth_address("10.100.0.0/16").as_deref(), Some("10.100.0.10"));
        assert_eq!(tenth_address("172.20.0.0/16").as_deref(), Some("172.20.0.10"));
        assert_eq!(tenth_address("fd30:1c53::/108").as_deref(), Some("fd30:1c53::a"));
        assert_eq!(tenth_address("nonsense"), None);
    }

    #[test]
    fn aliases_end_and_begin_with_versions_of_kubernetes() {
        let terms = |alias: &str| vec![AmiSelectorTerm { alias: Some(alias.to_owned()), ..AmiSelectorTerm::default() }];
        for (alias, kubernetes, fine) in [
            ("al2023@latest", "1.36", true),
            ("al2@latest", "1.32", true),
            ("al2@latest", "1.33", false),
            ("windows2025@latest", "1.34", false),
            ("windows2025@latest", "1.35", true),
            ("ubuntu@latest", "1.35", false),
        ] {
            assert_eq!(check_alias(&terms(alias), kubernetes).is_ok(), fine, "{alias} on {kubernetes}");
        }
        assert_eq!(
            check_alias(&terms("al2@latest"), "1.33").unwrap_err().to_string(),
            "spec.amiSelectorTerms: found alias \"al2@latest\", expected another family: EKS publishes AL2 images up to \
             Kubernetes 1.32 (Kubernetes is 1.33)"
        );
    }

    #[test]
    fn the_family_is_the_classes_own_word_or_its_aliases() {
        let mut spec = Ec2NodeClassSpec::default();
        assert_eq!(spec.family(), AmiFamily::Custom);
        spec.ami_selector_terms =
            vec![AmiSelectorTerm { alias: Some("bottlerocket@v1.46.0".into()), ..AmiSelectorTerm::default() }];
        assert_eq!(spec.family(), AmiFamily::Bottlerocket);
        assert_eq!(image_version(&spec, None).as_deref(), Some("v1.46.0"));
        spec.ami_family = Some(AmiFamily::Custom);
        assert_eq!(spec.family(), AmiFamily::Custom);
    }
}
