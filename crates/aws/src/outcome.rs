//! What a fleet's answer means.

use std::collections::BTreeMap;

use jiff::Timestamp;
use karpenter_api::labels as keys;
use karpenter_core::Resources;
use karpenter_core::cloud::{CapacityType, Instance, InstanceState, LaunchOutcome, Launched, Offering};

use crate::call::{Find, Launch, LaunchKnowledge};
use crate::report::{CallError, Fleet, FleetError, FleetInstance, InstanceInfo};
use crate::spreads;
use crate::template::EFA;
use crate::unavailable::{part, place};
use crate::{Aws, labels, launch, partitions};

/// The subnet has no address left.
const NO_ADDRESSES: &str = "InsufficientFreeAddressesInSubnet";
/// EC2's codes for "this offering has nothing to give now" (EC2 API reference, error codes).
const CAPACITY_CODES: [&str; 8] = [
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "VcpuLimitExceeded",
    "UnfulfillableCapacity",
    "Unsupported",
    NO_ADDRESSES,
    "MaxFleetCountExceeded",
    "ReservationCapacityExceeded",
];
/// Spot cannot be had at all before somebody makes its role.
const NO_SPOT_ROLE: &str = "AuthFailure.ServiceLinkedRoleCreationNotPermitted";

fn is_capacity_code(code: &str) -> bool {
    CAPACITY_CODES.contains(&code) || code == NO_SPOT_ROLE
}

/// An instance and what its claim learns of it.
struct Found<'a> {
    id: &'a str,
    instance_type: &'a str,
    zone: &'a str,
    image_id: &'a str,
    spot: bool,
    reservation: Option<&'a str>,
    tenancy: &'a str,
    efa: bool,
    /// `None` outside of groups with partitions; in one, empty until EC2 says which.
    partition: Option<String>,
}

impl Aws {
    /// What became of each claim of a launch: instances are given out in order, the claims without one share the errors.
    pub(crate) fn launched(
        &mut self,
        launch: &Launch,
        result: Result<Fleet, CallError>,
        now: Timestamp,
    ) -> Vec<LaunchOutcome> {
        self.addresses.end(launch, result.as_ref().ok());
        if is_missing(&result)
            && let Some(class) = self.classes.get_mut(&launch.knowledge.class)
        {
            class.doubt();
        }
        let fleet = match result {
            Ok(fleet) => fleet,
            Err(error) => {
                if is_capacity_code(&error.code) {
                    self.refused(launch, &error.code, &[], now);
                }
                return vec![of_error(&error); launch.claims.len()];
            }
        };
        let all_lack = fleet.errors.iter().all(|error| is_capacity_code(&error.code) && error.code != NO_ADDRESSES);
        if all_lack
            && fleet.instances.is_empty()
            && let Some(first) = fleet.errors.first()
        {
            self.refused(launch, &first.code, &fleet.errors, now);
        }
        for error in &fleet.errors {
            self.learn_refusal(launch, error, now);
        }
        // What was got says more than what was refused beside it.
        for instance in &fleet.instances {
            if let Some(group) = &launch.knowledge.group {
                self.spreads.launched(group, instance);
                self.stale = true;
            }
            let sold = (instance.instance_type.clone(), instance.zone.clone());
            if let Some(id) = launch.knowledge.reserved.get(&sold) {
                self.reservations.taken(id, &format!("aws:///{}/{}", instance.zone, instance.id));
                self.stale = true;
            } else {
                let capacity_type = capacity_type(instance.spot);
                // Whoever finds room in a part of a group has found it in the group and in the zone.
                let part = part_of(launch);
                for group in [None, launch.knowledge.group.as_deref(), part.as_deref()] {
                    let place = place(&instance.zone, group);
                    self.stale |= self.unavailable.bought(capacity_type, &instance.instance_type, &place);
                }
            }
        }
        let mut instances = fleet.instances.iter().filter(|one| !is_taken(&launch.taken, &one.id)).collect::<Vec<_>>();
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        let mut instances = instances.into_iter();
        let without = of_fleet(&fleet.errors);
        let mut outcome = || instances.next().map_or_else(|| without.clone(), |one| self.learnt_of(launch, one));
        launch.claims.iter().map(|_| outcome()).collect()
    }

