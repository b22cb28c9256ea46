//! The catalogue as decisions see it, through the crate's front door: reports in, rows out.

mod fixture;
mod numbers;
mod offerings;
mod sizes;
mod speed;
