//! A launch that is tried: everything but the launch template by dry run.

use aws_sdk_ec2::types as ec2;
use karpenter_aws::call::{LaunchTemplate, Trial};
use karpenter_aws::report::CallError;

use crate::template::tagged;
use crate::{Wire, error};

impl Wire {
    /// A fleet names a template, so there has to be one; it goes again, whatever the answer.
    pub(crate) async fn validate(&self, trial: &Trial) -> Result<(), CallError> {
        let template = &trial.template;
        self.create_template(template).await?;
        let tried = self.dry_runs(trial).await;
        let deleted = self.ec2.delete_launch_template().launch_template_name(&template.name).send().await;
        if let Err(failed) = deleted.map_err(error::of("DeleteLaunchTemplate")) {
            tracing::debug!(template = template.name, error = %failed, "a template of a trial is left behind");
        }
        tried
    }

    async fn dry_runs(&self, trial: &Trial) -> Result<(), CallError> {
        allowed(self.try_fleet(trial).await)?;
        let mut first = Ok(());
        for (at, subnet) in trial.subnet_ids.iter().enumerate() {
            let answer = allowed(self.try_instance(trial, subnet).await);
            if answer.is_ok() {
                return Ok(());
            }
            if at == 0 {
                first = answer;
            }
        }
        first
    }

    async fn try_fleet(&self, trial: &Trial) -> Result<(), CallError> {
        let target = ec2::TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(1)
            .default_target_capacity_type(ec2::DefaultTargetCapacityType::OnDemand)
            .build();
        let overrides = trial.subnet_ids.iter().map(|subnet| {
            ec2::FleetLaunchTemplateOverridesRequest::builder()
                .instance_type(ec2::InstanceType::from(trial.instance_type.as_str()))
                .subnet_id(subnet)
                .build()
        });
        let template = ec2::FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_name(&trial.template.name)
            .version("$Latest")
            .build();
        let config = ec2::FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(template)
            .set_overrides(Some(overrides.collect()))
            .build();
        let tags = &trial.template.tags;
        let request = self.ec2.create_fleet().dry_run(true).r#type(ec2::FleetType::Instant);
        let request = request.target_capacity_specification(target).launch_template_configs(config);
        let request = request.tag_specifications(tagged(ec2::ResourceType::Instance, tags));
        let request = request.tag_specifications(tagged(ec2::ResourceType::Volume, tags));
        let request = request.tag_specifications(tagged(ec2::ResourceType::Fleet, tags));
        request.send().await.map(drop).map_err(error::of("CreateFleet"))
    }

    async fn try_instance(&self, trial: &Trial, subnet: &str) -> Result<(), CallError> {
        let LaunchTemplate { name, tags, interfaces, .. } = &trial.template;
        let template =
            ec2::LaunchTemplateSpecification::builder().launch_template_name(name).version("$Latest").build();
        let request = self.ec2.run_instances().dry_run(true).min_count(1).max_count(1).launch_template(template);
        let mut request = request.instance_type(ec2::InstanceType::from(trial.instance_type.as_str()));
        let interface = || ec2::InstanceNetworkInterfaceSpecification::builder().subnet_id(subnet);
        if interfaces.is_empty() {
            request = request.network_interfaces(interface().device_index(0).build());
        }
        for one in interfaces {
            let interface = interface().network_card_index(one.card).device_index(one.device);
            request = request.network_interfaces(interface.interface_type(one.kind).build());
        }
        for kind in [ec2::ResourceType::Instance, ec2::ResourceType::Volume, ec2::ResourceType::NetworkInterface] {
            request = request.tag_specifications(tagged(kind, tags));
        }
        request.send().await.map(drop).map_err(error::of("RunInstances"))
    }
}

/// A dry run that would have succeeded says so by an error.
fn allowed(answer: Result<(), CallError>) -> Result<(), CallError> {
    match answer {
        Err(failed) if failed.code == "DryRunOperation" => Ok(()),
        other => other,
    }
}
