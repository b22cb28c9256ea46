//! What no plan can beat: pods, by class, may split over the types that can hold them, and nodes are fractional.
//!
//! ```text
//! minimise Σ price(t)·nodes(t)   such that   Σ_t pods(c,t) = count(c)                        for every class c
//!                                            Σ_c pods(c,t)·request(c,r) ≤ nodes(t)·room(t,r)  for every type t, resource r
//! ```
//! Every plan is a solution: count its nodes and pods. A type that another one equals or beats in price and in every
//! resource is left out: whatever runs on it runs on the other for no more.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::PodSpec;
use karpenter_bench::Input;
use karpenter_core::{Resources, resources};
use microlp::{ComparisonOp, OptimizationDirection, Problem, SolveOutcome, Variable};

/// A type as the program sees it: what pods can use of it, in the order of the resources, and its price.
struct Type {
    room: Vec<i64>,
    price: f64,
}

struct Class {
    requests: Vec<i64>,
    count: f64,
}

pub(super) fn usd_per_hour(input: &Input) -> anyhow::Result<f64> {
    let classes = classes(input)?;
    let names: BTreeSet<&str> = classes.keys().flatten().map(|(name, _)| name.as_str()).collect();
    let types = undominated(types(input, &names)?);
    let classes: Vec<Class> = classes
        .iter()
        .map(|(requests, count)| {
            let requests: Resources = requests.iter().cloned().collect();
            Class { requests: names.iter().map(|name| requests.get(name)).collect(), count: *count }
        })
        .collect();
    solve(&types, &classes)
}

/// How many pods ask for the same.
fn classes(input: &Input) -> anyhow::Result<BTreeMap<Vec<(String, i64)>, f64>> {
    let mut classes = BTreeMap::new();
    for group in &input.pods {
        let requests = requests(group.template.spec.as_ref()).context("pods")?;
        #[expect(clippy::cast_precision_loss, reason = "a number of pods")]
        let count = group.count as f64;
        *classes.entry(requests.0.into_iter().collect()).or_default() += count;
    }
    Ok(classes)
}

/// What one pod takes. The inputs have containers and nothing else that would count.
fn requests(spec: Option<&PodSpec>) -> anyhow::Result<Resources> {
    let spec = spec.context("spec: found none")?;
    if spec.init_containers.is_some() || spec.overhead.is_some() || spec.resources.is_some() {
        bail!("spec: found initContainers, overhead or resources, expected containers alone");
    }
    let mut total = Resources::default();
    for container in &spec.containers {
        let list = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        total.add(&Resources::from_quantities(list.unwrap_or(&BTreeMap::new())));
    }
    total.set(resources::PODS, 1);
    Ok(total)
}

/// Room for pods: what is allocatable less what daemons take of every node.
fn types(input: &Input, names: &BTreeSet<&str>) -> anyhow::Result<Vec<Type>> {
    let mut daemons = Resources::default();
    for set in &input.daemonsets {
        let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        daemons.add(&requests(spec).context("daemonsets")?);
    }
    let mut types = Vec::new();
    for row in &input.instance_types {
        let mut room = row.instance_type()?.allocatable;
        room.subtract(&daemons);
        let price = row.offerings.iter().filter(|o| o.available).map(|o| o.price).min_by(f64::total_cmp);
        if let Some(price) = price.filter(|_| names.iter().all(|name| room.get(name) >= 0)) {
            types.push(Type { room: names.iter().map(|name| room.get(name)).collect(), price });
        }
    }
    Ok(types)
}

fn undominated(mut types: Vec<Type>) -> Vec<Type> {
    // A type that dominates another comes before it.
    types.sort_by(|a, b| a.price.total_cmp(&b.price).then_with(|| b.room.cmp(&a.room)));
    let mut kept: Vec<Type> = Vec::new();
    for one in types {
        let beats = |known: &Type| known.room.iter().zip(&one.room).all(|(a, b)| a >= b);
        if !kept.iter().any(beats) {
            kept.push(one);
        }
    }
    kept
}

