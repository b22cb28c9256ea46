//! Launches: the templates that must exist, then one fleet.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use karpenter_aws::call::{Filters, FleetConfig, Launch, LaunchTemplate};
use karpenter_aws::report::{CallError, Fleet, FleetError, FleetInstance};

use crate::template::{data, tagged};
use crate::{Wire, ec2_filters, error};

impl Wire {
    /// A template that EC2 turns out not to have is made again, once.
    pub(crate) async fn launch(&self, launch: &Launch) -> Result<Fleet, CallError> {
        let templates = || launch.configs.iter().map(|config| &config.template);
        self.ensure_templates(templates()).await?;
        let first = self.fleet(launch).await;
        let missing = match &first {
            Ok(fleet) => fleet.instances.is_empty() && fleet.errors.iter().any(|error| is_lost(&error.code)),
            Err(failed) => is_lost(&failed.code),
        };
        if !missing {
            return first;
        }
        templates().for_each(|template| self.forget_template(&template.name));
        self.ensure_templates(templates()).await?;
        self.fleet(launch).await
    }

    pub(crate) async fn templates(&self, filters: Filters) -> Result<Vec<String>, CallError> {
        let request = self.ec2.describe_launch_templates().set_filters(ec2_filters(filters));
        let mut pages = request.into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(template) = pages.next().await {
            names.extend(template.map_err(error::of("DescribeLaunchTemplates"))?.launch_template_name);
        }
        Ok(names)
    }

    pub(crate) async fn delete_template(&self, name: &str) -> Result<(), CallError> {
        // A launch that comes meanwhile makes it again.
        self.forget_template(name);
        let deleted = self.ec2.delete_launch_template().launch_template_name(name).send().await;
        match deleted.map_err(error::of("DeleteLaunchTemplate")) {
            Err(failed) if !is_lost(&failed.code) => Err(failed),
            _ => Ok(()),
        }
    }

    pub(crate) async fn ensure_templates(
        &self,
        templates: impl Iterator<Item = &LaunchTemplate>,
    ) -> Result<(), CallError> {
        for template in templates {
            let made = self.known_template(&template.name);
            let made = made.get_or_try_init(|| self.create_template(template)).await;
            // Nothing is launched yet, whatever became of the template.
            made.map_err(|failed| CallError { uncertain: false, ..failed })?;
        }
        Ok(())
    }

    /// One that is there already is as good.
    pub(crate) async fn create_template(&self, template: &LaunchTemplate) -> Result<(), CallError> {
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
            Err(failed) if failed.code != "InvalidLaunchTemplateName.AlreadyExistsException" => Err(failed),
            _ => Ok(()),
        }
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

/// EC2 does not have the template (any more).
fn is_lost(code: &str) -> bool {
    code.starts_with("InvalidLaunchTemplate") && code.contains("NotFound")
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
