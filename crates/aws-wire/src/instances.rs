//! Instances: list, find, terminate.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{
    Filter, Instance, InstanceLifecycleType, InstanceStateChange, InstanceStateName, InstanceStatus,
    InstanceStatusSummary, StatusType, Tag,
};
use karpenter_api::labels;
use karpenter_aws::call::Filters;
use karpenter_aws::report::{CallError, InstanceInfo, InstanceTrouble, TroubleKind};

use crate::{Wire, ec2_filters, ec2_tags, error, time};

/// Events after which an instance is not what it was.
const EVENTS: [&str; 5] =
    ["instance-reboot", "system-reboot", "system-maintenance", "instance-retirement", "instance-stop"];

impl Wire {
    pub(crate) async fn instances(&self, filters: Filters) -> Result<Vec<InstanceInfo>, CallError> {
        let mut pages =
            self.ec2.describe_instances().set_filters(ec2_filters(filters)).max_results(1000).into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(error::of("DescribeInstances"))?;
            let instances =
                page.reservations.unwrap_or_default().into_iter().flat_map(|r| r.instances.unwrap_or_default());
            all.extend(instances.filter_map(info));
        }
        Ok(all)
    }

    /// What is wrong with instances. EC2 joins filters by "and", so each part is a question of its own.
    pub(crate) async fn troubles(&self) -> Result<Vec<InstanceTrouble>, CallError> {
        let mut all = Vec::new();
        for (filter, values) in [
            ("instance-status.status", &["impaired"][..]),
            ("system-status.status", &["impaired"]),
            ("event.code", &EVENTS),
        ] {
            let filter = Filter::builder().name(filter).set_values(Some(values.iter().map(|v| (*v).into()).collect()));
            let request = self.ec2.describe_instance_status().filters(filter.build()).max_results(1000);
            let mut pages = request.into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(error::of("DescribeInstanceStatus"))?;
                all.extend(page.instance_statuses.unwrap_or_default().iter().flat_map(troubles_of));
            }
        }
        Ok(all)
    }

    pub(crate) async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), CallError> {
        let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
        let request = self.ec2.create_tags().resources(id).set_tags(Some(tags.iter().map(tag).collect()));
        request.send().await.map_err(error::of("CreateTags"))?;
        Ok(())
    }

    /// What each of these launches has bought: one list for all.
    pub(crate) async fn find(&self, finds: Vec<Filters>) -> Vec<Result<Vec<InstanceInfo>, CallError>> {
        let tag = format!("tag:{}", labels::TAG_LAUNCH);
        let token = |find: &Filters| find.get(&tag).and_then(|values| values.first()).cloned();
        // All but the token is the cluster's, the same for all.
        let mut joined = finds.first().cloned().unwrap_or_default();
        joined.insert(tag.clone(), finds.iter().filter_map(token).collect());
        let listed = self.instances(joined).await;
        let of = |find: &Filters| match &listed {
            Ok(all) => {
                let own = |one: &&InstanceInfo| one.tags.get(labels::TAG_LAUNCH).cloned() == token(find);
                Ok(all.iter().filter(own).cloned().collect())
            }
            Err(failed) => Err(failed.clone()),
        };
        finds.iter().map(of).collect()
    }

    /// Whether each instance is still there to be terminated.
    pub(crate) async fn terminate(&self, ids: Vec<String>) -> Vec<Result<bool, CallError>> {
        let _turn = self.effects.acquire().await;
        let mut told: BTreeMap<String, Result<bool, CallError>> = BTreeMap::new();
        let mut asked = ids.clone();
        // All or nothing, says EC2: what it does not know is told by name, and the rest is asked for again.
        while !asked.is_empty() {
            match self.terminate_all(&asked).await {
                Ok(answered) => {
                    told.extend(answered.into_iter().map(|(id, there)| (id, Ok(there))));
                    break;
                }
                Err(failed) if failed.code.starts_with("InvalidInstanceID") => {
                    let before = asked.len();
                    let named = |id: &String| before == 1 || failed.message.contains(id.as_str());
                    let (unknown, rest): (Vec<String>, Vec<String>) = asked.into_iter().partition(named);
                    told.extend(unknown.into_iter().map(|id| (id, Ok(false))));
                    asked = if rest.len() == before { self.one_by_one(rest, &mut told).await } else { rest };
                }
                Err(failed) => {
                    told.extend(asked.into_iter().map(|id| (id, Err(failed.clone()))));
                    break;
                }
            }
        }
        // Accepted without a word about it: asked again later.
        ids.into_iter().map(|id| told.get(&id).cloned().unwrap_or(Ok(true))).collect()
    }

    /// EC2 refuses some of these and does not say which.
    async fn one_by_one(&self, ids: Vec<String>, told: &mut BTreeMap<String, Result<bool, CallError>>) -> Vec<String> {
        for id in ids {
            let result = match self.terminate_all(std::slice::from_ref(&id)).await {
                Ok(answered) => Ok(answered.get(&id).copied().unwrap_or(true)),
                Err(failed) if failed.code.starts_with("InvalidInstanceID") => Ok(false),
                Err(failed) => Err(failed),
            };
            told.insert(id, result);
        }
        Vec::new()
    }

    async fn terminate_all(&self, ids: &[String]) -> Result<BTreeMap<String, bool>, CallError> {
        let request = self.ec2.terminate_instances().set_instance_ids(Some(ids.to_vec()));
        let answer = request.send().await.map_err(error::of("TerminateInstances"))?;
        let there = |change: InstanceStateChange| {
            let state = change.current_state.and_then(|state| state.name);
            Some((change.instance_id?, state != Some(InstanceStateName::Terminated)))
        };
        Ok(answer.terminating_instances.unwrap_or_default().into_iter().filter_map(there).collect())
    }
}

