//! The placement group: `spec.placementGroupSelector` → `PlacementGroupReady`.

use jiff::{SignedDuration, Timestamp};

use super::status::Verdict;
use super::{Class, NOTHING_EVERY, Need, had_at, known, learn};
use crate::call::Call;
use crate::report::{CallError, PlacementGroup};

/// A group never changes; whether it is still there is looked at once a day.
const EVERY: SignedDuration = SignedDuration::from_hours(24);

impl Class {
    pub(super) fn need_placement(&self) -> Option<Need> {
        let selector = self.object.spec.placement_group_selector.as_ref()?;
        let (class, generation) = (self.name().to_owned(), self.generation());
        let call = Call::PlacementGroup { class, generation, id: selector.id.clone(), name: selector.name.clone() };
        let every = if self.placement_group().is_some() { EVERY } else { NOTHING_EVERY };
        Some(Need { verb: "placement-group", had: had_at(self.placement.as_ref()), every, call })
    }

    pub(crate) fn learn_placement(&mut self, at: Timestamp, result: Result<Option<PlacementGroup>, CallError>) {
        learn(&mut self.placement, at, result);
    }

    /// The group that instances are launched into.
    pub(crate) fn placement_group(&self) -> Option<&PlacementGroup> {
        self.placement.as_ref()?.result.as_ref().ok()?.as_ref()
    }

    pub(super) fn judge_placement(&self) -> Verdict {
        let Some(selector) = &self.object.spec.placement_group_selector else {
            return Verdict::Fine;
        };
        let asked = selector.id.as_deref().or(selector.name.as_deref()).unwrap_or_default();
        match known(self.placement.as_ref()) {
            Some(Ok(None)) => Verdict::wrong(
                "PlacementGroupNotFound",
                format!("spec.placementGroupSelector: found no available placement group {asked:?}"),
            ),
            Some(Err(error)) => Verdict::wrong(
                "PlacementGroupResolutionFailed",
                format!("spec.placementGroupSelector: looking for {asked:?}: {error}"),
            ),
            other => Verdict::of(other),
        }
    }
}
