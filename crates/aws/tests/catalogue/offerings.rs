//! What is on offer, and at what price.

use karpenter_api::labels as keys;
use karpenter_aws::AwsSettings;
use karpenter_aws::report::{CapacityReservation, Cluster, InstanceInfo, PlacementGroup, Report, ZonalShift};
use karpenter_core::cloud::CapacityType::{OnDemand, Reserved, Spot};
use karpenter_core::{Change, Fact, Kind, Object, Observation};
use serde_json::json;

use crate::fixture::{Market, ZONES, spot, zone_id};

fn on_demand(prices: &[(&str, f64)]) -> Report {
    Report::OnDemandPrices { result: Ok(prices.iter().map(|(name, usd)| ((*name).to_owned(), *usd)).collect()) }
}

#[test]
fn an_offering_for_each_capacity_type_and_zone_of_the_class() {
    let mut market = Market::selling(AwsSettings::default(), &json!({}));
    let row = market.row("m5.large");
    assert_eq!(row.offerings.len(), 6);
    let zone = market.offering("m5.large", OnDemand, ZONES[1]).unwrap();
    assert_eq!((zone.zone_id.as_str(), zone.available), (zone_id(ZONES[1]), true));
    assert_eq!(market.row("u-6tb1.56xlarge").offerings.len(), 3, "not sold as spot");
    market.subnets("default", &ZONES[..1]);
    assert!(market.tick());
    assert_eq!(market.row("m5.large").offerings.len(), 2, "the class has a subnet in one zone");
    market.subnets("default", &ZONES[..1]);
    assert!(!market.tick(), "nothing new");
}

#[test]
fn prices_of_the_list_until_aws_tells_others() {
    let mut market = Market::selling(AwsSettings::default(), &json!({}));
    let price = |market: &Market, of, zone| market.offering("m5.large", of, zone).map(|one| (one.price, one.available));
    assert_eq!(price(&market, OnDemand, ZONES[0]), Some((96_000, true)));
    assert_eq!(price(&market, Spot, ZONES[0]), Some((96_000, true)), "no better is known");
    market.hear(on_demand(&[("m5.large", 0.1)]));
    assert!(market.tick());
    assert_eq!(price(&market, OnDemand, ZONES[0]), Some((100_000, true)));
    assert_eq!(
        market.offering("m5.xlarge", OnDemand, ZONES[0]).map(|one| one.price),
        Some(192_000),
        "keeps what it had"
    );
    market.hear(spot(&[("m5.large", ZONES[0], 0.03)]));
    assert!(market.tick());
    assert_eq!(price(&market, Spot, ZONES[0]), Some((30_000, true)));
    assert!(price(&market, Spot, ZONES[1]).is_some_and(|(_, available)| !available), "not sold as spot there");
    market.hear(spot(&[("m5.large", ZONES[0], 0.03)]));
    market.hear(on_demand(&[("m5.large", 0.1)]));
    assert!(!market.tick(), "the same prices change nothing");
}

/// What of the class rules a type out, and a type that stays.
#[test]
fn types_that_a_class_cannot_have_are_not_on_offer() {
    let interfaces = |count: i32| {
        let one = |device: i32| json!({ "networkCardIndex": 0, "deviceIndex": device, "interfaceType": "interface" });
        json!({ "networkInterfaces": (0..count).map(one).collect::<Vec<_>>() })
    };
    let efa = json!({ "networkInterfaces": [
        { "networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface" },
        { "networkCardIndex": 0, "deviceIndex": 1, "interfaceType": "efa-only" },
    ] });
    let second_card = json!({ "networkInterfaces": [
        { "networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface" },
        { "networkCardIndex": 1, "deviceIndex": 1, "interfaceType": "interface" },
    ] });
    for (spec, out, stays) in [
        (json!({}), "a1.large", "m6g.large"),
        (interfaces(4), "m5.large", "m5.xlarge"),
        (interfaces(1), "m4.large", "m5.large"),
        (efa, "m5.large", "p4d.24xlarge"),
        (second_card, "m5.large", "p4d.24xlarge"),
        (json!({ "connectionTracking": { "udpTimeout": 60 } }), "m4.large", "m5.large"),
        (json!({ "ipPrefixCount": 10 }), "m5.large", "m5.xlarge"),
    ] {
        let market = Market::selling(AwsSettings::default(), &spec);
        assert!(!market.sells(out), "{out} with {spec}");
        assert!(market.sells(stays), "{stays} with {spec}");
    }
    let nested = json!({ "cpuOptions": { "nestedVirtualization": "enabled" } });
    assert!(!Market::selling(AwsSettings::default(), &nested).sells("m5.large"), "no type says that it can");
    assert!(Market::selling(AwsSettings::default(), &json!({ "amiFamily": "AL2" })).sells("a1.large"));
}

