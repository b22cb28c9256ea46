//! A NodeClaim and what is known of its launch.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{NodeClaim, NodePool, labels, taints};

use super::NodeState;
use crate::Timestamp;
use crate::cloud::{LaunchOutcome, Launched};
use crate::resources::{self, Resources};

/// A refused launch is tried again after 1 s, doubling up to 60 s (behaviours: NodeClaim lifecycle).
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(1);
const LAST_RETRY: SignedDuration = SignedDuration::from_secs(60);
/// What a launch bought is shown by then, so a look-up that finds nothing says something. (Garbage collection trusts an
/// instance's absence for as long.)
const SHOWN_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// Between two look-ups until then.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(2);

/// What is known of a claim's instance. "Not known" and "not there" are different states:
///
/// ```text
///           (seen at start)                         Planned
///               │                                      │ created
///            Unknown ── look-up: none ─▶ Absent ◀──────┘
///               │                          │ launch
///               │ look-up: found           ▼
///               └──────────▶ Launched ◀─ Absent, flight "launch" in flight
///                                          │            │ refused
///                  look-up ◀── Unknown ◀───┘ time-out   ▼
///                                                    Refused
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum LaunchState {
    /// The claim itself is not there yet: its creation is under way, or will be asked for again.
    Planned,
    /// An instance may exist: look it up by tag before launching.
    Unknown,
    /// There is none: launching is safe.
    Absent,
    /// There is one, and this is what the claim must learn.
    Launched(Box<Launched>),
    /// The cloud said no; `LaunchOutcome` says how.
    Refused(LaunchOutcome),
}

#[derive(Clone, Debug)]
pub struct ClaimState {
    pub claim: Arc<NodeClaim>,
    /// As its status promises it.
    pub(super) capacity: Resources,
    pub launch: LaunchState,
    /// Launches of this process that are known to have ended without an instance, capacity aside.
    pub refusals: u32,
    /// Client tokens of its launch that are used up.
    pub tokens_spent: u32,
    /// Not before this is another launch tried, or its instance looked up.
    pub retry_at: Timestamp,
    /// A launch is known to have been made, and what it bought may not be shown until then.
    doubt_until: Option<Timestamp>,
    /// When this process first saw it.
    pub since: Timestamp,
    /// Nothing was to be done for it.
    quiet: Option<Quiet>,
}

/// What was found when a claim was last looked at holds between two instants, and while the cloud's version is the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    from: Timestamp,
    until: Timestamp,
    version: u64,
}

impl ClaimState {
    pub(super) fn new(claim: NodeClaim, created_by_us: bool, now: Timestamp) -> Self {
        let launch = if created_by_us { LaunchState::Absent } else { LaunchState::Unknown };
        Self::of(Arc::new(claim), launch, now)
    }

    fn of(claim: Arc<NodeClaim>, launch: LaunchState, now: Timestamp) -> Self {
        let capacity = promised(&claim);
        Self {
            claim,
            capacity,
            launch,
            refusals: 0,
            tokens_spent: 0,
            retry_at: now,
            doubt_until: None,
            since: now,
            quiet: None,
        }
    }

    /// One that a round has just planned. It counts from now on, whatever becomes of its creation.
    pub(super) fn planned(claim: Arc<NodeClaim>, now: Timestamp) -> Self {
        Self::of(claim, LaunchState::Planned, now)
    }

    pub fn is_planned(&self) -> bool {
        self.launch == LaunchState::Planned
    }

    pub(super) fn update(&mut self, claim: NodeClaim) {
        self.capacity = promised(&claim);
        self.claim = Arc::new(claim);
        self.quiet = None;
    }

    pub(super) fn found_quiet(&mut self, until: Timestamp, version: u64, now: Timestamp) {
        self.quiet = Some(Quiet { from: now, until, version });
    }

    /// Something it depends on was observed.
    pub(super) fn disturbed(&mut self) {
        self.quiet = None;
    }

    /// If it need not be looked at now: when it has to be.
    pub fn quiet_until(&self, version: u64, now: Timestamp) -> Option<Timestamp> {
        let quiet = self.quiet.filter(|quiet| quiet.version == version)?;
        (quiet.from <= now && now < quiet.until).then_some(quiet.until)
    }

