//! AWS knowledge and every decision together, on a clock that the tests turn: hours pass in seconds.

#[cfg(test)]
mod drought;
#[cfg(test)]
mod ec2;
#[cfg(test)]
mod launches;
#[cfg(test)]
mod stage;