fn shift(zone: &str, applied: bool, until: Option<&str>) -> Report {
    let until = until.map(|text| text.parse().unwrap());
    Report::ZonalShifts { result: Ok(vec![ZonalShift { zone_id: zone_id(zone).to_owned(), applied, until }]) }
}

#[test]
fn nothing_is_offered_in_a_zone_that_is_shifted_away() {
    let mut market = Market::selling(AwsSettings { zonal_shift: true, ..AwsSettings::default() }, &json!({}));
    let open = |market: &Market| {
        ZONES.map(|zone| market.offering("m5.large", OnDemand, zone).is_some_and(|offering| offering.available))
    };
    market.hear(shift(ZONES[0], false, Some("2026-01-01T01:00:00Z")));
    assert!(!market.tick(), "a shift that is not applied moves nobody");
    market.hear(shift(ZONES[0], true, Some("2026-01-01T01:00:00Z")));
    assert!(market.tick());
    assert_eq!(open(&market), [false, true, true]);
    assert!(market.after(3600), "it ends by itself");
    assert_eq!(open(&market), [true, true, true]);
    market.hear(shift(ZONES[1], true, None));
    market.tick();
    assert_eq!(open(&market), [true, false, true]);
    market.hear(Report::ZonalShifts { result: Ok(Vec::new()) });
    assert!(market.tick(), "one that is no longer listed is over");
    assert_eq!(open(&market), [true, true, true]);
}

#[test]
fn owners_of_nodepools_are_told_of_a_shift() {
    let mut market = Market::selling(AwsSettings { zonal_shift: true, ..AwsSettings::default() }, &json!({}));
    let pool = serde_json::from_value(json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "general", "uid": "p" },
        "spec": { "template": { "spec": {
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" }, "requirements": [],
        } } },
    }));
    for kind in Kind::ALL {
        market.world.apply(Observation::Listed { kind, names: Vec::new() }, market.now);
    }
    let pool = Object::NodePool(Box::new(pool.unwrap()));
    market.world.apply(Observation::Kube(Change::Applied(pool)), market.now);
    let told = |market: &Market| {
        let facts = market.aws.decide(&market.world, market.now).facts;
        let reason = |fact: &Fact| match fact {
            Fact::Event { object, reason, message, .. } if object.kind == "NodePool" => {
                assert!(message.contains(zone_id(ZONES[0])), "{message}");
                Some(*reason)
            }
            _ => None,
        };
        facts.iter().filter_map(reason).collect::<Vec<_>>()
    };
    assert!(told(&market).is_empty());
    market.hear(shift(ZONES[0], true, None));
    assert_eq!(told(&market), ["ZonalShiftActive"]);
    market.after(90);
    assert!(told(&market).is_empty(), "once is enough");
    market.hear(Report::ZonalShifts { result: Ok(Vec::new()) });
    assert_eq!(told(&market), ["ZonalShiftCleared"]);
}

/// Names of the polls that are due.
fn due(market: &Market) -> Vec<&'static str> {
    let decision = market.aws.decide(&market.world, market.now);
    decision.actions.iter().filter(|action| action.key.subject == "aws").map(|action| action.key.verb).collect()
}

