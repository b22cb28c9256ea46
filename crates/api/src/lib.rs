//! The CRD types and the vocabulary: labels, annotations, taints, conditions, hashes, validation.
//!
//! Names, defaults and limits are Karpenter 1.14's, so that its manifests apply unchanged. A type
//! says what shape an object has; `crd` adds what the API server enforces (patterns, limits, CEL
//! rules) and renders `crds/*.yaml`.

pub mod capacitybuffer;
pub mod common;
pub mod conditions;
pub mod crd;
pub mod duration;
pub mod ec2nodeclass;
pub mod hash;
pub mod labels;
pub mod nodeclaim;
pub mod nodeoverlay;
pub mod nodepool;
pub mod quantity;
mod rules;
pub mod taints;
pub mod validation;

pub use capacitybuffer::{CapacityBuffer, CapacityBufferSpec, CapacityBufferStatus};
pub use common::{NodeClassRef, Operator, RequirementSpec, ResourceRequests, Taint};
pub use ec2nodeclass::{Ec2NodeClass, Ec2NodeClassSpec, Ec2NodeClassStatus};
pub use nodeclaim::{NodeClaim, NodeClaimSpec, NodeClaimStatus};
pub use nodeoverlay::{NodeOverlay, NodeOverlaySpec, NodeOverlayStatus};
pub use nodepool::{NodePool, NodePoolSpec, NodePoolStatus};
pub use quantity::Quantity;
