//! The restricted master of a covering program, by the revised simplex method.
//!
//! minimise Σ price·x subject to Σ covers·x ≥ demand, x ≥ 0, columns arriving one by one (Gilmore and
//! Gomory's column generation for cutting stock). The basis inverse is dense: a pivot costs O(rows²).

/// One copy of a column covers so much of each row, for this price.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) covers: Vec<(usize, f64)>,
    pub(super) price: f64,
}

/// Smaller than this is zero.
const EPSILON: f64 = 1e-9;

#[derive(Debug)]
pub(super) struct Master {
    rows: usize,
    inverse: Vec<f64>,
    /// Value of the basic variable of each row.
    values: Vec<f64>,
    /// What one unit of each row is worth.
    pub(super) duals: Vec<f64>,
}

impl Master {
    /// Starts from one column per row that covers that row alone.
    pub(super) fn new(singles: &[Column], demand: &[f64]) -> Self {
        let rows = demand.len();
        let mut inverse = vec![0.0; rows * rows];
        let (mut values, mut duals) = (vec![0.0; rows], vec![0.0; rows]);
        for (row, column) in singles.iter().enumerate() {
            let covers = column.covers.first().map_or(1.0, |(_, amount)| *amount);
            inverse[row * rows + row] = 1.0 / covers;
            values[row] = demand[row] / covers;
            duals[row] = column.price / covers;
        }
        Self { rows, inverse, values, duals }
    }

    /// Takes a column into the basis if that lowers the cost; says whether it did.
    pub(super) fn offer(&mut self, column: &Column) -> bool {
        let worth: f64 = column.covers.iter().map(|(row, amount)| self.duals[*row] * amount).sum();
        let reduced = column.price - worth;
        if reduced > -1e-7 * column.price || !self.enter(&column.covers, reduced) {
            return false;
        }
        // A row with a negative worth is covered more than it needs to be: its surplus enters.
        for _ in 0..self.rows {
            let lowest = (0..self.rows).min_by(|a, b| self.duals[*a].total_cmp(&self.duals[*b]));
            let Some(row) = lowest.filter(|row| self.duals[*row] < -1e-7) else { break };
            if !self.enter(&[(row, -1.0)], self.duals[row]) {
                break;
            }
        }
        true
    }

    fn enter(&mut self, covers: &[(usize, f64)], reduced: f64) -> bool {
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
        let single = |row| Column { covers: vec![(row, 1.0)], price: 1.0 };
        let mut master = Master::new(&[single(0), single(1)], &[10.0, 10.0]);
        assert!(master.offer(&Column { covers: vec![(0, 1.0), (1, 1.0)], price: 1.5 }));
        let total: f64 = master.duals.iter().map(|dual| dual * 10.0).sum();
        assert!((total - 15.0).abs() < 1e-9, "{total}");
        assert!(!master.offer(&single(0)), "a column that pays its worth does not enter again");
    }
}
