//! The packer: places pods one by one, exactly.
//!
//! Every placement is checked against everything placed before it, so whatever hints led to it (see
//! `plan`), the result is legal. Order: existing nodes, then nodes planned for pods like this one,
//! then any node opened in this run, then a new node from the first pool that can.
//!
//! A bin that cannot take a pod of a class for good — room, ports, labels and counts per node only get
//! tighter — is not looked at again for that class: per class and domain a cursor remembers how far
//! the bins are exhausted. Placing n pods of c classes on b bins costs O(n + c·b) tests, not O(n·b).

mod fill;

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::bin::{Bin, Open, needed, values};
use crate::problem::{Alternative, Class, Pool, Problem, Rule};
use crate::row::{Layout, Row};
use crate::shape::{Choice, RowId, Shape, ShapeId, Shapes, holds};
use crate::topology::{Counts, Fit};

/// What an alternative asks, with its rows interned.
#[derive(Clone, Debug)]
struct Ready {
    /// Its row joined with each of the homes of its volumes.
    rows: Vec<RowId>,
    /// Keys whose value must be settled for a pod to be placed: rules look at it, or counters.
    keys: Vec<usize>,
    /// Rules about single nodes.
    host: Vec<Rule>,
    /// Shapes of new nodes, by pool in order; computed when first needed.
    shapes: Option<Rc<[(RowId, ShapeId)]>>,
    /// No bin took the last pod and none ever will: nothing it depends on can get better.
    exhausted: bool,
}

/// In place of a domain: no rule divides the pods.
pub(crate) const EVERYWHERE: usize = usize::MAX;

/// A node to buy: shape, type, reservation, and pods by demand.
pub(crate) type Suggested = (ShapeId, Choice, Option<usize>, Vec<(usize, u32)>);

/// Reserved capacity: a type, what it pins of a node's labels, and the reservation's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    pub(crate) kind: usize,
    pub(crate) pin: RowId,
    pub(crate) reservation: usize,
}

/// How far each list of bins is exhausted.
#[derive(Clone, Copy, Debug, Default)]
struct Cursors {
    nodes: usize,
    planned: usize,
    opened: usize,
}

#[derive(Clone, Copy, Debug)]
enum List {
    Nodes,
    Planned,
    Opened,
}

#[derive(Clone, Debug)]
pub(crate) struct Packer<'p> {
    pub(crate) problem: &'p Problem,
    pub(crate) shapes: Shapes<'p>,
    counts: Counts<'p>,
    pub(crate) bins: Vec<Bin>,
    /// Bins to buy that hold a pod, in the order in which they were opened.
    opened: Vec<usize>,
    /// Bins with slots, by demand.
    planned: Vec<Vec<usize>>,
    /// By class: the demand that stands for its pods in the plan, by domain if a spread divides them
    /// ([`EVERYWHERE`] if none does).
    pub(crate) demand_of: Vec<Vec<(usize, usize)>>,
    ready: Vec<Vec<Ready>>,
    cursors: FxHashMap<(usize, usize, usize), Cursors>,
    /// By pool: what its limits leave.
    pub(crate) limits: Vec<(Vec<Option<i64>>, Option<i64>)>,
    /// What is left of each reservation.
    pub(crate) reservations: Vec<u32>,
    /// What would cost most otherwise comes first.
    pub(crate) reserved: Rc<[Reserved]>,
    /// By pool: shape of a node before any pod has a say; `None`: it can buy nothing.
    pool_shapes: FxHashMap<usize, Option<ShapeId>>,
    /// By counter: whether a spread looks at it.
    spread: Vec<bool>,
    pub(crate) bin_of: Vec<Option<usize>>,
    /// Pods from here on are not looked at yet.
    pub(crate) end: usize,
    /// Pods in the order in which they were placed.
    pub(crate) order: Vec<usize>,
}

