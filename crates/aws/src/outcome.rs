//! What a fleet's answer means.

use jiff::Timestamp;
use karpenter_api::labels as keys;
use karpenter_core::cloud::{CapacityType, Instance, InstanceState, LaunchOutcome, Launched, Offering};

use crate::call::LaunchKnowledge;
use crate::report::{CallError, Fleet, InstanceInfo};
use crate::{Aws, UNAVAILABLE_FOR, is_capacity_error, labels, launch};

/// EC2's codes for "this offering has nothing to give now" (EC2 API reference, error codes).
const CAPACITY_CODES: [&str; 8] = [
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "VcpuLimitExceeded",
    "UnfulfillableCapacity",
    "Unsupported",
    "InsufficientFreeAddressesInSubnet",
    "MaxFleetCountExceeded",
    "ReservationCapacityExceeded",
];

pub(crate) fn is_capacity_code(code: &str) -> bool {
    CAPACITY_CODES.contains(&code)
}

/// An instance and what its claim learns of it.
struct Found<'a> {
    id: &'a str,
    instance_type: &'a str,
    zone: &'a str,
    image_id: &'a str,
    spot: bool,
    reservation: Option<&'a str>,
}

impl Aws {
    pub(crate) fn launched(
        &mut self,
        knowledge: &LaunchKnowledge,
        spot: bool,
        result: Result<Fleet, CallError>,
        now: Timestamp,
    ) -> LaunchOutcome {
        let fleet = match result {
            Ok(fleet) => fleet,
            Err(error) if error.uncertain => return LaunchOutcome::Unknown(error.to_string()),
            Err(error) if error.code == "IdempotentParameterMismatch" => {
                return LaunchOutcome::TokenSpent(error.to_string());
            }
            Err(error) if is_capacity_error(&error) => {
                return LaunchOutcome::InsufficientCapacity(error.to_string());
            }
            Err(error) => {
                return LaunchOutcome::Failed { reason: reason(&error.code), message: error.to_string() };
            }
        };
        let until = now.checked_add(UNAVAILABLE_FOR).unwrap_or(now);
        for error in fleet.errors.iter().filter(|error| is_capacity_code(&error.code)) {
            self.stale = true;
            // Whatever is refused to a reservation says nothing of plain capacity.
            if let Some(id) = knowledge.reserved.get(&(error.instance_type.clone(), error.zone.clone())) {
                self.reservations.exhausted(id);
                continue;
            }
            let capacity_type = if spot { CapacityType::Spot } else { CapacityType::OnDemand };
            self.unavailable.insert((capacity_type, error.instance_type.clone(), error.zone.clone()), until);
        }
        if let Some(instance) = fleet.instances.first() {
            let held = knowledge.reserved.get(&(instance.instance_type.clone(), instance.zone.clone()));
            if let Some(id) = held {
                self.reservations.taken(id, &format!("aws:///{}/{}", instance.zone, instance.id));
                self.stale = true;
            }
            return self.learnt(
                &knowledge.class,
                &knowledge.annotations,
                &Found {
                    id: &instance.id,
                    instance_type: &instance.instance_type,
                    zone: &instance.zone,
                    image_id: &instance.image_id,
                    spot: instance.spot,
                    reservation: held.map(String::as_str),
                },
            );
        }
        let said = |all: &mut dyn Iterator<Item = String>| all.take(3).collect::<Vec<_>>().join("; ");
        match fleet.errors.iter().find(|error| !is_capacity_code(&error.code)) {
            Some(error) => LaunchOutcome::Failed { reason: reason(&error.code), message: error.message.clone() },
            None if fleet.errors.is_empty() => LaunchOutcome::Failed {
                reason: "LaunchFailed".to_owned(),
                message: "the fleet returned neither an instance nor an error".to_owned(),
            },
            None => LaunchOutcome::InsufficientCapacity(said(
                &mut fleet.errors.iter().map(|e| format!("{} in {}: {}", e.instance_type, e.zone, e.code)),
            )),
        }
    }