    pub(super) fn launched(&mut self, outcome: LaunchOutcome, now: Timestamp) {
        self.quiet = None;
        let later = |delay| now.checked_add(delay).unwrap_or(now);
        match &outcome {
            LaunchOutcome::Failed { token_spent, .. } => {
                let delay = FIRST_RETRY.saturating_mul(1 << self.refusals.min(6)).min(LAST_RETRY);
                self.refusals = self.refusals.saturating_add(1);
                self.tokens_spent = self.tokens_spent.saturating_add(u32::from(*token_spent));
                self.retry_at = later(delay);
            }
            LaunchOutcome::TokenSpent(_) => {
                self.tokens_spent = self.tokens_spent.saturating_add(1);
                self.doubt_until = Some(later(SHOWN_WITHIN));
                self.retry_at = now;
            }
            LaunchOutcome::NotFound if self.doubt_until.is_some_and(|until| until > now) => {
                self.retry_at = later(LOOK_AGAIN);
            }
            LaunchOutcome::Unknown(_) => self.retry_at = now,
            _ => {}
        }
        self.launch = match outcome {
            LaunchOutcome::Launched(launched) => LaunchState::Launched(launched),
            LaunchOutcome::NotFound if self.doubt_until.is_some_and(|until| until > now) => LaunchState::Unknown,
            LaunchOutcome::NotFound => LaunchState::Absent,
            LaunchOutcome::Unknown(_) | LaunchOutcome::TokenSpent(_) => LaunchState::Unknown,
            refused => LaunchState::Refused(refused),
        };
    }

    /// The call ended without an answer: if nothing else is known, an instance may exist.
    pub(super) fn launch_uncertain(&mut self) {
        if self.launch == LaunchState::Absent {
            self.launch = LaunchState::Unknown;
        }
    }

    pub fn name(&self) -> &str {
        self.claim.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.claim.metadata.uid.as_deref().unwrap_or_default()
    }

    /// From the claim's status, so it survives a restart.
    pub fn provider_id(&self) -> Option<&str> {
        self.claim.status.as_ref()?.provider_id.as_deref().filter(|id| !id.is_empty())
    }

    /// The instance that its status names, or that its launch has just come to.
    pub fn instance(&self) -> Option<&str> {
        self.provider_id().or(match &self.launch {
            LaunchState::Launched(launched) => Some(&launched.provider_id),
            _ => None,
        })
    }

    /// The launch that it belongs to: a claim of nobody's plan is launched alone, under its UID.
    pub fn launch_token(&self) -> &str {
        let annotations = self.claim.metadata.annotations.as_ref();
        let token = annotations.and_then(|all| all.get(labels::LAUNCH)).map(String::as_str);
        token.filter(|token| !token.is_empty()).unwrap_or_else(|| self.uid())
    }

    /// What its instance has is known, and with it what its node will be.
    pub fn is_settled(&self) -> bool {
        let promised = self.claim.status.as_ref().and_then(|status| status.allocatable.as_ref());
        promised.is_some_and(|promised| !promised.is_empty())
    }

