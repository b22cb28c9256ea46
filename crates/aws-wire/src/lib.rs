//! The AWS SDK and nothing else: one [`Call`] out, exactly one [`Report`] back.
//!
//! Nothing is decided here. Pages are joined, fields that are missing are left out, and a failure
//! is told with the service's own code; whether the request may have taken effect is told too.

mod batch;
mod catalogue;
mod class;
mod error;
mod fleet;
mod instances;
mod profile;
mod shifts;
mod template;
mod trial;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use karpenter_aws::call::{Call, Filters};
use karpenter_aws::report::{CallError, InstanceInfo, Report};
use tokio::sync::{OnceCell, Semaphore};

use batch::Batcher;

/// Attempts per request, the first one included; the SDK backs off between them.
const ATTEMPTS: u32 = 3;
/// One request with all its attempts.
const OPERATION_TIMEOUT: Duration = Duration::from_mins(1);
/// Effects on EC2 at once: well below its default request rates.
const EFFECTS_MAX: usize = 20;
/// Launches looked up at once: as many values as EC2 takes for one filter.
const FINDS_MAX: usize = 200;
/// Instances ended at once: Karpenter's figure.
const ENDS_MAX: usize = 500;
/// Launch templates known to exist; beyond that some are asked for twice.
const TEMPLATES_MAX: usize = 10_000;

/// Clients of the services that are used.
#[derive(Debug)]
pub struct Wire {
    region: String,
    ec2: aws_sdk_ec2::Client,
    ssm: aws_sdk_ssm::Client,
    iam: aws_sdk_iam::Client,
    eks: aws_sdk_eks::Client,
    pricing: aws_sdk_pricing::Client,
    shifts: aws_sdk_arczonalshift::Client,
    templates: Mutex<BTreeMap<String, Arc<OnceCell<()>>>>,
    effects: Semaphore,
    finds: Batcher<Filters, Result<Vec<InstanceInfo>, CallError>>,
    ends: Batcher<String, Result<bool, CallError>>,
}

