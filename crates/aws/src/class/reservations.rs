//! Reserved capacity: `spec.capacityReservationSelectorTerms` → `status.capacityReservations`,
//! `CapacityReservationsReady`. All of it only with the feature gate ReservedCapacity.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use karpenter_api::ec2nodeclass::{
    CapacityReservationSelectorTerm, CapacityReservationStatus, Ec2NodeClassStatus, InstanceMatchCriteria,
};

use super::status::Verdict;
use super::{Class, Need, filters, had_at, known, learn};
use crate::AwsSettings;
use crate::call::{Call, ReservationQuery};
use crate::report::{CallError, CapacityReservation};

const EVERY: SignedDuration = SignedDuration::from_mins(1);
/// So long before its end a capacity block takes nobody in any more, and those in it have to leave.
const EXPIRING_FOR: SignedDuration = SignedDuration::from_mins(40);

impl Class {
    pub(super) fn need_reservations(&self, settings: &AwsSettings) -> Option<Need> {
        let terms = self.object.spec.capacity_reservation_selector_terms.as_ref()?;
        if !settings.reserved_capacity || terms.is_empty() {
            return None;
        }
        let (class, generation) = (self.name().to_owned(), self.generation());
        let call = Call::Reservations { class, generation, queries: terms.iter().map(query).collect() };
        Some(Need { verb: "capacity-reservations", had: had_at(self.reservations.as_ref()), every: EVERY, call })
    }

    pub(crate) fn learn_reservations(&mut self, at: Timestamp, result: Result<Vec<CapacityReservation>, CallError>) {
        let result = result.map(|mut all| {
            all.sort_by(|a, b| a.id.cmp(&b.id));
            all.dedup_by(|a, b| a.id == b.id);
            all
        });
        learn(&mut self.reservations, at, result);
    }

    /// The reservations as last observed.
    pub(crate) fn capacity_reservations(&self) -> &[CapacityReservation] {
        self.reservations.as_ref().and_then(|answer| answer.result.as_deref().ok()).unwrap_or_default()
    }

    /// `None`: the feature is off, and there is nothing to judge.
    pub(super) fn judge_reservations(
        &self,
        settings: &AwsSettings,
        now: Timestamp,
        status: &mut Ec2NodeClassStatus,
    ) -> Option<Verdict> {
        if !settings.reserved_capacity {
            status.capacity_reservations = None;
            return None;
        }
        if self.need_reservations(settings).is_none() {
            status.capacity_reservations = None;
            return Some(Verdict::Fine);
        }
        let answer = known(self.reservations.as_ref());
        if matches!(answer, Some(Ok(_))) {
            let told: Vec<_> = self.capacity_reservations().iter().filter_map(|found| told(found, now)).collect();
            status.capacity_reservations = (!told.is_empty()).then_some(told);
        }
        Some(Verdict::of(answer))
    }
}

/// From when on a reservation is about to end, if it is a capacity block.
pub(crate) fn expires_at(reservation: &CapacityReservation) -> Option<Timestamp> {
    let ends = reservation.ends.filter(|_| reservation.kind == "capacity-block")?;
    ends.checked_sub(EXPIRING_FOR).ok()
}

/// Whether a reservation is a capacity block that is about to end.
pub(crate) fn is_expiring(reservation: &CapacityReservation, now: Timestamp) -> bool {
    expires_at(reservation).is_some_and(|from| from <= now)
}

/// `None` for a word of EC2 that the API has no room for.
fn told(reservation: &CapacityReservation, now: Timestamp) -> Option<CapacityReservationStatus> {
    let criteria = match reservation.match_criteria.as_str() {
        "open" => InstanceMatchCriteria::Open,
        "targeted" => InstanceMatchCriteria::Targeted,
        _ => return None,
    };
    let state = if is_expiring(reservation, now) { "expiring" } else { "active" };
    Some(CapacityReservationStatus {
        availability_zone: reservation.zone.clone(),
        end_time: reservation.ends.map(Time),
        id: reservation.id.clone(),
        instance_match_criteria: criteria,
        instance_type: reservation.instance_type.clone(),
        interruptible: reservation.interruptible.then_some(true),
        owner_id: reservation.owner.clone(),
        reservation_type: Some(reservation.kind.clone()),
        state: Some(state.to_owned()),
    })
}

fn query(term: &CapacityReservationSelectorTerm) -> ReservationQuery {
    let criteria = term.instance_match_criteria.map(|criteria| match criteria {
        InstanceMatchCriteria::Open => "open".to_owned(),
        InstanceMatchCriteria::Targeted => "targeted".to_owned(),
    });
    let fields = [("owner-id", term.owner_id.as_ref()), ("instance-match-criteria", criteria.as_ref())];
    let mut filters = filters(term.tags.as_ref(), &fields);
    filters.insert("state".to_owned(), vec!["active".to_owned()]);
    ReservationQuery { id: term.id.clone(), filters }
}