impl<'p> Packer<'p> {
    pub(crate) fn new(problem: &'p Problem) -> Self {
        let mut shapes = Shapes::new(problem);
        let mut spread = vec![false; problem.counters.len()];
        let mut ready = Vec::with_capacity(problem.classes.len());
        for class in &problem.classes {
            let all = class.alternatives.iter().map(|alternative| {
                for rule in &alternative.rules {
                    spread[rule.counter()] |= matches!(rule, Rule::Spread { .. });
                }
                prepare(problem, &mut shapes, class, alternative)
            });
            ready.push(all.collect());
        }
        let reserved = reserved(problem, &mut shapes);
        Self {
            problem,
            reservations: problem.reservations.clone(),
            reserved,
            shapes,
            counts: Counts::new(problem),
            bins: problem.nodes.iter().map(|node| Bin::of_node(problem, node)).collect(),
            opened: Vec::new(),
            planned: Vec::new(),
            demand_of: vec![Vec::new(); problem.classes.len()],
            ready,
            cursors: FxHashMap::default(),
            limits: problem.pools.iter().map(|pool| (pool.limits.clone(), pool.nodes_left)).collect(),
            pool_shapes: FxHashMap::default(),
            spread,
            bin_of: vec![None; problem.pods.len()],
            end: problem.pods.len(),
            order: Vec::new(),
        }
    }

    fn place(&mut self, pod: usize, class: usize, may_buy: bool) -> bool {
        for alternative in 0..self.ready[class].len() {
            if self.ready[class][alternative].exhausted {
                continue;
            }
            let lists = [List::Nodes, List::Planned, List::Opened];
            if lists.into_iter().any(|list| self.search(pod, class, alternative, list))
                || (may_buy && self.open(pod, class, alternative))
            {
                return true;
            }
            if !may_buy {
                continue;
            }
            let of = &self.problem.classes[class].alternatives[alternative];
            self.ready[class][alternative].exhausted = of.rules.iter().all(|rule| match rule {
                Rule::Together { .. } => false,
                // A full node stays full, and so does a domain that must be empty.
                Rule::Apart { .. } => true,
                Rule::Spread { counter, .. } => self.problem.counters[*counter].key.is_none(),
            });
        }
        false
    }

    fn search(&mut self, pod: usize, class: usize, alternative: usize, list: List) -> bool {
        let of = &self.problem.classes[class].alternatives[alternative];
        let first = self.ready[class][alternative].keys.first().copied();
        let domains = first.and_then(|key| {
            let mut all = self.counts.domains(of, key)?;
            if self.counts.allows_no_domain(of, key) {
                all.push(Layout::ABSENT);
            }
            Some(all.into_iter().map(|bit| Some((key, bit))).collect::<Vec<_>>())
        });
        domains.unwrap_or_else(|| vec![None]).into_iter().any(|domain| self.scan(pod, class, alternative, list, domain))
    }

    fn scan(
        &mut self,
        pod: usize,
        class: usize,
        alternative: usize,
        list: List,
        domain: Option<(usize, usize)>,
    ) -> bool {
        let place = domain.map_or(EVERYWHERE, |(_, bit)| bit);
        let key = (class, alternative, place);
        let demand = self.demand_of[class].iter().find(|(bit, _)| *bit == place || *bit == EVERYWHERE);
        let demand = demand.map_or(usize::MAX, |(_, demand)| *demand);
        let mut cursors = self.cursors.get(&key).copied().unwrap_or_default();
        let (cursor, end) = match list {
            List::Nodes => (&mut cursors.nodes, self.problem.nodes.len()),
            List::Planned => (&mut cursors.planned, self.planned.get(demand).map_or(0, Vec::len)),
            List::Opened => (&mut cursors.opened, self.opened.len()),
        };
        let start = *cursor;
        let mut dead = start;
        let mut found = None;
        for at in start..end {
            let bin = match list {
                List::Nodes => at,
                List::Planned => self.planned[demand][at],
                List::Opened => self.opened[at],
            };
            let fit = match list {
                List::Planned if !has_slot(&self.bins[bin], demand) || !self.may_buy(bin) => Fit::Never,
                _ => self.test(bin, class, alternative, domain),
            };
            match fit {
                Fit::Yes(shape) => {
                    found = Some((bin, shape));
                    break;
                }
                Fit::Never if dead == at => dead += 1,
                Fit::Never | Fit::NotNow => {}
            }
        }
        *cursor = dead;
        self.cursors.insert(key, cursors);
        let Some((bin, shape)) = found else { return false };
        if matches!(list, List::Planned)
            && let Some((_, left)) = self.bins[bin].slots.iter_mut().find(|(of, _)| *of == demand)
        {
            *left -= 1;
        }
        self.put(pod, class, bin, shape);
        true
    }

