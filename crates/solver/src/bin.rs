//! Bins: nodes that exist, and nodes to buy, while pods are being placed on them.

use std::rc::Rc;

use crate::problem::{Class, Node, Problem};
use crate::shape::{Choice, Shape, ShapeId, room};

/// A node to buy.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) shape: ShapeId,
    /// The type it is meant to become; it takes no more than that holds. `None`: whatever type of its
    /// shape still holds its pods.
    pub(crate) meant: Option<Choice>,
    /// Reserved capacity that it takes one of.
    pub(crate) hold: Option<usize>,
    /// By resource: what it may have at most, as charged to its pool's limits.
    pub(crate) most: Option<Rc<[i64]>>,
    /// Keys with the number of values that must stay open.
    pub(crate) min_values: Vec<(usize, usize)>,
    pub(crate) min_values_relaxed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Bin {
    /// `None`: an existing node.
    pub(crate) open: Option<Open>,
    /// Sum of its pods' requests placed here.
    pub(crate) requests: Vec<i64>,
    pub(crate) pods: Vec<usize>,
    pub(crate) ports: Vec<usize>,
    volumes: Vec<usize>,
    /// (demand, how many more of it are planned here).
    pub(crate) slots: Vec<(usize, u32)>,
}

impl Bin {
    pub(crate) fn of_node(problem: &Problem, node: &Node) -> Self {
        Self {
            open: None,
            requests: vec![0; problem.resources()],
            pods: Vec::new(),
            ports: node.ports.clone(),
            volumes: node.volumes.clone(),
            slots: Vec::new(),
        }
    }

    pub(crate) fn to_buy(problem: &Problem, open: Open, slots: Vec<(usize, u32)>) -> Self {
        let requests = vec![0; problem.resources()];
        Self { open: Some(open), requests, pods: Vec::new(), ports: Vec::new(), volumes: Vec::new(), slots }
    }

    /// Whether the ports of a class are free here.
    pub(crate) fn ports_free(&self, problem: &Problem, class: &Class) -> bool {
        class.ports.iter().all(|port| !problem.port_conflicts[*port].iter().any(|other| self.ports.contains(other)))
    }

    /// Whether an existing node can attach the volumes of a class; one that is there counts once.
    pub(crate) fn can_attach(&self, problem: &Problem, node: &Node, class: &Class) -> bool {
        let new = || class.volumes.iter().filter(|volume| !self.volumes.contains(volume));
        let added = |driver: usize| {
            self.volumes.iter().filter(|v| problem.volume_drivers[**v] == driver).count()
                - node.volumes.iter().filter(|v| problem.volume_drivers[**v] == driver).count()
        };
        new().all(|volume| {
            let driver = problem.volume_drivers[*volume];
            let wanted = new().filter(|other| problem.volume_drivers[**other] == driver).count() + added(driver);
            let limit = node.volume_room.get(driver).copied().flatten();
            limit.is_none_or(|limit| i64::try_from(wanted).is_ok_and(|wanted| wanted <= limit))
        })
    }

    /// Whether an existing node has room.
    pub(crate) fn fits_node(&self, node: &Node, requests: &[i64]) -> bool {
        let all = requests.iter().zip(&self.requests).zip(&node.available);
        all.into_iter().all(|((amount, taken), available)| *amount <= 0 || amount + taken <= *available)
    }

    /// Whether a node to buy, narrowed to `shape`, has room for these requests more.
    pub(crate) fn fits_shape(&self, problem: &Problem, shape: &Shape, requests: &[i64]) -> bool {
        let Some(open) = &self.open else { return false };
        // Nothing of its own is left to be bought where all that a pod allows is reserved.
        if shape.reserved != open.hold.is_some() {
            return false;
        }
        let pool = &problem.pools[shape.pool];
        let holds = |choice: &Choice| {
            room(problem, pool, *choice)
                .zip(requests.iter().zip(&self.requests))
                .all(|(room, (more, taken))| more + taken <= room)
        };
        let within = |choice: &Choice| open.may_be(problem, choice);
        let has_room = match &open.meant {
            // Narrowing may have taken away the type that was meant.
            Some(meant) => shape.prices[meant.kind] < u64::MAX && holds(meant),
            None if open.most.is_none() => shape.largest.iter().any(|at| holds(&shape.types[*at])),
            None => shape.types.iter().any(|choice| within(choice) && holds(choice)),
        };
        if !has_room || open.min_values.is_empty() {
            return has_room;
        }
        let left: Vec<&Choice> = shape.types.iter().filter(|choice| within(choice) && holds(choice)).collect();
        reached(problem, &left, &open.min_values)
    }

    pub(crate) fn add(&mut self, pod: usize, class: &Class) {
        for (sum, amount) in self.requests.iter_mut().zip(&class.requests) {
            *sum += amount;
        }
        self.pods.push(pod);
        self.ports.extend(&class.ports);
        for volume in &class.volumes {
            if !self.volumes.contains(volume) {
                self.volumes.push(*volume);
            }
        }
    }
}

impl Open {
    /// Whether its pool's limits leave room for it to become this type.
    pub(crate) fn may_be(&self, problem: &Problem, choice: &Choice) -> bool {
        let capacity = &problem.types[choice.kind].capacity;
        self.most.as_ref().is_none_or(|most| capacity.iter().zip(most.iter()).all(|(amount, most)| amount <= most))
    }
}

/// How many values of a key these types have together.
pub(crate) fn values(problem: &Problem, types: &[&Choice], key: usize) -> usize {
    problem.layout.distinct(types.iter().map(|choice| &problem.types[choice.kind].row), key)
}

/// As few of these types, in their order, as reach `min_values`, if all of them do: each names a value that is wanted.
pub(crate) fn needed<'a>(problem: &Problem, types: &[&'a Choice], min_values: &[(usize, usize)]) -> Vec<&'a Choice> {
    let mut taken: Vec<&Choice> = Vec::new();
    let mut left: Vec<(usize, usize, usize)> = min_values.iter().map(|(key, wanted)| (*key, *wanted, 0)).collect();
    for choice in types {
        left.retain(|(_, wanted, there)| there < wanted);
        if left.is_empty() {
            break;
        }
        taken.push(choice);
        let mut helps = false;
        for (key, _, there) in &mut left {
            let now = values(problem, &taken, *key);
            helps |= now > *there;
            *there = now;
        }
        if !helps {
            taken.pop();
        }
    }
    taken
}

fn reached(problem: &Problem, types: &[&Choice], min_values: &[(usize, usize)]) -> bool {
    min_values.iter().all(|(key, wanted)| values(problem, types, *key) >= *wanted)
}
