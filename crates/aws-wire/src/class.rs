//! What an EC2NodeClass's selectors ask for, and what is made for it.

use aws_sdk_ec2::types::Filter;
use karpenter_aws::call::{Filters, ImageQuery, InstanceProfile};
use karpenter_aws::report::{CallError, Cluster, Image, Images, SecurityGroup, Subnet};

use crate::{Wire, ec2_filters, ec2_tags, error};

impl Wire {
    pub(crate) async fn cluster(&self, name: &str) -> Result<Cluster, CallError> {
        let answer = self.eks.describe_cluster().name(name).send().await.map_err(error::of("DescribeCluster"))?;
        let cluster = answer
            .cluster
            .ok_or_else(|| error::local("DescribeCluster", "ResourceNotFound", format!("no cluster {name:?}")))?;
        let network = cluster.kubernetes_network_config;
        Ok(Cluster {
            arn: cluster.arn.unwrap_or_default(),
            endpoint: cluster.endpoint.unwrap_or_default(),
            certificate_authority: cluster.certificate_authority.and_then(|ca| ca.data).unwrap_or_default(),
            service_ipv4_cidr: network.as_ref().and_then(|n| n.service_ipv4_cidr.clone()),
            service_ipv6_cidr: network.and_then(|n| n.service_ipv6_cidr),
            version: cluster.version.unwrap_or_default(),
            dns: None,
        })
    }

    pub(crate) async fn subnets(&self, queries: Vec<Filters>) -> Result<Vec<Subnet>, CallError> {
        let mut all = Vec::new();
        for query in queries {
            let mut pages = self.ec2.describe_subnets().set_filters(ec2_filters(query)).into_paginator().items().send();
            while let Some(subnet) = pages.next().await {
                let subnet = subnet.map_err(error::of("DescribeSubnets"))?;
                let Some(id) = subnet.subnet_id else { continue };
                all.push(Subnet {
                    id,
                    zone: subnet.availability_zone.unwrap_or_default(),
                    zone_id: subnet.availability_zone_id.unwrap_or_default(),
                    available_addresses: i64::from(subnet.available_ip_address_count.unwrap_or(0)),
                    tags: ec2_tags(subnet.tags),
                });
            }
        }
        Ok(all)
    }

    pub(crate) async fn security_groups(&self, queries: Vec<Filters>) -> Result<Vec<SecurityGroup>, CallError> {
        let mut all = Vec::new();
        for query in queries {
            let request = self.ec2.describe_security_groups().set_filters(ec2_filters(query));
            let mut pages = request.into_paginator().items().send();
            while let Some(group) = pages.next().await {
                let group = group.map_err(error::of("DescribeSecurityGroups"))?;
                let Some(id) = group.group_id else { continue };
                all.push(SecurityGroup { id, name: group.group_name.unwrap_or_default(), tags: ec2_tags(group.tags) });
            }
        }
        Ok(all)
    }

    pub(crate) async fn images(&self, parameters: &[String], queries: Vec<ImageQuery>) -> Result<Images, CallError> {
        let mut found = Images::default();
        for name in parameters {
            match self.ssm.get_parameter().name(name).send().await {
                Ok(answer) => {
                    if let Some(id) = answer.parameter.and_then(|parameter| parameter.value) {
                        found.parameters.insert(name.clone(), id);
                    }
                }
                Err(failed) => {
                    let failed = error::of("GetParameter")(failed);
                    if failed.code != "ParameterNotFound" {
                        return Err(failed);
                    }
                }
            }
        }
        let ids: Vec<String> = found.parameters.values().cloned().collect();
        let named = (!ids.is_empty()).then(|| ImageQuery { ids, ..ImageQuery::default() });
        for query in named.into_iter().chain(queries) {
            found.images.extend(self.describe_images(query).await?);
        }
        found.images.sort_by(|a, b| a.id.cmp(&b.id));
        found.images.dedup_by(|a, b| a.id == b.id);
        Ok(found)
    }

    async fn describe_images(&self, query: ImageQuery) -> Result<Vec<Image>, CallError> {
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        // Ids as a filter: an id that is not there is then an absence, not an error.
        let by_id = some(query.ids).map(|ids| Filter::builder().name("image-id").set_values(Some(ids)).build());
        let filters: Vec<Filter> = ec2_filters(query.filters).into_iter().flatten().chain(by_id).collect();
        let request = self
            .ec2
            .describe_images()
            .set_owners(some(query.owners))
            .include_deprecated(true)
            .set_filters((!filters.is_empty()).then_some(filters));
        let mut pages = request.into_paginator().items().send();
        let mut all = Vec::new();
        while let Some(image) = pages.next().await {
            let image = image.map_err(error::of("DescribeImages"))?;
            let Some(id) = image.image_id else { continue };
            let at = |text: Option<String>| text.and_then(|text| text.parse().ok());
            all.push(Image {
                id,
                name: image.name.unwrap_or_default(),
                architecture: image.architecture.map(|a| a.as_str().to_owned()).unwrap_or_default(),
                created: at(image.creation_date),
                deprecated: at(image.deprecation_time),
                owner: image.owner_id.unwrap_or_default(),
                tags: ec2_tags(image.tags),
            });
        }
        Ok(all)
    }

