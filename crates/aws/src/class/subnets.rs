//! Subnets: `spec.subnetSelectorTerms` → `status.subnets`, `SubnetsReady`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use karpenter_api::ec2nodeclass::{Ec2NodeClassStatus, SubnetStatus};

use super::status::{Verdict, nothing};
use super::{Class, Need, filters, found, had_at, known, learn, some};
use crate::AwsSettings;
use crate::call::Call;
use crate::report::{CallError, Subnet};

const EVERY: SignedDuration = SignedDuration::from_mins(1);

impl Class {
    pub(super) fn need_subnets(&self, settings: &AwsSettings) -> Need {
        let terms = &self.object.spec.subnet_selector_terms;
        let queries = terms.iter().map(|term| filters(term.tags.as_ref(), &[("subnet-id", term.id.as_ref())]));
        let call =
            Call::Subnets { class: self.name().to_owned(), generation: self.generation(), queries: queries.collect() };
        let every = settings.subnet_refresh.max(EVERY);
        Need { verb: "subnets", had: had_at(self.subnets.as_ref()), every, call }
    }

    /// Those with the most free addresses come first: launches take the first of each zone. Says whether the zones are
    /// other ones than before.
    pub(crate) fn learn_subnets(&mut self, at: Timestamp, result: Result<Vec<Subnet>, CallError>) -> bool {
        let before = self.zones();
        let result = result.map(|mut subnets| {
            subnets.sort_by(|a, b| b.available_addresses.cmp(&a.available_addresses).then_with(|| a.id.cmp(&b.id)));
            // Two terms may have found the same one.
            let mut seen = BTreeSet::new();
            subnets.retain(|subnet| seen.insert(subnet.id.clone()));
            subnets
        });
        learn(&mut self.subnets, at, result);
        before != self.zones()
    }

    /// Zone → its id; `None`: not known yet.
    pub(crate) fn zones(&self) -> Option<BTreeMap<String, String>> {
        let subnets = self.subnets.as_ref()?.result.as_ref().ok()?;
        Some(subnets.iter().map(|subnet| (subnet.zone.clone(), subnet.zone_id.clone())).collect())
    }

    pub(super) fn judge_subnets(&self, status: &mut Ec2NodeClassStatus) -> Verdict {
        let subnets = known(self.subnets.as_ref());
        if let Some(answer) = subnets {
            let told = |s: &Subnet| SubnetStatus { id: s.id.clone(), zone: s.zone.clone(), zone_id: some(&s.zone_id) };
            status.subnets = found(answer).map(|all| all.iter().map(told).collect());
        }
        match subnets {
            Some(Ok(found)) if found.is_empty() => nothing(
                "SubnetsNotFound",
                "spec.subnetSelectorTerms matched no subnet",
                &self.object.spec.subnet_selector_terms,
            ),
            other => Verdict::of(other),
        }
    }
}