    /// A fleet that got nothing has tried all it could take; EC2 names only some of it.
    fn refused(&mut self, launch: &Launch, code: &str, named: &[FleetError], now: Timestamp) {
        let capacity_type = capacity_type(launch.spot);
        if code == NO_SPOT_ROLE {
            self.unavailable.refuse_capacity_type(CapacityType::Spot, now);
        }
        for one in launch.configs.iter().flat_map(|config| &config.overrides) {
            // A full group says nothing of any type in its zone.
            let is_named = named
                .iter()
                .any(|e| e.zone == one.zone && (e.instance_type == one.instance_type || is_full(launch, e)));
            if !is_named {
                self.refuse_offering(launch, capacity_type, &one.instance_type, &one.zone, now);
            }
        }
        self.stale = true;
    }

    /// What is refused to a reservation says nothing of plain capacity.
    fn refuse_offering(
        &mut self,
        launch: &Launch,
        capacity_type: CapacityType,
        instance_type: &str,
        zone: &str,
        now: Timestamp,
    ) {
        let LaunchKnowledge { reserved, .. } = &launch.knowledge;
        let part = part_of(launch);
        match reserved.get(&(instance_type.to_owned(), zone.to_owned())) {
            Some(id) => self.reservations.exhausted(id),
            // EC2 does not always say which one: any of the launch's.
            None if !reserved.is_empty() => reserved.values().for_each(|id| self.reservations.exhausted(id)),
            None if instance_type.is_empty() => {}
            None => self.unavailable.refuse(capacity_type, instance_type, &place(zone, part.as_deref()), now),
        }
    }

    fn learn_refusal(&mut self, launch: &Launch, error: &FleetError, now: Timestamp) {
        if !is_capacity_code(&error.code) {
            return;
        }
        self.stale = true;
        if is_full(launch, error) {
            self.unavailable.refuse_place(place(&error.zone, launch.knowledge.group.as_deref()), now);
            return;
        }
        match error.code.as_str() {
            NO_SPOT_ROLE => self.unavailable.refuse_capacity_type(CapacityType::Spot, now),
            // The subnet's, not the machines'.
            NO_ADDRESSES if !error.subnet_id.is_empty() => {
                self.unavailable.refuse_subnet(&error.subnet_id, now);
                return;
            }
            _ => {}
        }
        let capacity_type = capacity_type(launch.spot || error.spot);
        self.refuse_offering(launch, capacity_type, &error.instance_type, &error.zone, now);
    }

    fn learnt_of(&self, launch: &Launch, one: &FleetInstance) -> LaunchOutcome {
        let held = launch.knowledge.reserved.get(&(one.instance_type.clone(), one.zone.clone()));
        let found = Found {
            reservation: held.map(String::as_str),
            id: &one.id,
            instance_type: &one.instance_type,
            zone: &one.zone,
            image_id: &one.image_id,
            spot: one.spot,
            tenancy: &launch.knowledge.tenancy,
            efa: launch.knowledge.efa,
            partition: launch.knowledge.has_partitions.then(|| number_of(launch.knowledge.partition)),
        };
        self.learnt(&launch.knowledge.class, &launch.knowledge.annotations, &found)
    }

    /// What a look-up by tag means for each claim. The oldest instance is the first claim's; garbage collection ends
    /// those that are left over.
    pub(crate) fn found(&self, find: &Find, result: Result<Vec<InstanceInfo>, CallError>) -> Vec<LaunchOutcome> {
        let mut instances = match result {
            Ok(instances) => instances,
            Err(error) => return vec![LaunchOutcome::Unknown(error.to_string()); find.claims.len()],
        };
        instances.retain(|one| one.runs() && !is_taken(&find.taken, &one.id));
        instances.sort_by(|a, b| a.launched_at.cmp(&b.launched_at).then_with(|| a.id.cmp(&b.id)));
        let mut instances = instances.iter();
        let mut outcome =
            || instances.next().map_or(LaunchOutcome::NotFound, |instance| self.learnt_of_instance(instance));
        find.claims.iter().map(|_| outcome()).collect()
    }

