//! Shapes of nodes to buy, interned: a pool, and what the labels of its node may still be.
//!
//! Claims that hold pods with the same needs share a shape. What is costly — which types meet the
//! labels, and what each costs — is computed once per shape; narrowing a shape by a row is looked up.
//!
//! All of this lives for one solution. A shape is made where a pod looks at a node that has room for it, at most one for
//! each key that is settled: no more than the packer makes such looks, O(classes × bins). Offers are shared by shapes that
//! say the same of the keys of types, so there are as many as pods ask for different types, zones and capacity types. What
//! narrowing comes to is forgotten beyond [`NARROWED_MAX`]: it is found again by the row.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::problem::{Pool, Problem};
use crate::row::Row;

/// Results of narrowing that are kept: some 24 MB.
const NARROWED_MAX: usize = 1 << 20;

/// Number of a shape, and of an interned row.
pub(crate) type ShapeId = u32;
pub(crate) type RowId = u32;

#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) pool: usize,
    pub(crate) row: Row,
    offers: Rc<Offers>,
}

/// What can be had in a shape; shared by those that differ in labels that types say nothing about.
#[derive(Debug)]
pub(crate) struct Offers {
    /// (type, overhead, price) of the types that can be had under this row, cheapest first.
    pub(crate) types: Vec<Choice>,
    /// All of them only as reserved capacity.
    pub(crate) reserved: bool,
    /// By type: its price, `u64::MAX` if it cannot be had.
    pub(crate) prices: Vec<u64>,
    /// Types not dominated by another in what they hold: if none of these has room, none has.
    pub(crate) largest: Vec<usize>,
}

impl std::ops::Deref for Shape {
    type Target = Offers;

    fn deref(&self) -> &Offers {
        &self.offers
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) kind: usize,
    pub(crate) overhead: usize,
    pub(crate) price: u64,
}

type OffersKey = (*const (usize, usize), *const Vec<i64>, Row);

#[derive(Clone, Debug)]
pub(crate) struct Shapes<'p> {
    problem: &'p Problem,
    all: Vec<Rc<Shape>>,
    known: FxHashMap<(usize, Row), ShapeId>,
    /// By the identity of a pool's types and overheads, and what a row says of the keys of types. `None`: nothing.
    offers: FxHashMap<OffersKey, Option<Rc<Offers>>>,
    keys_of_types: Vec<usize>,
    narrowed: FxHashMap<(ShapeId, RowId), Option<ShapeId>>,
    rows: Vec<Row>,
    row_ids: FxHashMap<Row, RowId>,
}

impl<'p> Shapes<'p> {
    pub(crate) fn new(problem: &'p Problem) -> Self {
        Self {
            problem,
            all: Vec::new(),
            known: FxHashMap::default(),
            offers: FxHashMap::default(),
            keys_of_types: problem.keys_of_types(),
            narrowed: FxHashMap::default(),
            rows: Vec::new(),
            row_ids: FxHashMap::default(),
        }
    }

    pub(crate) fn row_id(&mut self, row: &Row) -> RowId {
        if let Some(id) = self.row_ids.get(row) {
            return *id;
        }
        let id = RowId::try_from(self.rows.len()).unwrap_or(RowId::MAX);
        self.rows.push(row.clone());
        self.row_ids.insert(row.clone(), id);
        id
    }

    pub(crate) fn get(&self, id: ShapeId) -> &Rc<Shape> {
        &self.all[id as usize]
    }

    /// Whether a node of shape `id` meets all that shape `wanted` asks: it is as narrow, in the same pool.
    pub(crate) fn meets(&self, id: ShapeId, wanted: ShapeId) -> bool {
        let (of, wanted) = (self.get(id), self.get(wanted));
        of.pool == wanted.pool && of.row.is_within(&wanted.row)
    }

    /// The shape of a pool's nodes before any pod has a say.
    pub(crate) fn of_pool(&mut self, pool: usize) -> Option<ShapeId> {
        self.intern(pool, self.problem.pools[pool].row.clone(), None)
    }

    /// `None`: no type is left, or the rows conflict.
    pub(crate) fn narrow(&mut self, id: ShapeId, by: RowId) -> Option<ShapeId> {
        if let Some(known) = self.narrowed.get(&(id, by)) {
            return *known;
        }
        let from = Rc::clone(self.get(id));
        let (row, by_row) = (from.row.and(&self.rows[by as usize]), &self.rows[by as usize]);
        let result = if row == from.row {
            Some(id)
        } else if self.problem.layout.intersects(&from.row, by_row) {
            self.intern(from.pool, row, Some(&from))
        } else {
            None
        };
        if self.narrowed.len() >= NARROWED_MAX {
            self.narrowed.clear();
        }
        self.narrowed.insert((id, by), result);
        result
    }

    fn intern(&mut self, pool_at: usize, row: Row, from: Option<&Shape>) -> Option<ShapeId> {
        if let Some(id) = self.known.get(&(pool_at, row.clone())) {
            return Some(*id);
        }
        let pool = &self.problem.pools[pool_at];
        let typed = self.problem.layout.only(&row, &self.keys_of_types);
        let key = (Arc::as_ptr(&pool.types).cast(), Arc::as_ptr(&pool.overheads).cast(), typed);
        let problem = self.problem;
        let offers = self.offers.entry(key).or_insert_with(|| offers(problem, pool, &row, from).map(Rc::new)).clone();
        let id = ShapeId::try_from(self.all.len()).ok()?;
        self.all.push(Rc::new(Shape { pool: pool_at, row: row.clone(), offers: offers? }));
        self.known.insert((pool_at, row), id);
        Some(id)
    }
}

