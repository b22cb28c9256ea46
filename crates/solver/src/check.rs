//! Is a solution legal? Recomputed from the problem alone, whoever made the solution.

use crate::pack::{Place, Solution, holds, overhead};
use crate::problem::Problem;

/// What is wrong with a solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Illegal {
    /// A node holds more than it has.
    NodeOverfull(usize),
    /// A type on a claim's list cannot hold the claim's pods.
    ClaimOverfull { claim: usize, kind: usize },
    /// A claim with no type, or none of its types can be bought.
    ClaimUnbuyable(usize),
    /// A pod is where a taint or a label forbids it.
    Forbidden { pod: usize },
    /// A pool grew beyond its limit of a resource.
    OverLimit { pool: usize, resource: usize },
}

impl Solution {
    /// The first thing that is wrong.
    pub fn check(&self, problem: &Problem) -> Result<(), Illegal> {
        let mut left: Vec<Vec<i64>> = problem.nodes.iter().map(|node| node.available.clone()).collect();
        for (pod, (place, class_at)) in self.places.iter().zip(&problem.pods).enumerate() {
            let class = &problem.classes[*class_at];
            let (row, taints) = match place {
                Place::Nowhere => continue,
                Place::Node(at) => {
                    for (left, amount) in left[*at].iter_mut().zip(&class.requests) {
                        *left -= amount;
                        if *amount > 0 && *left < 0 {
                            return Err(Illegal::NodeOverfull(*at));
                        }
                    }
                    (&problem.nodes[*at].row, &problem.nodes[*at].taints)
                }
                Place::Claim(at) => (&self.claims[*at].row, &problem.pools[self.claims[*at].pool].taints),
            };
            let labels = class.alternatives.iter().any(|one| problem.layout.intersects(row, &one.row));
            if !labels || !taints.iter().all(|taint| class.tolerates[*taint]) {
                return Err(Illegal::Forbidden { pod });
            }
        }
        self.check_claims(problem)
    }

    fn check_claims(&self, problem: &Problem) -> Result<(), Illegal> {
        let mut limits: Vec<Vec<Option<i64>>> = problem.pools.iter().map(|pool| pool.limits.clone()).collect();
        for (at, claim) in self.claims.iter().enumerate() {
            let pool = &problem.pools[claim.pool];
            let mut requests = vec![0; claim.requests.len()];
            for pod in &claim.pods {
                for (sum, amount) in requests.iter_mut().zip(&problem.classes[problem.pods[*pod]].requests) {
                    *sum += amount;
                }
            }
            for kind in &claim.types {
                if !holds(&problem.types[*kind].allocatable, overhead(pool, *kind), &requests) {
                    return Err(Illegal::ClaimOverfull { claim: at, kind: *kind });
                }
            }
            if claim.types.is_empty() || claim.price == u64::MAX {
                return Err(Illegal::ClaimUnbuyable(at));
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
