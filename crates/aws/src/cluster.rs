//! What nodes must be told of the cluster: from the settings first, then the API server, then EKS.

use std::net::IpAddr;

use crate::AwsSettings;
use crate::report::Cluster;

/// What the API server tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesFacts {
    /// e.g. `1.36`
    pub version: String,
    /// Address of the Service `kube-system/kube-dns`, if there is one.
    pub dns: Option<IpAddr>,
}

#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    described: Option<Cluster>,
    seen: Option<KubernetesFacts>,
    /// Everything a node needs, once it is complete.
    known: Option<Cluster>,
}

impl Knowledge {
    pub(crate) fn described(&mut self, cluster: Cluster, settings: &AwsSettings) {
        self.described = Some(cluster);
        self.settle(settings);
    }

    pub(crate) fn seen(&mut self, mut facts: KubernetesFacts, settings: &AwsSettings) {
        // A Service that cannot be read now is still where it was.
        facts.dns = facts.dns.or(self.seen.as_ref().and_then(|seen| seen.dns));
        self.seen = Some(facts);
        self.settle(settings);
    }

    pub(crate) fn known(&self) -> Option<&Cluster> {
        self.known.as_ref()
    }

    /// As EKS describes it; only it knows the cluster's ARN.
    pub(crate) fn arn(&self) -> Option<&str> {
        self.described.as_ref().map(|cluster| cluster.arn.as_str()).filter(|arn| !arn.is_empty())
    }

    fn settle(&mut self, settings: &AwsSettings) {
        let told = self.described.clone().unwrap_or_default();
        let given = |setting: &Option<String>, told: String| setting.clone().unwrap_or(told);
        let seen = self.seen.as_ref().filter(|seen| !settings.eks_control_plane && !seen.version.is_empty());
        let cluster = Cluster {
            endpoint: given(&settings.cluster_endpoint, told.endpoint),
            certificate_authority: given(&settings.cluster_ca, told.certificate_authority),
            version: seen.map_or(told.version, |seen| seen.version.clone()),
            dns: self.seen.as_ref().and_then(|seen| seen.dns),
            ..told
        };
        let complete =
            ![&cluster.endpoint, &cluster.certificate_authority, &cluster.version].iter().any(|t| t.is_empty());
        if complete {
            self.known = Some(cluster);
        }
    }
}

impl Cluster {
    /// Pods and nodes have IPv6 addresses: so does the cluster's DNS service; without one, the service range tells.
    pub fn is_ipv6(&self) -> bool {
        let by_range = || self.service_ipv4_cidr.is_none() && self.service_ipv6_cidr.is_some();
        self.dns.map_or_else(by_range, |dns| dns.is_ipv6())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> Cluster {
        Cluster {
            endpoint: "https://eks".into(),
            certificate_authority: "ZWtz".into(),
            version: "1.35".into(),
            service_ipv4_cidr: Some("10.100.0.0/16".into()),
            ..Cluster::default()
        }
    }

    fn seen(version: &str, dns: &str) -> KubernetesFacts {
        KubernetesFacts { version: version.into(), dns: dns.parse().ok() }
    }

    #[test]
    fn the_api_server_tells_the_version_unless_eks_is_to() {
        for (eks_control_plane, version) in [(false, "1.36"), (true, "1.35")] {
            let settings = AwsSettings { eks_control_plane, ..AwsSettings::default() };
            let mut knowledge = Knowledge::default();
            knowledge.described(described(), &settings);
            knowledge.seen(seen("1.36", ""), &settings);
            assert_eq!(
                knowledge.known().map(|c| c.version.as_str()),
                Some(version),
                "EKS_CONTROL_PLANE={eks_control_plane}"
            );
        }
    }

    #[test]
    fn eks_is_not_needed_for_what_is_known_without_it() {
        let settings = AwsSettings {
            cluster_endpoint: Some("https://mine".into()),
            cluster_ca: Some("bWluZQ==".into()),
            ..AwsSettings::default()
        };
        let mut knowledge = Knowledge::default();
        assert!(knowledge.known().is_none());
        knowledge.seen(seen("1.36", ""), &settings);
        assert_eq!(knowledge.known().map(|c| c.endpoint.as_str()), Some("https://mine"));
        knowledge.described(described(), &settings);
        let known = knowledge.known();
        assert_eq!(known.map(|c| c.endpoint.as_str()), Some("https://mine"), "a setting is not overruled");
        assert_eq!(known.and_then(|c| c.service_ipv4_cidr.as_deref()), Some("10.100.0.0/16"));
    }

    #[test]
    fn the_dns_service_tells_the_family() {
        for (dns, ipv6) in [("10.100.0.10", false), ("fd00::a", true), ("", false)] {
            let mut knowledge = Knowledge::default();
            knowledge.described(described(), &AwsSettings::default());
            knowledge.seen(seen("1.36", dns), &AwsSettings::default());
            assert_eq!(knowledge.known().map(Cluster::is_ipv6), Some(ipv6), "{dns:?}");
        }
        let range = Cluster { service_ipv4_cidr: None, service_ipv6_cidr: Some("fd00::/108".into()), ..described() };
        assert!(range.is_ipv6());
    }
}
