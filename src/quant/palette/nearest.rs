//! `Nearest`: which entry of its table each value is nearest to.

use half::f16;

use super::super::source::{of_signed_key, signed_key};

/// Up to this many entries are compared with every value.
const FEW: usize = 16;

/// Values that share a table, from which on it pays to know the answer for every fp16 value.
const MANY: usize = 1 << 12;

/// Ascending tables of equal length.
///
/// A value has the index of the entry nearest to it, of two as near the smaller entry, and of equal ones the first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Nearest {
    n_entries: usize,
    /// For each table the keys of the last value that belongs to each entry but the last or to one before it.
    limits: Vec<i16>,
}

/// Memory for [`Nearest::assign`].
#[derive(Debug, Default)]
pub(super) struct Scratch {
    index_of_key: Vec<u8>,
    /// The limits that it is of.
    limits: Vec<i16>,
}

impl Nearest {
    /// Takes on `tables` of `n_entries` (2 to 256) ascending entries each.
    pub(super) fn new(tables: &[f16], n_entries: usize) -> Self {
        let mut limits = Vec::with_capacity(tables.len() / n_entries * (n_entries - 1));
        for table in tables.chunks_exact(n_entries) {
            for entry in 0..n_entries - 1 {
                // Equal entries are passed over together.
                let next = table[entry + 1..].iter().find(|&&next| next != table[entry]);
                limits.push(next.map_or(i16::MAX, |&next| {
                    // fp16 values are multiples of 2^−24 below 2^16, so their mean is exact in f64.
                    last_key_up_to(f64::midpoint(f64::from(table[entry]), f64::from(next)))
                }));
            }
        }
        Self { n_entries, limits }
    }

    /// Writes the index of each of `values` in table number `table`.
    pub(super) fn assign(
        &self,
        table: usize,
        values: &[f16],
        indices: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let n = self.n_entries - 1;
        let limits = &self.limits[table * n..][..n];
        if n < FEW {
            by_comparing(values, limits, indices);
        } else if values.len() >= MANY {
            scratch.by_lookup(limits, values, indices);
        } else {
            for (index, &value) in indices.iter_mut().zip(values) {
                let key = signed_key(value);
                *index = limits.partition_point(|&limit| limit < key) as u8;
            }
        }
    }
}

crate::base::simd::multiversion! {
    /// Counts the limits that each value is beyond.
    fn by_comparing(values: &[f16], limits: &[i16], indices: &mut [u8]) {
        /// Values at a time: as many as fill a few registers.
        const LANES: usize = 32;
        for (values, indices) in values.chunks(LANES).zip(indices.chunks_mut(LANES)) {
            let mut keys = [0; LANES];
            for (key, &value) in keys.iter_mut().zip(values) {
                *key = signed_key(value);
            }
            let mut counts = [0_i16; LANES];
            for &limit in limits {
                for (count, &key) in counts.iter_mut().zip(&keys) {
                    *count += i16::from(key > limit);
                }
            }
            for (index, count) in indices.iter_mut().zip(counts) {
                *index = count as u8;
            }
        }
    }
}

impl Scratch {
    /// Looks every value up among all fp16 values.
    fn by_lookup(&mut self, limits: &[i16], values: &[f16], indices: &mut [u8]) {
        const PATTERNS: usize = 1 << 16;
        let place = |key: i16| (i32::from(key) - i32::from(i16::MIN)) as usize;
        if self.limits != limits {
            self.limits = limits.to_vec();
            self.index_of_key.resize(PATTERNS, 0);
            let mut start = 0;
            for (index, &limit) in limits.iter().enumerate() {
                let end = (place(limit) + 1).max(start);
                self.index_of_key[start..end].fill(index as u8);
                start = end;
            }
            self.index_of_key[start..].fill(limits.len() as u8);
        }
        let index_of_key: &[u8; PATTERNS] =
            self.index_of_key.as_slice().try_into().expect("one index for each pattern");
        for (index, &value) in indices.iter_mut().zip(values) {
            *index = index_of_key[usize::from(signed_key(value) as u16 ^ 0x8000)];
        }
    }
}

/// The key of the largest fp16 value that is at most `x`.
fn last_key_up_to(x: f64) -> i16 {
    let key = signed_key(f16::from_f64(x));
    if f64::from(of_signed_key(key)) > x { key - 1 } else { key }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The index by the definition.
    fn nearest(table: &[f16], value: f16) -> u8 {
        let distance = |entry: f16| (entry.to_f64() - value.to_f64()).abs();
        let best = (0..table.len())
            .fold(0, |best, i| if distance(table[i]) < distance(table[best]) { i } else { best });
        best as u8
    }

    proptest! {
        #[test]
        fn any_table_is_searched_rightly(
            tables in prop::collection::vec((0_u16..0x7c00, any::<bool>()), 256),
            n_entries in prop::sample::select(&[2_usize, 4, 8, 16, 64, 256]),
            coarse: bool,
            values in prop::collection::vec((0_u16..0x7c00, any::<bool>()), 1..50),
            repeats in prop::sample::select(&[1_usize, 200]),
        ) {
            // Coarse tables have equal entries.
            let finite = |v: &[(u16, bool)], mask: u16| -> Vec<f16> {
                v.iter().map(|&(m, s)| f16::from_bits(m & mask | u16::from(s) << 15)).collect()
            };
            let mut tables = finite(&tables, if coarse { 0x7800 } else { 0x7fff });
            tables.chunks_mut(n_entries).for_each(|table| table.sort_by(f16::total_cmp));
            let values = finite(&values, 0x7fff).repeat(repeats);
            let nearest_of = Nearest::new(&tables, n_entries);
            let mut scratch = Scratch::default();
            let mut indices = vec![0; values.len()];
            for (t, table) in tables.chunks(n_entries).enumerate() {
                nearest_of.assign(t, &values, &mut indices, &mut scratch);
                for (&value, &index) in values.iter().zip(&indices).take(60) {
                    prop_assert_eq!(index, nearest(table, value));
                }
                let again = &indices[..values.len() / repeats];
                prop_assert!(indices.chunks(again.len()).all(|chunk| chunk == again));
            }
        }
    }
}
