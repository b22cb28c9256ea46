//! Which instance types and offerings a launch asks for.
//!
//! Order of the filters: compatible and available → exotic types → spot dearer than on-demand (neither if `minValues`
//! are asked for) → the 60 cheapest, `minValues` kept. Then one capacity type: reserved before spot before on-demand.

use std::collections::BTreeSet;
use std::sync::Arc;

use karpenter_api::{NodeClaim, RequirementSpec, labels as keys};
use karpenter_core::Resources;
use karpenter_core::cloud::{CapacityType, InstanceType, LaunchProblem, Offering, Price};
use karpenter_core::requirements::{Requirement, Requirements};

use crate::reserved;

/// EC2 takes few overrides well; the cheapest of these are kept.
const TYPES_MAX: usize = 60;

/// A type with the offerings that are left of it.
pub(crate) struct Candidate {
    pub(crate) row: Arc<InstanceType>,
    pub(crate) offerings: Vec<Offering>,
}

impl Candidate {
    fn cheapest(&self) -> Price {
        self.offerings.iter().map(|o| o.price).min().unwrap_or(Price::MAX)
    }
}

/// What claims that are alike can be launched on, cheapest first, and as what.
pub(crate) fn select(
    rows: &[Arc<InstanceType>],
    claims: &[&NodeClaim],
) -> Result<(Vec<Candidate>, CapacityType), LaunchProblem> {
    let none =
        || LaunchProblem::InsufficientCapacity("all requested instance types were unavailable during launch".into());
    let specs = claims.first().map(|claim| claim.spec.requirements.as_slice()).unwrap_or_default();
    let candidates = candidates(rows, &requirements(specs), &requests(claims));
    let flexible = specs.iter().any(|spec| spec.min_values.is_some());
    let mut candidates = if flexible { candidates } else { without_dear_spot(without_exotic(candidates)) };
    candidates.sort_by(|a, b| a.cheapest().cmp(&b.cheapest()).then_with(|| a.row.name.cmp(&b.row.name)));
    let mut candidates = cheapest(candidates, specs)?;
    let capacity_type = candidates.iter().flat_map(|c| &c.offerings).map(|o| o.capacity_type).min().ok_or_else(none)?;
    for candidate in &mut candidates {
        candidate.offerings.retain(|offering| offering.capacity_type == capacity_type);
    }
    if capacity_type == CapacityType::Reserved {
        reserved::narrow(&mut candidates.iter_mut().map(|candidate| &mut candidate.offerings).collect::<Vec<_>>());
    }
    candidates.retain(|candidate| !candidate.offerings.is_empty());
    Ok((candidates, capacity_type))
}

fn requirements(specs: &[RequirementSpec]) -> Requirements {
    let mut all = Requirements::default();
    for spec in specs {
        all.add(keys::normalized(&spec.key), Requirement::from_spec(spec));
    }
    all
}

/// The most that any of the claims asks for.
fn requests(claims: &[&NodeClaim]) -> Resources {
    let mut most = Resources::default();
    let all = claims.iter().filter_map(|claim| claim.spec.resources.as_ref()?.requests.as_ref());
    for (name, amount) in all.flatten() {
        if let Some(amount) = karpenter_core::resources::amount(name, &amount.to_string()) {
            most.set(name.clone(), amount.max(most.get(name)));
        }
    }
    most
}

fn candidates(rows: &[Arc<InstanceType>], wanted: &Requirements, requests: &Resources) -> Vec<Candidate> {
    let allows = |key: &str, value: &str| wanted.get(key).is_none_or(|requirement| requirement.has(value));
    rows.iter()
        .filter(|row| row.requirements.intersects(wanted).is_ok() && requests.fits(&row.allocatable))
        .map(|row| {
            let offerings = row.offerings.iter().filter(|offering| {
                offering.available
                    && allows(keys::ZONE, &offering.zone)
                    && allows(keys::CAPACITY_TYPE, offering.capacity_type.as_str())
                    && (offering.zone_id.is_empty() || allows(keys::ZONE_ID, &offering.zone_id))
                    && reserved::is_meant(offering, wanted)
            });
            Candidate { row: Arc::clone(row), offerings: offerings.cloned().collect() }
        })
        .filter(|candidate| !candidate.offerings.is_empty())
        .collect()
}

