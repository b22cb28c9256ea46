//! What each class can buy: a row per instance type, an offering per capacity type and zone.
//!
//! Rows are shared and kept: what did not change since the last look is the same `Arc`, so that a price that moves
//! costs the rows it is in, and nothing at all if none is. A row's labels and sizes depend on the type and the class;
//! its offerings on prices, refusals, reservations and shifts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use karpenter_api::ec2nodeclass::{AmiFamily, Ec2NodeClassSpec, InterfaceType};
use karpenter_api::labels as keys;
use karpenter_core::Resources;
use karpenter_core::cloud::{CapacityType, InstanceType, Offering, Price, Reservation};
use karpenter_core::requirements::Requirements;

use crate::Aws;
use crate::capacity::Sizing;
use crate::class::{Class, is_expiring};
use crate::labels;
use crate::report::{CapacityReservation, InstanceTypeInfo, PlacementGroup};
use crate::unavailable::place;

/// Reserved capacity is paid for: next to nothing, so that it comes first, yet in the order of what it would cost.
const RESERVED_SHARE: Price = 10_000;
/// Of an offering whose price is not known: never cheap, never available.
const UNKNOWN_PRICE: Price = Price::MAX / 2;

/// The rows of one class, by type's name, ascending.
#[derive(Debug)]
pub(crate) struct Rows {
    basis: Basis,
    pub(crate) all: Arc<[Arc<InstanceType>]>,
}

/// What labels and sizes of all rows were made from; what is of one type alone is compared row by row.
#[derive(Debug, PartialEq)]
struct Basis {
    /// Which list of instance types.
    types: u64,
    spec: Ec2NodeClassSpec,
    group: Option<PlacementGroup>,
}

/// A class as offerings see it.
struct Buyer<'a> {
    spec: &'a Ec2NodeClassSpec,
    family: AmiFamily,
    /// Zone → zone id, of the class's subnets.
    zones: BTreeMap<&'a str, &'a str>,
    /// Zones in which some subnet of the class has addresses left.
    open: BTreeSet<&'a str>,
    group: Option<&'a PlacementGroup>,
    /// By instance type.
    reservations: BTreeMap<&'a str, Vec<&'a CapacityReservation>>,
}

