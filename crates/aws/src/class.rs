//! One EC2NodeClass: what its selectors came to, and what its status says of that.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::ec2nodeclass::{
    AmiFamily, AmiRequirement, AmiSelectorTerm, AmiStatus, Ec2NodeClass, Ec2NodeClassStatus, SecurityGroupStatus,
    SubnetStatus,
};
use karpenter_api::{conditions as names, labels as keys};
use karpenter_core::conditions;

use crate::ami;
use crate::call::{Call, Filters, ImageQuery, InstanceProfile};
use crate::labels::architecture;
use crate::report::{CallError, Image, Images, SecurityGroup, Subnet};
use crate::{AwsSettings, hash_name};

const SUBNETS_EVERY: SignedDuration = SignedDuration::from_mins(1);
const GROUPS_EVERY: SignedDuration = SignedDuration::from_mins(5);
const IMAGES_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// While a selector finds nothing, it is asked again sooner.
const NOTHING_EVERY: SignedDuration = SignedDuration::from_mins(1);
const PROFILE_EVERY: SignedDuration = SignedDuration::from_mins(15);

/// An answer and when it came; `None` in a class means: not asked yet.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    at: Timestamp,
    pub(crate) result: Result<T, CallError>,
}

/// A class and what is known of it.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) object: Ec2NodeClass,
    pub(crate) subnets: Option<Answer<Vec<Subnet>>>,
    groups: Option<Answer<Vec<SecurityGroup>>>,
    images: Option<Answer<Images>>,
    profile: Option<Answer<()>>,
    /// Profile and launch templates of a deleted class are gone.
    pub(crate) cleaned: bool,
}

impl Class {
    pub(crate) fn new(object: Ec2NodeClass) -> Self {
        Self { object, subnets: None, groups: None, images: None, profile: None, cleaned: false }
    }

    /// A newer version of the object. A new spec makes every answer void.
    pub(crate) fn update(&mut self, object: Ec2NodeClass) -> bool {
        let changed = self.object.spec != object.spec;
        if changed {
            *self = Self::new(object);
        } else {
            self.object = object;
        }
        changed
    }

    pub(crate) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or(0)
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    pub(crate) fn family(&self) -> AmiFamily {
        self.object.spec.family()
    }

    /// The group that instances are launched into.
    pub(crate) fn placement_group(&self) -> Option<&crate::report::PlacementGroup> {
        None
    }

    /// The reservations as last observed.
    pub(crate) fn capacity_reservations(&self) -> &[crate::report::CapacityReservation] {
        &[]
    }

    pub(crate) fn learn_subnets(&mut self, at: Timestamp, result: Result<Vec<Subnet>, CallError>) {
        let result = result.map(|mut subnets| {
            subnets.sort_by(|a, b| b.available_addresses.cmp(&a.available_addresses).then_with(|| a.id.cmp(&b.id)));
            subnets.dedup_by(|a, b| a.id == b.id);
            subnets
        });
        learn(&mut self.subnets, at, result);
    }

    pub(crate) fn learn_groups(&mut self, at: Timestamp, result: Result<Vec<SecurityGroup>, CallError>) {
        let result = result.map(|mut groups| {
            groups.sort_by(|a, b| a.id.cmp(&b.id));
            groups.dedup_by(|a, b| a.id == b.id);
            groups
        });
        learn(&mut self.groups, at, result);
    }

    pub(crate) fn learn_images(&mut self, at: Timestamp, result: Result<Images, CallError>) {
        learn(&mut self.images, at, result);
    }

    pub(crate) fn learn_profile(&mut self, at: Timestamp, result: Result<(), CallError>) {
        learn(&mut self.profile, at, result);
    }