    fn learnt_of_instance(&self, instance: &InstanceInfo) -> LaunchOutcome {
        let class = instance.tags.get(keys::EC2_NODE_CLASS).cloned().unwrap_or_default();
        let known = self.classes.get(&class);
        let annotations = known.map(|class| launch::annotations(class, self.cluster_ca())).unwrap_or_default();
        let in_partitions = known.is_some_and(partitions::are_in);
        let found = Found {
            id: &instance.id,
            instance_type: &instance.instance_type,
            zone: &instance.zone,
            image_id: &instance.image_id,
            spot: instance.spot,
            tenancy: &instance.tenancy,
            efa: instance.efa,
            partition: in_partitions.then(|| number_of(instance.partition)),
            // With the feature off, an open reservation that takes an instance in is EC2's own business.
            reservation: instance.reservation.as_deref().filter(|_| self.settings.reserved_capacity),
        };
        self.learnt(&class, &annotations, &found)
    }

    fn learnt(&self, class: &str, annotations: &BTreeMap<String, String>, found: &Found<'_>) -> LaunchOutcome {
        let row = self.rows.get(class).and_then(|rows| rows.get(found.instance_type));
        let reservation = found.reservation.and_then(|id| {
            self.classes.get(class)?.capacity_reservations().iter().find(|reservation| reservation.id == id)
        });
        let capacity_type = if reservation.is_some() { CapacityType::Reserved } else { capacity_type(found.spot) };
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
        let tenancy = if found.tenancy.is_empty() { "default" } else { found.tenancy };
        let mut chosen = vec![
            (keys::INSTANCE_TYPE, found.instance_type.to_owned()),
            (keys::ZONE, found.zone.to_owned()),
            (keys::ZONE_ID, offering.map(|o| o.zone_id.clone()).unwrap_or_default()),
            (keys::CAPACITY_TYPE, capacity_type.as_str().to_owned()),
            (keys::REGION, self.settings.region.clone()),
            (keys::EC2_NODE_CLASS, class.to_owned()),
            (keys::INSTANCE_TENANCY, tenancy.to_owned()),
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
        let mut labels = labels::of_node(row.map_or(&empty, |row| &row.requirements), &chosen);
        if let Some(number) = &found.partition {
            labels.insert(keys::PLACEMENT_GROUP_PARTITION.to_owned(), number.clone());
        }
        // The type could have EFA; the instance has it only if it was asked for.
        let has = |of: &Resources| {
            let parts = of.0.iter().filter(|(name, _)| found.efa || *name != EFA);
            parts.map(|(name, amount)| (name.clone(), *amount)).collect::<Resources>()
        };
        LaunchOutcome::Launched(Box::new(Launched {
            provider_id: format!("aws:///{}/{}", found.zone, found.id),
            image_id: found.image_id.to_owned(),
            labels,
            annotations: annotations.clone(),
            capacity: row.map(|row| has(&row.capacity)).unwrap_or_default(),
            allocatable: row.map(|row| has(&row.allocatable)).unwrap_or_default(),
            price: offering.map(|offering| offering.price),
        }))
    }
}

fn number_of(partition: Option<i32>) -> String {
    partition.map(|number| number.to_string()).unwrap_or_default()
}

/// The part of a placement group that is launched into.
fn part_of(launch: &Launch) -> Option<String> {
    Some(part(launch.knowledge.group.as_deref()?, launch.knowledge.partition))
}

/// Whether the launch's group may have no more instances in the error's zone.
fn is_full(launch: &Launch, error: &FleetError) -> bool {
    launch.knowledge.group.is_some() && spreads::is_limit(error)
}

fn capacity_type(spot: bool) -> CapacityType {
    if spot { CapacityType::Spot } else { CapacityType::OnDemand }
}

fn is_taken(taken: &[String], id: &str) -> bool {
    taken.iter().any(|provider_id| provider_id.rsplit('/').next() == Some(id))
}

/// Whether something that the launch names is not there (any more): a subnet, a security group, an image, a profile.
fn is_missing(result: &Result<Fleet, CallError>) -> bool {
    let says = |code: &str, message: &str| {
        ["InvalidSubnet", "InvalidGroup", "InvalidSecurityGroup", "InvalidAMIID"].iter().any(|of| code.starts_with(of))
            || message.contains("IAM Instance Profile")
    };
    match result {
        Ok(fleet) => fleet.errors.iter().any(|error| says(&error.code, &error.message)),
        Err(error) => says(&error.code, &error.message),
    }
}

/// A call that failed as a whole.
fn of_error(error: &CallError) -> LaunchOutcome {
    match error.code.as_str() {
        _ if error.uncertain => LaunchOutcome::Unknown(error.to_string()),
        "IdempotentParameterMismatch" => LaunchOutcome::TokenSpent(error.to_string()),
        code if is_capacity_code(code) => LaunchOutcome::InsufficientCapacity(error.to_string()),
        code => {
            LaunchOutcome::Failed { reason: reason(code).to_owned(), message: error.to_string(), token_spent: false }
        }
    }
}

/// A fleet without an instance for the claim. One error that is not of capacity makes the claim stay and say so.
fn of_fleet(errors: &[FleetError]) -> LaunchOutcome {
    match errors.iter().find(|error| !is_capacity_code(&error.code)) {
        Some(error) => LaunchOutcome::Failed {
            reason: reason(&error.code).to_owned(),
            message: error.message.clone(),
            token_spent: true,
        },
        None if errors.is_empty() => LaunchOutcome::Failed {
            reason: "LaunchFailed".to_owned(),
            message: "the fleet returned neither enough instances nor an error".to_owned(),
            token_spent: true,
        },
        None => {
            let told = errors.iter().take(3).map(|e| format!("{} in {}: {}", e.instance_type, e.zone, e.code));
            LaunchOutcome::InsufficientCapacity(told.collect::<Vec<_>>().join("; "))
        }
    }
}

/// The condition's reason for an AWS error code.
fn reason(code: &str) -> &'static str {
    match code {
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "AuthFailure" => "Unauthorized",
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" => "RequestLimitExceeded",
        "RequestExpired" | "ExpiredToken" | "ExpiredTokenException" | "InvalidClientTokenId" => "CredentialsExpired",
        other if other.starts_with("InvalidLaunchTemplate") => "LaunchTemplateNotFound",
        other if other.starts_with("InvalidSubnet") => "SubnetNotFound",
        other if other.starts_with("InvalidGroup") || other.starts_with("InvalidSecurityGroup") => {
            "SecurityGroupNotFound"
        }
        other if other.starts_with("InvalidAMIID") => "AMINotFound",
        _ => "LaunchFailed",
    }
}