    fn test(
        &mut self,
        bin_at: usize,
        class_at: usize,
        alternative: usize,
        domain: Option<(usize, usize)>,
    ) -> Fit<Option<ShapeId>> {
        let problem = self.problem;
        let class = &problem.classes[class_at];
        let of = &class.alternatives[alternative];
        let mut later = false;
        for rule in &self.ready[class_at][alternative].host {
            match self.counts.host_allows(rule, bin_at) {
                Fit::Yes(()) => {}
                Fit::NotNow => later = true,
                Fit::Never => return Fit::Never,
            }
        }
        let bin = &self.bins[bin_at];
        if !bin.ports_free(problem, class) {
            return Fit::Never;
        }
        match &bin.open {
            None => {
                if !self.node_takes(bin_at, class, of, domain) {
                    return Fit::Never;
                }
                if later || !self.settled_domains(bin_at, class_at, alternative) {
                    return Fit::NotNow;
                }
                Fit::Yes(None)
            }
            Some(open) => {
                let shape = open.shape;
                let pool = &problem.pools[self.shapes.get(shape).pool];
                if !pool.taints.iter().all(|taint| of.tolerates[*taint]) {
                    return Fit::Never;
                }
                match self.narrow(Some(bin_at), shape, class_at, alternative, domain) {
                    Fit::Yes(shape) if !later => Fit::Yes(Some(shape)),
                    Fit::Never => Fit::Never,
                    _ => Fit::NotNow,
                }
            }
        }
    }

    /// What about an existing node never gets better.
    fn node_takes(&self, at: usize, class: &Class, of: &Alternative, domain: Option<(usize, usize)>) -> bool {
        let problem = self.problem;
        let (node, bin) = (&problem.nodes[at], &self.bins[at]);
        let layout = &problem.layout;
        bin.fits_node(node, &class.requests)
            && domain.is_none_or(|(key, bit)| layout.has(&node.row, key, bit))
            && node.taints.iter().all(|taint| of.tolerates[*taint])
            && node.row.is_within(&of.row)
            && (of.homes.is_empty() || of.homes.iter().any(|home| node.row.is_within(home)))
            && bin.can_attach(problem, node, class)
    }

    /// Whether the rules allow the domains an existing node is in, or may come to be in.
    fn settled_domains(&self, at: usize, class: usize, alternative: usize) -> bool {
        let of = &self.problem.classes[class].alternatives[alternative];
        let row = &self.problem.nodes[at].row;
        let mut keys = self.ready[class][alternative].keys.iter().copied();
        keys.all(|key| self.counts.allows(of, key, self.problem.layout.bits(row, key)))
    }

    /// The shape a bin to buy must take on for a pod; `bin`: the one it is in already, or a new one.
    fn narrow(
        &mut self,
        bin: Option<usize>,
        shape: ShapeId,
        class: usize,
        alternative: usize,
        domain: Option<(usize, usize)>,
    ) -> Fit<ShapeId> {
        let requests = &self.problem.classes[class].requests;
        let base = shape;
        let fits = |packer: &Self, shape: ShapeId| {
            bin.is_none_or(|bin| packer.bins[bin].fits_shape(packer.problem, packer.shapes.get(shape), requests))
        };
        // Before anything is narrowed, and so remembered: a full bin is the usual case.
        if !fits(self, base) {
            return Fit::Never;
        }
        let mut possible = false;
        for at in 0..self.ready[class][alternative].rows.len() {
            let row = self.ready[class][alternative].rows[at];
            let Some(mut shape) = self.shapes.narrow(base, row) else { continue };
            if let Some((key, bit)) = domain {
                let pin = self.pin(key, bit);
                let Some(narrower) = self.shapes.narrow(shape, pin) else { continue };
                shape = narrower;
            }
            if shape != base && !fits(self, shape) {
                continue;
            }
            possible = true;
            if let Some(shape) = self.settle(bin, shape, class, alternative, 0) {
                return Fit::Yes(shape);
            }
        }
        if possible { Fit::NotNow } else { Fit::Never }
    }

