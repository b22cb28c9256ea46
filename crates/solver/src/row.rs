//! Label requirements as bits.
//!
//! Each key has a run of words; each value known for the key is a bit. Two bits stand for what has
//! no number: [`Layout::OTHER`], any value not known, and [`Layout::ABSENT`], a node without the
//! label. All of Kubernetes' operators are then sets (`NotIn a` is everything but `a`, absence
//! included; `DoesNotExist` is absence alone), narrowing is AND, and a conflict is an empty run.

/// Where each key's run of words lies.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// First word of each key, and the end.
    offsets: Vec<usize>,
}

/// The allowed values of every key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(Box<[u64]>);

impl Layout {
    /// Bit of "any value that is not known".
    pub const OTHER: usize = 0;
    /// Bit of "no such label".
    pub const ABSENT: usize = 1;
    /// Bit of a key's first known value.
    pub const FIRST: usize = 2;

    /// A layout for keys with these numbers of known values.
    pub fn new(values: &[usize]) -> Self {
        let mut offsets = vec![0];
        let mut end = 0;
        for count in values {
            end += (count + Self::FIRST).div_ceil(64);
            offsets.push(end);
        }
        Self { offsets }
    }

    pub fn keys(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Everything allowed.
    pub fn any(&self) -> Row {
        Row(vec![u64::MAX; self.offsets.last().copied().unwrap_or(0)].into_boxed_slice())
    }

    /// Allows exactly these bits of a key.
    pub fn restrict(&self, row: &mut Row, key: usize, bits: impl IntoIterator<Item = usize>) {
        let mut run = vec![0_u64; self.offsets[key + 1] - self.offsets[key]];
        for bit in bits {
            run[bit / 64] |= 1 << (bit % 64);
        }
        for (word, mask) in row.0[self.offsets[key]..self.offsets[key + 1]].iter_mut().zip(run) {
            *word &= mask;
        }
    }

    /// Allows exactly this bit of a key.
    pub fn settle(&self, row: &mut Row, key: usize, bit: usize) {
        let run = &mut row.0[self.offsets[key]..self.offsets[key + 1]];
        let kept = run[bit / 64] & (1 << (bit % 64));
        run.fill(0);
        run[bit / 64] = kept;
    }

    /// Forbids one bit of a key.
    pub fn exclude(&self, row: &mut Row, key: usize, bit: usize) {
        row.0[self.offsets[key] + bit / 64] &= !(1 << (bit % 64));
    }

    pub fn has(&self, row: &Row, key: usize, bit: usize) -> bool {
        row.0[self.offsets[key] + bit / 64] & (1 << (bit % 64)) != 0
    }

    /// The bit of a key whose set has one member.
    pub fn single(&self, row: &Row, key: usize) -> Option<usize> {
        let run = &row.0[self.offsets[key]..self.offsets[key + 1]];
        let mut found = None;
        for (at, word) in run.iter().enumerate() {
            match (word.count_ones(), found) {
                (0, _) => {}
                (1, None) => found = Some(at * 64 + word.trailing_zeros() as usize),
                _ => return None,
            }
        }
        found
    }

    /// Whether both allow a common value of every key. O(words).
    pub fn intersects(&self, a: &Row, b: &Row) -> bool {
        self.conflict(a, b).is_none()
    }

    /// The first key for which nothing is left.
    pub fn conflict(&self, a: &Row, b: &Row) -> Option<usize> {
        self.offsets.windows(2).position(|run| {
            let (start, end) = (run[0], run[1]);
            a.0[start..end].iter().zip(&b.0[start..end]).all(|(a, b)| a & b == 0)
        })
    }

    /// The bits of a key that a row allows, in ascending order.
    pub fn bits<'a>(&self, row: &'a Row, key: usize) -> impl Iterator<Item = usize> + 'a {
        let run = &row.0[self.offsets[key]..self.offsets[key + 1]];
        run.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }

    /// A row that allows what `row` does of these keys, and everything of the others.
    pub fn only(&self, row: &Row, keys: &[usize]) -> Row {
        let mut kept = self.any();
        for key in keys {
            let run = self.offsets[*key]..self.offsets[key + 1];
            kept.0[run.clone()].copy_from_slice(&row.0[run]);
        }
        kept
    }

    /// Whether everything is allowed of a key.
    pub(crate) fn is_open(&self, row: &Row, key: usize) -> bool {
        row.0[self.offsets[key]..self.offsets[key + 1]].iter().all(|word| *word == u64::MAX)
    }

    /// A row that allows one bit of a key and everything of the others.
    pub(crate) fn pin(&self, key: usize, bit: usize) -> Row {
        let mut row = self.any();
        self.restrict(&mut row, key, [bit]);
        row
    }

    /// How many values of a key the rows name together; a row that allows values that are not known names none.
    pub fn distinct<'a>(&self, rows: impl Iterator<Item = &'a Row>, key: usize) -> usize {
        let range = self.offsets[key]..self.offsets[key + 1];
        let mut all = vec![0_u64; range.len()];
        for row in rows.filter(|row| !self.has(row, key, Self::OTHER)) {
            for (sum, word) in all.iter_mut().zip(&row.0[range.clone()]) {
                *sum |= word;
            }
        }
        if let Some(first) = all.first_mut() {
            *first &= !((1 << Self::OTHER) | (1 << Self::ABSENT));
        }
        all.iter().map(|word| word.count_ones() as usize).sum()
    }
}

impl Row {
    pub fn narrow(&mut self, by: &Self) {
        for (word, mask) in self.0.iter_mut().zip(&by.0) {
            *word &= mask;
        }
    }

    /// Allows what `by` does as well.
    pub fn widen(&mut self, by: &Self) {
        for (word, more) in self.0.iter_mut().zip(&by.0) {
            *word |= more;
        }
    }

    /// Whether everything it allows is allowed by `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own & !other == 0)
    }

    pub fn and(&self, by: &Self) -> Self {
        Self(self.0.iter().zip(&by.0).map(|(a, b)| a & b).collect())
    }
}
