//! When pods last came to a node or went from it: a node that has been quiet for long enough may be consolidated.

use super::{PodState, World};
use crate::Timestamp;
use crate::observation::Kind;

impl World {
    /// What became of a pod, if it matters to its node: it was bound, it has ended, its end has begun.
    pub(super) fn pod_event(
        &self,
        known: Option<&PodState>,
        pod: &PodState,
        now: Timestamp,
    ) -> Option<(String, Timestamp)> {
        let node = on_node(pod)?;
        let at = match known {
            // What was there before this process: since when is written on it.
            None if !self.listed.contains(&Kind::Pod) => bound_at(pod)?,
            None => now,
            Some(known) => {
                let bound = known.node_name().is_none();
                let ended = !known.is_terminal() && pod.is_terminal();
                let ending = !known.is_terminating() && pod.is_terminating();
                (bound || ended || ending).then_some(now)?
            }
        };
        Some((node, at))
    }

    pub(super) fn note_pod_event(&mut self, event: Option<(String, Timestamp)>) {
        if let Some((node, at)) = event {
            self.disturb_node(&node);
            let known = self.pod_events.entry(node).or_insert(at);
            *known = at.max(*known);
        }
    }
}

/// The node of a pod that counts. Pods of DaemonSets come and go with the node itself.
pub(super) fn on_node(pod: &PodState) -> Option<String> {
    pod.node_name().filter(|_| !pod.is_daemon()).map(str::to_owned)
}

fn bound_at(pod: &PodState) -> Option<Timestamp> {
    let conditions = pod.pod.status.as_ref()?.conditions.as_deref()?;
    let scheduled = conditions.iter().find(|known| known.type_ == "PodScheduled" && known.status == "True")?;
    scheduled.last_transition_time.as_ref().map(|at| at.0)
}