#[test]
fn what_is_asked_of_aws_and_how_often() {
    let settings = AwsSettings { zonal_shift: true, ..AwsSettings::default() };
    let mut market = Market::selling(settings, &json!({}));
    assert_eq!(due(&market), ["cluster", "on-demand-prices", "spot-prices", "instance-statuses", "instances"]);
    let cluster = Cluster { arn: "arn:aws:eks:us-east-1:1:cluster/dev".into(), ..Cluster::default() };
    market.hear(Report::Cluster { result: Ok(cluster) });
    market.hear(on_demand(&[("m5.large", 0.1)]));
    market.hear(spot(&[("m5.large", ZONES[0], 0.03)]));
    market.hear(Report::Instances { asked_at: market.now, result: Ok(Vec::new()) });
    market.hear(Report::InstanceStatuses { result: Ok(Vec::new()) });
    assert_eq!(due(&market), ["zonal-shifts"], "once the cluster's name for it is known");
    market.hear(Report::ZonalShifts { result: Ok(Vec::new()) });
    assert!(due(&market).is_empty());
    market.after(30);
    assert_eq!(due(&market), ["zonal-shifts", "instances"]);
    market.after(30);
    assert_eq!(due(&market), ["zonal-shifts", "instance-statuses", "instances"]);
    market.after(5 * 60);
    assert_eq!(due(&market), ["cluster", "zonal-shifts", "instance-statuses", "instances"]);
    market.after(12 * 3600);
    assert_eq!(
        due(&market),
        [
            "cluster",
            "instance-types",
            "on-demand-prices",
            "spot-prices",
            "zonal-shifts",
            "instance-statuses",
            "instances"
        ]
    );
}

#[test]
fn an_isolated_vpc_and_govcloud_have_the_bundled_prices() {
    let isolated = Market::open(AwsSettings { isolated_vpc: true, ..AwsSettings::default() });
    assert_eq!(due(&isolated), ["cluster", "spot-prices", "instance-statuses", "instances"]);
    let mut settings = AwsSettings { region: "us-gov-west-1".into(), ..AwsSettings::default() };
    settings.cluster_name = "dev".into();
    let mut govcloud = Market::open(AwsSettings::default());
    govcloud.aws = karpenter_aws::Aws::new(settings);
    assert_eq!(due(&govcloud), ["cluster", "instance-types", "spot-prices", "instance-statuses", "instances"]);
}

fn reservation(id: &str, available: i64) -> CapacityReservation {
    CapacityReservation {
        id: id.into(),
        instance_type: "m5.large".into(),
        zone: ZONES[0].into(),
        kind: "default".into(),
        available,
        total: 10,
        ..CapacityReservation::default()
    }
}

fn reserved(all: &[CapacityReservation]) -> Report {
    Report::Reservations { class: "default".into(), generation: 1, result: Ok(all.to_vec()) }
}

#[test]
fn reserved_capacity_is_an_offering_of_its_own() {
    let mut market = Market::selling(AwsSettings::default(), &json!({}));
    market.hear(reserved(&[reservation("cr-1", 3)]));
    assert!(market.tick());
    let offering = market.offering("m5.large", Reserved, ZONES[0]).unwrap();
    assert!(offering.available);
    assert_eq!(offering.zone_id, zone_id(ZONES[0]));
    assert_eq!(offering.reservation.map(|of| (of.id, of.left)), Some(("cr-1".into(), 3)));
    assert_eq!(offering.price, 9, "paid for already; dearer types still come later");
    let label = |key: &str| offering.labels.get(key).map(String::as_str);
    assert_eq!(label(keys::CAPACITY_RESERVATION_TYPE), Some("default"));
    assert_eq!(label(keys::CAPACITY_RESERVATION_INTERRUPTIBLE), Some("false"));
    let row = market.row("m5.large");
    assert_eq!(row.offerings.len(), 7, "all others are there as before");
    let ids = row.requirements.get(keys::CAPACITY_RESERVATION_ID).unwrap();
    assert!(ids.has("cr-1") && ids.allows_absence(), "a node bought otherwise lacks the label");
    assert!(market.row("m5.xlarge").requirements.get(keys::CAPACITY_RESERVATION_ID).unwrap().has_no_value());

    market.hear(reserved(&[reservation("cr-1", 2)]));
    assert!(market.tick(), "it has less left");
    assert_eq!(market.offering("m5.large", Reserved, ZONES[0]).and_then(|o| o.reservation).map(|of| of.left), Some(2));
    market.hear(reserved(&[reservation("cr-1", 2)]));
    assert!(!market.tick(), "the same answer a minute later changes nothing");
}

