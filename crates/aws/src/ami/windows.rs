//! Windows Server: the EKS bootstrap script in a PowerShell block, after the user's own text.

use karpenter_api::ec2nodeclass::AmiRequirement;
use karpenter_api::labels as keys;

use super::{Bootstrap, Parameter, kubelet_labels};

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> String {
    let taints = bootstrap
        .taints
        .iter()
        .map(|taint| format!("{}={}:{}", taint.key, taint.value.as_deref().unwrap_or_default(), taint.effect))
        .collect::<Vec<_>>()
        .join(",");
    let custom = bootstrap.custom.map(|text| format!("{}\n", text.trim_end())).unwrap_or_default();
    format!(
        "<powershell>\n{custom}[string]$EKSBootstrapScriptFile = \"$env:ProgramFiles\\Amazon\\EKS\\Start-EKSBootstrap.ps1\"\n\
         & $EKSBootstrapScriptFile -EKSClusterName '{}' -APIServerEndpoint '{}' -Base64ClusterCA '{}' \
         -KubeletExtraArgs '--node-labels=\"{}\" --register-with-taints=\"{taints}\" --max-pods={}'\n</powershell>",
        bootstrap.cluster_name,
        bootstrap.endpoint,
        bootstrap.ca,
        kubelet_labels(&bootstrap.labels),
        bootstrap.max_pods,
    )
}

pub(super) fn parameters(release: &str, kubernetes: &str) -> Vec<Parameter> {
    let build = match release {
        "2019" => "10.0.17763",
        "2022" => "10.0.20348",
        _ => "10.0.26100",
    };
    let is = |key: &str, value: &str| AmiRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![value.to_owned()]),
    };
    vec![Parameter {
        name: format!(
            "/aws/service/ami-windows-latest/Windows_Server-{release}-English-Core-EKS_Optimized-{kubernetes}/image_id"
        ),
        requirements: vec![is(keys::ARCH, "amd64"), is(keys::OS, "windows"), is(keys::WINDOWS_BUILD, build)],
    }]
}
