//! Windows Server: the EKS bootstrap script in a PowerShell block, after the user's own text.

use karpenter_api::ec2nodeclass::AmiFamily;
use karpenter_api::labels as keys;

use super::{Bootstrap, Parameter, flags, one_of};

/// Windows Server 2025 images exist from this minor version of Kubernetes 1 on.
pub(super) const WINDOWS_2025_FROM_MINOR: u32 = 35;

/// The year in the names of a family's images, and its build; `None` for other systems.
pub(crate) fn release(family: AmiFamily) -> Option<(&'static str, &'static str)> {
    match family {
        AmiFamily::Windows2019 => Some(("2019", "10.0.17763")),
        AmiFamily::Windows2022 => Some(("2022", "10.0.20348")),
        AmiFamily::Windows2025 => Some(("2025", "10.0.26100")),
        AmiFamily::Al2 | AmiFamily::Al2023 | AmiFamily::Bottlerocket | AmiFamily::Custom => None,
    }
}

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> String {
    let mut lines = vec!["<powershell>".to_owned()];
    lines.extend(bootstrap.custom().map(str::to_owned));
    lines.push(
        "[string]$EKSBootstrapScriptFile = \"$env:ProgramFiles\\Amazon\\EKS\\Start-EKSBootstrap.ps1\"".to_owned(),
    );
    let mut call = format!(
        "& $EKSBootstrapScriptFile -EKSClusterName '{}' -APIServerEndpoint '{}' -Base64ClusterCA '{}' -KubeletExtraArgs '{}'",
        bootstrap.cluster_name,
        bootstrap.endpoint,
        bootstrap.ca,
        flags::kubelet(bootstrap).join(" "),
    );
    if let Some(dns) = bootstrap.cluster_dns() {
        call += " -DNSClusterIP '";
        call += &dns;
        call.push('\'');
    }
    lines.extend([call, "</powershell>".to_owned()]);
    lines.join("\n")
}

pub(super) fn parameters(family: AmiFamily, kubernetes: &str) -> Vec<Parameter> {
    let of = |(year, build): (&str, &str)| Parameter {
        name: format!(
            "/aws/service/ami-windows-latest/Windows_Server-{year}-English-Core-EKS_Optimized-{kubernetes}/image_id"
        ),
        fits: vec![vec![one_of(keys::OS, "windows"), one_of(keys::ARCH, "amd64"), one_of(keys::WINDOWS_BUILD, build)]],
    };
    release(family).map(of).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bootstrap, names};
    use super::*;

    #[test]
    fn the_users_text_runs_before_the_node_joins() {
        let expected = r#"<powershell>
Write-Host "mine"
[string]$EKSBootstrapScriptFile = "$env:ProgramFiles\Amazon\EKS\Start-EKSBootstrap.ps1"
& $EKSBootstrapScriptFile -EKSClusterName 'dev' -APIServerEndpoint 'https://api.example' -Base64ClusterCA 'Q0E=' -KubeletExtraArgs '--node-labels="karpenter.sh/do-not-sync-taints=true,karpenter.sh/nodepool=default,team=a" --register-with-taints="dedicated=ml:NoSchedule,karpenter.sh/unregistered:NoExecute" --max-pods=29 --system-reserved="memory=1Gi" --eviction-hard="memory.available<5%"' -DNSClusterIP '10.100.0.10'
</powershell>"#;
        assert_eq!(user_data(&bootstrap(Some("Write-Host \"mine\"\n"))), expected);
    }

    #[test]
    fn images_are_named_by_parameters_of_ec2() {
        assert_eq!(
            names(&parameters(AmiFamily::Windows2022, "1.36")),
            ["/aws/service/ami-windows-latest/Windows_Server-2022-English-Core-EKS_Optimized-1.36/image_id"]
        );
    }
}