impl Wire {
    /// Clients from the environment: region, credentials and endpoints as the AWS SDK finds them.
    pub async fn connect(version: &str) -> Result<Self, CallError> {
        let name = AppName::new(format!("karpenter.sh-{version}"))
            .map_err(|error| error::local("connect", "InvalidAppName", error.to_string()))?;
        let config = aws_config::defaults(BehaviorVersion::latest())
            .app_name(name)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(TimeoutConfig::builder().operation_timeout(OPERATION_TIMEOUT).build())
            .load()
            .await;
        let region = config.region().map(ToString::to_string).ok_or_else(|| {
            let message = "no region: expected AWS_REGION, a profile with one, or instance metadata".to_owned();
            error::local("connect", "MissingRegion", message)
        })?;
        Ok(Self {
            ec2: aws_sdk_ec2::Client::new(&config),
            ssm: aws_sdk_ssm::Client::new(&config),
            iam: aws_sdk_iam::Client::new(&config),
            eks: aws_sdk_eks::Client::new(&config),
            pricing: pricing_client(&config, &region),
            shifts: aws_sdk_arczonalshift::Client::new(&config),
            region,
            templates: Mutex::default(),
            effects: Semaphore::new(EFFECTS_MAX),
            finds: Batcher::new(FINDS_MAX),
            ends: Batcher::new(ENDS_MAX),
        })
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// Carries a call out.
    pub async fn call(&self, call: Call) -> Report {
        match call {
            Call::Cluster { name } => Report::Cluster { result: self.cluster(&name).await },
            Call::InstanceTypes => Report::InstanceTypes { result: self.instance_types().await },
            Call::OnDemandPrices => Report::OnDemandPrices { result: self.on_demand_prices().await },
            Call::SpotPrices => Report::SpotPrices { result: self.spot_prices().await },
            Call::ZonalShifts { cluster_arn } => Report::ZonalShifts { result: self.zonal_shifts(&cluster_arn).await },
            Call::Subnets { class, generation, queries } => {
                Report::Subnets { class, generation, result: self.subnets(queries).await }
            }
            Call::SecurityGroups { class, generation, queries } => {
                Report::SecurityGroups { class, generation, result: self.security_groups(queries).await }
            }
            Call::Images { class, generation, parameters, queries } => {
                Report::Images { class, generation, result: self.images(&parameters, queries).await }
            }
            Call::PlacementGroup { class, generation, id, name } => {
                Report::PlacementGroup { class, generation, result: self.placement_group(id, name).await }
            }
            Call::Reservations { class, generation, queries } => {
                Report::Reservations { class, generation, result: self.reservations(queries).await }
            }
            Call::EnsureInstanceProfile { class, known, profile } => {
                let result = self.ensure_profile(known.as_deref(), &profile).await;
                Report::InstanceProfile { class, wanted: profile.name, result }
            }
            Call::InstanceProfiles { path } => Report::InstanceProfiles { result: self.profiles(&path).await },
            Call::DeleteInstanceProfile { name } => {
                let result = self.delete_profile(&name).await;
                Report::InstanceProfileDeleted { name, result }
            }
            Call::Validate(trial) => {
                let result = self.validate(&trial).await;
                Report::Validated { class: trial.class, inputs: trial.inputs, result }
            }
            Call::DeleteClassResources { class, profiles, template_filters } => {
                let result = self.delete_class_resources(profiles.as_ref(), template_filters).await;
                Report::ClassResourcesDeleted { class, result }
            }
            Call::Instances { filters } => {
                let asked_at = jiff::Timestamp::now();
                Report::Instances { asked_at, result: self.instances(filters).await }
            }
            Call::InstanceStatuses => Report::InstanceStatuses { result: self.troubles().await },
            Call::LaunchTemplates { filters } => Report::LaunchTemplates { result: self.templates(filters).await },
            Call::CreateLaunchTemplates { templates } => {
                let _turn = self.effects.acquire().await;
                Report::LaunchTemplatesCreated { result: self.ensure_templates(templates.iter()).await }
            }
            Call::DeleteLaunchTemplate { name } => {
                let _turn = self.effects.acquire().await;
                let result = self.delete_template(&name).await;
                Report::LaunchTemplateDeleted { name, result }
            }
            Call::Tag { instance_id, tags } => {
                let result = self.tag(&instance_id, &tags).await;
                Report::Tagged { instance_id, tags, result }
            }
            Call::Launch(launch) => {
                let _turn = self.effects.acquire().await;
                let result = self.launch(&launch).await;
                Report::Launch { launch, result }
            }
            Call::Find(find) => {
                let answer = self.finds.ask(find.filters.clone(), |all| self.find(all)).await;
                let result = answer.unwrap_or_else(|| Err(lost("DescribeInstances")));
                Report::Find { find, result }
            }
            Call::Terminate { provider_id, instance_id } => {
                let answer = self.ends.ask(instance_id, |all| self.terminate(all)).await;
                Report::Terminate { provider_id, result: answer.unwrap_or_else(|| Err(lost("TerminateInstances"))) }
            }
        }
    }

    /// Filled once the template is made; whoever makes it holds the cell, and others wait for it.
    fn known_template(&self, name: &str) -> Arc<OnceCell<()>> {
        let mut known = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TEMPLATES_MAX {
            known.clear();
        }
        Arc::clone(known.entry(name.to_owned()).or_default())
    }

    fn forget_template(&self, name: &str) {
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Whoever made the request for many did not come back.
fn lost(operation: &'static str) -> CallError {
    let message = "the request was made together with others and did not come to an end".to_owned();
    CallError { operation, code: "Lost".to_owned(), message, uncertain: true }
}

/// The Pricing API is served from few regions; the nearest one of the partition is asked.
fn pricing_client(config: &SdkConfig, region: &str) -> aws_sdk_pricing::Client {
    let served = match region.split('-').next() {
        Some("cn") => "cn-northwest-1",
        Some("ap") => "ap-south-1",
        Some("eu") => "eu-central-1",
        _ => "us-east-1",
    };
    let config =
        aws_sdk_pricing::config::Builder::from(config).region(aws_sdk_pricing::config::Region::new(served)).build();
    aws_sdk_pricing::Client::from_conf(config)
}

fn ec2_filters(filters: Filters) -> Option<Vec<aws_sdk_ec2::types::Filter>> {
    let filter = |(name, values): (String, Vec<String>)| {
        aws_sdk_ec2::types::Filter::builder().name(name).set_values(Some(values)).build()
    };
    (!filters.is_empty()).then(|| filters.into_iter().map(filter).collect())
}

fn ec2_tags(tags: Option<Vec<aws_sdk_ec2::types::Tag>>) -> std::collections::BTreeMap<String, String> {
    tags.unwrap_or_default().into_iter().filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect()
}

/// A time of the SDK as ours.
fn time(at: Option<aws_sdk_ec2::primitives::DateTime>) -> Option<jiff::Timestamp> {
    at.and_then(|at| jiff::Timestamp::from_second(at.secs()).ok())
}
