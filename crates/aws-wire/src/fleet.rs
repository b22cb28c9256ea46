//! Launches: the templates that must exist, then one fleet.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use karpenter_aws::call::{BlockDevice, FleetConfig, Launch, LaunchTemplate};
use karpenter_aws::report::{CallError, Fleet, FleetError, FleetInstance};

use crate::{Wire, error};

impl Wire {
    /// A template that EC2 turns out not to have is made again, once.
    pub(crate) async fn launch(&self, launch: &Launch) -> Result<Fleet, CallError> {
        self.ensure_templates(launch).await?;
        let lost = |code: &str| code.starts_with("InvalidLaunchTemplate") && code.contains("NotFound");
        let first = self.fleet(launch).await;
        let missing = match &first {
            Ok(fleet) => fleet.instances.is_empty() && fleet.errors.iter().any(|error| lost(&error.code)),
            Err(failed) => lost(&failed.code),
        };
        if !missing {
            return first;
        }
        for config in &launch.configs {
            self.forget_template(&config.template.name);
        }
        self.ensure_templates(launch).await?;
        self.fleet(launch).await
    }

    async fn ensure_templates(&self, launch: &Launch) -> Result<(), CallError> {
        for FleetConfig { template, .. } in &launch.configs {
            if self.knows_template(&template.name) {
                continue;
            }
            let made = self
                .ec2
                .create_launch_template()
                .launch_template_name(&template.name)
                .launch_template_data(data(template))
                .tag_specifications(tagged(ec2::ResourceType::LaunchTemplate, &template.template_tags))
                .send()
                .await
                .map_err(error::of("CreateLaunchTemplate"));
            match made {
                Ok(_) => {}
                Err(failed) if failed.code == "InvalidLaunchTemplateName.AlreadyExistsException" => {}
                Err(failed) => {
                    return Err(CallError { uncertain: false, ..failed });
                }
            }
            self.remember_template(&template.name);
        }
        Ok(())
    }

    async fn fleet(&self, launch: &Launch) -> Result<Fleet, CallError> {
        let market =
            if launch.spot { ec2::DefaultTargetCapacityType::Spot } else { ec2::DefaultTargetCapacityType::OnDemand };
        let target = ec2::TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(launch.target)
            .default_target_capacity_type(market)
            .build();
        let mut request = self
            .ec2
            .create_fleet()
            .r#type(ec2::FleetType::Instant)
            .client_token(&launch.client_token)
            .target_capacity_specification(target)
            .set_context(launch.context.clone())
            .tag_specifications(tagged(ec2::ResourceType::Instance, &launch.tags))
            .tag_specifications(tagged(ec2::ResourceType::Volume, &launch.tags))
            .tag_specifications(tagged(ec2::ResourceType::Fleet, &launch.tags));
        if launch.spot {
            let strategy = ec2::SpotAllocationStrategy::from(launch.allocation_strategy);
            request = request.spot_options(ec2::SpotOptionsRequest::builder().allocation_strategy(strategy).build());
        } else {
            let strategy = ec2::FleetOnDemandAllocationStrategy::from(launch.allocation_strategy);
            request =
                request.on_demand_options(ec2::OnDemandOptionsRequest::builder().allocation_strategy(strategy).build());
        }
        for config in &launch.configs {
            request = request.launch_template_configs(template_config(config));
        }
        let answer = request.send().await.map_err(error::of("CreateFleet"))?;
        let images: BTreeMap<&str, &str> =
            launch.configs.iter().map(|c| (c.template.name.as_str(), c.template.image_id.as_str())).collect();
        Ok(Fleet {
            instances: answer
                .instances
                .unwrap_or_default()
                .into_iter()
                .flat_map(|i| instances(i, &images, launch))
                .collect(),
            errors: answer.errors.unwrap_or_default().into_iter().map(fleet_error).collect(),
        })
    }
}

fn template_config(config: &FleetConfig) -> ec2::FleetLaunchTemplateConfigRequest {
    let overrides = config.overrides.iter().map(|one| {
        ec2::FleetLaunchTemplateOverridesRequest::builder()
            .instance_type(ec2::InstanceType::from(one.instance_type.as_str()))
            .availability_zone(&one.zone)
            .subnet_id(&one.subnet_id)
            .set_priority(one.priority)
            .build()
    });
    let template = ec2::FleetLaunchTemplateSpecificationRequest::builder()
        .launch_template_name(&config.template.name)
        .version("$Latest")
        .build();
    ec2::FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(template)
        .set_overrides(Some(overrides.collect()))
        .build()
}

