//! End to end: the controller's binary as users run it, on a real control plane and AWS on loopback.
//!
//! What is asserted is what users see: objects and events on the API server, instances and calls on EC2.

mod adoption;
mod bad_input;
mod catalogue;
mod classes;
mod crash;
mod crds;
mod deletion;
mod draining;
mod drift;
mod faults;
mod given_up;
mod groups;
mod launch;
mod manifests;
mod path;
mod prompt;
mod stage;
mod standalone;
mod start;
mod validation;
mod volumes;