impl Rows {
    /// Rows as a test has them.
    #[cfg(test)]
    pub(crate) fn of(all: Vec<Arc<InstanceType>>) -> Self {
        Self { basis: Basis { types: 0, spec: Ec2NodeClassSpec::default(), group: None }, all: all.into() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<InstanceType>> {
        let at = self.all.binary_search_by(|row| row.name.as_str().cmp(name)).ok()?;
        self.all.get(at)
    }
}

impl Aws {
    /// Brings the rows of every class up to date; says whether any is another now.
    pub(crate) fn refresh_rows(&mut self) -> bool {
        let fresh: Vec<(String, Option<Rows>)> =
            self.classes.iter().map(|(name, class)| (name.clone(), self.rows_of(class, self.rows.get(name)))).collect();
        let mut changed = false;
        for (name, rows) in fresh {
            let before = match rows {
                Some(rows) => {
                    let same = |before: &Rows| Arc::ptr_eq(&before.all, &rows.all);
                    changed |= !self.rows.get(&name).is_some_and(same);
                    self.rows.insert(name, rows)
                }
                None => self.rows.remove(&name).inspect(|_| changed = true),
            };
            drop(before);
        }
        changed
    }

    /// `None` while the class's subnets are not known: there is a difference between nothing and not yet.
    fn rows_of(&self, class: &Class, before: Option<&Rows>) -> Option<Rows> {
        let subnets = class.subnets.as_ref().and_then(|answer| answer.result.as_ref().ok())?;
        let zones = subnets.iter().map(|s| (s.zone.as_str(), s.zone_id.as_str())).collect();
        let spec = &class.object.spec;
        let group = class.placement_group();
        let open = subnets.iter().filter(|subnet| !self.unavailable.has_subnet(&subnet.id, self.ticked));
        let open = open.map(|subnet| subnet.zone.as_str()).collect();
        let reservations = self.reservations_of(class);
        let buyer = Buyer { spec, family: class.family(), zones, open, group, reservations };
        let seen = self.memory.seen_by(class);
        let sizing = Sizing { family: class.family(), spec, settings: &self.settings, seen };
        let basis = Basis { types: self.types_version, spec: spec.clone(), group: group.cloned() };
        let mut known = before.filter(|b| b.basis == basis).map(|b| b.all.iter()).into_iter().flatten().peekable();
        let mut kept = 0;
        let rows: Vec<Arc<InstanceType>> = self
            .types
            .iter()
            .filter_map(|info| {
                // Both are in the order of names.
                while known.next_if(|row| row.name < info.name).is_some() {}
                let known = known.next_if(|row| row.name == info.name);
                let offerings = self.offerings(info, &buyer);
                if offerings.is_empty() {
                    return None;
                }
                let memory = sizing.memory(info);
                let same_size = known.filter(|row| row.capacity.get(karpenter_core::resources::MEMORY) == memory);
                if let Some(row) = same_size.filter(|row| row.offerings == offerings) {
                    kept += 1;
                    return Some(Arc::clone(row));
                }
                Some(Arc::new(self.row(info, &buyer, &sizing, same_size, offerings)))
            })
            .collect();
        let all = match before {
            Some(before) if kept == rows.len() && kept == before.all.len() => Arc::clone(&before.all),
            _ => rows.into(),
        };
        Some(Rows { basis, all })
    }

    fn row(
        &self,
        info: &InstanceTypeInfo,
        buyer: &Buyer<'_>,
        sizing: &Sizing<'_>,
        known: Option<&Arc<InstanceType>>,
        offerings: Vec<Offering>,
    ) -> InstanceType {
        let (requirements, capacity, allocatable): (Arc<Requirements>, Resources, Resources) = match known {
            // A price or an availability alone: labels and sizes are what they were.
            Some(row) if sold_alike(&row.offerings, &offerings) => {
                (Arc::clone(&row.requirements), row.capacity.clone(), row.allocatable.clone())
            }
            _ => {
                let labels = labels::requirements(info, buyer.family, &self.settings.region, buyer.group, &offerings);
                let (capacity, allocatable) = sizing.of(info);
                (Arc::new(labels), capacity, allocatable)
            }
        };
        InstanceType { name: info.name.clone(), requirements, capacity, allocatable, offerings }
    }

    fn reservations_of<'a>(&self, class: &'a Class) -> BTreeMap<&'a str, Vec<&'a CapacityReservation>> {
        let mut all: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for reservation in class.capacity_reservations().iter().filter(|_| self.settings.reserved_capacity) {
            all.entry(reservation.instance_type.as_str()).or_default().push(reservation);
        }
        all
    }

    fn offerings(&self, info: &InstanceTypeInfo, buyer: &Buyer<'_>) -> Vec<Offering> {
        let fits = buyer.takes(info);
        let mut all = Vec::with_capacity(info.zones.len() * 2);
        for zone in &info.zones {
            let Some(zone_id) = buyer.zones.get(zone.as_str()) else {
                continue;
            };
            let open = fits && !self.shifts.is_away(zone_id) && self.has_room(buyer, zone);
            for (word, capacity_type) in [("on-demand", CapacityType::OnDemand), ("spot", CapacityType::Spot)] {
                if !info.usage_classes.iter().any(|class| class == word) {
                    continue;
                }
                let price = match capacity_type {
                    CapacityType::Spot => self.prices.spot(&info.name, zone),
                    _ => self.prices.on_demand(&info.name),
                };
                // A group is of the zone: what the zone has not, it has not either.
                let refused = || {
                    let has = |group| self.unavailable.has(capacity_type, &info.name, &place(zone, group), self.ticked);
                    has(None) || buyer.group.is_some_and(|group| has(Some(&group.id)))
                };
                all.push(Offering {
                    capacity_type,
                    zone: zone.clone(),
                    zone_id: (*zone_id).to_owned(),
                    price: price.unwrap_or(UNKNOWN_PRICE),
                    available: open && price.is_some() && !refused(),
                    reservation: None,
                    labels: BTreeMap::new(),
                });
            }
        }
        for reservation in buyer.reservations.get(info.name.as_str()).into_iter().flatten() {
            all.extend(
                self.reserved(info, reservation, buyer)
                    .map(|offering| Offering { available: offering.available && fits, ..offering }),
            );
        }
        self.in_partitions(&info.name, all, buyer.group)
    }

    /// Where no subnet has an address left, or a spread group is full, there is room for nobody, whatever the type.
    fn has_room(&self, buyer: &Buyer<'_>, zone: &str) -> bool {
        let is_full = |group: &PlacementGroup| {
            self.spreads.is_full(group, zone) || self.unavailable.has_place(&place(zone, Some(&group.id)), self.ticked)
        };
        buyer.open.contains(zone) && !buyer.group.is_some_and(is_full)
    }

    /// A reservation as an offering; none if the class has no subnet in its zone.
    fn reserved(
        &self,
        info: &InstanceTypeInfo,
        reservation: &CapacityReservation,
        buyer: &Buyer<'_>,
    ) -> Option<Offering> {
        let zone = &reservation.zone;
        let zone_id = buyer.zones.get(zone.as_str()).filter(|_| info.zones.contains(zone))?;
        let left = self.reservations.left(&reservation.id);
        let ending = is_expiring(reservation, self.ticked);
        Some(Offering {
            capacity_type: CapacityType::Reserved,
            zone: zone.clone(),
            zone_id: (*zone_id).to_owned(),
            price: self.prices.on_demand(&info.name).map_or(0, |price| price / RESERVED_SHARE),
            available: left > 0 && !ending && !self.shifts.is_away(zone_id) && self.has_room(buyer, zone),
            reservation: Some(Reservation { id: reservation.id.clone(), left }),
            labels: [
                (keys::CAPACITY_RESERVATION_TYPE.to_owned(), reservation.kind.clone()),
                (keys::CAPACITY_RESERVATION_INTERRUPTIBLE.to_owned(), reservation.interruptible.to_string()),
            ]
            .into(),
        })
    }
}

/// The same ways to buy, whatever they cost and whether or not they can be had.
fn sold_alike(before: &[Offering], after: &[Offering]) -> bool {
    let way = |o: &Offering| (o.capacity_type, o.reservation.as_ref().map(|r| r.id.clone()));
    before.len() == after.len()
        && before
            .iter()
            .zip(after)
            .all(|(a, b)| way(a) == way(b) && a.zone == b.zone && a.zone_id == b.zone_id && a.labels == b.labels)
}

/// Whether instances of the type can be launched as the class wants them.
pub(crate) fn takes(class: &Class, info: &InstanceTypeInfo) -> bool {
    let buyer = Buyer {
        spec: &class.object.spec,
        family: class.family(),
        zones: BTreeMap::new(),
        open: BTreeSet::new(),
        group: class.placement_group(),
        reservations: BTreeMap::new(),
    };
    buyer.takes(info)
}

impl Buyer<'_> {
    fn takes(&self, info: &InstanceTypeInfo) -> bool {
        // AWS: Amazon Linux 2023 does not start on the first Graviton.
        let boots = !(self.family == AmiFamily::Al2023 && info.name.starts_with("a1."));
        let nested = self.spec.cpu_options.as_ref().and_then(|cpu| cpu.nested_virtualization.as_deref());
        let grouped = |group: &PlacementGroup| info.group_strategies.contains(&group.strategy);
        boots
            && self.has_interfaces(info)
            && (nested != Some("enabled") || info.nested_virtualization)
            && self.group.is_none_or(grouped)
            && (self.spec.connection_tracking.is_none() || info.hypervisor == "nitro")
    }

    /// Whether it has room for the network interfaces that the class lists, and for their address prefixes.
    fn has_interfaces(&self, info: &InstanceTypeInfo) -> bool {
        let network = &info.network;
        let prefixes = i64::from(self.spec.ip_prefix_count.unwrap_or(0));
        if prefixes > 0 && prefixes + 1 > network.ipv4_per_interface {
            return false;
        }
        let Some(wanted) = &self.spec.network_interfaces else {
            return true;
        };
        let has = |card: i32, device: i32| {
            let found = network.cards.iter().find(|known| known.index == i64::from(card));
            found.is_some_and(|known| i64::from(device) < known.maximum_interfaces)
        };
        let efa = wanted.iter().filter(|each| each.interface_type == InterfaceType::EfaOnly).count();
        let most = network.efa_maximum_interfaces.and_then(|most| usize::try_from(most).ok()).unwrap_or(0);
        network.ena && wanted.iter().all(|each| has(each.network_card_index, each.device_index)) && efa <= most
    }
}