    /// Pins the keys that rules and counters look at, from number `from` on.
    fn settle(
        &mut self,
        bin: Option<usize>,
        shape: ShapeId,
        class: usize,
        alternative: usize,
        from: usize,
    ) -> Option<ShapeId> {
        let Some(key) = self.ready[class][alternative].keys.get(from).copied() else {
            return Some(shape);
        };
        let of = &self.problem.classes[class].alternatives[alternative];
        let layout = &self.problem.layout;
        if let Some(bit) = layout.single(&self.shapes.get(shape).row, key) {
            let fine = self.counts.allows(of, key, [bit]);
            return if fine { self.settle(bin, shape, class, alternative, from + 1) } else { None };
        }
        let row = &self.shapes.get(shape).row;
        let has = |bit: &usize| layout.has(row, key, *bit);
        let allowed = self.counts.domains(of, key);
        let is_bound = allowed.is_some();
        let bits = allowed.unwrap_or_else(|| {
            // A domain that its counters know of, or else any.
            let mut known = self.domains_counted(class, key);
            known.extend(layout.bits(row, key).filter(|bit| *bit >= Layout::FIRST));
            known.extend([Layout::ABSENT, Layout::OTHER]);
            known
        });
        let bits: Vec<usize> = bits.into_iter().filter(has).collect();
        let requests = &self.problem.classes[class].requests;
        let settled = bits.into_iter().find_map(|bit| {
            let pin = self.pin(key, bit);
            let narrower = self.shapes.narrow(shape, pin)?;
            let fits = match bin {
                Some(bin) => self.bins[bin].fits_shape(self.problem, self.shapes.get(narrower), requests),
                None => true,
            };
            if fits { self.settle(bin, narrower, class, alternative, from + 1) } else { None }
        });
        // Where no rule of its own looks at the domain it may stay open: `minValues` may want that.
        settled.or_else(|| if is_bound { None } else { self.settle(bin, shape, class, alternative, from + 1) })
    }

