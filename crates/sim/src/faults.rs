//! What goes wrong, and how often: rates are drawn from the seed, so that no two worlds are bad in the same way.

use std::fmt;

use crate::dice::Dice;

/// Rates are in ten-thousandths: of a call, a write, a turn, a node or a pod; or figures per day where said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of a turn: the process ends somewhere among its actions.
    pub crash: u32,
    /// Of a write: somebody else writes the object just before.
    pub conflict: u32,
    /// Of a write: it times out, without or after its effect.
    pub api_timeout: u32,
    /// Of a watch event: its stream breaks, and what happens until the relist is never told.
    pub watch_lost: u32,
    /// Of a watch event: it is told twice.
    pub watch_repeated: u32,
    /// Of a watch event: its kind lags by seconds from then on for a while.
    pub stale: u32,
    /// Of a call to AWS.
    pub throttled: u32,
    /// Of a call to AWS: without or after its effect.
    pub aws_timeout: u32,
    /// Of an offering of a launch.
    pub no_capacity: u32,
    /// Of an instance: lists do not show it for a while.
    pub ec2_lag: u32,
    /// Of a node.
    pub never_joins: u32,
    /// Of a node: it is not ready from time to time.
    pub flaps: u32,
    /// Of a node: its kubelet stops for good.
    pub hangs: u32,
    /// Of a pod: its containers do not end.
    pub pod_sticks: u32,
    /// Of a turn: the clock jumps, ahead or back.
    pub clock_jump: u32,
}

impl Faults {
    /// Each fault is absent, rare or frequent.
    pub fn drawn(seed: u64) -> Self {
        let mut dice = Dice::of(seed, "faults");
        let mut rate = |rare: u32, frequent: u32| match dice.below(4) {
            0 => 0,
            1 | 2 => rare,
            _ => frequent,
        };
        Self {
            crash: rate(3, 30),
            conflict: rate(50, 800),
            api_timeout: rate(30, 500),
            watch_lost: rate(2, 20),
            watch_repeated: rate(20, 500),
            stale: rate(2, 20),
            throttled: rate(50, 1_500),
            aws_timeout: rate(50, 800),
            no_capacity: rate(100, 2_000),
            ec2_lag: rate(500, 4_000),
            never_joins: rate(50, 400),
            flaps: rate(50, 500),
            hangs: rate(20, 100),
            pod_sticks: rate(10, 100),
            clock_jump: rate(1, 10),
        }
    }

    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "crash {} conflict {} api_timeout {} watch_lost {} watch_repeated {} stale {} throttled {} aws_timeout {} \
             no_capacity {} ec2_lag {} never_joins {} flaps {} hangs {} pod_sticks {} clock_jump {}",
            self.crash,
            self.conflict,
            self.api_timeout,
            self.watch_lost,
            self.watch_repeated,
            self.stale,
            self.throttled,
            self.aws_timeout,
            self.no_capacity,
            self.ec2_lag,
            self.never_joins,
            self.flaps,
            self.hangs,
            self.pod_sticks,
            self.clock_jump,
        )
    }
}