fn troubles_of(status: &InstanceStatus) -> Vec<InstanceTrouble> {
    let (Some(id), Some(zone)) = (&status.instance_id, &status.availability_zone) else { return Vec::new() };
    let failed = |summary: Option<&InstanceStatusSummary>| {
        let details = summary.and_then(|summary| summary.details.as_deref()).unwrap_or_default();
        details
            .iter()
            .find(|detail| detail.status == Some(StatusType::Failed))
            .map(|detail| time(detail.impaired_since))
    };
    let instance = failed(status.instance_status.as_ref()).map(TroubleKind::Instance);
    let system = failed(status.system_status.as_ref()).map(TroubleKind::System);
    // What is over stays listed for a while, and says so.
    let is_over = |text: &str| text.starts_with("[Completed]") || text.starts_with("[Canceled]");
    let events = status.events.iter().flatten().filter(|event| !event.description.as_deref().is_some_and(is_over));
    let codes = events.filter_map(|event| event.code.as_ref().map(|code| code.as_str().to_owned()));
    let codes = codes.filter(|code| EVENTS.contains(&code.as_str())).map(TroubleKind::Event);
    let kinds = instance.into_iter().chain(system).chain(codes);
    kinds.map(|kind| InstanceTrouble { id: id.clone(), zone: zone.clone(), kind }).collect()
}

fn info(instance: Instance) -> Option<InstanceInfo> {
    let placement = instance.placement;
    let mut kinds = instance.network_interfaces.iter().flatten().filter_map(|one| one.interface_type.as_deref());
    Some(InstanceInfo {
        efa: kinds.any(|kind| kind.starts_with("efa")),
        id: instance.instance_id?,
        instance_type: instance.instance_type.map(|t| t.as_str().to_owned()).unwrap_or_default(),
        zone: placement.as_ref().and_then(|p| p.availability_zone.clone()).unwrap_or_default(),
        zone_id: placement.as_ref().and_then(|p| p.availability_zone_id.clone()).unwrap_or_default(),
        group: placement.as_ref().and_then(|p| p.group_id.clone()).filter(|id| !id.is_empty()),
        partition: placement.as_ref().and_then(|p| p.partition_number),
        tenancy: placement.and_then(|p| p.tenancy).map(|t| t.as_str().to_owned()).unwrap_or_default(),
        image_id: instance.image_id.unwrap_or_default(),
        subnet_id: instance.subnet_id.unwrap_or_default(),
        security_group_ids: instance.security_groups.into_iter().flatten().filter_map(|group| group.group_id).collect(),
        reservation: instance.capacity_reservation_id,
        spot: instance.instance_lifecycle == Some(InstanceLifecycleType::Spot),
        state: instance.state.and_then(|s| s.name).map(|n| n.as_str().to_owned()).unwrap_or_default(),
        launched_at: time(instance.launch_time),
        tags: ec2_tags(instance.tags),
    })
}
