//! A simulated world on a virtual clock, in which the controller's machine runs unchanged.
//!
//! ```text
//!            Event ┌─────────┐ Turn { actions, wake }
//!   watches ──────▶│ Machine │──────────┬───────────────┐
//!      ▲           └─────────┘          ▼               ▼
//!   api (objects, versions, watches)  KubeWrite        Call
//!      ▲    ▲                           │               │
//!      │    └───────────────────────────┘               ▼
//!   cluster (workloads, scheduler, kubelets, controllers) ◀── cloud (instances, capacity, prices)
//! ```
//!
//! One agenda, one clock, one seed: the same seed gives the same log, byte for byte. [`faults`] are what goes wrong,
//! [`scenario`] what people do, [`checks`] what must hold, [`saboteur`] the deliberate bugs that show that the checks
//! see something. An SQS queue belongs beside `cloud`, its messages on the agenda.

mod agenda;
mod api;
mod checks;
mod cloud;
mod cluster;
mod controller;
mod dice;
mod faults;
mod log;
mod options;
mod saboteur;
mod scenario;
mod sim;

pub use checks::{Broken, Figures, Invariant};
pub use faults::Faults;
pub use log::Log;
pub use options::Options;
pub use saboteur::Mutation;
pub use sim::Sim;

/// When the world begins: 2026-01-01T00:00:00Z.
pub(crate) const EPOCH_MS: i64 = 1_767_225_600_000;

/// A report on one line.
pub(crate) fn report_line(report: &karpenter_aws::report::Report) -> String {
    use karpenter_aws::report::{FleetInstance, Report};
    match report {
        _ if report.error().is_some() => report.error().map(ToString::to_string).unwrap_or_default(),
        Report::Launch { result: Ok(fleet), .. } => {
            let told = |one: &FleetInstance| format!("{} {} {}", one.id, one.instance_type, one.zone);
            let all: Vec<String> = fleet.instances.iter().map(told).collect();
            format!("[{}], {} errors", all.join(", "), fleet.errors.len())
        }
        Report::Find { result: Ok(found), .. } => {
            let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
            format!("found {ids:?}")
        }
        Report::Terminate { result: Ok(accepted), .. } => format!("accepted {accepted}"),
        Report::Instances { result: Ok(all), .. } => format!("{} instances", all.len()),
        _ => "ok".to_owned(),
    }
}
