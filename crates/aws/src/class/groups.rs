//! Security groups: `spec.securityGroupSelectorTerms` → `status.securityGroups`, `SecurityGroupsReady`.

use jiff::{SignedDuration, Timestamp};
use karpenter_api::ec2nodeclass::{Ec2NodeClassStatus, SecurityGroupStatus};

use super::status::{Verdict, nothing};
use super::{Class, NOTHING_EVERY, Need, filters, found, had_at, known, learn, some};
use crate::call::Call;
use crate::report::{CallError, SecurityGroup};

const EVERY: SignedDuration = SignedDuration::from_mins(5);

impl Class {
    pub(super) fn need_groups(&self) -> Need {
        let terms = &self.object.spec.security_group_selector_terms;
        let queries = terms.iter().map(|term| {
            filters(term.tags.as_ref(), &[("group-id", term.id.as_ref()), ("group-name", term.name.as_ref())])
        });
        let (class, generation) = (self.name().to_owned(), self.generation());
        let call = Call::SecurityGroups { class, generation, queries: queries.collect() };
        let none = self.groups.as_ref().is_some_and(|answer| answer.result.as_ref().is_ok_and(Vec::is_empty));
        let every = if none { NOTHING_EVERY } else { EVERY };
        Need { verb: "security-groups", had: had_at(self.groups.as_ref()), every, call }
    }

    pub(crate) fn learn_groups(&mut self, at: Timestamp, result: Result<Vec<SecurityGroup>, CallError>) {
        let result = result.map(|mut groups| {
            groups.sort_by(|a, b| a.id.cmp(&b.id));
            groups.dedup_by(|a, b| a.id == b.id);
            groups
        });
        learn(&mut self.groups, at, result);
    }

    pub(super) fn judge_groups(&self, status: &mut Ec2NodeClassStatus) -> Verdict {
        let groups = known(self.groups.as_ref());
        if let Some(answer) = groups {
            let told = |g: &SecurityGroup| SecurityGroupStatus { id: g.id.clone(), name: some(&g.name) };
            status.security_groups = found(answer).map(|all| all.iter().map(told).collect());
        }
        match groups {
            Some(Ok(found)) if found.is_empty() => nothing(
                "SecurityGroupsNotFound",
                "spec.securityGroupSelectorTerms matched no security group",
                &self.object.spec.security_group_selector_terms,
            ),
            other => Verdict::of(other),
        }
    }
}