pub(crate) fn instance(info: InstanceInfo) -> Instance {
    Instance {
        provider_id: format!("aws:///{}/{}", info.zone, info.id),
        claim: info.tags.get(keys::TAG_NODECLAIM).cloned(),
        launch: info.tags.get(keys::TAG_LAUNCH).cloned(),
        pool: info.tags.get(keys::NODEPOOL).cloned(),
        launched_at: info.launched_at,
        state: match info.state.as_str() {
            "pending" => InstanceState::Pending,
            "running" => InstanceState::Running,
            "stopping" | "stopped" => InstanceState::Stopped,
            "terminated" => InstanceState::Terminated,
            _ => InstanceState::Ending,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AwsSettings;
    use crate::call::{ClaimRef, FleetConfig, LaunchTemplate, Override};
    use crate::catalogue::Rows;
    use crate::report::CapacityReservation;

    const ZONES: [&str; 2] = ["a", "b"];

    fn launch(spot: bool) -> Launch {
        let one = |zone: &str| Override {
            instance_type: "m5.large".into(),
            zone: zone.into(),
            subnet_id: format!("subnet-{zone}"),
            priority: None,
        };
        let overrides = ZONES.map(one).to_vec();
        let claim = |name: &str| ClaimRef { name: name.into(), uid: name.into() };
        Launch {
            token: "t".into(),
            claims: vec![claim("first"), claim("second")],
            taken: Vec::new(),
            target: 2,
            client_token: "t".into(),
            addresses: BTreeMap::from([("subnet-a".into(), 20), ("subnet-b".into(), 20)]),
            spot,
            allocation_strategy: "lowest-price",
            configs: vec![FleetConfig { template: LaunchTemplate::default(), overrides }],
            tags: BTreeMap::new(),
            context: None,
            knowledge: LaunchKnowledge::default(),
        }
    }

    fn refusal(code: &str, zone: &str) -> FleetError {
        FleetError {
            code: code.into(),
            instance_type: "m5.large".into(),
            zone: zone.into(),
            subnet_id: format!("subnet-{zone}"),
            ..FleetError::default()
        }
    }

    fn told(outcome: &LaunchOutcome) -> String {
        match outcome {
            LaunchOutcome::Launched(launched) => launched.provider_id.clone(),
            LaunchOutcome::InsufficientCapacity(_) => "InsufficientCapacity".into(),
            LaunchOutcome::Failed { reason, .. } => reason.clone(),
            LaunchOutcome::Unknown(_) => "look up".into(),
            LaunchOutcome::TokenSpent(_) => "look up, then another token".into(),
            other => format!("{other:?}"),
        }
    }

    /// Zones in which the type is left alone afterwards.
    fn left_alone(aws: &Aws, spot: bool, now: Timestamp) -> String {
        let off = |zone: &&str| aws.unavailable.has(capacity_type(spot), "m5.large", zone, now);
        ZONES.into_iter().filter(off).collect()
    }

    #[test]
    fn errors_of_calls_and_of_fleets_are_sorted_as_karpenter_sorts_them() {
        let call = |code: &str, uncertain| {
            Err(CallError { operation: "CreateFleet", code: code.into(), message: String::new(), uncertain })
        };
        let fleet = |codes: &[&str]| {
            Ok(Fleet { errors: codes.iter().map(|code| refusal(code, "a")).collect(), ..Fleet::default() })
        };
        // What came back, what each claim is told, the zones that are left alone.
        let table = [
            (call("VcpuLimitExceeded", false), "InsufficientCapacity", "ab"),
            (call("MaxSpotInstanceCountExceeded", false), "InsufficientCapacity", "ab"),
            (call(NO_ADDRESSES, false), "InsufficientCapacity", "ab"),
            (call("UnauthorizedOperation", false), "Unauthorized", ""),
            (call("RequestLimitExceeded", false), "RequestLimitExceeded", ""),
            (call("RequestExpired", false), "CredentialsExpired", ""),
            (call("InvalidSubnetID.NotFound", false), "SubnetNotFound", ""),
            (call("InvalidParameterValue", false), "LaunchFailed", ""),
            (call("InternalError", true), "look up", ""),
            (call("IdempotentParameterMismatch", false), "look up, then another token", ""),
            (fleet(&["InsufficientInstanceCapacity"]), "InsufficientCapacity", "ab"),
            (fleet(&["UnfulfillableCapacity", "Unsupported"]), "InsufficientCapacity", "ab"),
            (fleet(&["InsufficientInstanceCapacity", "UnauthorizedOperation"]), "Unauthorized", "a"),
            (fleet(&["InvalidLaunchTemplateName.NotFoundException"]), "LaunchTemplateNotFound", ""),
            (fleet(&[]), "LaunchFailed", ""),
        ];
        for (result, expected, zones) in table {
            let mut aws = Aws::new(AwsSettings::default());
            let outcomes: Vec<String> =
                aws.launched(&launch(true), result.clone(), Timestamp::UNIX_EPOCH).iter().map(told).collect();
            assert_eq!(outcomes, [expected, expected], "{result:?}");
            assert_eq!(left_alone(&aws, true, Timestamp::UNIX_EPOCH), zones, "{result:?}");
            assert_eq!(left_alone(&aws, false, Timestamp::UNIX_EPOCH), "", "{result:?}");
        }
    }

    #[test]
    fn instances_are_given_out_once_and_the_rest_shares_the_errors() {
        let bought = |id: &str| FleetInstance {
            id: id.into(),
            instance_type: "m5.large".into(),
            zone: "b".into(),
            subnet_id: "subnet-b".into(),
            ..FleetInstance::default()
        };
        let fleet = Fleet {
            instances: vec![bought("i-2"), bought("i-1")],
            errors: vec![refusal("InsufficientInstanceCapacity", "a")],
        };
        let mut aws = Aws::new(AwsSettings::default());
        let outcomes = |aws: &mut Aws, launch: &Launch| -> Vec<String> {
            aws.launched(launch, Ok(fleet.clone()), Timestamp::UNIX_EPOCH).iter().map(told).collect()
        };
        assert_eq!(outcomes(&mut aws, &launch(false)), ["aws:///b/i-1", "aws:///b/i-2"]);
        let repeated = Launch { taken: vec!["aws:///b/i-1".into()], ..launch(false) };
        assert_eq!(outcomes(&mut aws, &repeated), ["aws:///b/i-2", "InsufficientCapacity"]);
        assert_eq!(left_alone(&aws, false, Timestamp::UNIX_EPOCH), "a", "only what was named: the fleet got something");
    }

    #[test]
    fn what_a_reservation_refuses_is_its_own_and_plain_capacity_stays_on_offer() {
        let now = Timestamp::UNIX_EPOCH;
        let sold = |zone: &str| ("m5.large".to_owned(), zone.to_owned());
        let reserved = BTreeMap::from([(sold("a"), "cr-a".to_owned()), (sold("b"), "cr-b".to_owned())]);
        let knowledge = LaunchKnowledge { reserved, ..LaunchKnowledge::default() };
        let launch = Launch { knowledge, ..launch(false) };
        let told_of = |id: &str| CapacityReservation { id: id.into(), available: 5, ..Default::default() };
        let bought = FleetInstance {
            id: "i-1".into(),
            instance_type: "m5.large".into(),
            zone: "a".into(),
            ..Default::default()
        };
        let lacks = |zone| refusal("ReservationCapacityExceeded", zone);
        let nameless = FleetError { code: "ReservationCapacityExceeded".into(), ..FleetError::default() };
        let call = CallError {
            operation: "CreateFleet",
            code: "ReservationCapacityExceeded".into(),
            message: String::new(),
            uncertain: false,
        };
        // What came back, how many are left in each reservation then, how often it was refused.
        let table = [
            (Ok(Fleet { instances: vec![bought.clone()], errors: vec![lacks("a")] }), (0, 5), 1),
            (Ok(Fleet { instances: vec![bought.clone()], errors: vec![lacks("b")] }), (4, 0), 1),
            (Ok(Fleet { instances: vec![bought], errors: vec![nameless] }), (0, 0), 1),
            (Ok(Fleet { instances: Vec::new(), errors: vec![lacks("a")] }), (0, 0), 2),
            (Err(call), (0, 0), 2),
        ];
        for (result, left, without) in table {
            let mut aws = Aws::new(AwsSettings::default());
            aws.reservations.told(&[told_of("cr-a"), told_of("cr-b")]);
            // The same answer again, as it comes when a call is repeated.
            for _ in 0..2 {
                let outcomes = aws.launched(&launch, result.clone(), now);
                let lacking = outcomes.iter().filter(|one| told(one) == "InsufficientCapacity").count();
                assert_eq!(lacking, without, "{result:?}");
                assert_eq!((aws.reservations.left("cr-a"), aws.reservations.left("cr-b")), left, "{result:?}");
            }
            assert_eq!(left_alone(&aws, false, now), "", "{result:?}");
            assert!(aws.unavailable.is_empty(), "{result:?}");
        }
    }

    #[test]
    fn what_a_placement_group_has_no_room_for_is_left_alone_there_and_nowhere_else() {
        let now = Timestamp::UNIX_EPOCH;
        let mut aws = Aws::new(AwsSettings::default());
        let knowledge = LaunchKnowledge { group: Some("pg-1".into()), ..LaunchKnowledge::default() };
        let fleet = Fleet { errors: vec![refusal("InsufficientInstanceCapacity", "a")], ..Fleet::default() };
        aws.launched(&Launch { knowledge, ..launch(false) }, Ok(fleet), now);
        assert_eq!(left_alone(&aws, false, now), "", "others may have it");
        let in_group = |group| aws.unavailable.has(CapacityType::OnDemand, "m5.large", &place("a", Some(group)), now);
        assert!(in_group("pg-1") && !in_group("pg-2"));
    }

    #[test]
    fn a_partition_is_refused_by_itself_and_told_on_the_claim() {
        let now = Timestamp::UNIX_EPOCH;
        for (partition, label) in [(Some(2), "2"), (None, "")] {
            let mut aws = Aws::new(AwsSettings::default());
            let knowledge = LaunchKnowledge {
                group: Some("pg-1".into()),
                has_partitions: true,
                partition,
                ..LaunchKnowledge::default()
            };
            let bought = FleetInstance { id: "i-1".into(), zone: "b".into(), ..FleetInstance::default() };
            let fleet = Fleet { instances: vec![bought], errors: vec![refusal("InsufficientInstanceCapacity", "a")] };
            let outcomes = aws.launched(&Launch { knowledge, ..launch(false) }, Ok(fleet), now);
            let LaunchOutcome::Launched(launched) = &outcomes[0] else { panic!("{outcomes:?}") };
            let told = launched.labels.get(keys::PLACEMENT_GROUP_PARTITION).map(String::as_str);
            assert_eq!(told, Some(label));
            let off = |of: Option<i32>| {
                aws.unavailable.has(CapacityType::OnDemand, "m5.large", &place("a", Some(&part("pg-1", of))), now)
            };
            assert_eq!((off(Some(2)), off(Some(1)), off(None)), (partition.is_some(), false, partition.is_none()));
        }
    }

    /// A refusal beside a launch says nothing of what was launched, nor of its family.
    #[test]
    fn what_a_fleet_has_got_is_on_offer() {
        let at = |minutes: i64| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_mins(minutes);
        let mut aws = Aws::new(AwsSettings::default());
        for minutes in [0, 3, 9] {
            let bought = FleetInstance {
                id: format!("i-{minutes}"),
                instance_type: "m5.xlarge".into(),
                zone: "a".into(),
                spot: true,
                ..FleetInstance::default()
            };
            let fleet = Fleet { instances: vec![bought], errors: vec![refusal("InsufficientInstanceCapacity", "a")] };
            aws.launched(&launch(true), Ok(fleet), at(minutes));
            let off = |name: &str| aws.unavailable.has(CapacityType::Spot, name, "a", at(minutes));
            assert_eq!((off("m5.xlarge"), off("m5.large")), (false, true), "after {minutes} minutes");
        }
    }

    #[test]
    fn a_subnet_without_addresses_says_nothing_of_machines() {
        let now = Timestamp::UNIX_EPOCH;
        let mut aws = Aws::new(AwsSettings::default());
        let full = FleetError { subnet_id: "subnet-a".into(), ..refusal(NO_ADDRESSES, "a") };
        let outcomes = aws.launched(&launch(false), Ok(Fleet { errors: vec![full], ..Fleet::default() }), now);
        assert_eq!(told(&outcomes[0]), "InsufficientCapacity");
        assert!(aws.unavailable.has_subnet("subnet-a", now));
        assert_eq!(left_alone(&aws, false, now), "", "in no zone");
    }

    #[test]
    fn a_spread_group_that_is_full_in_a_zone_is_left_alone_there_as_a_whole() {
        let now = Timestamp::UNIX_EPOCH;
        let message = "You've reached the limit of instances in this spread placement group.";
        let limit = FleetError { message: message.into(), ..refusal("InsufficientInstanceCapacity", "a") };
        let bought = FleetInstance { id: "i-1".into(), zone: "b".into(), ..FleetInstance::default() };
        let sold = |zone: &str| ("m5.large".to_owned(), zone.to_owned());
        let reserved = BTreeMap::from([(sold("a"), "cr-a".to_owned()), (sold("b"), "cr-b".to_owned())]);
        let told_of = |id: &str| CapacityReservation { id: id.into(), available: 5, ..Default::default() };
        // The group, what else was got, whether out of reservations; whether the group is left alone in the zone, the
        // zones in which the type is, for the group and for everybody, and what is left in the zone's reservation.
        let table = [
            (Some("pg-1"), vec![bought.clone()], false, true, "", "", 5),
            (Some("pg-1"), vec![], false, true, "b", "", 5),
            (Some("pg-1"), vec![bought], true, true, "", "", 5),
            (None, vec![], false, false, "", "ab", 5),
        ];
        for (group, instances, from_reservations, full, in_group, anywhere, left) in table {
            let mut aws = Aws::new(AwsSettings::default());
            aws.reservations.told(&[told_of("cr-a"), told_of("cr-b")]);
            let knowledge = LaunchKnowledge {
                group: group.map(str::to_owned),
                reserved: if from_reservations { reserved.clone() } else { BTreeMap::new() },
                ..LaunchKnowledge::default()
            };
            let fleet = Fleet { instances, errors: vec![limit.clone()] };
            let mut launch = Launch { knowledge, ..launch(false) };
            let another = Override { instance_type: "c5.large".into(), ..launch.configs[0].overrides[0].clone() };
            launch.configs[0].overrides.push(another);
            let outcomes = aws.launched(&launch, Ok(fleet), now);
            assert_eq!(outcomes.last().map(told).as_deref(), Some("InsufficientCapacity"), "{group:?}");
            assert_eq!(aws.unavailable.has_place(&place("a", Some("pg-1")), now), full, "{group:?}");
            assert!(!aws.unavailable.has_place(&place("b", Some("pg-1")), now), "{group:?}");
            let off = |zone: &&str| aws.unavailable.has(CapacityType::OnDemand, "m5.large", &place(zone, group), now);
            let off_in_group: String = ZONES.into_iter().filter(|zone| group.is_some() && off(zone)).collect();
            assert_eq!((off_in_group.as_str(), left_alone(&aws, false, now).as_str()), (in_group, anywhere));
            assert_eq!(aws.reservations.left("cr-a"), left, "{group:?}");
            let unnamed = |group| aws.unavailable.has(CapacityType::OnDemand, "c5.large", &place("a", group), now);
            assert_eq!((unnamed(group), group.is_some() && unnamed(None)), (group.is_none(), false), "{group:?}");
        }
    }

    #[test]
    fn an_instance_has_efa_only_if_it_was_asked_for() {
        let mut aws = Aws::new(AwsSettings::default());
        let amounts: Resources = [("cpu", 96_000), (EFA, 4)].into_iter().collect();
        let row = karpenter_core::cloud::InstanceType {
            name: "m5.large".into(),
            requirements: std::sync::Arc::default(),
            capacity: amounts.clone(),
            allocatable: amounts,
            offerings: Vec::new(),
        };
        aws.rows.insert("default".into(), Rows::of(vec![std::sync::Arc::new(row)]));
        let told = |outcome: &LaunchOutcome| match outcome {
            LaunchOutcome::Launched(of) => (of.capacity.get(EFA), of.allocatable.get(EFA), of.capacity.get("cpu")),
            other => panic!("{other:?}"),
        };
        for efa in [false, true] {
            let one = FleetInstance { id: "i-1".into(), instance_type: "m5.large".into(), ..FleetInstance::default() };
            let fleet = Fleet { instances: vec![one], errors: Vec::new() };
            let knowledge = LaunchKnowledge { class: "default".into(), efa, ..LaunchKnowledge::default() };
            let launch = Launch { knowledge, target: 1, ..launch(false) };
            let launched = told(&aws.launched(&launch, Ok(fleet), Timestamp::UNIX_EPOCH)[0]);
            let tags = BTreeMap::from([(keys::EC2_NODE_CLASS.to_owned(), "default".to_owned())]);
            let instance = InstanceInfo {
                id: "i-1".into(),
                instance_type: "m5.large".into(),
                state: "running".into(),
                efa,
                tags,
                ..InstanceInfo::default()
            };
            let find = Find {
                token: "t".into(),
                claims: launch.claims[..1].to_vec(),
                taken: Vec::new(),
                filters: BTreeMap::new(),
            };
            let found = told(&aws.found(&find, Ok(vec![instance]))[0]);
            let expected = if efa { (4, 4, 96_000) } else { (0, 0, 96_000) };
            assert_eq!((launched, found), (expected, expected));
        }
    }

    #[test]
    fn spot_without_its_role_is_left_alone_everywhere() {
        let mut aws = Aws::new(AwsSettings::default());
        let fleet = Fleet { errors: vec![refusal(NO_SPOT_ROLE, "a")], ..Fleet::default() };
        let outcomes = aws.launched(&launch(true), Ok(fleet), Timestamp::UNIX_EPOCH);
        assert_eq!(told(&outcomes[0]), "InsufficientCapacity");
        assert!(aws.unavailable.has(CapacityType::Spot, "c5.large", "c", Timestamp::UNIX_EPOCH));
        assert!(!aws.unavailable.has(CapacityType::OnDemand, "c5.large", "c", Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_launch_under_way_and_what_it_took_count_against_a_subnets_addresses() {
        let mut aws = Aws::new(AwsSettings::default());
        let subnet = crate::report::Subnet { id: "subnet-b".into(), available_addresses: 100, ..Default::default() };
        let now = Timestamp::UNIX_EPOCH;
        let call = crate::call::Call::Launch(Box::new(launch(false)));
        aws.begin(&call, now);
        assert_eq!(aws.addresses.free(&subnet), 80);
        let bought = FleetInstance { id: "i-1".into(), subnet_id: "subnet-b".into(), ..FleetInstance::default() };
        aws.launched(&launch(false), Ok(Fleet { instances: vec![bought], errors: Vec::new() }), now);
        assert_eq!(aws.addresses.free(&subnet), 90, "one of two was launched here");
        aws.addresses.described(std::slice::from_ref(&subnet));
        assert_eq!(aws.addresses.free(&subnet), 100, "EC2 has counted");
    }
}
