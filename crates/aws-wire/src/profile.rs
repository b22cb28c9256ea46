//! What is made for an EC2NodeClass on AWS, and taken away again: instance profiles, and its launch templates at the end.

use aws_sdk_iam::types as iam;
use karpenter_aws::call::{Filters, InstanceProfile, Profiles};
use karpenter_aws::report::{CallError, InstanceProfileInfo};

use crate::{Wire, ec2_filters, error};

impl Wire {
    /// Name of a profile of the class that holds the role: the one it has, else the wanted one, whatever of it exists.
    pub(crate) async fn ensure_profile(
        &self,
        known: Option<&str>,
        wanted: &InstanceProfile,
    ) -> Result<String, CallError> {
        // A role may be given with its path; profiles list it without.
        let role = wanted.role.rsplit('/').next().unwrap_or(&wanted.role);
        if let Some(name) = known
            && let Some(profile) = self.profile(name).await?
            && profile.roles.iter().any(|known| known.role_name == role)
            && is_own(&profile, wanted)
        {
            return Ok(name.to_owned());
        }
        let roles: Vec<String> = if let Some(profile) = self.profile(&wanted.name).await? {
            profile.roles.into_iter().map(|role| role.role_name).collect()
        } else {
            self.create_profile(wanted).await?;
            Vec::new()
        };
        if roles.iter().any(|known| known == role) {
            return Ok(wanted.name.clone());
        }
        for other in roles {
            let request = self.iam.remove_role_from_instance_profile();
            let request = request.instance_profile_name(&wanted.name).role_name(other);
            request.send().await.map_err(error::of("RemoveRoleFromInstanceProfile"))?;
        }
        let request = self.iam.add_role_to_instance_profile().instance_profile_name(&wanted.name).role_name(role);
        request.send().await.map_err(error::of("AddRoleToInstanceProfile"))?;
        Ok(wanted.name.clone())
    }

    /// `None` if there is none of this name.
    async fn profile(&self, name: &str) -> Result<Option<iam::InstanceProfile>, CallError> {
        let known = self.iam.get_instance_profile().instance_profile_name(name).send().await;
        match known.map_err(error::of("GetInstanceProfile")) {
            Ok(answer) => Ok(answer.instance_profile),
            Err(failed) if failed.code.starts_with("NoSuchEntity") => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    pub(crate) async fn profiles(&self, path: &str) -> Result<Vec<InstanceProfileInfo>, CallError> {
        let mut pages = self.iam.list_instance_profiles().path_prefix(path).into_paginator().items().send();
        let mut all = Vec::new();
        while let Some(profile) = pages.next().await {
            let profile = profile.map_err(error::of("ListInstanceProfiles"))?;
            // What is listed may be deleted: nothing outside of the path may slip in.
            if !profile.path.starts_with(path) {
                continue;
            }
            let created = jiff::Timestamp::from_second(profile.create_date.secs()).ok();
            all.push(InstanceProfileInfo { name: profile.instance_profile_name, created });
        }
        Ok(all)
    }

    async fn create_profile(&self, wanted: &InstanceProfile) -> Result<(), CallError> {
        let tags = wanted
            .tags
            .iter()
            .map(|(key, value)| iam::Tag::builder().key(key).value(value).build())
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
        profiles: Option<&Profiles>,
        template_filters: Filters,
    ) -> Result<(), CallError> {
        if let Some(Profiles { path, names }) = profiles {
            let listed = self.profiles(path).await?.into_iter().map(|profile| profile.name);
            for name in listed.chain(names.iter().cloned()) {
                self.delete_profile(&name).await?;
            }
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

    /// Its role goes first; one that is gone is gone.
    pub(crate) async fn delete_profile(&self, name: &str) -> Result<(), CallError> {
        let Some(profile) = self.profile(name).await? else {
            return Ok(());
        };
        for role in profile.roles {
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

/// Whether a profile was made for the same class: by where it is, or, as it was long ago, by its tags.
fn is_own(profile: &iam::InstanceProfile, wanted: &InstanceProfile) -> bool {
    let tags = profile.tags.as_deref().unwrap_or_default();
    let bears = |key: &str| {
        let value = wanted.tags.get(key).map(String::as_str);
        value.is_some() && tags.iter().any(|tag| tag.key == key && Some(tag.value.as_str()) == value)
    };
    profile.path == wanted.path || ["eks:eks-cluster-name", "karpenter.k8s.aws/ec2nodeclass"].into_iter().all(bears)
}
