//! What keeping the catalogue of ten classes costs.

use std::sync::Arc;
use std::time::Instant;

use karpenter_aws::AwsSettings;
use serde_json::json;

use crate::fixture::{Market, ZONES, every_type, spot};

#[test]
fn a_refresh_of_spot_prices_with_ten_classes_costs_little_and_rows_that_stay_are_shared() {
    let mut market = Market::full(AwsSettings::default());
    for number in 0..10 {
        market.class(&format!("class-{number}"), &json!({ "kubelet": { "maxPods": 100 + number } }));
    }
    let began = Instant::now();
    assert!(market.tick());
    let first = began.elapsed();

    let types = every_type();
    let priced = |usd: f64| -> Vec<(&str, &str, f64)> {
        types.iter().flat_map(|info| ZONES.map(|zone| (info.name.as_str(), zone, usd))).collect()
    };
    market.hear(spot(&priced(0.5)));
    let began = Instant::now();
    assert!(market.tick());
    let every_price = began.elapsed();

    let before = market.rows("class-0");
    market.hear(spot(&[("m5.large", ZONES[0], 0.01)]));
    let began = Instant::now();
    assert!(market.tick());
    let one_price = began.elapsed();
    let after = market.rows("class-0");
    let moved = before.iter().zip(after.iter()).filter(|(a, b)| !Arc::ptr_eq(a, b));
    let moved: Vec<&str> = moved.map(|(row, _)| row.name.as_str()).collect();
    assert_eq!(moved, ["m5.large"], "whatever did not change is the same row");

    market.hear(spot(&priced(0.5)[..10]));
    let began = Instant::now();
    market.tick();
    let nothing = began.elapsed();
    println!(
        "{} types, 10 classes: first {first:?}, every price {every_price:?}, one {one_price:?}, none {nothing:?}",
        types.len()
    );
    // A ratio of one run: machines differ, and a busy one slows both.
    assert!(every_price < 2 * first, "{every_price:?}, and {first:?} from nothing");
}
