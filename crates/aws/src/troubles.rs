//! What EC2 says is wrong with instances, as the rest of the controller is told of it: each minute, whole.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_core::cloud::Impairment;

use crate::report::{InstanceTrouble, TroubleKind};

/// A check that fails for less than this may come right by itself (Karpenter's figure).
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// By provider id. What is broken comes before what is only announced.
pub(crate) fn impairments(troubles: Vec<InstanceTrouble>, now: Timestamp) -> BTreeMap<String, Impairment> {
    let mut all: BTreeMap<String, Impairment> = BTreeMap::new();
    for InstanceTrouble { id, zone, kind } in troubles {
        let Some(found) = impairment(kind, now) else { continue };
        let known = all.entry(format!("aws:///{zone}/{id}")).or_insert_with(|| found.clone());
        if found.is_broken && !known.is_broken {
            *known = found;
        }
    }
    all
}

fn impairment(kind: TroubleKind, now: Timestamp) -> Option<Impairment> {
    let failed = |category: &'static str, since: Option<Timestamp>| {
        let since = since.filter(|since| since.checked_add(PATIENCE).is_ok_and(|until| until <= now))?;
        Some(Impairment { category, is_broken: true, message: format!("its {category} check fails since {since}") })
    };
    match kind {
        TroubleKind::Instance(since) => failed("instance_status", since),
        TroubleKind::System(since) => failed("system_status", since),
        TroubleKind::Event(code) => {
            let message = format!("EC2 has scheduled {code} for it");
            Some(Impairment { category: "event_status", is_broken: false, message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_have_two_minutes_and_events_none() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let ago = |seconds| Some(now - SignedDuration::from_secs(seconds));
        let of = |kinds: &[TroubleKind]| {
            let trouble =
                |kind: &TroubleKind| InstanceTrouble { id: "i-1".into(), zone: "a".into(), kind: kind.clone() };
            let all = impairments(kinds.iter().map(trouble).collect(), now);
            all.into_iter().map(|(id, found)| (id, found.category, found.is_broken)).collect::<Vec<_>>()
        };
        let its = |category, is_broken| vec![("aws:///a/i-1".to_owned(), category, is_broken)];
        let event = TroubleKind::Event("instance-stop".into());
        assert_eq!(of(&[TroubleKind::Instance(ago(119))]), []);
        assert_eq!(of(&[TroubleKind::Instance(ago(120))]), its("instance_status", true));
        assert_eq!(of(&[TroubleKind::System(ago(120))]), its("system_status", true));
        assert_eq!(of(&[TroubleKind::System(None)]), [], "since when is not known");
        assert_eq!(of(std::slice::from_ref(&event)), its("event_status", false));
        assert_eq!(of(&[event, TroubleKind::System(ago(200))]), its("system_status", true));
    }
}
