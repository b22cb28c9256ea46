//! The catalogue for people: sizes of types, prices and availability of offerings, over all classes.

use std::collections::BTreeMap;

use karpenter_core::cloud::CapacityType;

use crate::Aws;

/// What metrics tell of the catalogue.
#[derive(Debug, Default)]
pub struct Market {
    /// Name → vCPUs and bytes of memory, as EC2 sells it.
    pub types: BTreeMap<String, (i64, i64)>,
    /// Type, capacity type and zone → what any class is offered there.
    pub offerings: BTreeMap<(String, CapacityType, String), Sale>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sale {
    /// Dollars per hour.
    pub usd: f64,
    pub available: bool,
}

impl Aws {
    pub fn market(&self) -> Market {
        let types = self.types.iter().map(|info| (info.name.clone(), (info.vcpus, info.memory_mib << 20)));
        let mut market = Market { types: types.collect(), offerings: BTreeMap::new() };
        for row in self.rows.values().flat_map(|rows| rows.all.iter()) {
            for offering in &row.offerings {
                let key = (row.name.clone(), offering.capacity_type, offering.zone.clone());
                #[expect(clippy::cast_precision_loss, reason = "prices are far below 2^52")]
                let usd = offering.price as f64 / 1e6;
                let sale = market.offerings.entry(key).or_insert(Sale { usd, available: false });
                sale.available |= offering.available;
            }
        }
        // What has no price at all is not told one.
        market.offerings.retain(|_, sale| sale.usd < 1e9);
        market
    }
}
