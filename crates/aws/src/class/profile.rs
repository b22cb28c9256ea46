//! The instance profile: `spec.instanceProfile` as it is, or one made for `spec.role` → `status.instanceProfile`,
//! `InstanceProfileReady`.
//!
//! Another role makes another profile: nodes that run keep theirs. Those that nobody uses any more go by
//! [`crate::profiles`].

use jiff::{SignedDuration, Timestamp};
use karpenter_api::ec2nodeclass::Ec2NodeClassStatus;
use karpenter_api::labels as keys;

use super::status::Verdict;
use super::{Class, Need, had_at, known, learn};
use crate::call::{Call, InstanceProfile};
use crate::report::CallError;
use crate::{AwsSettings, hash_name, profiles};

const EVERY: SignedDuration = SignedDuration::from_mins(15);

impl Class {
    pub(super) fn need_profile(&self, settings: &AwsSettings) -> Option<Need> {
        let profile = self.managed_profile(settings)?;
        let known = self.object.status.as_ref().and_then(|status| status.instance_profile.clone());
        let known = known.filter(|known| *known != profile.name);
        let call = Call::EnsureInstanceProfile { class: self.name().to_owned(), known, profile };
        Some(Need { verb: "instance-profile", had: had_at(self.profile.as_ref()), every: EVERY, call })
    }

    pub(crate) fn learn_profile(&mut self, at: Timestamp, result: Result<String, CallError>) {
        learn(&mut self.profile, at, result);
    }

    /// The instance profile that is made for `spec.role`: the same class and role, the same name.
    pub(crate) fn managed_profile(&self, settings: &AwsSettings) -> Option<InstanceProfile> {
        let role = self.object.spec.role.as_ref()?;
        let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
        let (cluster, region) = (&settings.cluster_name, &settings.region);
        let name = format!("{cluster}_{}", hash_name(&format!("{region}/{}/{uid}/{role}", self.name())));
        let mut tags = self.object.spec.tags.clone().unwrap_or_default();
        tags.extend([
            (format!("kubernetes.io/cluster/{cluster}"), "owned".to_owned()),
            (keys::TAG_CLUSTER.to_owned(), cluster.clone()),
            (keys::EC2_NODE_CLASS.to_owned(), self.name().to_owned()),
            (keys::REGION.to_owned(), region.clone()),
        ]);
        Some(InstanceProfile { name, path: self.profile_path(settings), role: role.clone(), tags })
    }

    /// Where the profiles of this class are, and no other's.
    pub(crate) fn profile_path(&self, settings: &AwsSettings) -> String {
        let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
        format!("{}{uid}/", profiles::path(settings))
    }

    pub(super) fn judge_profile(&self, settings: &AwsSettings, status: &mut Ec2NodeClassStatus) -> Verdict {
        let spec = &self.object.spec;
        if let Some(own) = &spec.instance_profile {
            status.instance_profile = Some(own.clone());
            return Verdict::Fine;
        }
        if self.managed_profile(settings).is_none() {
            let message = "spec: found neither role nor instanceProfile, expected one of them";
            return Verdict::wrong("InstanceProfileNotFound", message.to_owned());
        }
        let made = known(self.profile.as_ref());
        if let Some(made) = made {
            status.instance_profile = made.ok().cloned();
        }
        Verdict::of(made)
    }
}
