//! Rounds of provisioning on small Worlds: what is observed, and where each pod is sent.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod namespaces;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod volumes;
