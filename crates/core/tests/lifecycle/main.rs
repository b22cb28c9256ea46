//! The life of a node on a small World with a clock of its own: each test reads like the rule it checks.

#[cfg(test)]
mod life;
#[cfg(test)]
mod termination;