    /// For pods that no rule about this key binds, but that are counted by it: where a spread counts, the
    /// domain that holds least comes first; else the one that holds most.
    fn domains_counted(&self, class: usize, key: usize) -> Vec<usize> {
        let mut counted = self.problem.classes[class].counted_by.iter().copied();
        let Some(counter) = counted.find(|counter| self.problem.counters[*counter].key == Some(key)) else {
            return Vec::new();
        };
        let rank = |held: u32| if self.spread[counter] { held } else { u32::MAX - held };
        let mut all: Vec<(u32, usize)> = self.held(counter).into_iter().map(|(held, bit)| (rank(held), bit)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, bit)| bit).collect()
    }

    /// The domains of a spread's counter, with the pods each holds.
    pub(crate) fn held(&self, counter: usize) -> Vec<(u32, usize)> {
        let domains = self.problem.counters[counter].domains.iter();
        domains.map(|bit| (self.counts.at_bit(counter, *bit), *bit)).collect()
    }

    pub(crate) fn pin(&mut self, key: usize, bit: usize) -> RowId {
        let row = self.problem.layout.pin(key, bit);
        self.shapes.row_id(&row)
    }

    /// Buys a node for a pod.
    fn open(&mut self, pod: usize, class: usize, alternative: usize) -> bool {
        if self.ready[class][alternative].host.iter().any(|rule| !self.new_host_allows(rule)) {
            return false;
        }
        for (row, base) in self.shapes_for(class, alternative).iter() {
            let Some(narrowed) = self.shapes.narrow(*base, *row) else { continue };
            let reserved = self.reserved_under(narrowed);
            let ways = reserved.into_iter().map(|(shape, hold)| (shape, Some(hold))).chain([(narrowed, None)]);
            for (shape, hold) in ways {
                if self.open_as(pod, class, alternative, shape, hold) {
                    return true;
                }
            }
        }
        false
    }

    /// What is left of reserved capacity, for nodes of a shape.
    fn reserved_under(&mut self, shape: ShapeId) -> Vec<(ShapeId, usize)> {
        let all = Rc::clone(&self.reserved);
        let left = all.iter().filter(|one| self.reservations[one.reservation] > 0).copied();
        let left: Vec<Reserved> = left.collect();
        left.into_iter().filter_map(|one| Some((self.shapes.narrow(shape, one.pin)?, one.reservation))).collect()
    }

    /// Buys a node of this shape, or one narrower, for a pod.
    fn open_as(
        &mut self,
        pod: usize,
        class: usize,
        alternative: usize,
        narrowed: ShapeId,
        hold: Option<usize>,
    ) -> bool {
        // Where limits fix the type beforehand, the domain may have to be settled before that.
        let settled = match self.narrow(None, narrowed, class, alternative, None) {
            Fit::Yes(shape) if shape != narrowed => Some(shape),
            _ => None,
        };
        for shape in [Some(narrowed), settled].into_iter().flatten() {
            let Some(open) = self.new_bin(shape, &self.problem.classes[class], hold) else { continue };
            self.bins.push(Bin::to_buy(self.problem, open, Vec::new()));
            let at = self.bins.len() - 1;
            if let Fit::Yes(shape) = self.narrow(Some(at), shape, class, alternative, None) {
                self.put(pod, class, at, Some(shape));
                return true;
            }
            self.bins.pop();
        }
        false
    }

    /// The first counter whose rule lets a pod of this class on no new node with one of these rows.
    pub(crate) fn closed(&self, class: usize, rows: &[Row]) -> Option<usize> {
        let of = self.problem.classes[class].alternatives.last()?;
        let is_closed = |rule: &&Rule| match self.problem.counters[rule.counter()].key {
            None => !self.new_host_allows(rule),
            Some(key) => {
                let open = self.counts.domains(of, key).unwrap_or_default();
                !open.iter().any(|bit| rows.iter().any(|row| self.problem.layout.has(row, key, *bit)))
            }
        };
        of.rules.iter().find(is_closed).or(of.rules.first()).map(Rule::counter)
    }

    fn new_host_allows(&self, rule: &Rule) -> bool {
        // A bin that is not there yet holds nothing.
        self.counts.host_allows(rule, self.bins.len()) == Fit::Yes(())
    }

    /// The shapes of new nodes for an alternative: pool by pool that its taints and labels allow, one for each home.
    pub(crate) fn shapes_for(&mut self, class: usize, alternative: usize) -> Rc<[(RowId, ShapeId)]> {
        if let Some(known) = &self.ready[class][alternative].shapes {
            return Rc::clone(known);
        }
        let of = &self.problem.classes[class].alternatives[alternative];
        let mut all = Vec::new();
        for (at, pool) in self.problem.pools.iter().enumerate() {
            if !pool.taints.iter().all(|taint| of.tolerates[*taint]) {
                continue;
            }
            let Some(base) = self.pool_shape(at) else { continue };
            for row in self.ready[class][alternative].rows.clone() {
                if self.shapes.narrow(base, row).is_some() {
                    all.push((row, base));
                }
            }
        }
        let all: Rc<[(RowId, ShapeId)]> = all.into();
        self.ready[class][alternative].shapes = Some(Rc::clone(&all));
        all
    }

    pub(crate) fn pool_shape(&mut self, pool: usize) -> Option<ShapeId> {
        if let Some(known) = self.pool_shapes.get(&pool) {
            return *known;
        }
        let shape = self.shapes.of_pool(pool);
        self.pool_shapes.insert(pool, shape);
        shape
    }

    /// A node of this shape for a pod of this class, within the pool's limits and `minValues`.
    fn new_bin(&mut self, shape: ShapeId, class: &Class, hold: Option<usize>) -> Option<Open> {
        let shape_ref = Rc::clone(self.shapes.get(shape));
        let pool = &self.problem.pools[shape_ref.pool];
        let (limits, nodes_left) = &self.limits[shape_ref.pool];
        if nodes_left.is_some_and(|left| left < 1) || shape_ref.reserved != hold.is_some() {
            return None;
        }
        let limited = limits.iter().any(Option::is_some);
        let meant = if limited || hold.is_some() {
            // What it may become is charged to the limits: no more than the cheapest that is needed.
            Some(
                *shape_ref
                    .types
                    .iter()
                    .find(|choice| self.can_become(pool, shape_ref.pool, choice, &class.requests))?,
            )
        } else {
            None
        };
        Some(self.open_for(shape, &class.requests, meant, hold))
    }

    fn can_become(&self, pool: &Pool, pool_at: usize, choice: &Choice, requests: &[i64]) -> bool {
        self.within_limits(pool_at, choice.kind) && holds(self.problem, pool, *choice, requests)
    }

    /// A node of this shape that is to hold `requests`, with what it may become at most where limits are charged with
    /// that: the type that is meant, and those that `minValues` want beside it.
    fn open_for(&self, shape: ShapeId, requests: &[i64], meant: Option<Choice>, hold: Option<usize>) -> Open {
        let problem = self.problem;
        let of = self.shapes.get(shape);
        let pool = &problem.pools[of.pool];
        let most = meant.and_then(|meant| self.at_most(of.pool, meant.kind));
        let mut open =
            Open { shape, meant, hold, most, min_values: pool.min_values.clone(), min_values_relaxed: false };
        if open.min_values.is_empty() || !(problem.relax_min_values || open.most.is_some()) {
            return open;
        }
        let fitting = of.types.iter().filter(|choice| self.can_become(pool, of.pool, choice, requests));
        let fitting: Vec<&Choice> = meant.iter().chain(fitting).collect();
        if problem.relax_min_values {
            for (key, wanted) in &mut open.min_values {
                let there = values(problem, &fitting, *key);
                if there < *wanted {
                    *wanted = there;
                    open.min_values_relaxed = true;
                }
            }
        }
        if let Some(most) = &mut open.most {
            let mut grown = most.to_vec();
            for choice in needed(problem, &fitting, &open.min_values) {
                for (grown, amount) in grown.iter_mut().zip(&problem.types[choice.kind].capacity) {
                    *grown = (*grown).max(*amount);
                }
            }
            *most = grown.into();
        }
        open
    }

    /// Whether its limits let a pool buy one more node of a type.
    pub(crate) fn within_limits(&self, pool: usize, kind: usize) -> bool {
        self.leave(pool, &self.problem.types[kind].capacity)
    }

    /// Whether a pool's limits leave so much.
    fn leave(&self, pool: usize, amounts: &[i64]) -> bool {
        self.limits[pool].0.iter().zip(amounts).all(|(limit, amount)| limit.is_none_or(|limit| *amount <= limit))
    }

    /// Whether the limits let a planned bin be bought, if it is not yet.
    fn may_buy(&self, bin: usize) -> bool {
        let bin = &self.bins[bin];
        let Some(open) = &bin.open else { return true };
        let pool = self.shapes.get(open.shape).pool;
        !bin.pods.is_empty() || (open.hold.is_none_or(|hold| self.reservations[hold] > 0) && self.may_open(pool, open))
    }

    /// Whether the limits of a pool pay for one more node like this.
    fn may_open(&self, pool: usize, open: &Open) -> bool {
        self.limits[pool].1.is_none_or(|left| left >= 1) && open.most.as_ref().is_none_or(|most| self.leave(pool, most))
    }

    fn put(&mut self, pod: usize, class: usize, bin_at: usize, shape: Option<ShapeId>) {
        let problem = self.problem;
        let bin = &mut self.bins[bin_at];
        let first = bin.pods.is_empty();
        bin.add(pod, &problem.classes[class]);
        self.bin_of[pod] = Some(bin_at);
        self.order.push(pod);
        if let (Some(open), Some(shape)) = (&mut bin.open, shape) {
            open.shape = shape;
            if first {
                self.opened.push(bin_at);
                self.charge(bin_at);
            }
        }
        let (row, taints) = match &self.bins[bin_at].open {
            None => (&problem.nodes[bin_at].row, &problem.nodes[bin_at].taints),
            Some(open) => {
                let shape: &Shape = self.shapes.get(open.shape);
                (&shape.row, &problem.pools[shape.pool].taints)
            }
        };
        for counter in &problem.classes[class].counted_by {
            self.counts.add(*counter, bin_at, row, taints);
        }
    }

    /// What a node that is meant to be of a type may hold of what its pool limits; `None`: nothing is limited.
    fn at_most(&self, pool: usize, kind: usize) -> Option<Rc<[i64]>> {
        let (limits, capacity) = (&self.limits[pool].0, &self.problem.types[kind].capacity);
        let most = limits.iter().zip(capacity).map(|(limit, amount)| limit.map_or(i64::MAX, |_| *amount));
        limits.iter().any(Option::is_some).then(|| most.collect())
    }

    /// Speaks for what a node may become, at most, of its pool's limits.
    fn charge(&mut self, bin: usize) {
        let Some(open) = self.bins[bin].open.clone() else { return };
        self.pay(self.shapes.get(open.shape).pool, &open);
        if let Some(hold) = open.hold {
            self.reservations[hold] = self.reservations[hold].saturating_sub(1);
        }
    }

    fn pay(&mut self, pool: usize, open: &Open) {
        let (limits, nodes_left) = &mut self.limits[pool];
        if let Some(left) = nodes_left {
            *left = left.saturating_sub(1);
        }
        for (limit, amount) in limits.iter_mut().zip(open.most.iter().flat_map(|most| most.iter())) {
            if let Some(limit) = limit {
                *limit = limit.saturating_sub(*amount);
            }
        }
    }
}

