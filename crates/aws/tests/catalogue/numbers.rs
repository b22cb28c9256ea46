//! The numbers of every instance type that moto ships, against AWS' public tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use karpenter_api::labels as keys;
use karpenter_aws::AwsSettings;
use karpenter_core::cloud::CapacityType;
use karpenter_core::resources::{CPU, EPHEMERAL_STORAGE, MEMORY, PODS};
use serde_json::json;

use crate::fixture::{Market, ZONES, every_type, label, table};

/// Types of one list that another lacks: reported, and kept, so that a change is noticed.
fn missing(what: &str, all: &BTreeSet<&str>, of: &BTreeSet<&str>) -> String {
    let names: Vec<&str> = all.difference(of).copied().collect();
    let text = format!("{what}: {} of {}: {}", names.len(), all.len(), names.join(" "));
    println!("{text}");
    text
}

/// Pods by address, branch interfaces, hypervisor and metal as the VPC resource controller's table has them.
#[test]
fn pods_and_branch_interfaces_are_those_of_the_eni_table() {
    let market = Market::full(AwsSettings::default()).with_class(&json!({ "amiFamily": "Custom" }));
    let rows = market.rows("default");
    let limits: BTreeMap<&str, Vec<&str>> = table(include_str!("../../data/eni-limits.tsv"))
        .into_iter()
        .map(|cells| (cells[0], cells[1..].to_vec()))
        .collect();
    let infos = every_type();
    let mut wrong = String::new();
    for row in rows.iter() {
        let Some([interfaces, addresses, trunking, branches, hypervisor, metal]) =
            limits.get(row.name.as_str()).map(Vec::as_slice)
        else {
            continue;
        };
        let number = |text: &&str| text.parse::<i64>().unwrap();
        let trunks = if *trunking == "true" { number(branches) } else { 0 };
        let info = infos.iter().find(|info| info.name == row.name).unwrap();
        // The table counts the interfaces of all cards; the VPC CNI gives pods addresses of the default one's.
        let others: i64 = info
            .network
            .cards
            .iter()
            .filter(|card| card.index != info.network.default_card)
            .map(|card| card.maximum_interfaces)
            .sum();
        let pods = (number(interfaces) - others) * (number(addresses) - 1) + 2;
        for (what, found, expected) in [
            ("pods", row.capacity.get(PODS), pods),
            ("pod-eni", row.capacity.get("vpc.amazonaws.com/pod-eni"), trunks),
            ("metal", i64::from(info.bare_metal), i64::from(*metal == "true")),
        ] {
            if found != expected {
                writeln!(wrong, "{} {what}: {found}, the table says {expected}", row.name).unwrap();
            }
        }
        let said = label(row, keys::INSTANCE_HYPERVISOR).unwrap_or_default();
        if said != *hypervisor && !info.bare_metal {
            writeln!(wrong, "{} hypervisor: {said:?}, the table says {hypervisor:?}", row.name).unwrap();
        }
    }
    let sold: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let listed: BTreeSet<&str> = limits.keys().copied().collect();
    insta::assert_snapshot!("eni_limits", format!("{}\ndiffer:\n{wrong}", missing("not in the table", &sold, &listed)));
}

#[test]
fn network_bandwidth_is_that_of_the_table_or_not_told() {
    let market = Market::full(AwsSettings::default()).with_class(&json!({ "amiFamily": "Custom" }));
    let rows = market.rows("default");
    let bandwidth: BTreeMap<&str, &str> =
        table(include_str!("../../data/network-bandwidth.tsv")).into_iter().map(|cells| (cells[0], cells[1])).collect();
    for row in rows.iter() {
        assert_eq!(
            label(row, keys::INSTANCE_NETWORK_BANDWIDTH),
            bandwidth.get(row.name.as_str()).copied(),
            "{}",
            row.name
        );
    }
    let sold: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let listed: BTreeSet<&str> = bandwidth.keys().copied().collect();
    insta::assert_snapshot!("network_bandwidth", missing("not in the table", &sold, &listed));
}

#[test]
fn a_type_without_a_price_is_never_on_offer() {
    let market = Market::full(AwsSettings::default()).with_class(&json!({ "amiFamily": "Custom" }));
    let rows = market.rows("default");
    let prices = table(include_str!("../../data/on-demand-prices.tsv"));
    let listed: BTreeSet<&str> = prices.iter().filter(|cells| cells[0] == "us-east-1").map(|cells| cells[1]).collect();
    for row in rows.iter() {
        let sold = row.offerings.iter().any(|offering| offering.available);
        assert_eq!(sold, listed.contains(row.name.as_str()), "{}", row.name);
    }
    let sold: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    insta::assert_snapshot!("prices", missing("without a price in us-east-1", &sold, &listed));
}

/// What pods can use of each type, with Amazon Linux 2023 and everything at its default: a change is noticed.
#[test]
fn what_pods_can_use_of_every_type() {
    let market = Market::full(AwsSettings::default()).with_class(&json!({}));
    let mib = |bytes: i64| bytes / (1 << 20);
    let mut text = String::new();
    for row in market.rows("default").iter() {
        let (has, can) = (&row.capacity, &row.allocatable);
        let more = has.0.iter().filter(|(name, _)| ![CPU, MEMORY, PODS, EPHEMERAL_STORAGE].contains(&name.as_str()));
        let more: Vec<String> = more.map(|(name, amount)| format!("{name}={amount}")).collect();
        let (cpu, memory, storage) = (can.get(CPU), mib(can.get(MEMORY)), mib(can.get(EPHEMERAL_STORAGE)));
        let price = row.offerings.iter().find(|o| o.capacity_type == CapacityType::OnDemand && o.zone == ZONES[0]);
        let price = price.filter(|offering| offering.available).map_or(0, |offering| offering.price);
        let line = format!(
            "{} {cpu}/{}m {memory}/{}Mi {} pods {storage}Mi ${}.{:06} {}",
            row.name,
            has.get(CPU),
            mib(has.get(MEMORY)),
            can.get(PODS),
            price / 1_000_000,
            price % 1_000_000,
            more.join(" ")
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    insta::assert_snapshot!("allocatable", text);
}
