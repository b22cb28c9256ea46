//! Conditions by which the kubelet and the node monitoring agent of EKS call a node broken.

use jiff::SignedDuration;
use karpenter_core::cloud::RepairPolicy;

const fn policy(condition: &'static str, status: &'static str, minutes: i64) -> RepairPolicy {
    RepairPolicy { condition, status, toleration: SignedDuration::from_mins(minutes) }
}

pub(crate) const POLICIES: [RepairPolicy; 7] = [
    policy("Ready", "False", 30),
    policy("Ready", "Unknown", 30),
    policy("AcceleratedHardwareReady", "False", 10),
    policy("StorageReady", "False", 30),
    policy("NetworkingReady", "False", 30),
    policy("KernelReady", "False", 30),
    policy("ContainerRuntimeReady", "False", 30),
];
