//! Zonal shifts (Amazon Application Recovery Controller): zones that the cluster is to stay away from for a while.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::NodePool;
use karpenter_core::Fact;
use karpenter_core::fact::About;

use crate::report::ZonalShift;

pub(crate) const SHIFTS_EVERY: SignedDuration = SignedDuration::from_secs(30);

/// A change is told as long as this, in case somebody listens only now; who has heard it is told nothing again.
const NEWS_FOR: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug, Default)]
pub(crate) struct Shifts {
    /// Zone id → until when; `None` is for as long as it is listed.
    away: BTreeMap<String, Option<Timestamp>>,
    /// Zone ids that are shifted away (true) or back, since when.
    news: BTreeMap<String, (bool, Timestamp)>,
}

impl Shifts {
    /// The applied shifts as they stand now; says whether any zone is another than before.
    pub(crate) fn told(&mut self, shifts: Vec<ZonalShift>, now: Timestamp) -> bool {
        let applied = shifts.into_iter().filter(|shift| shift.applied);
        let away: BTreeMap<String, Option<Timestamp>> =
            applied.filter(|s| s.until.is_none_or(|until| until > now)).map(|s| (s.zone_id, s.until)).collect();
        let began = away.keys().filter(|zone| !self.away.contains_key(*zone)).map(|zone| (zone.clone(), true));
        let ended = self.away.keys().filter(|zone| !away.contains_key(*zone)).map(|zone| (zone.clone(), false));
        let changed: Vec<(String, bool)> = began.chain(ended).collect();
        self.away = away;
        self.news.extend(changed.iter().map(|(zone, shifted)| (zone.clone(), (*shifted, now))));
        !changed.is_empty()
    }

    /// Ends those whose time is up; says whether there were any.
    pub(crate) fn expire(&mut self, now: Timestamp) -> bool {
        self.news.retain(|_, (_, since)| since.checked_add(NEWS_FOR).is_ok_and(|until| until > now));
        let is_over = |until: &Option<Timestamp>| until.is_some_and(|until| until <= now);
        let over: Vec<String> = self.away.iter().filter(|(_, u)| is_over(u)).map(|(zone, _)| zone.clone()).collect();
        self.away.retain(|_, until| !is_over(until));
        self.news.extend(over.iter().map(|zone| (zone.clone(), (false, now))));
        !over.is_empty()
    }

    /// Zone ids that were lately shifted away (true) or back.
    pub(crate) fn news(&self) -> impl Iterator<Item = (&str, bool)> {
        self.news.iter().map(|(zone, (shifted, _))| (zone.as_str(), *shifted))
    }

    pub(crate) fn is_away(&self, zone_id: &str) -> bool {
        !zone_id.is_empty() && self.away.contains_key(zone_id)
    }

    /// When the next one ends by itself.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.away.values().flatten().min().copied()
    }
}

/// What the owner of a NodePool is told of it.
pub(crate) fn fact(pool: &NodePool, zone: &str, shifted: bool) -> Fact {
    let meta = &pool.metadata;
    let object = About {
        kind: "NodePool",
        namespace: String::new(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    };
    let (reason, message) = if shifted {
        ("ZonalShiftActive", format!("zone {zone} is shifted away: nothing is launched there"))
    } else {
        ("ZonalShiftCleared", format!("the zonal shift away from {zone} is over"))
    };
    Fact::Event { object, warning: shifted, reason, message }
}