#[test]
fn reserved_capacity_that_cannot_be_had() {
    let mut market = Market::selling(AwsSettings { zonal_shift: true, ..AwsSettings::default() }, &json!({}));
    let open = |market: &Market| market.offering("m5.large", Reserved, ZONES[0]).map(|offering| offering.available);
    market.hear(reserved(&[reservation("cr-1", 0)]));
    market.tick();
    assert_eq!(open(&market), Some(false), "nothing is left");
    let ends = |seconds: i64| Some(market.now + jiff::SignedDuration::from_secs(seconds));
    let block = |ends| CapacityReservation { kind: "capacity-block".into(), ends, ..reservation("cr-1", 1) };
    let (later, soon) = (ends(41 * 60), ends(40 * 60));
    market.hear(reserved(&[block(later)]));
    market.tick();
    assert_eq!(open(&market), Some(true));
    market.hear(reserved(&[block(soon)]));
    market.tick();
    assert_eq!(open(&market), Some(false), "a block ends in forty minutes");
    market.hear(reserved(&[reservation("cr-1", 1)]));
    market.hear(shift(ZONES[0], true, None));
    market.tick();
    assert_eq!(open(&market), Some(false), "its zone is shifted away");
    market.hear(Report::ZonalShifts { result: Ok(Vec::new()) });
    market.subnets("default", &ZONES[1..]);
    market.tick();
    assert_eq!(open(&market), None, "the class has no subnet there");

    let off = AwsSettings { reserved_capacity: false, ..AwsSettings::default() };
    let mut without = Market::selling(off, &json!({}));
    without.hear(reserved(&[reservation("cr-1", 1)]));
    without.tick();
    assert_eq!(open(&without), None, "the gate is closed");
}

fn grouped(strategy: &str, partitions: Option<i32>) -> Market {
    let mut market = Market::selling(AwsSettings::default(), &json!({ "placementGroupSelector": { "name": "near" } }));
    let group = PlacementGroup {
        id: "pg-1".into(),
        name: "near".into(),
        strategy: strategy.into(),
        partitions,
        ..PlacementGroup::default()
    };
    market.hear(Report::PlacementGroup { class: "default".into(), generation: 1, result: Ok(Some(group)) });
    market.tick();
    market
}

#[test]
fn a_placement_group_labels_nodes_and_rules_types_out() {
    let market = grouped("cluster", None);
    let row = market.row("m5.large");
    let has = |key: &str, value: &str| row.requirements.get(key).is_some_and(|requirement| requirement.has(value));
    assert!(has(keys::PLACEMENT_GROUP_ID, "pg-1"));
    assert!(row.requirements.get(keys::PLACEMENT_GROUP_PARTITION).unwrap().has_no_value());
    assert_eq!(row.offerings.len(), 6);
    assert!(market.sells("m5.large") && !market.sells("t3.large"), "EC2 takes no t3 into a cluster group");
    assert!(grouped("spread", None).sells("t3.large"));
}

/// EC2 runs seven instances of a spread group in a zone, of whatever types.
#[test]
fn a_zone_in_which_a_spread_group_is_full_is_not_on_offer() {
    let running = |count: usize| {
        let one = |n| InstanceInfo {
            id: format!("i-{n}"),
            zone: ZONES[0].into(),
            state: "running".into(),
            group: Some("pg-1".into()),
            ..InstanceInfo::default()
        };
        (0..count).map(one).collect::<Vec<_>>()
    };
    for (strategy, count, expected) in
        [("spread", 6, &ZONES[..]), ("spread", 7, &ZONES[1..]), ("cluster", 7, &ZONES[..]), ("spread", 6, &ZONES[..])]
    {
        let mut market = grouped(strategy, None);
        // Whatever was there before.
        for listed in [0, 8, count] {
            market.hear(Report::Instances { asked_at: market.now, result: Ok(running(listed)) });
            market.tick();
        }
        let row = market.row("m5.large");
        let open = row.offerings.iter().filter(|one| one.available).map(|one| one.zone.as_str());
        let open: std::collections::BTreeSet<&str> = open.collect();
        assert_eq!(open, expected.iter().copied().collect(), "{count} in a {strategy} group");
    }
}

/// Pods can be spread over the partitions: each is an offering.
#[test]
fn partitions_of_a_group_are_offerings() {
    let market = grouped("partition", Some(3));
    let row = market.row("m5.large");
    assert_eq!(row.offerings.len(), 18);
    let of = |offering: &karpenter_core::cloud::Offering| offering.labels.get(keys::PLACEMENT_GROUP_PARTITION).cloned();
    let partitions: std::collections::BTreeSet<_> = row.offerings.iter().filter_map(of).collect();
    assert_eq!(partitions.into_iter().collect::<Vec<_>>(), ["1", "2", "3"]);
    let label = row.requirements.get(keys::PLACEMENT_GROUP_PARTITION).unwrap();
    assert!(label.has("3") && !label.has("4") && !label.allows_absence());
}
