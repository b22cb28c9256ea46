//! Amazon Linux 2: a call of the image's bootstrap script, after the user's own parts.

use serde_json::Value;

use super::{BadUserData, Bootstrap, Parameter, Variant, cluster_dns, kubelet_labels, mime, requirements};

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> Result<String, BadUserData> {
    let mut parts = mime::parts(bootstrap.custom, |_| "text/x-shellscript; charset=\"us-ascii\"")?;
    let taints = bootstrap
        .taints
        .iter()
        .map(|taint| format!("{}={}:{}", taint.key, taint.value.as_deref().unwrap_or_default(), taint.effect))
        .collect::<Vec<_>>()
        .join(",");
    let mut flags = vec![
        format!("--node-labels={}", kubelet_labels(&bootstrap.labels)),
        format!("--register-with-taints={taints}"),
        format!("--max-pods={}", bootstrap.max_pods),
    ];
    for (field, flag) in
        [("systemReserved", "--system-reserved"), ("kubeReserved", "--kube-reserved")]
    {
        if let Some(pairs) = bootstrap.kubelet.get(field).and_then(Value::as_object) {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
            flags.push(format!("{flag}={}", pairs.join(",")));
        }
    }
    let dns = bootstrap.service_cidr.and_then(cluster_dns).map(|ip| format!(" --dns-cluster-ip '{ip}'"));
    let script = format!(
        "#!/bin/bash -xe\nexec > >(tee /var/log/user-data.log|logger -t user-data -s 2>/dev/console) 2>&1\n\
         /etc/eks/bootstrap.sh '{}' --apiserver-endpoint '{}' --b64-cluster-ca '{}'{} --use-max-pods false \
         --container-runtime containerd --kubelet-extra-args '{}'",
        bootstrap.cluster_name,
        bootstrap.endpoint,
        bootstrap.ca,
        dns.unwrap_or_default(),
        flags.join(" "),
    );
    parts.push(mime::Part::new("text/x-shellscript; charset=\"us-ascii\"", &script));
    Ok(mime::archive(&parts))
}

pub(super) fn parameters(version: &str, kubernetes: &str) -> Vec<Parameter> {
    [
        ("amazon-linux-2", "amazon-eks-node", "amd64", Variant::Standard),
        ("amazon-linux-2-arm64", "amazon-eks-arm64-node", "arm64", Variant::Standard),
        ("amazon-linux-2-gpu", "amazon-eks-gpu-node", "amd64", Variant::Nvidia),
    ]
    .into_iter()
    .map(|(path, prefix, arch, variant)| {
        let image =
            if version == "latest" { "recommended".to_owned() } else { format!("{prefix}-{kubernetes}-{version}") };
        Parameter {
            name: format!("/aws/service/eks/optimized-ami/{kubernetes}/{path}/{image}/image_id"),
            requirements: requirements(arch, variant),
        }
    })
    .collect()
}
