//! Prices in micro-dollars per hour: asked of AWS, with a bundled list until (or instead of) that.

use std::collections::BTreeMap;

use karpenter_core::cloud::Price;

/// Regions without a list of their own are priced like this one.
const DEFAULT_REGION: &str = "us-east-1";

#[derive(Debug, Default)]
pub(crate) struct Prices {
    on_demand: BTreeMap<String, Price>,
    /// By type, then zone.
    spot: BTreeMap<String, BTreeMap<String, Price>>,
}

impl Prices {
    /// The bundled list of a region.
    pub(crate) fn bundled(region: &str) -> Self {
        let rows = || {
            include_str!("../data/on-demand-prices.tsv").lines().skip(1).filter_map(|line| {
                let mut cells = line.split('\t');
                Some((cells.next()?, cells.next()?, cells.next()?.parse::<f64>().ok()?))
            })
        };
        let listed = if rows().any(|(of, ..)| of == region) { region } else { DEFAULT_REGION };
        let on_demand =
            rows().filter(|(of, ..)| *of == listed).map(|(_, name, usd)| (name.to_owned(), micro(usd))).collect();
        Self { on_demand, spot: BTreeMap::new() }
    }

    /// Newer figures replace older ones; types that are not listed keep what they had. Says whether any moved.
    pub(crate) fn learn_on_demand(&mut self, prices: BTreeMap<String, f64>) -> bool {
        prices.into_iter().fold(false, |moved, (name, usd)| moved | learn(&mut self.on_demand, name, usd))
    }

    pub(crate) fn learn_spot(&mut self, prices: BTreeMap<(String, String), f64>) -> bool {
        let mut moved = false;
        for ((name, zone), usd) in prices {
            moved |= learn(self.spot.entry(name).or_default(), zone, usd);
        }
        moved
    }

    pub(crate) fn on_demand(&self, instance_type: &str) -> Option<Price> {
        self.on_demand.get(instance_type).copied()
    }

    /// Before spot prices are known at all, on-demand prices stand in; later a missing one means
    /// that the type is not sold as spot there.
    pub(crate) fn spot(&self, instance_type: &str, zone: &str) -> Option<Price> {
        if self.spot.is_empty() {
            return self.on_demand(instance_type);
        }
        self.spot.get(instance_type)?.get(zone).copied()
    }
}

/// Says whether it is another price.
fn learn(known: &mut BTreeMap<String, Price>, key: String, usd: f64) -> bool {
    let price = micro(usd);
    known.insert(key, price) != Some(price)
}

/// The Pricing API knows nothing of AWS GovCloud (US).
pub(crate) fn are_listed(region: &str) -> bool {
    !region.starts_with("us-gov-")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "prices are small and positive")]
fn micro(usd: f64) -> Price {
    (usd.max(0.0) * 1e6).round() as Price
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_without_a_list_is_priced_like_the_default() {
        let prices = Prices::bundled("us-west-2");
        assert_eq!(prices.on_demand("a1.large"), Some(51_000));
    }

    #[test]
    fn spot_prices_stand_alone_once_known() {
        let mut prices = Prices::bundled("us-east-1");
        assert_eq!(prices.spot("a1.large", "us-east-1a"), Some(51_000));
        prices.learn_spot([(("a1.large".to_owned(), "us-east-1b".to_owned()), 0.02)].into());
        assert_eq!(prices.spot("a1.large", "us-east-1b"), Some(20_000));
        assert_eq!(prices.spot("a1.large", "us-east-1a"), None);
    }
}
