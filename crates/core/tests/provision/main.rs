//! Rounds of provisioning on small Worlds: each test reads like the rule it checks.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod coming;
#[cfg(test)]
mod defaults;
#[cfg(test)]
mod leaving;
#[cfg(test)]
mod legal;
#[cfg(test)]
mod limits;
mod many;
mod min_values;
#[cfg(test)]
mod namespaces;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod priority;
#[cfg(test)]
mod reserved;
#[cfg(test)]
mod sizes;
mod starved;
#[cfg(test)]
mod verdicts;
#[cfg(test)]
mod volumes;
