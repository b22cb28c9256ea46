//! The World and every decision.
//!
//! ```text
//! Observation ─▶ World::apply ─▶ decide(&World, &Cloud, now) ─▶ Decision { actions, facts, learned, wake_at }
//!      ▲                                                            │
//!      └────────────── outcomes and what was learned ◀──────────────┘
//! ```
//!
//! Nothing here performs I/O, reads a clock or draws a random number: time is an argument, names
//! come from the identities of the objects they belong to, and iteration is over ordered maps. The
//! same functions therefore run in production, in simulation and in benchmarks.
//!
//! Rooms (`provision`, `lifecycle`, `nodepool`) read the World and never import each other.

pub mod action;
pub mod cloud;
pub mod conditions;
pub mod decide;
pub mod fact;
pub mod lifecycle;
pub mod nodepool;
pub mod observation;
pub mod provision;
pub mod requirements;
pub mod resources;
mod selector;
pub mod settings;
pub mod world;

pub use action::{Action, ActionKey, Deed, KubeWrite, ObjectRef, Part};
pub use cloud::Cloud;
pub use decide::{Decision, decide};
pub use fact::Fact;
pub use observation::{Change, Failure, Kind, Object, Observation, Selecting};
pub use requirements::{Requirement, Requirements};
pub use resources::Resources;
pub use settings::Settings;
pub use world::World;

/// The one notion of time: a UTC instant, always passed in.
pub type Timestamp = jiff::Timestamp;
