//! The catalogue as decisions see it, through the crate's front door: reports in, rows out.

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod offerings;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod speed;