fn solve(types: &[Type], classes: &[Class]) -> anyhow::Result<f64> {
    let mut problem = Problem::new(OptimizationDirection::Minimize);
    let free = (0.0, f64::INFINITY);
    let nodes: Vec<Variable> = types.iter().map(|one| problem.add_var(one.price, free)).collect();
    // By type and resource: the share of a node that a pod of each class takes.
    let resources = classes.first().map_or(0, |class| class.requests.len());
    let mut shares = vec![vec![Vec::new(); resources]; types.len()];
    for class in classes {
        let mut places = Vec::new();
        for (at, one) in types.iter().enumerate() {
            if class.requests.iter().zip(&one.room).any(|(asked, room)| asked > room) {
                continue;
            }
            let pods = problem.add_var(0.0, free);
            places.push((pods, 1.0));
            for (resource, asked) in class.requests.iter().enumerate().filter(|(_, asked)| **asked > 0) {
                shares[at][resource].push((pods, ratio(*asked, one.room[resource])));
            }
        }
        if places.is_empty() {
            bail!("no instance type holds a pod that asks for {:?}", class.requests);
        }
        problem.add_constraint(places, ComparisonOp::Eq, class.count);
    }
    for (at, by_resource) in shares.into_iter().enumerate() {
        for mut terms in by_resource.into_iter().filter(|terms| !terms.is_empty()) {
            terms.push((nodes[at], -1.0));
            problem.add_constraint(terms, ComparisonOp::Le, 0.0);
        }
    }
    match problem.solve().context("the linear program of the bound")? {
        SolveOutcome::Solution(solution) => Ok(solution.objective()),
        SolveOutcome::Interrupted(_) => bail!("the linear program of the bound: interrupted, expected its optimum"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^52")]
fn ratio(asked: i64, room: i64) -> f64 {
    asked as f64 / room as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(list: &[(i64, i64, f64)]) -> Vec<Type> {
        list.iter().map(|(cpu, memory, price)| Type { room: vec![*cpu, *memory], price: *price }).collect()
    }

    #[test]
    fn a_bound_is_a_fraction_of_a_node_where_that_is_cheapest() {
        let classes = [Class { requests: vec![1, 4], count: 10.0 }, Class { requests: vec![4, 4], count: 10.0 }];
        // 50 of cpu and 80 of memory: together, the pods fill 5 small nodes to the brim in memory.
        let bound = solve(&types(&[(16, 16, 1.0), (64, 64, 10.0)]), &classes).unwrap();
        assert!((bound - 5.0).abs() < 1e-6, "{bound}");
    }

    #[test]
    fn a_class_that_fits_one_type_only_pays_for_it() {
        let classes = [Class { requests: vec![20, 1], count: 1.0 }];
        let bound = solve(&types(&[(16, 16, 1.0), (40, 40, 10.0)]), &classes).unwrap();
        assert!((bound - 5.0).abs() < 1e-6, "{bound}");
        assert!(solve(&types(&[(16, 16, 1.0)]), &classes).is_err());
    }

    #[test]
    fn types_that_another_beats_do_not_change_the_bound() {
        let all = [(16, 16, 1.0), (16, 16, 1.0), (16, 15, 1.5), (32, 16, 1.5), (8, 64, 2.0)];
        let kept = undominated(types(&all));
        let rooms: Vec<&[i64]> = kept.iter().map(|one| one.room.as_slice()).collect();
        assert_eq!(rooms, [[16, 16], [32, 16], [8, 64]]);
        let classes = [Class { requests: vec![3, 2], count: 7.0 }, Class { requests: vec![1, 9], count: 5.0 }];
        let (few, many) = (solve(&kept, &classes).unwrap(), solve(&types(&all), &classes).unwrap());
        assert!((few - many).abs() < 1e-6, "{few} {many}");
    }
}