fn instances(answer: ec2::CreateFleetInstance, images: &BTreeMap<&str, &str>, launch: &Launch) -> Vec<FleetInstance> {
    let chosen = answer.launch_template_and_overrides;
    let overrides = chosen.as_ref().and_then(|chosen| chosen.overrides.as_ref());
    let instance_type = answer.instance_type.map(|t| t.as_str().to_owned()).unwrap_or_default();
    let subnet_id = overrides.and_then(|o| o.subnet_id.clone()).unwrap_or_default();
    // Not every answer repeats the zone; the subnet says it as well.
    let zone = overrides.and_then(|o| o.availability_zone.clone()).or_else(|| {
        let all = launch.configs.iter().flat_map(|config| &config.overrides);
        all.into_iter().find(|o| o.subnet_id == subnet_id).map(|o| o.zone.clone())
    });
    let template = chosen.as_ref().and_then(|c| c.launch_template_specification.as_ref()?.launch_template_name.clone());
    let by_type = || {
        let of = |config: &&FleetConfig| config.overrides.iter().any(|o| o.instance_type == instance_type);
        launch.configs.iter().find(of).map(|config| config.template.image_id.clone())
    };
    let image = template.and_then(|name| images.get(name.as_str()).map(|id| (*id).to_owned())).or_else(by_type);
    let spot = answer.lifecycle == Some(ec2::InstanceLifecycle::Spot) || launch.spot;
    let zone = zone.unwrap_or_default();
    let image_id = image.unwrap_or_default();
    let ids = answer.instance_ids.unwrap_or_default();
    ids.into_iter()
        .map(|id| FleetInstance {
            id,
            instance_type: instance_type.clone(),
            zone: zone.clone(),
            subnet_id: subnet_id.clone(),
            image_id: image_id.clone(),
            spot,
        })
        .collect()
}

fn fleet_error(answer: ec2::CreateFleetError) -> FleetError {
    let overrides = answer.launch_template_and_overrides.and_then(|chosen| chosen.overrides);
    let of = overrides.as_ref();
    FleetError {
        code: answer.error_code.unwrap_or_default(),
        message: answer.error_message.unwrap_or_default(),
        instance_type: of.and_then(|o| o.instance_type.as_ref()).map(|t| t.as_str().to_owned()).unwrap_or_default(),
        zone: of.and_then(|o| o.availability_zone.clone()).unwrap_or_default(),
        subnet_id: of.and_then(|o| o.subnet_id.clone()).unwrap_or_default(),
        spot: answer.lifecycle == Some(ec2::InstanceLifecycle::Spot),
    }
}

fn data(template: &LaunchTemplate) -> ec2::RequestLaunchTemplateData {
    let metadata = &template.metadata;
    let metadata = ec2::LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_endpoint(metadata.http_endpoint.as_str().into())
        .set_http_protocol_ipv6(metadata.http_protocol_ipv6.as_deref().map(Into::into))
        .http_put_response_hop_limit(metadata.http_put_response_hop_limit)
        .http_tokens(metadata.http_tokens.as_str().into())
        .instance_metadata_tags(ec2::LaunchTemplateInstanceMetadataTagsState::Disabled)
        .build();
    let profile =
        ec2::LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(&template.instance_profile).build();
    let monitoring = ec2::LaunchTemplatesMonitoringRequest::builder().enabled(template.detailed_monitoring).build();
    let mut data = ec2::RequestLaunchTemplateData::builder()
        .image_id(&template.image_id)
        .user_data(&template.user_data)
        .iam_instance_profile(profile)
        .metadata_options(metadata)
        .monitoring(monitoring)
        .set_block_device_mappings(Some(template.block_devices.iter().map(device).collect()));
    let public_or_ipv6 = template.associate_public_ip.is_some() || template.ipv6;
    if public_or_ipv6 {
        let interface = ec2::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
            .device_index(0)
            .set_associate_public_ip_address(template.associate_public_ip)
            .set_groups(Some(template.security_group_ids.clone()))
            .set_ipv6_address_count(template.ipv6.then_some(1))
            .set_primary_ipv6(template.ipv6.then_some(true))
            .build();
        data = data.network_interfaces(interface);
    } else {
        data = data.set_security_group_ids(Some(template.security_group_ids.clone()));
    }
    let mut tagged_kinds =
        vec![ec2::ResourceType::Instance, ec2::ResourceType::Volume, ec2::ResourceType::NetworkInterface];
    if template.spot {
        tagged_kinds.push(ec2::ResourceType::SpotInstancesRequest);
    }
    for kind in tagged_kinds {
        let specification = ec2::LaunchTemplateTagSpecificationRequest::builder()
            .resource_type(kind)
            .set_tags(Some(tags(&template.tags)))
            .build();
        data = data.tag_specifications(specification);
    }
    data.build()
}

fn device(device: &BlockDevice) -> ec2::LaunchTemplateBlockDeviceMappingRequest {
    let ebs = ec2::LaunchTemplateEbsBlockDeviceRequest::builder()
        .set_encrypted(device.encrypted)
        .set_delete_on_termination(device.delete_on_termination)
        .set_iops(device.iops)
        .set_throughput(device.throughput)
        .set_kms_key_id(device.kms_key_id.clone())
        .set_snapshot_id(device.snapshot_id.clone())
        .set_volume_size(device.volume_size_gib)
        .set_volume_type(device.volume_type.as_deref().map(ec2::VolumeType::from))
        .set_volume_initialization_rate(device.volume_initialization_rate)
        .build();
    ec2::LaunchTemplateBlockDeviceMappingRequest::builder().device_name(&device.device_name).ebs(ebs).build()
}

fn tagged(kind: ec2::ResourceType, all: &BTreeMap<String, String>) -> ec2::TagSpecification {
    ec2::TagSpecification::builder().resource_type(kind).set_tags(Some(tags(all))).build()
}

fn tags(all: &BTreeMap<String, String>) -> Vec<ec2::Tag> {
    all.iter().map(|(key, value)| ec2::Tag::builder().key(key).value(value).build()).collect()
}
