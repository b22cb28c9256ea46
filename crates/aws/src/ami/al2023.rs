//! Amazon Linux 2023: nodeadm's NodeConfig, after the user's own parts, which it merges.

use serde_json::{Value, json};

use super::{BadUserData, Bootstrap, Parameter, Variant, cluster_dns, kubelet_labels, mime, requirements};

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> Result<String, BadUserData> {
    let mut parts = mime::parts(bootstrap.custom, |text| {
        if text.contains("node.eks.aws/") && text.contains("NodeConfig") {
            "application/node.eks.aws"
        } else if text.starts_with("#cloud-config") {
            "text/cloud-config; charset=\"us-ascii\""
        } else {
            "text/x-shellscript; charset=\"us-ascii\""
        }
    })?;
    let yaml = serde_norway::to_string(&node_config(bootstrap)).map_err(|error| BadUserData {
        found: error.to_string(),
        expected: "kubelet settings that can be written as YAML",
    })?;
    parts.push(mime::Part::new("application/node.eks.aws", &format!("# Karpenter's part of the NodeConfig\n{yaml}")));
    Ok(mime::archive(&parts))
}

fn node_config(bootstrap: &Bootstrap<'_>) -> Value {
    let mut kubelet = bootstrap.kubelet.clone();
    kubelet.insert("maxPods".to_owned(), json!(bootstrap.max_pods));
    kubelet.remove("podsPerCore");
    if !kubelet.contains_key("clusterDNS")
        && let Some(dns) = bootstrap.service_cidr.and_then(cluster_dns)
    {
        kubelet.insert("clusterDNS".to_owned(), json!([dns]));
    }
    kubelet.insert("registerWithTaints".to_owned(), json!(bootstrap.taints));
    let mut spec = json!({
        "cluster": {
            "name": bootstrap.cluster_name,
            "apiServerEndpoint": bootstrap.endpoint,
            "certificateAuthority": bootstrap.ca,
            "cidr": bootstrap.service_cidr.unwrap_or_default(),
        },
        "kubelet": {
            "config": kubelet,
            "flags": [format!("--node-labels={}", kubelet_labels(&bootstrap.labels))],
        },
    });
    if bootstrap.raid0 {
        spec["instance"] = json!({ "localStorage": { "strategy": "RAID0" } });
    }
    json!({ "apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec })
}

/// EKS' documentation: "Retrieve recommended Amazon Linux AMI IDs".
pub(super) fn parameters(version: &str, kubernetes: &str) -> Vec<Parameter> {
    [
        ("x86_64", "standard", "amd64", Variant::Standard),
        ("arm64", "standard", "arm64", Variant::Standard),
        ("x86_64", "nvidia", "amd64", Variant::Nvidia),
        ("arm64", "nvidia", "arm64", Variant::Nvidia),
        ("x86_64", "neuron", "amd64", Variant::Neuron),
    ]
    .into_iter()
    .map(|(ec2_arch, flavour, arch, variant)| {
        let image = if version == "latest" {
            "recommended".to_owned()
        } else {
            format!("amazon-eks-node-al2023-{ec2_arch}-{flavour}-{kubernetes}-{version}")
        };
        let base = format!("/aws/service/eks/optimized-ami/{kubernetes}/amazon-linux-2023/{ec2_arch}/{flavour}");
        Parameter { name: format!("{base}/{image}/image_id"), requirements: requirements(arch, variant) }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use karpenter_api::Taint;

    fn bootstrap(custom: Option<&'static str>) -> Bootstrap<'static> {
        Bootstrap {
            cluster_name: "dev",
            endpoint: "https://api.example",
            ca: "Q0E=",
            service_cidr: Some("10.100.0.0/16"),
            labels: [("team", "a"), ("topology.kubernetes.io/zone", "us-west-2a"), ("karpenter.sh/nodepool", "default")]
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            taints: vec![Taint {
                key: "karpenter.sh/unregistered".into(),
                value: None,
                effect: "NoExecute".into(),
                time_added: None,
            }],
            kubelet: json!({ "systemReserved": { "memory": "1Gi" } }).as_object().cloned().unwrap(),
            max_pods: 29,
            raid0: false,
            custom,
        }
    }

    #[test]
    fn the_node_config_says_who_the_node_is() {
        let expected = "\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"//\"

--//
Content-Type: application/node.eks.aws

# Karpenter's part of the NodeConfig
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    apiServerEndpoint: https://api.example
    certificateAuthority: Q0E=
    cidr: 10.100.0.0/16
    name: dev
  kubelet:
    config:
      clusterDNS:
      - 10.100.0.10
      maxPods: 29
      registerWithTaints:
      - effect: NoExecute
        key: karpenter.sh/unregistered
      systemReserved:
        memory: 1Gi
    flags:
    - --node-labels=karpenter.sh/do-not-sync-taints=true,karpenter.sh/nodepool=default,team=a

--//--
";
        assert_eq!(user_data(&bootstrap(None)).unwrap(), expected);
    }

    #[test]
    fn the_users_parts_come_first() {
        let script = user_data(&bootstrap(Some("#!/bin/sh\necho hello"))).unwrap();
        let (own, ours) = (script.find("echo hello").unwrap(), script.find("kind: NodeConfig").unwrap());
        assert!(own < ours && script.contains("text/x-shellscript"));
        let archive = "Content-Type: multipart/mixed; boundary=\"B\"\n\n--B\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho one\n--B--\n";
        assert!(user_data(&bootstrap(Some(archive))).unwrap().contains("echo one"));
    }

    #[test]
    fn an_archive_that_cannot_be_read_is_refused_by_name() {
        let error = user_data(&bootstrap(Some("Content-Type: multipart/mixed\n\nx"))).unwrap_err();
        assert!(error.to_string().starts_with("spec.userData: found multipart/mixed without a boundary"), "{error}");
    }
}
