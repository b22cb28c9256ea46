//! Free addresses of subnets, less what launches take that EC2 has not counted yet.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::call::Launch;
use crate::report::{Fleet, Subnet};

/// A launch whose answer never came is not counted for longer than this.
const ANSWERED_WITHIN: SignedDuration = SignedDuration::from_mins(2);

#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// Under way, by launch: since when, and what it may take of each subnet.
    under_way: BTreeMap<String, (Timestamp, BTreeMap<String, i64>)>,
    /// Taken since the subnet was described.
    taken: BTreeMap<String, i64>,
}

impl Addresses {
    pub(crate) fn begin(&mut self, launch: &Launch, now: Timestamp) {
        self.under_way.insert(launch.token.clone(), (now, launch.addresses.clone()));
    }

    /// What was launched takes its addresses, the rest is given back.
    pub(crate) fn end(&mut self, launch: &Launch, fleet: Option<&Fleet>) {
        self.under_way.remove(&launch.token);
        let each = |subnet: &str| launch.addresses.get(subnet).copied().unwrap_or(0) / i64::from(launch.target.max(1));
        for instance in fleet.into_iter().flat_map(|fleet| &fleet.instances) {
            *self.taken.entry(instance.subnet_id.clone()).or_default() += each(&instance.subnet_id);
        }
    }

    /// EC2 has counted.
    pub(crate) fn described(&mut self, subnets: &[Subnet]) {
        for subnet in subnets {
            self.taken.remove(&subnet.id);
        }
    }

    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.under_way.retain(|_, (since, _)| now.duration_since(*since) < ANSWERED_WITHIN);
    }

    pub(crate) fn free(&self, subnet: &Subnet) -> i64 {
        let of = |all: &BTreeMap<String, i64>| all.get(&subnet.id).copied().unwrap_or(0);
        let under_way: i64 = self.under_way.values().map(|(_, all)| of(all)).sum();
        subnet.available_addresses - under_way - of(&self.taken)
    }
}
