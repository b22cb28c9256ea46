//! Volumes: where a pod's can be attached, and how many a node still takes.
//!
//! Each volume has places, any of which will do: the node-affinity terms of a bound PersistentVolume,
//! the `allowedTopologies` of the StorageClass of a claim that waits for its pod. A pod needs a node
//! that is in a place of each of its volumes: the combinations that are possible are its homes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelectorTerm, TopologySelectorTerm};
use karpenter_api::labels as keys;
use karpenter_solver::{Layout, Row};
use rustc_hash::FxHashMap;

use super::Interned;
use crate::World;
use crate::provision::pods::term;
use crate::requirements::{Requirement, Requirements};
use crate::world::{Digest, Volume, VolumeClaim};

/// Combinations of places that are looked at; what is left out could only have been another place.
const HOMES_MAX: usize = 64;

/// By volume that has a say: where it can be.
pub(super) type Places = Vec<Vec<Requirements>>;

/// Where the volumes of a pod can be. Errors name the claim, what was found and what is expected.
pub(super) fn places(world: &World, of: &Digest) -> Result<Places, String> {
    let mut all = Places::new();
    for name in &of.volume_claims {
        let key = format!("{}/{name}", of.namespace);
        let problem = |(found, expected): (String, &str)| {
            format!("persistentVolumeClaim {key:?}: found {found}, expected {expected}")
        };
        let places = places_of(world, world.storage.claims.get(&key)).map_err(problem)?;
        if !places.is_empty() {
            all.push(places);
        }
    }
    Ok(all)
}

