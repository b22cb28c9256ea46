//! AWS knowledge without the SDK.
//!
//! ```text
//! Report (what a call came back with) ─▶ Aws::apply ─▶ core::Observation
//!                                         │
//! core::Cloud (catalogue, launch, find, terminate) ◀─┤
//! Aws::decide(&World, now) ─▶ polls that are due, EC2NodeClass status and finalizer
//! ```
//!
//! Everything here is a function of what was observed: no SDK type, no await, no clock. `Call` and
//! `Report` are the whole contract with the wire crate.

pub mod call;
pub mod report;