    /// The reads that are due, by verb, or when the next one is.
    pub(crate) fn polls(
        &self,
        settings: &AwsSettings,
        kubernetes: Option<&str>,
        now: Timestamp,
    ) -> (Vec<(&'static str, Call)>, Option<Timestamp>) {
        let mut due = Vec::new();
        let mut next: Option<Timestamp> = None;
        let mut is_due = |at: Option<Timestamp>, every: SignedDuration| {
            let again = at.and_then(|at| at.checked_add(every).ok());
            match again {
                Some(again) if again > now => {
                    next = Some(next.map_or(again, |known| known.min(again)));
                    false
                }
                _ => true,
            }
        };
        let (class, generation) = (self.name().to_owned(), self.generation());
        let spec = &self.object.spec;
        if is_due(had_at(self.subnets.as_ref()), SUBNETS_EVERY) {
            let queries =
                spec.subnet_selector_terms.iter().map(|t| filters(t.tags.as_ref(), &[("subnet-id", t.id.as_ref())]));
            let call = Call::Subnets { class: class.clone(), generation, queries: queries.collect() };
            due.push(("subnets", call));
        }
        let none = |empty: bool, every| if empty { NOTHING_EVERY } else { every };
        let no_groups = self.groups.as_ref().is_some_and(|a| a.result.as_ref().is_ok_and(Vec::is_empty));
        if is_due(had_at(self.groups.as_ref()), none(no_groups, GROUPS_EVERY)) {
            let queries = spec
                .security_group_selector_terms
                .iter()
                .map(|t| filters(t.tags.as_ref(), &[("group-id", t.id.as_ref()), ("group-name", t.name.as_ref())]));
            let call = Call::SecurityGroups { class: class.clone(), generation, queries: queries.collect() };
            due.push(("security-groups", call));
        }
        let no_images = self.images.as_ref().is_some_and(|a| a.result.as_ref().is_ok_and(|i| i.images.is_empty()));
        if let Some(kubernetes) = kubernetes
            && is_due(had_at(self.images.as_ref()), none(no_images, IMAGES_EVERY))
        {
            let parameters = self.parameters(kubernetes).into_iter().map(|parameter| parameter.name).collect();
            let queries = spec.ami_selector_terms.iter().filter_map(image_query).collect();
            due.push(("images", Call::Images { class: class.clone(), generation, parameters, queries }));
        }
        if let Some(profile) = self.managed_profile(settings)
            && is_due(had_at(self.profile.as_ref()), PROFILE_EVERY)
        {
            due.push(("instance-profile", Call::EnsureInstanceProfile { class, profile }));
        }
        (due, next)
    }

    /// The SSM parameters of the class and the kinds of nodes their images are for.
    fn parameters(&self, kubernetes: &str) -> Vec<ami::Parameter> {
        let terms = &self.object.spec.ami_selector_terms;
        let aliases = terms.iter().filter_map(ami::alias);
        let of_aliases = aliases.flat_map(|alias| ami::parameters(&alias, kubernetes));
        let own = terms
            .iter()
            .filter_map(|term| Some(ami::Parameter { name: term.ssm_parameter.clone()?, fits: Vec::new() }));
        of_aliases.chain(own).collect()
    }

    /// The instance profile that is made for `spec.role`: another role, another profile.
    pub(crate) fn managed_profile(&self, settings: &AwsSettings) -> Option<InstanceProfile> {
        let role = self.object.spec.role.as_ref()?;
        let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
        let (cluster, region) = (&settings.cluster_name, &settings.region);
        let name = format!("{cluster}_{}", hash_name(&format!("{region}/{}/{uid}/{role}", self.name())));
        let tags = [
            (format!("kubernetes.io/cluster/{cluster}"), "owned".to_owned()),
            (keys::TAG_CLUSTER.to_owned(), cluster.clone()),
            (keys::EC2_NODE_CLASS.to_owned(), self.name().to_owned()),
            (keys::REGION.to_owned(), region.clone()),
        ];
        let path = format!("/karpenter/{region}/{cluster}/{uid}/");
        Some(InstanceProfile { name, path, role: role.clone(), tags: tags.into_iter().collect() })
    }

    /// The images that were found, newest first, each with the nodes it fits.
    fn amis(&self, kubernetes: &str, now: Timestamp) -> Vec<AmiStatus> {
        let Some(Answer { result: Ok(found), .. }) = &self.images else {
            return Vec::new();
        };
        let by_id: BTreeMap<&str, &Image> = found.images.iter().map(|image| (image.id.as_str(), image)).collect();
        let mut all: Vec<(&Image, Vec<AmiRequirement>)> = Vec::new();
        let mut named: Vec<&str> = Vec::new();
        for parameter in self.parameters(kubernetes) {
            let id = found.parameters.get(&parameter.name).map(String::as_str);
            let Some(image) = id.and_then(|id| by_id.get(id)) else {
                continue;
            };
            named.push(&image.id);
            let kinds = if parameter.fits.is_empty() { vec![of_architecture(image)] } else { parameter.fits };
            all.extend(kinds.into_iter().map(|requirements| (*image, requirements)));
        }
        for image in found.images.iter().filter(|image| !named.contains(&image.id.as_str())) {
            all.push((image, of_architecture(image)));
        }
        // Per kind of node: what is not deprecated before what is, then the newest.
        let deprecated = |image: &Image| image.deprecated.is_some_and(|at| at <= now);
        all.sort_by(|(a, _), (b, _)| {
            deprecated(a).cmp(&deprecated(b)).then_with(|| b.created.cmp(&a.created)).then_with(|| a.id.cmp(&b.id))
        });
        let mut kept: Vec<AmiStatus> = Vec::new();
        let mut kept_created: Vec<Option<Timestamp>> = Vec::new();
        for (image, requirements) in all {
            if kept.iter().any(|known| known.requirements == requirements) {
                continue;
            }
            kept.push(AmiStatus {
                id: image.id.clone(),
                deprecated: deprecated(image).then_some(true),
                name: Some(image.name.clone()),
                requirements,
            });
            kept_created.push(image.created);
        }
        let mut order: Vec<usize> = (0..kept.len()).collect();
        order.sort_by(|a, b| kept_created[*b].cmp(&kept_created[*a]).then_with(|| kept[*a].id.cmp(&kept[*b].id)));
        order.into_iter().map(|at| kept[at].clone()).collect()
    }

    /// The status as it should be; equal to what is written already if nothing changed.
    pub(crate) fn status(
        &self,
        settings: &AwsSettings,
        cluster: Option<&crate::report::Cluster>,
        now: Timestamp,
    ) -> Ec2NodeClassStatus {
        let spec = &self.object.spec;
        let mut status = self.object.status.clone().unwrap_or_default();
        let mut list = status.conditions.take().unwrap_or_default();
        let generation = self.object.metadata.generation;
        let mut judged: Vec<(&'static str, Judgement)> = Vec::new();
        let mut judge = |condition: &'static str, verdict: Judgement| judged.push((condition, verdict));

        let subnets = known(self.subnets.as_ref());
        judge(
            names::SUBNETS_READY,
            match subnets {
                Some(Ok(found)) if found.is_empty() => Err(nothing(
                    "SubnetsNotFound",
                    "spec.subnetSelectorTerms matched no subnet",
                    &spec.subnet_selector_terms,
                )),
                other => verdict(other),
            },
        );
        if let Some(answer) = subnets {
            let told = |s: &Subnet| SubnetStatus { id: s.id.clone(), zone: s.zone.clone(), zone_id: some(&s.zone_id) };
            status.subnets = found(answer).map(|all| all.iter().map(told).collect());
        }
        let groups = known(self.groups.as_ref());
        judge(
            names::SECURITY_GROUPS_READY,
            match groups {
                Some(Ok(found)) if found.is_empty() => Err(nothing(
                    "SecurityGroupsNotFound",
                    "spec.securityGroupSelectorTerms matched no security group",
                    &spec.security_group_selector_terms,
                )),
                other => verdict(other),
            },
        );
        if let Some(answer) = groups {
            let told = |g: &SecurityGroup| SecurityGroupStatus { id: g.id.clone(), name: some(&g.name) };
            status.security_groups = found(answer).map(|all| all.iter().map(told).collect());
        }
        let amis = cluster.map(|cluster| self.amis(&cluster.version, now)).unwrap_or_default();
        let alias = cluster.map_or(Ok(()), |cluster| ami::check_alias(&spec.ami_selector_terms, &cluster.version));
        judge(
            names::AMIS_READY,
            match (alias, known(self.images.as_ref())) {
                (Err(unsupported), _) => Err(("UnsupportedAlias".to_owned(), unsupported.to_string())),
                (Ok(()), Some(Ok(_))) if amis.is_empty() => {
                    Err(nothing("AMINotFound", "spec.amiSelectorTerms resolved to no image", &spec.ami_selector_terms))
                }
                (Ok(()), other) => verdict(other),
            },
        );
        if self.images.is_some() {
            status.amis = (!amis.is_empty()).then_some(amis);
        }
        match (&spec.instance_profile, self.managed_profile(settings)) {
            (Some(profile), _) => {
                status.instance_profile = Some(profile.clone());
                judge(names::INSTANCE_PROFILE_READY, Ok(true));
            }
            (None, Some(profile)) => {
                let made = known(self.profile.as_ref());
                if let Some(made) = made {
                    status.instance_profile = made.is_ok().then_some(profile.name);
                }
                judge(names::INSTANCE_PROFILE_READY, verdict(made));
            }
            (None, None) => {
                let message = "spec: found neither role nor instanceProfile, expected one of them".to_owned();
                judge(names::INSTANCE_PROFILE_READY, Err(("InstanceProfileNotFound".to_owned(), message)));
            }
        }
        judge(names::CAPACITY_RESERVATIONS_READY, Ok(true));
        judge(
            names::PLACEMENT_GROUP_READY,
            match spec.placement_group_selector {
                None => Ok(true),
                Some(_) => Err((
                    "PlacementGroupResolutionFailed".to_owned(),
                    "spec.placementGroupSelector: placement groups are not supported yet".to_owned(),
                )),
            },
        );
        let dependencies = judged.iter().all(|(_, verdict)| matches!(verdict, Ok(true)));
        judged.push((names::VALIDATION_SUCCEEDED, self.validate(cluster, dependencies)));
        for (condition, verdict) in judged {
            // After a restart nothing is known yet; what was judged of this very spec stands until it is.
            let stands = conditions::get(Some(&list), condition).is_some_and(|c| c.observed_generation == generation);
            if verdict == Ok(false) && stands {
                continue;
            }
            let (value, reason, message) = match &verdict {
                // Launches are not tried by dry run here: the first real one tells.
                Ok(true) if condition == names::VALIDATION_SUCCEEDED => ("True", "DryRunDisabled", ""),
                Ok(true) => ("True", condition, ""),
                Ok(false) if condition == names::VALIDATION_SUCCEEDED => {
                    ("Unknown", "DependenciesNotReady", "waiting for what is not ready")
                }
                Ok(false) => ("Unknown", "AwaitingReconciliation", "object is awaiting reconciliation"),
                Err((reason, message)) => ("False", reason.as_str(), message.as_str()),
            };
            conditions::set(&mut list, condition, value, reason, message, generation, now);
        }
        let missing = || list.iter().filter(|c| c.type_ != names::READY && c.status != "True");
        let message = missing().map(|c| format!("{}={}", c.type_, c.status)).collect::<Vec<_>>().join(", ");
        let (value, reason) = match (missing().next().is_none(), missing().any(|c| c.status == "False")) {
            (true, _) => ("True", names::READY),
            (false, true) => ("False", "UnhealthyDependents"),
            (false, false) => ("Unknown", "ReconcilingDependents"),
        };
        conditions::set(&mut list, names::READY, value, reason, &message, generation, now);
        status.conditions = Some(list);
        status
    }

    fn validate(&self, cluster: Option<&crate::report::Cluster>, dependencies: bool) -> Judgement {
        if let Err(bad) = self.check_user_data() {
            return Err(("UserDataInvalid".to_owned(), bad.to_string()));
        }
        let Some(cluster) = cluster.filter(|_| dependencies) else {
            return Ok(false);
        };
        let has_cidr = cluster.service_ipv4_cidr.is_some() || cluster.service_ipv6_cidr.is_some();
        if self.family() == AmiFamily::Al2023 && !has_cidr {
            let message = "EKS did not tell the cluster's service CIDR".to_owned();
            return Err(("ClusterCIDRResolutionFailed".to_owned(), message));
        }
        Ok(true)
    }

    /// User data that could never be merged makes the class not ready, not every launch fail.
    fn check_user_data(&self) -> Result<(), ami::BadUserData> {
        let bootstrap = ami::Bootstrap {
            cluster_name: "",
            endpoint: "",
            ca: "",
            service_cidr: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            kubelet: self.object.spec.kubelet.clone().unwrap_or_default(),
            max_pods: 0,
            raid0: false,
            image_version: None,
            custom: self.object.spec.user_data.as_deref(),
        };
        ami::user_data(self.family(), &bootstrap).map(|_| ())
    }
}

/// Whether a reservation is a capacity block that is about to end.
pub(crate) fn is_expiring(reservation: &crate::report::CapacityReservation, now: Timestamp) -> bool {
    let from = reservation.ends.and_then(|ends| ends.checked_sub(SignedDuration::from_mins(40)).ok());
    reservation.kind == "capacity-block" && from.is_some_and(|from| from <= now)
}

/// What was found stays true while asking again fails; the failure is told by whoever asked.
fn learn<T>(known: &mut Option<Answer<T>>, at: Timestamp, result: Result<T, CallError>) {
    if result.is_ok() || known.as_ref().is_none_or(|answer| answer.result.is_err()) {
        *known = Some(Answer { at, result });
    }
}

/// When an answer was had; a refusal is none, and when to ask again is its back-off's business.
fn had_at<T>(answer: Option<&Answer<T>>) -> Option<Timestamp> {
    answer.filter(|answer| answer.result.is_ok()).map(|answer| answer.at)
}

fn known<T>(answer: Option<&Answer<T>>) -> Option<Result<&T, &CallError>> {
    answer.map(|answer| answer.result.as_ref())
}

fn found<'a, T>(answer: Result<&'a Vec<T>, &'a CallError>) -> Option<&'a Vec<T>> {
    answer.ok().filter(|all| !all.is_empty())
}

/// `Ok(false)`: not known yet; `Err`: reason and message of a condition that is False.
type Judgement = Result<bool, (String, String)>;

fn verdict<T>(answer: Option<Result<&T, &CallError>>) -> Judgement {
    match answer {
        None => Ok(false),
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) => Err((word(&error.code), error.to_string())),
    }
}

/// A condition's reason must be one word.
fn word(code: &str) -> String {
    let word: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word } else { "CallFailed".to_owned() }
}

