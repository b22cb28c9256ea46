//! Whose instance is whose, by the truth: never two for one NodeClaim, none for nobody.

use std::collections::{BTreeMap, BTreeSet};

use karpenter_api::{NodeClaim, labels as keys};

use super::Invariant;
use crate::agenda::{MINUTE, SECOND};
use crate::scenario::ORPHAN_WITHIN;
use crate::sim::{Due, Sim};

/// What was seen of NodeClaims and their instances.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// UIDs of all claims there ever were, by launch.
    claims: BTreeMap<String, BTreeSet<String>>,
    /// The provider id that a claim has told, by its UID, and whose it is.
    told: BTreeMap<String, String>,
    owner: BTreeMap<String, String>,
}

impl Sim {
    /// The owners of the instances that are up. Which instance is whose says the claim; of the others of its launch, each
    /// belongs to a claim that has not told yet.
    pub(crate) fn owners(&self) -> BTreeMap<&str, &NodeClaim> {
        let mut told: BTreeMap<&str, &NodeClaim> = BTreeMap::new();
        let mut open: BTreeMap<&str, Vec<&NodeClaim>> = BTreeMap::new();
        for claim in self.api.claims.values() {
            match provider_id(claim) {
                Some(id) => drop(told.insert(id.rsplit('/').next().unwrap_or_default(), claim)),
                None => open.entry(token(claim)).or_default().push(claim),
            }
        }
        let mut owners = BTreeMap::new();
        for instance in self.cloud.instances.values().filter(|one| one.state.is_up()) {
            let of_launch = || open.get_mut(instance.token.as_str()).and_then(Vec::pop);
            if let Some(claim) = told.get(instance.id.as_str()).copied().or_else(of_launch) {
                owners.insert(instance.id.as_str(), claim);
            }
        }
        owners
    }

    /// A claim has changed: what it says of its instance stays, and is said by no other.
    pub(crate) fn claim_changed(&mut self, claim: &NodeClaim) {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        let owners = &mut self.checks.owners;
        owners.claims.entry(token(claim).to_owned()).or_default().insert(uid.clone());
        let Some(id) = provider_id(claim) else { return };
        let known = owners.told.insert(uid.clone(), id.to_owned()).filter(|known| known != id);
        let other = owners.owner.insert(id.to_owned(), uid.clone()).filter(|other| *other != uid);
        let subjects = vec![name.clone(), id.rsplit('/').next().unwrap_or_default().to_owned()];
        if let Some(known) = known {
            self.broke(Invariant::OneInstancePerClaim, format!("{name} had {known} and now has {id}"), subjects);
        } else if other.is_some() {
            self.broke(Invariant::OneInstancePerClaim, format!("{name} has {id}, which is another's"), subjects);
        }
    }

    /// An instance was launched: those that nobody owns must be of claims that are gone.
    pub(crate) fn check_twins(&mut self, id: &str) {
        let Some(instance) = self.cloud.instances.get(id) else { return };
        let token = instance.token.clone();
        let owners = self.owners();
        let of_launch = self.cloud.instances.values().filter(|one| one.token == token && one.state.is_up());
        let unowned = of_launch.filter(|one| !owners.contains_key(one.id.as_str())).count();
        let there: BTreeSet<&str> =
            self.api.claims.values().filter_map(|claim| claim.metadata.uid.as_deref()).collect();
        let ever = self.checks.owners.claims.get(&token);
        let gone = ever.into_iter().flatten().filter(|uid| !there.contains(uid.as_str())).count();
        if unowned > gone {
            let all = self.cloud.instances.values().filter(|one| one.token == token && one.state.is_up());
            let ids: Vec<String> = all.map(|one| one.id.clone()).collect();
            let claims: Vec<String> = instance.claims.iter().map(|claim| claim.name.clone()).collect();
            let what = format!("the launch {token} has the instances {}: {unowned} too many", ids.join(", "));
            self.broke(Invariant::OneInstancePerClaim, what, [vec![token], claims, ids].concat());
        }
    }

    /// A NodeClaim is gone from the API server.
    pub(crate) fn claim_removed(&mut self, claim: &NodeClaim) {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let id = provider_id(claim).and_then(|id| id.rsplit('/').next());
        let owners = self.owners();
        let mut left = Vec::new();
        for instance in self.cloud.instances.values().filter(|one| one.state.is_up()) {
            let its = id.map_or(instance.token == token(claim), |id| id == instance.id);
            if its && !owners.contains_key(instance.id.as_str()) {
                left.push((instance.id.clone(), instance.age(self.now)));
            }
        }
        for (id, age) in left {
            if age > MINUTE {
                let what = format!("NodeClaim {name} is gone and its instance {id} runs");
                self.broke(Invariant::FinalizerHeld, what, vec![name.clone(), id.clone()]);
            }
            // A look-up that comes too soon after a launch does not find it.
            self.agenda.at(self.now + ORPHAN_WITHIN, Due::Orphan(id));
        }
    }

    pub(crate) fn check_orphan(&mut self, id: &str) {
        let Some(instance) = self.cloud.instances.get(id).filter(|one| one.state.is_up()) else { return };
        if !self.owners().contains_key(id) {
            let claims = instance.claims.iter().map(|claim| claim.name.clone());
            let subjects: Vec<String> = [id.to_owned(), instance.token.clone()].into_iter().chain(claims).collect();
            let what = format!("{id} runs although it has had no NodeClaim for {} s", ORPHAN_WITHIN / SECOND);
            self.broke(Invariant::OrphansEnd, what, subjects);
        }
    }
}

/// The launch a claim belongs to.
fn token(claim: &NodeClaim) -> &str {
    let annotations = claim.metadata.annotations.as_ref();
    let token = annotations.and_then(|all| all.get(keys::LAUNCH)).map(String::as_str);
    token.or(claim.metadata.uid.as_deref()).unwrap_or_default()
}

fn provider_id(claim: &NodeClaim) -> Option<&str> {
    claim.status.as_ref()?.provider_id.as_deref().filter(|id| !id.is_empty())
}