    /// What a look-up by tag means. The oldest instance is the claim's; garbage collection ends
    /// any other.
    pub(crate) fn found(&self, result: Result<Vec<InstanceInfo>, CallError>) -> LaunchOutcome {
        let mut instances = match result {
            Ok(instances) => instances,
            Err(error) => return LaunchOutcome::Unknown(error.to_string()),
        };
        instances.retain(|instance| matches!(instance.state.as_str(), "pending" | "running"));
        instances.sort_by(|a, b| a.launched_at.cmp(&b.launched_at).then_with(|| a.id.cmp(&b.id)));
        let Some(instance) = instances.first() else {
            return LaunchOutcome::NotFound;
        };
        let class = instance.tags.get(keys::EC2_NODE_CLASS).cloned().unwrap_or_default();
        let annotations =
            self.classes.get(&class).map(|class| launch::annotations(class, self.cluster_ca())).unwrap_or_default();
        self.learnt(
            &class,
            &annotations,
            &Found {
                id: &instance.id,
                instance_type: &instance.instance_type,
                zone: &instance.zone,
                image_id: &instance.image_id,
                spot: instance.spot,
                // With the feature off, an open reservation that takes an instance in is EC2's own business.
                reservation: instance.reservation.as_deref().filter(|_| self.settings.reserved_capacity),
            },
        )
    }

    fn learnt(
        &self,
        class: &str,
        annotations: &std::collections::BTreeMap<String, String>,
        found: &Found<'_>,
    ) -> LaunchOutcome {
        let row = self.rows.get(class).and_then(|rows| rows.get(found.instance_type));
        let reservation = found.reservation.and_then(|id| {
            self.classes.get(class)?.capacity_reservations().iter().find(|reservation| reservation.id == id)
        });
        let capacity_type = match (found.spot, reservation) {
            (_, Some(_)) => CapacityType::Reserved,
            (true, None) => CapacityType::Spot,
            (false, None) => CapacityType::OnDemand,
        };
        let id = reservation.map(|of| of.id.as_str());
        let is_it = |offering: &&Offering| {
            let held = offering.reservation.as_ref().map(|of| of.id.as_str());
            offering.zone == found.zone && offering.capacity_type == capacity_type && held == id
        };
        let offering = row.and_then(|row| row.offerings.iter().find(is_it));
        let image = self.classes.get(class).and_then(|class| {
            class.object.status.as_ref()?.amis.as_ref()?.iter().find(|ami| ami.id == found.image_id).cloned()
        });
        let arch = image
            .and_then(|image| image.requirements.into_iter().find(|r| r.key == keys::ARCH)?.values?.into_iter().next());
        let mut chosen = vec![
            (keys::INSTANCE_TYPE, found.instance_type.to_owned()),
            (keys::ZONE, found.zone.to_owned()),
            (keys::ZONE_ID, offering.map(|o| o.zone_id.clone()).unwrap_or_default()),
            (keys::CAPACITY_TYPE, capacity_type.as_str().to_owned()),
            (keys::REGION, self.settings.region.clone()),
            (keys::EC2_NODE_CLASS, class.to_owned()),
            (keys::INSTANCE_TENANCY, "default".to_owned()),
        ];
        chosen.extend(arch.map(|arch| (keys::ARCH, arch)));
        chosen.extend(reservation.into_iter().flat_map(|of| {
            [
                (keys::CAPACITY_RESERVATION_ID, of.id.clone()),
                (keys::CAPACITY_RESERVATION_TYPE, of.kind.clone()),
                (keys::CAPACITY_RESERVATION_INTERRUPTIBLE, of.interruptible.to_string()),
            ]
        }));
        let empty = karpenter_core::Requirements::default();
        LaunchOutcome::Launched(Box::new(Launched {
            provider_id: format!("aws:///{}/{}", found.zone, found.id),
            image_id: found.image_id.to_owned(),
            labels: labels::of_node(row.map_or(&empty, |row| &row.requirements), &chosen),
            annotations: annotations.clone(),
            capacity: row.map(|row| row.capacity.clone()).unwrap_or_default(),
            allocatable: row.map(|row| row.allocatable.clone()).unwrap_or_default(),
            price: offering.map(|offering| offering.price),
        }))
    }
}

/// The condition's reason for an AWS error code.
fn reason(code: &str) -> String {
    match code {
        "UnauthorizedOperation" | "AccessDenied" | "AuthFailure" => "Unauthorized".to_owned(),
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" => "RequestLimitExceeded".to_owned(),
        other if other.starts_with("InvalidLaunchTemplate") => "LaunchTemplateNotFound".to_owned(),
        _ => "LaunchFailed".to_owned(),
    }
}

pub(crate) fn instance(info: InstanceInfo) -> Instance {
    Instance {
        provider_id: format!("aws:///{}/{}", info.zone, info.id),
        claim: info.tags.get(keys::TAG_NODECLAIM).cloned(),
        pool: info.tags.get(keys::NODEPOOL).cloned(),
        launched_at: info.launched_at,
        state: match info.state.as_str() {
            "pending" => InstanceState::Pending,
            "running" => InstanceState::Running,
            "terminated" => InstanceState::Terminated,
            _ => InstanceState::Ending,
        },
    }
}