fn nothing(reason: &str, message: &str, terms: impl serde::Serialize) -> (String, String) {
    let terms = serde_json::to_string(&terms).unwrap_or_default();
    (reason.to_owned(), format!("{message}: {terms}"))
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn of_architecture(image: &Image) -> Vec<AmiRequirement> {
    let arch = architecture(&image.architecture).unwrap_or("amd64").to_owned();
    vec![AmiRequirement { key: keys::ARCH.to_owned(), operator: "In".to_owned(), values: Some(vec![arch]) }]
}

/// A selector term as EC2 filters. EC2 itself reads `*` in a value as a wildcard.
fn filters(tags: Option<&BTreeMap<String, String>>, fields: &[(&str, Option<&String>)]) -> Filters {
    let mut all = Filters::new();
    for (key, value) in tags.into_iter().flatten() {
        all.insert(format!("tag:{key}"), vec![value.clone()]);
    }
    for (name, value) in fields {
        if let Some(value) = value {
            all.insert((*name).to_owned(), vec![(*value).clone()]);
        }
    }
    all
}

/// Aliases and SSM parameters are asked elsewhere.
fn image_query(term: &AmiSelectorTerm) -> Option<ImageQuery> {
    if term.alias.is_some() || term.ssm_parameter.is_some() {
        return None;
    }
    let mut filters = filters(term.tags.as_ref(), &[("name", term.name.as_ref())]);
    filters.insert("state".to_owned(), vec!["available".to_owned()]);
    // Without an owner, a name could be anybody's.
    let owners = match (&term.owner, &term.name) {
        (Some(owner), _) => vec![owner.clone()],
        (None, Some(_)) => vec!["self".to_owned(), "amazon".to_owned()],
        (None, None) => Vec::new(),
    };
    Some(ImageQuery { ids: term.id.iter().cloned().collect(), owners, filters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(generation: i64) -> Class {
        let object = serde_json::from_value(json!({
            "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
            "metadata": { "name": "default", "uid": "u", "generation": generation },
            "spec": {
                "instanceProfile": "nodes", "amiSelectorTerms": [{ "id": "ami-1" }],
                "subnetSelectorTerms": [{ "id": "subnet-1" }], "securityGroupSelectorTerms": [{ "id": "sg-1" }],
            },
        }));
        Class::new(object.unwrap())
    }

    fn answered(class: &mut Class) {
        let at = Timestamp::UNIX_EPOCH;
        class.learn_subnets(at, Ok(vec![Subnet { id: "subnet-1".into(), zone: "a".into(), ..Subnet::default() }]));
        class.learn_groups(at, Ok(vec![SecurityGroup { id: "sg-1".into(), ..SecurityGroup::default() }]));
        let image = Image { id: "ami-1".into(), architecture: "x86_64".into(), ..Image::default() };
        class.learn_images(at, Ok(Images { images: vec![image], ..Images::default() }));
    }

    fn judged(class: &Class) -> Ec2NodeClassStatus {
        let cluster = crate::report::Cluster {
            service_ipv4_cidr: Some("10.100.0.0/16".into()),
            version: "1.36".into(),
            ..crate::report::Cluster::default()
        };
        class.status(&AwsSettings::default(), Some(&cluster), Timestamp::UNIX_EPOCH)
    }

    fn ready(status: &Ec2NodeClassStatus) -> &str {
        conditions::get(status.conditions.as_deref(), names::READY).map_or("", |ready| ready.status.as_str())
    }

    #[test]
    fn a_class_is_ready_once_everything_is_found() {
        let mut class = class(1);
        assert_eq!(ready(&judged(&class)), "Unknown");
        answered(&mut class);
        assert_eq!(ready(&judged(&class)), "True");
        class.learn_subnets(Timestamp::UNIX_EPOCH, Ok(Vec::new()));
        assert_eq!(ready(&judged(&class)), "False");
    }

    #[test]
    fn after_a_restart_what_was_judged_stands_until_it_is_known_again() {
        let mut before = class(1);
        answered(&mut before);
        let mut after = class(1);
        after.object.status = Some(judged(&before));
        assert_eq!(judged(&after), judged(&before), "nothing is known yet, and nothing is written");

        let mut changed = class(2);
        changed.object.status = Some(judged(&before));
        assert_eq!(ready(&judged(&changed)), "Unknown", "another spec was never judged");
    }

    #[test]
    fn a_call_that_fails_does_not_undo_what_was_found_and_is_due_at_once() {
        let refused = || CallError {
            operation: "DescribeSubnets",
            code: "RequestLimitExceeded".into(),
            message: String::new(),
            uncertain: false,
        };
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(10);
        let mut known = class(1);
        answered(&mut known);
        known.learn_subnets(at, Err(refused()));
        assert_eq!(ready(&judged(&known)), "True");

        let mut first = class(1);
        first.learn_subnets(at, Err(refused()));
        assert_eq!(ready(&judged(&first)), "False", "nobody knows better");
        let (due, _) = first.polls(&AwsSettings::default(), None, at);
        assert!(due.iter().any(|(verb, _)| *verb == "subnets"), "its back-off says when");
    }
}
