//! The restricted master of a covering program, by the revised simplex method.
//!
//! minimise Σ price·x subject to Σ covers·x ≥ demand, x ≥ 0, columns arriving one by one (Gilmore and
//! Gomory's column generation for cutting stock). The basis inverse is dense: a pivot costs O(rows²).

use super::Plan;
use super::fill::Pattern;

/// A kind of node with a filling: one copy covers so many pods of each item, for this price.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) kind: usize,
    pub(super) pattern: Pattern,
    pub(super) price: f64,
}

impl Column {
    /// What a pod of its first item costs.
    pub(super) fn worth(&self) -> f64 {
        self.pattern.first().map_or(0.0, |(_, pods)| self.price / f64::from(*pods))
    }
}

/// Smaller than this is zero.
const EPSILON: f64 = 1e-9;
/// Columns that were outbid may pay once others are in: so often they are offered again.
const OFFERS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Master {
    rows: usize,
    inverse: Vec<f64>,
    /// Value of the basic variable of each row.
    values: Vec<f64>,
    /// The column of each row's basic variable; `None`: a row's surplus.
    basis: Vec<Option<Column>>,
    /// What one unit of each row is worth.
    pub(super) duals: Vec<f64>,
}

impl Master {
    /// Starts from one column per row that covers that row alone.
    pub(super) fn new(singles: Vec<Column>, counts: &[u32]) -> Self {
        let rows = counts.len();
        let mut inverse = vec![0.0; rows * rows];
        let (mut values, mut duals) = (vec![0.0; rows], vec![0.0; rows]);
        for (row, column) in singles.iter().enumerate() {
            let covers = column.pattern.first().map_or(1.0, |(_, pods)| f64::from(*pods));
            inverse[row * rows + row] = 1.0 / covers;
            values[row] = f64::from(counts[row]) / covers;
            duals[row] = column.worth();
        }
        Self { rows, inverse, values, duals, basis: singles.into_iter().map(Some).collect() }
    }

    /// What the columns seen so far cost, if nodes were divisible.
    pub(super) fn cost(&self) -> f64 {
        let priced = self.basis.iter().zip(&self.values);
        priced.filter_map(|(column, value)| Some(column.as_ref()?.price * value)).sum()
    }

    /// Takes those columns into the basis that lower the cost; says whether any did.
    pub(super) fn offer_all(&mut self, columns: &[Column]) -> bool {
        (0..OFFERS_MAX).take_while(|_| self.offer_once(columns)).count() > 0
    }

    /// As [`Master::offer_all`], each column once.
    pub(super) fn offer_once(&mut self, columns: &[Column]) -> bool {
        columns.iter().filter(|column| self.offer(column)).count() > 0
    }

    fn offer(&mut self, column: &Column) -> bool {
        let covers = || column.pattern.iter().map(|(row, pods)| (*row as usize, f64::from(*pods)));
        let worth: f64 = covers().map(|(row, amount)| self.duals[row] * amount).sum();
        let reduced = column.price - worth;
        if reduced > -1e-7 * column.price || !self.enter(&covers().collect::<Vec<_>>(), reduced, Some(column)) {
            return false;
        }
        // A row with a negative worth is covered more than it needs to be: its surplus enters.
        for _ in 0..self.rows {
            let lowest = (0..self.rows).min_by(|a, b| self.duals[*a].total_cmp(&self.duals[*b]));
            let Some(row) = lowest.filter(|row| self.duals[*row] < -1e-7) else { break };
            if !self.enter(&[(row, -1.0)], self.duals[row], None) {
                break;
            }
        }
        true
    }

    /// The basic columns in whole numbers, a fraction from `up` on as one more; and the pods that are left.
    pub(super) fn rounded(&self, up: f64, counts: &[u32]) -> (Plan, Vec<u32>) {
        let mut left = counts.to_vec();
        let mut plan = Plan { cost: 0.0, bought: Vec::new() };
        let mut order: Vec<usize> = (0..self.rows).collect();
        order.sort_by(|a, b| self.values[*b].total_cmp(&self.values[*a]).then(a.cmp(b)));
        for row in order {
            let Some(column) = &self.basis[row] else { continue };
            let whole = (self.values[row] + 1e-6).floor();
            let wanted = whole + f64::from(u8::from(self.values[row] - whole >= up));
            let most = column.pattern.iter().map(|(item, pods)| left[*item as usize] / pods).min().unwrap_or(0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `most`")]
            let copies = wanted.min(f64::from(most)).max(0.0) as u32;
            if copies == 0 {
                continue;
            }
            for (item, pods) in &column.pattern {
                left[*item as usize] -= pods * copies;
            }
            plan.cost += column.price * f64::from(copies);
            plan.bought.push((column.kind, column.pattern.clone(), copies));
        }
        (plan, left)
    }

    fn enter(&mut self, covers: &[(usize, f64)], reduced: f64, column: Option<&Column>) -> bool {
        let rows = self.rows;
        let direction: Vec<f64> = self
            .inverse
            .chunks_exact(rows)
            .map(|line| covers.iter().map(|(row, amount)| line[*row] * amount).sum())
            .collect();
        let ratio = |row: &usize| self.values[*row] / direction[*row];
        let leaves = (0..rows)
            .filter(|row| direction[*row] > EPSILON)
            .min_by(|a, b| ratio(a).total_cmp(&ratio(b)).then(direction[*b].total_cmp(&direction[*a])));
        let Some(out) = leaves else { return false };
        let step = ratio(&out).max(0.0);
        for (row, along) in direction.iter().enumerate().filter(|(row, _)| *row != out) {
            self.values[row] = (self.values[row] - step * along).max(0.0);
        }
        self.values[out] = step;
        self.basis[out] = column.cloned();
        let line: Vec<f64> =
            self.inverse[out * rows..(out + 1) * rows].iter().map(|cell| cell / direction[out]).collect();
        for (row, factor) in direction.iter().enumerate().filter(|(row, factor)| *row != out && factor.abs() > 1e-12) {
            for (cell, base) in self.inverse[row * rows..(row + 1) * rows].iter_mut().zip(&line) {
                *cell -= factor * base;
            }
        }
        self.inverse[out * rows..(out + 1) * rows].copy_from_slice(&line);
        for (dual, base) in self.duals.iter_mut().zip(&line) {
            *dual += reduced * base;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duals_price_what_the_best_mix_of_columns_costs() {
        // Two kinds of pods, 10 of each; alone 1 a node, together one of each for the price of 1.5.
        let column = |pattern: &[(u32, u32)], price| Column { kind: 0, pattern: pattern.to_vec(), price };
        let single = |row| column(&[(row, 1)], 1.0);
        let mut master = Master::new(vec![single(0), single(1)], &[10, 10]);
        assert!(master.offer_all(&[column(&[(0, 1), (1, 1)], 1.5)]));
        let total: f64 = master.duals.iter().map(|dual| dual * 10.0).sum();
        assert!((total - 15.0).abs() < 1e-9, "{total}");
        assert!((master.cost() - 15.0).abs() < 1e-9);
        assert!(!master.offer(&single(0)), "a column that pays its worth does not enter again");
    }
}
