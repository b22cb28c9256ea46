//! The memory that nodes really have. EC2 tells what a machine is sold with; what the operating system finds is less,
//! and only a node that joined can tell. Remembered per type and set of images; the World's nodes bring it back after
//! a restart.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_core::resources::{self, MEMORY};
use karpenter_core::{World, world};

use crate::class::Class;
use crate::hash_name;

/// What nobody has seen again for so long is estimated anew.
const REMEMBERED_FOR: SignedDuration = SignedDuration::from_hours(60 * 24);
/// How often the nodes are looked at.
pub(crate) const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(10);
/// Figures kept; there are fewer instance types than that.
const FIGURES_MAX: usize = 20_000;

/// Instance type and set of images.
type Key = (String, String);

#[derive(Debug, Default)]
pub(crate) struct Memory {
    figures: BTreeMap<Key, Figure>,
    looked: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figure {
    bytes: i64,
    seen: Timestamp,
}

impl Memory {
    /// Takes in what registered nodes of the classes' present images have; says whether a figure changed.
    pub(crate) fn look(&mut self, world: &World, classes: &BTreeMap<String, Class>, now: Timestamp) -> bool {
        let next = self.looked.and_then(|at| at.checked_add(LOOK_EVERY).ok());
        if next.is_some_and(|next| next > now) {
            return false;
        }
        self.looked = Some(now);
        let before = self.figures.len();
        self.figures.retain(|_, figure| figure.seen.checked_add(REMEMBERED_FOR).is_ok_and(|until| until > now));
        let mut changed = self.figures.len() != before;
        let images: BTreeMap<&str, String> =
            classes.iter().filter_map(|(name, class)| Some((name.as_str(), images_of(class)?))).collect();
        for state in world.nodes.values().filter(|state| state.is_registered()) {
            changed |= self.learn(world, classes, &images, state, now).unwrap_or(false);
        }
        changed
    }

    fn learn(
        &mut self,
        world: &World,
        classes: &BTreeMap<String, Class>,
        images: &BTreeMap<&str, String>,
        state: &world::NodeState,
        now: Timestamp,
    ) -> Option<bool> {
        let claim = &world.claim_of(state)?.claim;
        let class = claim.spec.node_class_ref.name.as_str();
        let image = claim.status.as_ref()?.image_id.as_deref()?;
        let amis = classes.get(class)?.object.status.as_ref()?.amis.as_ref()?;
        // A node of an older image says nothing of those that are bought now.
        if !amis.iter().any(|ami| ami.id == image) {
            return None;
        }
        let quantity = state.node.status.as_ref()?.capacity.as_ref()?.get(MEMORY)?;
        let bytes = resources::amount(MEMORY, &quantity.0).filter(|bytes| *bytes > 0)?;
        let key = (state.label(karpenter_api::labels::INSTANCE_TYPE)?.to_owned(), images.get(class)?.clone());
        if self.figures.len() >= FIGURES_MAX && !self.figures.contains_key(&key) {
            return None;
        }
        let figure = self.figures.entry(key).or_insert(Figure { bytes: i64::MAX, seen: now });
        // Machines of a type differ a little; what is planned must fit the smallest.
        let less = bytes < figure.bytes;
        *figure = Figure { bytes: bytes.min(figure.bytes), seen: now };
        Some(less)
    }

    /// What was seen of the images a class has now.
    pub(crate) fn seen_by(&self, class: &Class) -> Seen<'_> {
        Seen { all: Some(self), images: images_of(class).unwrap_or_default() }
    }
}

/// What is known under one set of images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen<'a> {
    all: Option<&'a Memory>,
    images: String,
}

impl Seen<'_> {
    pub(crate) fn memory(&self, instance_type: &str) -> Option<i64> {
        let all = self.all.filter(|all| !all.figures.is_empty())?;
        all.figures.get(&(instance_type.to_owned(), self.images.clone())).map(|figure| figure.bytes)
    }
}

/// The images of a class, as one short name.
fn images_of(class: &Class) -> Option<String> {
    let amis = class.object.status.as_ref()?.amis.as_ref()?;
    let ids: Vec<&str> = amis.iter().map(|ami| ami.id.as_str()).collect();
    Some(hash_name(&ids.join("/")))
}