    /// The profile exists and holds the role, whatever of it existed before.
    pub(crate) async fn ensure_profile(&self, wanted: &InstanceProfile) -> Result<(), CallError> {
        let known = self.iam.get_instance_profile().instance_profile_name(&wanted.name).send().await;
        let roles: Vec<String> = match known.map_err(error::of("GetInstanceProfile")) {
            Ok(answer) => {
                let profile = answer.instance_profile.map(|profile| profile.roles).unwrap_or_default();
                profile.into_iter().map(|role| role.role_name).collect()
            }
            Err(failed) if failed.code.starts_with("NoSuchEntity") => {
                self.create_profile(wanted).await?;
                Vec::new()
            }
            Err(failed) => return Err(failed),
        };
        // A role may be given with its path; profiles list it without.
        let role = wanted.role.rsplit('/').next().unwrap_or(&wanted.role);
        if roles.iter().any(|known| known == role) {
            return Ok(());
        }
        for other in roles {
            let request = self.iam.remove_role_from_instance_profile();
            let request = request.instance_profile_name(&wanted.name).role_name(other);
            request.send().await.map_err(error::of("RemoveRoleFromInstanceProfile"))?;
        }
        let request = self.iam.add_role_to_instance_profile().instance_profile_name(&wanted.name).role_name(role);
        request.send().await.map_err(error::of("AddRoleToInstanceProfile"))?;
        Ok(())
    }

    async fn create_profile(&self, wanted: &InstanceProfile) -> Result<(), CallError> {
        let tags = wanted
            .tags
            .iter()
            .map(|(key, value)| aws_sdk_iam::types::Tag::builder().key(key).value(value).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|failed| error::local("CreateInstanceProfile", "InvalidTag", failed.to_string()))?;
        let request = self.iam.create_instance_profile();
        let request = request.instance_profile_name(&wanted.name).path(&wanted.path).set_tags(Some(tags));
        match request.send().await.map_err(error::of("CreateInstanceProfile")) {
            Err(failed) if failed.code != "EntityAlreadyExists" => Err(failed),
            _ => Ok(()),
        }
    }

    pub(crate) async fn delete_class_resources(
        &self,
        profile: Option<&str>,
        template_filters: Filters,
    ) -> Result<(), CallError> {
        if let Some(name) = profile {
            self.delete_profile(name).await?;
        }
        let request = self.ec2.describe_launch_templates().set_filters(ec2_filters(template_filters));
        let mut pages = request.into_paginator().items().send();
        while let Some(template) = pages.next().await {
            let template = template.map_err(error::of("DescribeLaunchTemplates"))?;
            let Some(id) = template.launch_template_id else {
                continue;
            };
            let deleted = self.ec2.delete_launch_template().launch_template_id(id).send().await;
            match deleted.map_err(error::of("DeleteLaunchTemplate")) {
                Err(failed) if !failed.code.contains("NotFound") => return Err(failed),
                _ => {}
            }
            if let Some(name) = template.launch_template_name {
                self.forget_template(&name);
            }
        }
        Ok(())
    }

    async fn delete_profile(&self, name: &str) -> Result<(), CallError> {
        let known = self.iam.get_instance_profile().instance_profile_name(name).send().await;
        let profile = match known.map_err(error::of("GetInstanceProfile")) {
            Ok(answer) => answer.instance_profile,
            Err(failed) if failed.code.starts_with("NoSuchEntity") => return Ok(()),
            Err(failed) => return Err(failed),
        };
        for role in profile.map(|profile| profile.roles).unwrap_or_default() {
            let request = self.iam.remove_role_from_instance_profile();
            let request = request.instance_profile_name(name).role_name(role.role_name);
            request.send().await.map_err(error::of("RemoveRoleFromInstanceProfile"))?;
        }
        let deleted = self.iam.delete_instance_profile().instance_profile_name(name).send().await;
        match deleted.map_err(error::of("DeleteInstanceProfile")) {
            Err(failed) if !failed.code.starts_with("NoSuchEntity") => Err(failed),
            _ => Ok(()),
        }
    }
}
