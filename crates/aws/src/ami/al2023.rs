//! Amazon Linux 2023: nodeadm's NodeConfig, after the user's own parts, which it merges.

use serde_json::{Value, json};

use super::{BadUserData, Bootstrap, Parameter, Variant, images_for, mime};

const NODE_CONFIG: &str = "application/node.eks.aws";

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> Result<String, BadUserData> {
    let mut parts = match bootstrap.custom() {
        Some(text) if mime::is_archive(text) => mime::parts(text)?,
        Some(text) => vec![own_part(text)?],
        None => Vec::new(),
    };
    let yaml = serde_norway::to_string(&node_config(bootstrap)).map_err(|error| BadUserData {
        found: error.to_string(),
        expected: "kubelet settings that can be written as YAML",
    })?;
    parts.push(mime::Part::new(NODE_CONFIG, &format!("# Karpenter's part of the NodeConfig\n{yaml}")));
    Ok(mime::archive(&parts))
}

/// What is not an archive is a NodeConfig if it is a YAML mapping, else a script; cloud-init's own
/// YAML says so in its first line.
fn own_part(text: &str) -> Result<mime::Part, BadUserData> {
    if text.starts_with("#cloud-config") {
        return Ok(mime::Part::new("text/cloud-config; charset=\"us-ascii\"", text));
    }
    if text.starts_with("#!") {
        return Ok(mime::Part::script(text));
    }
    match serde_norway::from_str::<Value>(text) {
        Ok(Value::Object(_)) => Ok(mime::Part::new(NODE_CONFIG, text)),
        Err(error) if text.contains("node.eks.aws/") => Err(BadUserData {
            found: format!("a NodeConfig that is not YAML: {error}"),
            expected: "a NodeConfig of node.eks.aws, a script, or a MIME multipart archive of these",
        }),
        _ => Ok(mime::Part::script(text)),
    }
}

fn node_config(bootstrap: &Bootstrap<'_>) -> Value {
    let mut kubelet = bootstrap.kubelet.clone();
    // An integer is the user's own; anything else was resolved for this instance type.
    if !kubelet.get("maxPods").is_some_and(Value::is_i64) {
        kubelet.insert("maxPods".to_owned(), json!(bootstrap.max_pods));
    }
    if !kubelet.contains_key("clusterDNS")
        && let Some(dns) = bootstrap.cluster_dns()
    {
        kubelet.insert("clusterDNS".to_owned(), json!([dns]));
    }
    kubelet.insert("registerWithTaints".to_owned(), json!(bootstrap.taints));
    let labels: Vec<String> = bootstrap.node_labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut spec = json!({
        "cluster": {
            "name": bootstrap.cluster_name,
            "apiServerEndpoint": bootstrap.endpoint,
            "certificateAuthority": bootstrap.ca,
            "cidr": bootstrap.service_cidr.unwrap_or_default(),
        },
        "kubelet": { "config": kubelet, "flags": [format!("--node-labels={}", labels.join(","))] },
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
        Parameter { name: format!("{base}/{image}/image_id"), fits: images_for(arch, &[variant]) }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bootstrap, names};
    use super::*;

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
      evictionHard:
        memory.available: 5%
      maxPods: 29
      registerWithTaints:
      - effect: NoSchedule
        key: dedicated
        value: ml
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
    fn the_kubelets_settings_pass_through_as_the_user_wrote_them() {
        let mut asked = bootstrap(None);
        let own = json!({ "maxPods": 20, "podsPerCore": 4, "clusterDNS": ["10.0.0.2", "10.0.0.3"], "shutdownGracePeriod": "30s" });
        asked.kubelet = own.as_object().cloned().unwrap();
        asked.raid0 = true;
        let config = node_config(&asked);
        let kubelet = &config["spec"]["kubelet"]["config"];
        assert_eq!(kubelet["maxPods"], 20);
        assert_eq!(kubelet["podsPerCore"], 4);
        assert_eq!(kubelet["clusterDNS"], json!(["10.0.0.2", "10.0.0.3"]));
        assert_eq!(kubelet["shutdownGracePeriod"], "30s");
        assert_eq!(config["spec"]["instance"]["localStorage"]["strategy"], "RAID0");
    }

    #[test]
    fn the_users_parts_come_first_with_the_type_they_have() {
        let archive = "Content-Type: multipart/mixed; boundary=\"B\"\n\n--B\nContent-Type: text/plain\n\nmine\n--B--\n";
        for (own, header) in [
            ("#!/bin/sh\necho mine", "text/x-shellscript"),
            ("echo mine", "text/x-shellscript"),
            ("#cloud-config\nruncmd: [mine]", "text/cloud-config"),
            ("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {mine: 1}", "application/node.eks.aws"),
            (archive, "text/plain"),
        ] {
            let all = user_data(&bootstrap(Some(own))).unwrap();
            let first = all.split("--//\n").nth(1).unwrap();
            assert!(first.starts_with(&format!("Content-Type: {header}")) && first.contains("mine"), "{all}");
            assert!(all.find("mine") < all.find("Karpenter's part"));
        }
    }

    #[test]
    fn user_data_that_cannot_be_read_is_refused_by_name() {
        let error = user_data(&bootstrap(Some("Content-Type: multipart/mixed\n\nx"))).unwrap_err();
        assert!(
            error.to_string().starts_with("spec.userData: found multipart without a boundary, expected"),
            "{error}"
        );
        let error = user_data(&bootstrap(Some("apiVersion: node.eks.aws/v1alpha1\nspec: {"))).unwrap_err();
        assert!(error.to_string().starts_with("spec.userData: found a NodeConfig that is not YAML"), "{error}");
    }

    #[test]
    fn images_are_named_by_parameters_of_eks() {
        let base = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023";
        let all = parameters("latest", "1.36");
        assert_eq!(
            names(&all),
            [
                format!("{base}/x86_64/standard/recommended/image_id"),
                format!("{base}/arm64/standard/recommended/image_id"),
                format!("{base}/x86_64/nvidia/recommended/image_id"),
                format!("{base}/arm64/nvidia/recommended/image_id"),
                format!("{base}/x86_64/neuron/recommended/image_id"),
            ]
        );
        assert_eq!(
            names(&parameters("v20260101", "1.36"))[0],
            format!("{base}/x86_64/standard/amazon-eks-node-al2023-x86_64-standard-1.36-v20260101/image_id")
        );
    }
}