/// `None`: nothing can be had.
fn offers(problem: &Problem, pool: &Pool, row: &Row, from: Option<&Shape>) -> Option<Offers> {
    let choice = |kind: usize, overhead: usize| {
        let (price, reserved) = price_of(problem, row, kind)?;
        Some((Choice { kind, overhead, price }, reserved))
    };
    // Types that were left out because they are only there as reserved capacity may come in again.
    let all: Vec<(Choice, bool)> = match from.filter(|_| problem.reservations.is_empty()) {
        Some(from) => from.types.iter().filter_map(|known| choice(known.kind, known.overhead)).collect(),
        None => pool.types.iter().filter_map(|(kind, overhead)| choice(*kind, *overhead)).collect(),
    };
    if all.is_empty() {
        return None;
    }
    let reserved = all.iter().all(|(_, reserved)| *reserved);
    let mut types: Vec<Choice> = all.into_iter().filter(|(_, is)| *is == reserved).map(|(choice, _)| choice).collect();
    types.sort_unstable_by_key(|choice| (choice.price, choice.kind));
    let largest = largest(problem, pool, &types);
    let mut prices = vec![u64::MAX; problem.types.len()];
    for choice in &types {
        prices[choice.kind] = choice.price;
    }
    Some(Offers { types, reserved, prices, largest })
}

/// The cheapest offering of a type that a row allows, reserved capacity only if there is nothing else, and whether
/// it is that; `None` if the labels conflict or none is there.
pub(crate) fn price_of(problem: &Problem, row: &Row, kind: usize) -> Option<(u64, bool)> {
    let kind = &problem.types[kind];
    if !problem.layout.intersects(&kind.row, row) {
        return None;
    }
    let allowed = |labels: &[(usize, usize)]| labels.iter().all(|(key, bit)| problem.layout.has(row, *key, *bit));
    let open = kind.offerings.iter().filter(|offering| allowed(&offering.labels));
    open.map(|offering| (offering.reservation.is_some(), offering.price))
        .min()
        .map(|(reserved, price)| (price, reserved))
}

/// What pods can use of a type beside the daemons.
pub(crate) fn room(problem: &Problem, pool: &Pool, choice: Choice) -> impl Iterator<Item = i64> {
    let daemons = &pool.overheads[choice.overhead];
    problem.types[choice.kind].allocatable.iter().zip(daemons).map(|(all, taken)| all - taken)
}

/// Whether a type holds these requests beside the daemons.
pub(crate) fn holds(problem: &Problem, pool: &Pool, choice: Choice, requests: &[i64]) -> bool {
    room(problem, pool, choice).zip(requests).all(|(room, wanted)| *wanted <= room)
}

/// Positions in `types` of those that no other exceeds in every resource.
fn largest(problem: &Problem, pool: &Pool, types: &[Choice]) -> Vec<usize> {
    let rooms: Vec<Vec<i64>> = types.iter().map(|choice| room(problem, pool, *choice).collect()).collect();
    let mut kept: Vec<usize> = Vec::new();
    for at in 0..rooms.len() {
        let covers = |a: usize, b: usize| rooms[a].iter().zip(&rooms[b]).all(|(a, b)| a >= b);
        if kept.iter().any(|known| covers(*known, at)) {
            continue;
        }
        kept.retain(|known| !covers(at, *known));
        kept.push(at);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{InstanceType, Offering};
    use crate::row::Layout;

    /// A key that types speak of and one that they do not, with three values each.
    fn problem() -> Problem {
        let layout = Layout::new(&[3, 3]);
        let kind = |bit: usize| InstanceType {
            row: layout.pin(0, bit),
            capacity: vec![1],
            allocatable: vec![1],
            offerings: vec![Offering { labels: Vec::new(), price: 1, reservation: None }],
        };
        let pool = Pool {
            row: layout.any(),
            taints: Vec::new(),
            types: [(0, 0), (1, 0)].into(),
            overheads: [vec![0]].into(),
            limits: vec![None],
            nodes_left: None,
            min_values: Vec::new(),
        };
        Problem {
            types: vec![kind(Layout::FIRST), kind(Layout::FIRST + 1)],
            pools: vec![pool],
            layout,
            ..Problem::default()
        }
    }

    #[test]
    fn shapes_that_types_cannot_tell_apart_share_what_can_be_had() {
        let problem = problem();
        let mut shapes = Shapes::new(&problem);
        let base = shapes.of_pool(0).unwrap();
        let mut narrowed = |key, bit| {
            let by = shapes.row_id(&problem.layout.pin(key, bit));
            shapes.narrow(base, by)
        };
        let (own, other) = (narrowed(1, Layout::FIRST).unwrap(), narrowed(1, Layout::FIRST + 1).unwrap());
        let of_type = narrowed(0, Layout::FIRST).unwrap();
        assert_eq!(narrowed(0, Layout::FIRST + 2), None, "no type has that value");
        assert_eq!(narrowed(1, Layout::FIRST), Some(own), "the same row, the same shape");
        assert!(own != other && Rc::ptr_eq(&shapes.get(own).offers, &shapes.get(other).offers));
        assert!(!Rc::ptr_eq(&shapes.get(own).offers, &shapes.get(of_type).offers));
        assert_eq!((shapes.all.len(), shapes.offers.len()), (4, 3));
    }
}
