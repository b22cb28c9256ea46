//! Instances: list, find, terminate.

use aws_sdk_ec2::types::{Instance, InstanceLifecycleType, InstanceStateName};
use karpenter_aws::call::Filters;
use karpenter_aws::report::{CallError, InstanceInfo};

use crate::{Wire, ec2_filters, ec2_tags, error, time};

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

    /// Whether the instance is still there to be terminated.
    pub(crate) async fn terminate(&self, id: &str) -> Result<bool, CallError> {
        let answer = match self.ec2.terminate_instances().instance_ids(id).send().await {
            Ok(answer) => answer,
            Err(failed) => {
                let failed = error::of("TerminateInstances")(failed);
                return if failed.code.starts_with("InvalidInstanceID") { Ok(false) } else { Err(failed) };
            }
        };
        let changes = answer.terminating_instances.unwrap_or_default();
        let gone = changes.iter().any(|change| {
            change.current_state.as_ref().and_then(|state| state.name.as_ref()) == Some(&InstanceStateName::Terminated)
        });
        Ok(!gone)
    }
}

fn info(instance: Instance) -> Option<InstanceInfo> {
    let placement = instance.placement;
    Some(InstanceInfo {
        id: instance.instance_id?,
        instance_type: instance.instance_type.map(|t| t.as_str().to_owned()).unwrap_or_default(),
        zone: placement.as_ref().and_then(|p| p.availability_zone.clone()).unwrap_or_default(),
        zone_id: placement.and_then(|p| p.availability_zone_id).unwrap_or_default(),
        image_id: instance.image_id.unwrap_or_default(),
        subnet_id: instance.subnet_id.unwrap_or_default(),
        reservation: instance.capacity_reservation_id,
        spot: instance.instance_lifecycle == Some(InstanceLifecycleType::Spot),
        state: instance.state.and_then(|s| s.name).map(|n| n.as_str().to_owned()).unwrap_or_default(),
        launched_at: time(instance.launch_time),
        tags: ec2_tags(instance.tags),
    })
}
