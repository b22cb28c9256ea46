//! Is a solution legal? Recomputed from the problem alone, whoever made the solution.

use crate::problem::Problem;
use crate::row::Row;
use crate::solution::{Place, Solution};

/// What is wrong with a solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Illegal {
    /// A node holds more than it has.
    NodeOverfull(usize),
    /// A type on a claim's list cannot hold the claim's pods.
    ClaimOverfull { claim: usize, kind: usize },
    /// A claim with no type, or none of its types can be bought as it says: in its reservation, or in none.
    ClaimUnbuyable(usize),
    /// A pod is where a taint or a label forbids it.
    Forbidden { pod: usize },
    /// Two pods of a bin want the same host port.
    Port { pod: usize },
    /// More nodes of reserved capacity than are left.
    OverReservation(usize),
    /// The types on a claim's list name fewer values of a key than its pool wants.
    MinValues { claim: usize, key: usize },
    /// A pool grew beyond its limit of a resource.
    OverLimit { pool: usize, resource: usize },
}

impl Solution {
    /// The first thing that is wrong. Spreads and affinities are not looked at: they hold in the order
    /// in which pods were placed.
    pub fn check(&self, problem: &Problem) -> Result<(), Illegal> {
        let mut left: Vec<Vec<i64>> = problem.nodes.iter().map(|node| node.available.clone()).collect();
        let mut ports: Vec<Vec<usize>> = problem.nodes.iter().map(|node| node.ports.clone()).collect();
        ports.resize(problem.nodes.len() + self.claims.len(), Vec::new());
        for (pod, (place, class_at)) in self.places.iter().zip(&problem.pods).enumerate() {
            let class = &problem.classes[*class_at];
            let (row, taints, bin) = match place {
                Place::Nowhere => continue,
                Place::Node(at) => {
                    for (left, amount) in left[*at].iter_mut().zip(&class.requests) {
                        *left -= amount;
                        if *amount > 0 && *left < 0 {
                            return Err(Illegal::NodeOverfull(*at));
                        }
                    }
                    (&problem.nodes[*at].row, &problem.nodes[*at].taints, *at)
                }
                Place::Claim(at) => {
                    let claim = &self.claims[*at];
                    (&claim.row, &problem.pools[claim.pool].taints, problem.nodes.len() + at)
                }
            };
            let is_node = matches!(place, Place::Node(_));
            let meets = |of: &Row| if is_node { row.is_within(of) } else { problem.layout.intersects(row, of) };
            let allowed = class.alternatives.iter().any(|of| {
                meets(&of.row)
                    && (of.homes.is_empty() || of.homes.iter().any(meets))
                    && taints.iter().all(|taint| of.tolerates[*taint])
            });
            if !allowed {
                return Err(Illegal::Forbidden { pod });
            }
            if class.ports.iter().any(|port| problem.port_conflicts[*port].iter().any(|p| ports[bin].contains(p))) {
                return Err(Illegal::Port { pod });
            }
            ports[bin].extend(&class.ports);
        }
        self.check_claims(problem)
    }

    fn check_claims(&self, problem: &Problem) -> Result<(), Illegal> {
        let mut limits: Vec<Vec<Option<i64>>> = problem.pools.iter().map(|pool| pool.limits.clone()).collect();
        let mut reservations = problem.reservations.clone();
        for (at, claim) in self.claims.iter().enumerate() {
            if let Some(reservation) = claim.reservation {
                let left = reservations[reservation].checked_sub(1);
                reservations[reservation] = left.ok_or(Illegal::OverReservation(reservation))?;
            }
            let pool = &problem.pools[claim.pool];
            let mut requests = vec![0; claim.requests.len()];
            for pod in &claim.pods {
                for (sum, amount) in requests.iter_mut().zip(&problem.classes[problem.pods[*pod]].requests) {
                    *sum += amount;
                }
            }
            for kind in &claim.types {
                let found = pool.types.binary_search_by_key(kind, |(known, _)| *known);
                let daemons = found.ok().map(|at| &pool.overheads[pool.types[at].1]);
                let room = problem.types[*kind].allocatable.iter().zip(daemons.into_iter().flatten());
                if daemons.is_none() || room.zip(&requests).any(|((all, taken), wanted)| all - taken < *wanted) {
                    return Err(Illegal::ClaimOverfull { claim: at, kind: *kind });
                }
            }
            let is_allowed =
                |labels: &[(usize, usize)]| labels.iter().all(|(k, bit)| problem.layout.has(&claim.row, *k, *bit));
            let mut offerings = claim.types.iter().flat_map(|kind| &problem.types[*kind].offerings);
            let on_offer = offerings.any(|one| one.reservation == claim.reservation && is_allowed(&one.labels));
            if !on_offer || claim.price == u64::MAX {
                return Err(Illegal::ClaimUnbuyable(at));
            }
            for (number, (key, wanted)) in pool.min_values.iter().enumerate() {
                let held = claim.min_values.get(number).map_or(0, |(_, held)| *held);
                let rows = claim.types.iter().map(|kind| &problem.types[*kind].row);
                let there = problem.layout.distinct(rows, *key);
                if there < held || (held < *wanted && !problem.relax_min_values) {
                    return Err(Illegal::MinValues { claim: at, key: *key });
                }
            }
            for (resource, limit) in limits[claim.pool].iter_mut().enumerate() {
                let most = claim.types.iter().map(|kind| problem.types[*kind].capacity[resource]).max().unwrap_or(0);
                if let Some(limit) = limit {
                    *limit -= most;
                    if *limit < 0 {
                        return Err(Illegal::OverLimit { pool: claim.pool, resource });
                    }
                }
            }
        }
        Ok(())
    }
}