/// Metal and accelerated types only when nothing else is left: nobody asked for them.
fn without_exotic(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let accelerators = ["nvidia.com/gpu", "amd.com/gpu", "aws.amazon.com/neuron", "habana.ai/gaudi"];
    let exotic =
        |c: &Candidate| c.row.name.contains(".metal") || accelerators.iter().any(|name| c.row.capacity.get(name) > 0);
    if candidates.iter().all(exotic) {
        return candidates;
    }
    candidates.into_iter().filter(|c| !exotic(c)).collect()
}

/// Spot that costs more than the cheapest on-demand offering is no bargain.
fn without_dear_spot(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let on_demand = |o: &&Offering| o.capacity_type == CapacityType::OnDemand;
    let Some(limit) = candidates.iter().flat_map(|c| &c.offerings).filter(on_demand).map(|o| o.price).min() else {
        return candidates;
    };
    for candidate in &mut candidates {
        candidate.offerings.retain(|o| o.capacity_type != CapacityType::Spot || o.price <= limit);
    }
    candidates.retain(|candidate| !candidate.offerings.is_empty());
    candidates
}

/// The cheapest, among them as many values of each key as `minValues` asks for.
fn cheapest(sorted: Vec<Candidate>, specs: &[RequirementSpec]) -> Result<Vec<Candidate>, LaunchProblem> {
    let wanted: Vec<(&str, usize)> = specs
        .iter()
        .filter_map(|spec| Some((keys::normalized(&spec.key), usize::try_from(spec.min_values?).ok()?)))
        .collect();
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for (key, count) in wanted {
        let mut values: BTreeSet<String> = BTreeSet::new();
        for (at, candidate) in sorted.iter().enumerate() {
            if values.len() >= count {
                break;
            }
            let before = values.len();
            values.extend(values_of(candidate, key));
            if values.len() > before {
                kept.insert(at);
            }
        }
        if values.len() < count {
            let message = format!("minValues of {key}: found {} that can be had now, expected {count}", values.len());
            return Err(LaunchProblem::InsufficientCapacity(message));
        }
    }
    if kept.len() > TYPES_MAX {
        let message = format!("minValues need {} instance types, expected at most {TYPES_MAX}", kept.len());
        return Err(LaunchProblem::Other { reason: "InstanceTypeFilteringFailed", message });
    }
    for at in 0..sorted.len() {
        if kept.len() >= TYPES_MAX {
            break;
        }
        kept.insert(at);
    }
    Ok(sorted.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, one)| one).collect())
}

