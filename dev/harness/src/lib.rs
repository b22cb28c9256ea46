//! Real parts for development and tests, on loopback: a Kubernetes control plane, AWS, and nodes that join.
//!
//! [`Environment::start`] builds what is missing (once, in a cache outside the checkout), starts everything and takes it
//! down when dropped. [`Controller`] runs the binary as a user would: an environment, a kubeconfig, nothing else.

mod aws;
mod build;
mod cluster;
mod controller;
mod controlplane;
mod environment;
mod janitor;
mod part;
mod wait;
mod wipe;

pub use aws::{Aws, Instance};
pub use build::{Parts, root, scheduling_peer};
pub use cluster::{Cluster, documents, refusal};
pub use controller::{Controller, Memory};
pub use controlplane::ControlPlane;
pub use environment::{Environment, Request};
pub use wait::{Seen, until};