/// What was found, and what is expected.
type Problem = (String, &'static str);

fn places_of(world: &World, claim: Option<&VolumeClaim>) -> Result<Vec<Requirements>, Problem> {
    let claim = claim.ok_or_else(|| ("none of that name".to_owned(), "one in the pod's namespace"))?;
    if claim.deleting {
        return Err(("metadata.deletionTimestamp".to_owned(), "a claim that is not being deleted"));
    }
    if claim.lost {
        return Err(("status.phase \"Lost\"".to_owned(), "a claim whose volume exists"));
    }
    match &claim.volume {
        Some(name) => places_bound(world, claim, name),
        None => places_waiting(world, claim),
    }
}

fn places_bound(world: &World, claim: &VolumeClaim, name: &str) -> Result<Vec<Requirements>, Problem> {
    let found = |what: &str| format!("spec.volumeName {name:?}{what}");
    if !claim.bound {
        let expected = "the annotation pv.kubernetes.io/bind-completed beside it";
        return Err((found(" without completed binding"), expected));
    }
    let volume = world.storage.volumes.get(name);
    let volume = volume.ok_or_else(|| (found(", which does not exist"), "a PersistentVolume that exists"))?;
    if volume.deleting {
        return Err((found(", which is being deleted"), "a PersistentVolume that stays"));
    }
    places_of_volume(volume).map_err(|problem| (found(&format!(" with {problem}")), "a node affinity that can be read"))
}

fn places_of_volume(volume: &Volume) -> Result<Vec<Requirements>, String> {
    // Before volumes had node affinities their labels said where they are; kube-scheduler heeds them.
    let mut labels = Requirements::default();
    for (key, values) in &volume.zones {
        labels.add(keys::normalized(key), Requirement::one_of(values.split("__")));
    }
    let mut places = Vec::new();
    for one in &volume.terms {
        if let Some(mut place) = place_of_term(volume, one)? {
            place.add_all(&labels);
            places.push(place);
        }
    }
    if !volume.terms.is_empty() && places.is_empty() {
        return Err("only empty nodeSelectorTerms".to_owned());
    }
    if places.is_empty() && !labels.0.is_empty() {
        places.push(labels);
    }
    Ok(places)
}

/// A term without expressions matches no node. What is bound to one node's disk goes wherever its pod
/// goes: the node it names is left out of it.
fn place_of_term(volume: &Volume, of: &NodeSelectorTerm) -> Result<Option<Requirements>, String> {
    if !volume.local && of.match_fields.iter().flatten().next().is_some() {
        return Err("matchFields in its nodeAffinity".to_owned());
    }
    if of.match_expressions.iter().flatten().next().is_none() {
        return Ok(None);
    }
    let mut place = term(of)?;
    if volume.local {
        place.0.remove(keys::HOSTNAME);
    }
    Ok(Some(place))
}

fn places_waiting(world: &World, claim: &VolumeClaim) -> Result<Vec<Requirements>, Problem> {
    let Some(name) = &claim.class else {
        let found = "neither spec.volumeName nor spec.storageClassName".to_owned();
        return Err((found, "a bound claim or a StorageClass"));
    };
    let found = |what: &str| format!("spec.storageClassName {name:?}{what}");
    let class = world.storage.classes.get(name);
    let class = class.ok_or_else(|| (found(", which does not exist"), "a StorageClass that exists"))?;
    if !class.waits {
        let expected = "a bound claim, or volumeBindingMode WaitForFirstConsumer";
        return Err((found(" with volumeBindingMode Immediate and no volume yet"), expected));
    }
    Ok(class.topologies.iter().map(place_of_topology).collect())
}

fn place_of_topology(of: &TopologySelectorTerm) -> Requirements {
    let mut place = Requirements::default();
    for expression in of.match_label_expressions.iter().flatten() {
        place.add(keys::normalized(&expression.key), Requirement::one_of(expression.values.clone()));
    }
    place
}

/// Volumes and drivers by number: those alone whose driver some node limits.
#[derive(Default)]
pub(super) struct Volumes {
    drivers: BTreeMap<String, usize>,
    numbers: FxHashMap<String, usize>,
}

impl Volumes {
    pub(super) fn new(world: &World) -> Self {
        let limits = world.storage.limits.iter().filter(|(node, _)| world.nodes.contains_key(*node));
        let names: BTreeSet<&String> = limits.flat_map(|(_, limits)| limits.keys()).collect();
        let drivers = names.into_iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        Self { drivers, numbers: FxHashMap::default() }
    }
}

impl Interned<'_> {
    /// Where all of these volumes can be at once. If nowhere: the first combination, which no node meets
    /// and which tells why.
    pub(super) fn homes(&self, places: &Places) -> Vec<Row> {
        let layout = &self.problem.layout;
        let mut homes: Vec<Row> = Vec::new();
        for of_volume in places {
            let rows: Vec<Row> = of_volume.iter().map(|place| self.words.row(layout, place)).collect();
            homes = if homes.is_empty() { distinct(rows) } else { combined(layout, &homes, &rows) };
        }
        homes
    }

    /// Numbers of the volumes of these pods, ascending.
    pub(super) fn volumes_of<'d>(&mut self, world: &World, of: impl Iterator<Item = &'d Digest>) -> Vec<usize> {
        let mut all = Vec::new();
        for digest in of.filter(|_| !self.volumes.drivers.is_empty()) {
            for name in &digest.volume_claims {
                let key = format!("{}/{name}", digest.namespace);
                let driver = world.storage.driver_of(&key).and_then(|driver| self.volumes.drivers.get(driver));
                if let Some(driver) = driver.copied() {
                    all.push(*self.volumes.numbers.entry(key).or_insert_with(|| {
                        self.problem.volume_drivers.push(driver);
                        self.problem.volume_drivers.len() - 1
                    }));
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// By driver: how many more a node takes that holds these volumes.
    pub(super) fn volume_room(&self, world: &World, node: &str, held: &[usize]) -> Vec<Option<i64>> {
        let mut room = vec![None; self.volumes.drivers.len()];
        for (driver, limit) in world.storage.limits.get(node).into_iter().flatten() {
            if let Some(at) = self.volumes.drivers.get(driver) {
                let held = held.iter().filter(|volume| self.problem.volume_drivers[**volume] == *at).count();
                room[*at] = Some(limit - i64::try_from(held).unwrap_or(i64::MAX));
            }
        }
        room
    }
}

fn combined(layout: &Layout, homes: &[Row], rows: &[Row]) -> Vec<Row> {
    let pairs = || homes.iter().flat_map(|home| rows.iter().map(move |row| (home, row)));
    let possible = pairs().filter(|(home, row)| layout.intersects(home, row)).map(|(home, row)| home.and(row));
    let all = distinct(possible);
    if all.is_empty() { pairs().take(1).map(|(home, row)| home.and(row)).collect() } else { all }
}

fn distinct(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    for row in rows {
        if all.len() < HOMES_MAX && !all.contains(&row) {
            all.push(row);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that each allow one value of a key.
    fn rows(layout: &Layout, key: usize) -> Vec<Row> {
        let row = |bit| {
            let mut row = layout.any();
            layout.restrict(&mut row, key, [Layout::FIRST + bit]);
            row
        };
        (0..20).map(row).collect()
    }

    #[test]
    fn combinations_are_those_that_are_possible_and_not_too_many() {
        let layout = Layout::new(&[20, 20]);
        assert_eq!(combined(&layout, &rows(&layout, 0), &rows(&layout, 0)), rows(&layout, 0));
        assert_eq!(combined(&layout, &rows(&layout, 0), &rows(&layout, 1)).len(), HOMES_MAX);
    }

    #[test]
    fn of_combinations_that_are_all_impossible_one_is_kept() {
        let layout = Layout::new(&[20]);
        let rows = rows(&layout, 0);
        let all = combined(&layout, &rows[..2], &rows[2..]);
        assert_eq!(all.len(), 1);
        assert_eq!(layout.conflict(&all[0], &layout.any()), Some(0));
    }
}