fn values_of(candidate: &Candidate, key: &str) -> Vec<String> {
    let of_offerings = |of: fn(&Offering) -> String| candidate.offerings.iter().map(of).collect();
    match key {
        keys::ZONE => of_offerings(|o| o.zone.clone()),
        keys::ZONE_ID => of_offerings(|o| o.zone_id.clone()),
        keys::CAPACITY_TYPE => of_offerings(|o| o.capacity_type.as_str().to_owned()),
        _ => {
            let known = candidate.row.requirements.get(key).filter(|known| !known.complement);
            known.into_iter().flat_map(|known| known.values.iter().cloned()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(name: &str, offers: &[(CapacityType, &str, Price)]) -> Arc<InstanceType> {
        let family = crate::unavailable::family_of(name).to_owned();
        let requirements = [(keys::INSTANCE_TYPE, name.to_owned()), (keys::INSTANCE_FAMILY, family)];
        let amounts: Resources = [("cpu", 4000)].into_iter().collect();
        let mut capacity = amounts.clone();
        if name.starts_with('g') {
            capacity.set("nvidia.com/gpu".to_owned(), 1);
        }
        let offering = |(capacity_type, zone, price): &(CapacityType, &str, Price)| Offering {
            capacity_type: *capacity_type,
            zone: (*zone).to_owned(),
            zone_id: String::new(),
            price: *price,
            available: true,
            reservation: None,
            labels: BTreeMap::new(),
        };
        Arc::new(InstanceType {
            name: name.to_owned(),
            requirements: Arc::new(Requirements(
                requirements.into_iter().map(|(key, value)| (key.to_owned(), Requirement::one_of([value]))).collect(),
            )),
            capacity,
            allocatable: amounts,
            offerings: offers.iter().map(offering).collect(),
        })
    }

    fn claim(requirements: &serde_json::Value) -> NodeClaim {
        let spec = serde_json::json!({
            "requirements": requirements, "nodeClassRef": { "group": "", "kind": "", "name": "" },
        });
        NodeClaim::new("c", serde_json::from_value(spec).unwrap())
    }

    fn chosen(rows: &[Arc<InstanceType>], requirements: &serde_json::Value) -> (Vec<String>, CapacityType) {
        let claim = claim(requirements);
        let (candidates, capacity_type) = select(rows, &[&claim]).unwrap();
        let told = |c: &Candidate| c.offerings.iter().map(|o| format!("{}/{}", c.row.name, o.zone)).collect::<Vec<_>>();
        (candidates.iter().flat_map(told).collect(), capacity_type)
    }

    const SPOT: CapacityType = CapacityType::Spot;
    const ON_DEMAND: CapacityType = CapacityType::OnDemand;

    #[test]
    fn the_cheapest_capacity_type_that_can_be_had_is_asked_for() {
        let reserved = row("m5.large", &[(CapacityType::Reserved, "a", 0), (SPOT, "a", 30), (ON_DEMAND, "a", 96)]);
        let both = row("m5a.large", &[(SPOT, "a", 20), (ON_DEMAND, "a", 86)]);
        let only = row("m6i.large", &[(ON_DEMAND, "a", 90)]);
        let any = serde_json::json!([]);
        let all = [reserved, both, only];
        assert_eq!(chosen(&all, &any), (vec!["m5.large/a".to_owned()], CapacityType::Reserved));
        assert_eq!(chosen(&all[1..], &any), (vec!["m5a.large/a".to_owned()], SPOT));
        assert_eq!(chosen(&all[2..], &any), (vec!["m6i.large/a".to_owned()], ON_DEMAND));
    }

    #[test]
    fn spot_that_costs_more_than_on_demand_is_left_out_unless_values_are_asked_for() {
        let rows = [
            row("m5.large", &[(SPOT, "a", 30), (SPOT, "b", 99), (ON_DEMAND, "a", 96)]),
            row("r5.large", &[(SPOT, "a", 97)]),
        ];
        assert_eq!(chosen(&rows, &serde_json::json!([])).0, ["m5.large/a"]);
        let asks = serde_json::json!([{ "key": keys::INSTANCE_FAMILY, "operator": "Exists", "minValues": 2 }]);
        assert_eq!(chosen(&rows, &asks).0, ["m5.large/a", "m5.large/b", "r5.large/a"]);
        let no_on_demand = [row("m5.large", &[(SPOT, "b", 99)])];
        assert_eq!(chosen(&no_on_demand, &serde_json::json!([])).0, ["m5.large/b"]);
    }

    #[test]
    fn exotic_types_come_last() {
        let rows = [
            row("g4dn.xlarge", &[(ON_DEMAND, "a", 1)]),
            row("m5.metal", &[(ON_DEMAND, "a", 2)]),
            row("m5.large", &[(ON_DEMAND, "a", 96)]),
        ];
        assert_eq!(chosen(&rows, &serde_json::json!([])).0, ["m5.large/a"]);
        assert_eq!(chosen(&rows[..2], &serde_json::json!([])).0, ["g4dn.xlarge/a", "m5.metal/a"]);
    }

    #[test]
    fn of_many_types_the_sixty_cheapest_are_kept_and_the_values_that_are_asked_for() {
        let mut rows: Vec<_> = (0..80).map(|n| row(&format!("m5.{n:02}"), &[(ON_DEMAND, "a", 100 + n)])).collect();
        rows.push(row("r5.large", &[(ON_DEMAND, "a", 900)]));
        let (all, _) = chosen(&rows, &serde_json::json!([]));
        assert_eq!((all.len(), all.last().map(String::as_str)), (60, Some("m5.59/a")));
        let asks = |count: usize| serde_json::json!([{ "key": keys::INSTANCE_FAMILY, "operator": "Exists", "minValues": count }]);
        let (all, _) = chosen(&rows, &asks(2));
        assert_eq!((all.len(), all.last().map(String::as_str)), (60, Some("r5.large/a")));
        let claim = claim(&asks(3));
        let refused = select(&rows, &[&claim]).err().unwrap();
        assert!(
            matches!(&refused, LaunchProblem::InsufficientCapacity(text) if text.contains("expected 3")),
            "{refused}"
        );
    }
}
