//! Amazon Linux 2: a call of the image's bootstrap script, after the user's own parts.

use super::{BadUserData, Bootstrap, Parameter, Variant, flags, images_for, mime};

/// From this minor version of Kubernetes 1 on, EKS publishes no AL2 images.
pub(super) const ENDS_AT_MINOR: u32 = 33;

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> Result<String, BadUserData> {
    let mut parts = match bootstrap.custom() {
        Some(text) if mime::is_archive(text) => mime::parts(text)?,
        Some(text) => vec![mime::Part::script(text)],
        None => Vec::new(),
    };
    // bootstrap.sh does not read options with an equals sign.
    let mut options = vec![format!(
        "/etc/eks/bootstrap.sh '{}' --apiserver-endpoint '{}' --b64-cluster-ca '{}'",
        bootstrap.cluster_name, bootstrap.endpoint, bootstrap.ca
    )];
    if let Some(dns) = bootstrap.cluster_dns() {
        if dns.contains(':') {
            options.push("--ip-family ipv6".to_owned());
        }
        options.push(format!("--dns-cluster-ip '{dns}'"));
    }
    options.push("--use-max-pods false".to_owned());
    options.push(format!("--kubelet-extra-args '{}'", flags::kubelet(bootstrap).join(" ")));
    if bootstrap.raid0 {
        options.push("--local-disks raid0".to_owned());
    }
    let log = "exec > >(tee /var/log/user-data.log|logger -t user-data -s 2>/dev/console) 2>&1";
    parts.push(mime::Part::script(&format!("#!/bin/bash -xe\n{log}\n{}", options.join(" \\\n"))));
    Ok(mime::archive(&parts))
}

pub(super) fn parameters(version: &str, kubernetes: &str) -> Vec<Parameter> {
    [
        ("amazon-linux-2", "amazon-eks-node", "amd64", &[Variant::Standard][..]),
        ("amazon-linux-2-arm64", "amazon-eks-arm64-node", "arm64", &[Variant::Standard]),
        ("amazon-linux-2-gpu", "amazon-eks-gpu-node", "amd64", &[Variant::Neuron, Variant::Nvidia]),
    ]
    .into_iter()
    .map(|(path, prefix, arch, variants)| {
        let image =
            if version == "latest" { "recommended".to_owned() } else { format!("{prefix}-{kubernetes}-{version}") };
        Parameter {
            name: format!("/aws/service/eks/optimized-ami/{kubernetes}/{path}/{image}/image_id"),
            fits: images_for(arch, variants),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bootstrap, names};
    use super::*;

    #[test]
    fn the_script_joins_the_node() {
        let expected = r#"MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: text/x-shellscript; charset="us-ascii"

#!/bin/bash -xe
exec > >(tee /var/log/user-data.log|logger -t user-data -s 2>/dev/console) 2>&1
/etc/eks/bootstrap.sh 'dev' --apiserver-endpoint 'https://api.example' --b64-cluster-ca 'Q0E=' \
--dns-cluster-ip '10.100.0.10' \
--use-max-pods false \
--kubelet-extra-args '--node-labels="karpenter.sh/do-not-sync-taints=true,karpenter.sh/nodepool=default,team=a" --register-with-taints="dedicated=ml:NoSchedule,karpenter.sh/unregistered:NoExecute" --max-pods=29 --system-reserved="memory=1Gi" --eviction-hard="memory.available<5%"'

--//--
"#;
        assert_eq!(user_data(&bootstrap(None)).unwrap(), expected);
    }

    #[test]
    fn ipv6_clusters_and_local_disks_have_options_of_their_own() {
        let ipv6 = Bootstrap { service_cidr: Some("fd00:10::/108"), raid0: true, ..bootstrap(Some("echo hello")) };
        let script = user_data(&ipv6).unwrap();
        assert!(script.contains("--ip-family ipv6 \\\n--dns-cluster-ip 'fd00:10::a'"), "{script}");
        assert!(script.contains("--local-disks raid0"));
        assert!(script.find("echo hello") < script.find("bootstrap.sh"), "the user's part comes first");
    }

    #[test]
    fn images_are_named_by_parameters_of_eks() {
        assert_eq!(
            names(&parameters("latest", "1.32")),
            [
                "/aws/service/eks/optimized-ami/1.32/amazon-linux-2/recommended/image_id",
                "/aws/service/eks/optimized-ami/1.32/amazon-linux-2-arm64/recommended/image_id",
                "/aws/service/eks/optimized-ami/1.32/amazon-linux-2-gpu/recommended/image_id",
            ]
        );
        assert_eq!(
            names(&parameters("v20250101", "1.32"))[1],
            "/aws/service/eks/optimized-ami/1.32/amazon-linux-2-arm64/amazon-eks-arm64-node-1.32-v20250101/image_id"
        );
    }
}
