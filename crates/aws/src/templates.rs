//! Launch templates that no launch has used for a while are deleted: Karpenter's rule, whose cache holds them so long.
//! What a predecessor has left behind is listed once.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::labels as keys;
use karpenter_core::action::ActionKey;
use karpenter_core::{Decision, World};

use crate::Aws;
use crate::call::{Call, Launch, LaunchTemplate};

const UNUSED_FOR: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug, Default)]
pub(crate) struct Templates {
    listed: bool,
    /// By name, when each was last used.
    used: BTreeMap<String, Timestamp>,
}

impl Templates {
    pub(crate) fn use_for(&mut self, launch: &Launch, now: Timestamp) {
        for config in &launch.configs {
            self.used.insert(config.template.name.clone(), now);
        }
    }

    /// They are being made for a launch that is to come: one that does not come must not leave them behind.
    pub(crate) fn begin(&mut self, templates: &[LaunchTemplate], now: Timestamp) {
        self.used.extend(templates.iter().map(|template| (template.name.clone(), now)));
    }

    pub(crate) fn is_there(&self, name: &str) -> bool {
        self.used.contains_key(name)
    }

    pub(crate) fn learn(&mut self, names: Vec<String>, now: Timestamp) {
        self.listed = true;
        for name in names {
            self.used.entry(name).or_insert(now);
        }
    }

    pub(crate) fn deleted(&mut self, name: &str) {
        self.used.remove(name);
    }
}

impl Aws {
    pub(crate) fn clean_templates(&self, world: &World, now: Timestamp, decision: &mut Decision<Call>) {
        if !self.templates.listed {
            let filters = [
                (format!("tag:{}", keys::TAG_CLUSTER), vec![self.settings.cluster_name.clone()]),
                (format!("tag:{}", keys::EC2_NODE_CLASS), vec!["*".to_owned()]),
            ];
            let call = Call::LaunchTemplates { filters: filters.into_iter().collect() };
            decision.cloud(world, now, ActionKey::new("aws", "launch-templates"), call);
        }
        for (name, used) in &self.templates.used {
            match used.checked_add(UNUSED_FOR) {
                Ok(until) if until > now => decision.wake(until),
                _ => {
                    let key = ActionKey::new(format!("LaunchTemplate/{name}"), "delete");
                    decision.cloud(world, now, key, Call::DeleteLaunchTemplate { name: name.clone() });
                }
            }
        }
    }
}
