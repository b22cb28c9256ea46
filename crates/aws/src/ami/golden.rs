//! The user data of every family, as it reaches EC2: plain, merged with the user's own, and with every setting.

use insta::assert_snapshot;
use karpenter_api::ec2nodeclass::AmiFamily;
use serde_json::json;

use super::tests::bootstrap;
use super::{Bootstrap, default_block_devices, ephemeral_device, user_data};

const FAMILIES: [AmiFamily; 7] = [
    AmiFamily::Al2,
    AmiFamily::Al2023,
    AmiFamily::Bottlerocket,
    AmiFamily::Windows2019,
    AmiFamily::Windows2022,
    AmiFamily::Windows2025,
    AmiFamily::Custom,
];

/// What a user may have written for the family.
fn own(family: AmiFamily) -> &'static str {
    match family {
        AmiFamily::Al2 => {
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==OWN==\"\n\n--==OWN==\n\
             Content-Type: text/cloud-config; charset=\"us-ascii\"\n\nruncmd:\n- echo one\n\n--==OWN==\n\
             Content-Type: text/x-shellscript; charset=\"us-ascii\"\n\n#!/bin/bash\necho two\n\n--==OWN==--\n"
        }
        AmiFamily::Al2023 => {
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"OWN\"\n\n--OWN\n\
             Content-Type: application/node.eks.aws\n\napiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  \
             featureGates:\n    InstanceIdNodeName: true\n\n--OWN\nContent-Type: text/x-shellscript\n\n#!/bin/bash\n\
             echo two\n--OWN--\n"
        }
        AmiFamily::Bottlerocket => {
            "[settings.kubernetes]\ncluster-name = \"not this one\"\nregistry-qps = 20\n\n\
             [settings.kubernetes.node-labels]\nteam = \"not this one\"\nrack = \"7\"\n\n\
             [settings.kubernetes.eviction-hard]\n\"nodefs.available\" = \"1%\"\n\n\
             [settings.host-containers.admin]\nenabled = true\n"
        }
        AmiFamily::Windows2019 | AmiFamily::Windows2022 | AmiFamily::Windows2025 => {
            "Write-Host \"one\"\nSet-Service -Name Spooler -StartupType Disabled\n"
        }
        AmiFamily::Custom => "#!/bin/sh\nexec /opt/join\n",
    }
}

/// Every setting that the family has a word for, on an IPv6 cluster, with local disks.
fn everything() -> Bootstrap<'static> {
    let kubelet = json!({
        "maxPods": 58, "podsPerCore": 8, "cpuCFSQuota": false,
        "systemReserved": { "cpu": "100m", "memory": "200Mi" }, "kubeReserved": { "cpu": "200m" },
        "evictionHard": { "memory.available": "5%", "nodefs.available": "10%" },
        "evictionSoft": { "memory.available": "500Mi" }, "evictionSoftGracePeriod": { "memory.available": "1m30s" },
        "evictionMaxPodGracePeriod": 60, "imageGCHighThresholdPercent": 85, "imageGCLowThresholdPercent": 80,
    });
    Bootstrap {
        service_cidr: Some("fd00:10::/108"),
        dns: None,
        kubelet: kubelet.as_object().cloned().unwrap(),
        max_pods: 58,
        raid0: true,
        image_version: Some("v1.45.0"),
        ..bootstrap(None)
    }
}

#[test]
fn user_data_of_every_family() {
    for family in FAMILIES {
        let name = family.name().to_lowercase();
        assert_snapshot!(format!("{name}_plain"), user_data(family, &bootstrap(None)).unwrap());
        let merged = user_data(family, &bootstrap(Some(own(family)))).unwrap();
        assert_snapshot!(format!("{name}_merged"), merged);
        assert_snapshot!(format!("{name}_everything"), user_data(family, &everything()).unwrap());
    }
}

/// What a user may have written by mistake, and how it is refused: family, user data, message.
#[test]
fn what_cannot_be_merged_is_refused_by_name() {
    let mut told = String::new();
    for (family, own) in [
        (AmiFamily::Al2, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"B\"\n\n--B\nnever ends"),
        (AmiFamily::Al2, "Content-Type: text/x-shellscript\n\n#!/bin/bash"),
        (AmiFamily::Al2023, "MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nno boundary"),
        (AmiFamily::Al2023, "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n\tspec: {}"),
        (AmiFamily::Bottlerocket, "#!/bin/bash\necho one"),
        (AmiFamily::Bottlerocket, "[settings]\nkubernetes = \"yes\""),
        (AmiFamily::Bottlerocket, "[settings.kubernetes]\nnode-labels = [\"a\"]"),
    ] {
        let refused = user_data(family, &bootstrap(Some(own))).unwrap_err();
        assert_eq!(refused.reason(), "UserDataInvalid");
        let refused = refused.to_string().replace('\n', " ");
        told.extend([family.name(), &format!(" {own:?}\n  "), &refused, "\n"]);
    }
    let long: &'static str = "x".repeat(16_385).leak();
    for family in [AmiFamily::Custom, AmiFamily::Al2023, AmiFamily::Windows2022] {
        let refused = user_data(family, &bootstrap(Some(long))).unwrap_err();
        assert_eq!(refused.reason(), "UserDataSizeLimitExceeded", "{}", family.name());
    }
    assert_snapshot!("refused", told);
}

#[test]
fn devices_of_every_family() {
    let mut told = String::new();
    for family in FAMILIES {
        let volumes = default_block_devices(family).into_iter().map(|device| {
            let size = device.volume_size_gib.unwrap_or_default();
            let kind = device.volume_type.unwrap_or_default();
            let encrypted = if device.encrypted == Some(true) { " encrypted" } else { "" };
            format!("{} {size} GiB {kind}{encrypted}", device.device_name)
        });
        let volumes = volumes.collect::<Vec<_>>().join(", ");
        told.extend([family.name(), ": kubelet on ", ephemeral_device(family), "; ", &volumes, "\n"]);
    }
    assert_snapshot!("devices", told);
}
