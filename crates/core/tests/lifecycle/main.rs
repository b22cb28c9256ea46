//! The life of a node on a small World with a clock of its own: each test reads like the rule it checks.

#[cfg(test)]
mod adoption;
#[cfg(test)]
mod drifted;
#[cfg(test)]
mod joining;
#[cfg(test)]
mod launching;
#[cfg(test)]
mod life;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod quiet;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod termination;
#[cfg(test)]
mod upkeep;