/// What the pods ask for that a node is planned for.
fn planned_requests(resources: usize, demands: &[Vec<i64>], slots: &[(usize, u32)]) -> Vec<i64> {
    let mut sum = vec![0_i64; resources];
    for (demand, pods) in slots {
        for (sum, amount) in sum.iter_mut().zip(&demands[*demand]) {
            *sum = sum.saturating_add(amount.saturating_mul(i64::from(*pods)));
        }
    }
    sum
}

fn reserved(problem: &Problem, shapes: &mut Shapes<'_>) -> Rc<[Reserved]> {
    let mut all: Vec<(u64, Reserved)> = Vec::new();
    for (kind, of) in problem.types.iter().enumerate() {
        let price = of.offerings.iter().filter(|offering| offering.reservation.is_none()).map(|o| o.price).min();
        for offering in &of.offerings {
            let Some(reservation) = offering.reservation else { continue };
            let mut row = problem.layout.any();
            for (key, bit) in &offering.labels {
                problem.layout.restrict(&mut row, *key, [*bit]);
            }
            all.push((price.unwrap_or(u64::MAX), Reserved { kind, pin: shapes.row_id(&row), reservation }));
        }
    }
    all.sort_by_key(|(price, _)| std::cmp::Reverse(*price));
    all.into_iter().map(|(_, one)| one).collect()
}

fn has_slot(bin: &Bin, demand: usize) -> bool {
    bin.slots.iter().any(|(of, left)| *of == demand && *left > 0)
}

fn prepare(problem: &Problem, shapes: &mut Shapes<'_>, class: &Class, of: &Alternative) -> Ready {
    let rows = if of.homes.is_empty() {
        vec![shapes.row_id(&of.row)]
    } else {
        of.homes.iter().map(|home| shapes.row_id(&of.row.and(home))).collect()
    };
    let key_of = |counter: usize| problem.counters[counter].key;
    let mut keys: Vec<usize> = of.rules.iter().filter_map(|rule| key_of(rule.counter())).collect();
    let counted = class.counted_by.iter().filter_map(|counter| key_of(*counter));
    for key in counted {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    // Keys with rules first, each once.
    let mut seen = Vec::new();
    keys.retain(|key| {
        let new = !seen.contains(key);
        seen.push(*key);
        new
    });
    let host = of.rules.iter().filter(|rule| key_of(rule.counter()).is_none()).cloned().collect();
    Ready { rows, keys, host, shapes: None, exhausted: false }
}