    pub fn pool(&self) -> Option<&str> {
        self.label(labels::NODEPOOL)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.claim.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.claim.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub fn is_deleting(&self) -> bool {
        self.claim.metadata.deletion_timestamp.is_some()
    }

    /// The labels of its node once it is registered: the node's own, and the claim's over them.
    pub fn labels_of(&self, node: &NodeState) -> BTreeMap<String, String> {
        let mut all = node.labels().cloned().unwrap_or_default();
        all.extend(self.claim.metadata.labels.clone().unwrap_or_default());
        all.insert(labels::REGISTERED.to_owned(), "true".to_owned());
        all
    }

    /// The taints of its node once it is registered: the node's own without the unregistered one; plus the claim's,
    /// unless the kubelet set them itself and says so with the label `karpenter.sh/do-not-sync-taints`.
    pub fn taints_of(&self, node: &NodeState) -> Vec<Taint> {
        let mut all: Vec<Taint> = node.taints().iter().filter(|t| t.key != taints::UNREGISTERED).cloned().collect();
        if node.label(labels::DO_NOT_SYNC_TAINTS) == Some("true") {
            return all;
        }
        let spec = &self.claim.spec;
        for taint in spec.taints.iter().flatten().chain(spec.startup_taints.iter().flatten()) {
            let taint = taints::to_core(taint);
            if !all.iter().any(|known| known.key == taint.key && known.effect == taint.effect) {
                all.push(taint);
            }
        }
        all
    }

    /// A taint that goes before its node is initialised: known for that, or one of the claim's startup taints.
    pub fn is_passing(&self, taint: &Taint) -> bool {
        let mut startup = self.claim.spec.startup_taints.iter().flatten();
        taints::is_ephemeral(taint) || startup.any(|known| known.key == taint.key && known.effect == taint.effect)
    }
}

/// Amounts that cannot be read are left out.
fn promised(claim: &NodeClaim) -> Resources {
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    let read = |(name, amount): (&String, &karpenter_api::Quantity)| {
        Some((name.clone(), resources::amount(name, &amount.to_string())?))
    };
    capacity.into_iter().flatten().filter_map(read).collect()
}

/// The pool's Ready condition is True.
pub(crate) fn is_ready_pool(pool: &NodePool) -> bool {
    let list = pool.status.as_ref().and_then(|status| status.conditions.as_deref());
    crate::conditions::is_true(list, karpenter_api::conditions::READY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(created_by_us: bool) -> ClaimState {
        let claim = NodeClaim::new(
            "c",
            serde_json::from_value(serde_json::json!({
                "requirements": [], "nodeClassRef": { "group": "", "kind": "", "name": "" },
            }))
            .unwrap(),
        );
        ClaimState::new(claim, created_by_us, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_a_claim_of_this_process_is_launched_without_a_look_up() {
        assert_eq!(state(true).launch, LaunchState::Absent);
        assert_eq!(state(false).launch, LaunchState::Unknown);
    }

    #[test]
    fn an_uncertain_launch_is_looked_up_and_repeated_under_its_token() {
        let mut state = state(true);
        state.launched(LaunchOutcome::Unknown(String::new()), Timestamp::UNIX_EPOCH);
        assert_eq!((&state.launch, state.refusals), (&LaunchState::Unknown, 0));
        state.launched(LaunchOutcome::NotFound, Timestamp::UNIX_EPOCH);
        assert_eq!((&state.launch, state.refusals), (&LaunchState::Absent, 0));
    }

    #[test]
    fn a_spent_token_is_looked_up_and_then_replaced() {
        let mut state = state(false);
        state.launched(LaunchOutcome::TokenSpent(String::new()), Timestamp::UNIX_EPOCH);
        assert_eq!(state.launch, LaunchState::Unknown, "what it bought may exist");
        assert_eq!(state.retry_at, Timestamp::UNIX_EPOCH, "it is looked up at once");
        state.launched(LaunchOutcome::NotFound, Timestamp::UNIX_EPOCH);
        assert_eq!(state.launch, LaunchState::Unknown, "it may not be shown yet");
        assert_eq!(state.retry_at, Timestamp::UNIX_EPOCH + LOOK_AGAIN);
        state.launched(LaunchOutcome::NotFound, Timestamp::UNIX_EPOCH + SHOWN_WITHIN);
        assert_eq!((&state.launch, state.tokens_spent), (&LaunchState::Absent, 1));
    }

    #[test]
    fn a_request_that_was_refused_as_a_whole_leaves_its_token() {
        let mut state = state(true);
        let failed = |token_spent| LaunchOutcome::Failed { reason: String::new(), message: String::new(), token_spent };
        state.launched(LaunchOutcome::Unknown(String::new()), Timestamp::UNIX_EPOCH);
        state.launched(LaunchOutcome::NotFound, Timestamp::UNIX_EPOCH);
        state.launched(failed(false), Timestamp::UNIX_EPOCH);
        assert_eq!((state.refusals, state.tokens_spent), (1, 0), "the first launch may have bought something by it");
        state.launched(failed(true), Timestamp::UNIX_EPOCH);
        assert_eq!((state.refusals, state.tokens_spent), (2, 1));
    }

    #[test]
    fn a_refused_launch_waits_longer_each_time() {
        let mut state = state(true);
        let refused =
            || LaunchOutcome::Failed { reason: "LaunchFailed".into(), message: String::new(), token_spent: true };
        let mut waits = Vec::new();
        for _ in 0..8 {
            state.launched(refused(), Timestamp::UNIX_EPOCH);
            waits.push(state.retry_at.duration_since(Timestamp::UNIX_EPOCH).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(state.refusals, 8);
    }
}
