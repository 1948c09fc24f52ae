//! Palettizing: every value becomes the index of an entry in the small table of its group of output channels.

use half::f16;
use rayon::prelude::*;

use super::bits::Bits;
use super::error::Error;
use super::histogram::{Distinct, Histogram, ordered_key, value_of_key};
use super::kmeans::{self, Search};
use super::weight::Weight;

/// A group of at least this many values is worked on by several threads, smaller ones by one each.
const LARGE_GROUP: usize = 1 << 20;

/// Values per task within a large group.
const CHUNK: usize = 1 << 18;

/// A weight as indices into one table for each group of output channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Palettized {
    /// The width of an index.
    pub bits: Bits,
    /// Output channels.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Output channels that share a table; divides `rows`.
    pub group_size: usize,
    /// The tables, `[rows / group_size, 2^bits]`, each ascending.
    pub lut: Vec<f16>,
    /// The index of each value, `[rows, cols]`, one in each byte.
    pub indices: Vec<u8>,
}

/// The weight with one table of 2^`bits` entries for every `group_size` output channels.
///
/// Each table holds the k-means centroids of its group (see [`Search`] for how close to optimal) rounded to fp16, in
/// ascending order; with fewer distinct values than entries it holds them all, and repeats the last to its end.
/// Each value has the index of the entry nearest to it, of two as near the smaller entry, and of equal ones the first.
pub fn palettize(
    weight: Weight<'_>,
    bits: Bits,
    group_size: usize,
    search: Search,
) -> Result<Palettized, Error> {
    let (rows, cols) = (weight.rows(), weight.cols());
    if group_size == 0 || !rows.is_multiple_of(group_size) {
        return Err(Error::Group { rows, cols, group_size });
    }
    let group_len = group_size * cols;
    let mut lut = vec![f16::ZERO; rows / group_size * bits.n_values()];
    let mut indices = vec![0; rows * cols];
    let tables = lut.chunks_exact_mut(bits.n_values());
    if group_len >= LARGE_GROUP {
        for ((values, table), indices) in
            weight.values().chunks(group_len).zip(tables).zip(indices.chunks_mut(group_len))
        {
            large_group(values, search, table, indices);
        }
    } else {
        weight
            .values()
            .par_chunks(group_len)
            .zip(lut.par_chunks_exact_mut(bits.n_values()))
            .zip(indices.par_chunks_mut(group_len))
            .for_each_init(Scratch::default, |scratch, ((values, table), indices)| {
                scratch.histogram.add(values);
                scratch.histogram.drain_into(&mut scratch.distinct);
                fit(&scratch.distinct, search, table);
                scratch.nearest.set(table, &scratch.distinct);
                scratch.nearest.assign(values, indices);
            });
    }
    Ok(Palettized { bits, rows, cols, group_size, lut, indices })
}

fn large_group(values: &[f16], search: Search, table: &mut [f16], indices: &mut [u8]) {
    let histogram = values
        .par_chunks(CHUNK)
        .fold(Histogram::default, |mut histogram, chunk| {
            histogram.add(chunk);
            histogram
        })
        .reduce_with(|mut a, b| {
            a.merge(&b);
            a
        })
        .unwrap_or_default();
    let distinct = histogram.into_distinct();
    fit(&distinct, search, table);
    let mut nearest = Nearest::default();
    nearest.set(table, &distinct);
    values
        .par_chunks(CHUNK)
        .zip(indices.par_chunks_mut(CHUNK))
        .for_each(|(values, indices)| nearest.assign(values, indices));
}

/// What a thread reuses from one group to the next.
#[derive(Default)]
struct Scratch {
    histogram: Histogram,
    distinct: Distinct,
    nearest: Nearest,
}

/// Fills `table` with the rounded centroids of as many clusters, ascending.
pub fn fit(distinct: &Distinct, search: Search, table: &mut [f16]) {
    let boundaries = kmeans::boundaries(distinct, table.len(), search);
    let mut last = f16::ZERO;
    let mut centroids = kmeans::centroids(distinct, &boundaries).into_iter().map(f16::from_f64);
    for entry in table {
        last = centroids.next().unwrap_or(last);
        *entry = last;
    }
}

/// For every fp16 value, the index of the nearest entry of an ascending table.
pub struct Nearest {
    index_of_key: Vec<u8>,
}

impl Default for Nearest {
    fn default() -> Self {
        Self { index_of_key: vec![0; 1 << 16] }
    }
}

impl Nearest {
    /// Takes on `table`, ascending and of at most 256 entries, for the values in the range of `distinct`.
    pub fn set(&mut self, table: &[f16], distinct: &Distinct) {
        let Some((low, high)) = distinct.key_range() else { return };
        let mut start = usize::from(low);
        let mut index = 0;
        for next in 1..table.len() {
            if table[next] == table[index] {
                continue;
            }
            // fp16 values are multiples of 2^−24 below 2^16, so their mean is exact in f64.
            let middle = f64::midpoint(f64::from(table[index]), f64::from(table[next]));
            let end = (usize::from(last_key_up_to(middle)) + 1).clamp(start, usize::from(high) + 1);
            self.index_of_key[start..end].fill(index as u8);
            (start, index) = (end, next);
        }
        self.index_of_key[start..=usize::from(high)].fill(index as u8);
    }

    /// Writes the index of each of `values`.
    pub fn assign(&self, values: &[f16], indices: &mut [u8]) {
        let index_of_key: &[u8; 1 << 16] =
            self.index_of_key.as_slice().try_into().expect("one index for each pattern");
        for (index, &value) in indices.iter_mut().zip(values) {
            *index = index_of_key[usize::from(ordered_key(value))];
        }
    }
}

/// The key of the largest fp16 value that is at most `x`.
fn last_key_up_to(x: f64) -> u16 {
    let key = ordered_key(f16::from_f64(x));
    if f64::from(value_of_key(key)) > x { key - 1 } else { key }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{SHAPES, Shape, sample};
    use super::*;

    fn halves(values: &[f32]) -> Vec<f16> {
        values.iter().copied().map(f16::from_f32).collect()
    }

    /// The index by the definition: of the nearest entries the smallest, of equal ones the first.
    fn nearest(table: &[f16], value: f16) -> usize {
        let distance = |entry: f16| (entry.to_f64() - value.to_f64()).abs();
        (0..table.len())
            .fold(0, |best, i| if distance(table[i]) < distance(table[best]) { i } else { best })
    }

    #[test]
    fn groups_that_do_not_divide() {
        let values = vec![f16::ONE; 40];
        for group_size in [0, 3, 16] {
            let weight = Weight::new(&values, 10, 4).unwrap();
            let error = palettize(weight, Bits::FOUR, group_size, Search::Quick).unwrap_err();
            let expected = format!(
                "shape [10, 4] does not divide into groups of {group_size} output channels"
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn few_values_are_kept_and_the_last_is_repeated() {
        let check = |values: &[f32], table: &[f32], indices: &[u8]| {
            let values = halves(values);
            let weight = Weight::new(&values, 1, values.len()).unwrap();
            let found = palettize(weight, Bits::new(2).unwrap(), 1, Search::Quick).unwrap();
            assert_eq!(found.lut, halves(table));
            assert_eq!(found.indices, indices);
        };
        check(&[0.0, 0.0, -0.0], &[0.0; 4], &[0, 0, 0]);
        check(&[-7.0, -7.0], &[-7.0; 4], &[0, 0]);
        check(&[3.0, -1.0, 3.0], &[-1.0, 3.0, 3.0, 3.0], &[1, 0, 1]);
        check(&[4.0, 3.0, 2.0, 1.0], &[1.0, 2.0, 3.0, 4.0], &[3, 2, 1, 0]);
        check(&[65504.0, -65504.0], &[-65504.0, 65504.0, 65504.0, 65504.0], &[1, 0]);
        check(&[6e-8, 0.0], &[0.0, 6e-8, 6e-8, 6e-8], &[1, 0]);
    }

    #[test]
    fn a_large_group_is_as_many_small_ones_of_the_same_values() {
        let row = sample(Shape::Normal, 1 << 12, 5);
        let rows = row.repeat(LARGE_GROUP >> 12);
        let small = palettize(Weight::new(&row, 1, 1 << 12).unwrap(), Bits::FOUR, 1, Search::Quick)
            .unwrap();
        let large = Weight::new(&rows, LARGE_GROUP >> 12, 1 << 12).unwrap();
        let large = palettize(large, Bits::FOUR, LARGE_GROUP >> 12, Search::Quick).unwrap();
        assert_eq!(large.lut, small.lut);
        assert_eq!(large.indices, small.indices.repeat(LARGE_GROUP >> 12));
    }

    proptest! {
        #[test]
        fn every_index_is_that_of_the_nearest_entry(
            shape in prop::sample::select(&SHAPES),
            bits in prop::sample::select(&Bits::ALL),
            (n_groups, group_size, cols) in (1_usize..4, 1_usize..4, 1_usize..80),
            seed in any::<u64>(),
        ) {
            let values = sample(shape, n_groups * group_size * cols, seed);
            let weight = Weight::new(&values, n_groups * group_size, cols).unwrap();
            let found = palettize(weight, bits, group_size, Search::Quick).unwrap();
            prop_assert!(found.lut.chunks(bits.n_values()).all(<[f16]>::is_sorted));
            for (i, &value) in values.iter().enumerate() {
                let table = &found.lut[i / (group_size * cols) * bits.n_values()..][..bits.n_values()];
                prop_assert_eq!(usize::from(found.indices[i]), nearest(table, value));
            }
        }

        #[test]
        fn any_table_is_searched_rightly(
            table in prop::collection::vec((0_u16..0x7c00, any::<bool>()), 1..20),
            values in prop::collection::vec((0_u16..0x7c00, any::<bool>()), 1..50),
        ) {
            let finite = |v: &[(u16, bool)]| -> Vec<f16> { v.iter().map(|&(m, s)| f16::from_bits(m | u16::from(s) << 15)).collect() };
            let (mut table, values) = (finite(&table), finite(&values));
            table.sort_by(f16::total_cmp);
            let mut histogram = Histogram::default();
            histogram.add(&values);
            let mut search = Nearest::default();
            search.set(&table, &histogram.into_distinct());
            let mut indices = vec![0; values.len()];
            search.assign(&values, &mut indices);
            for (&value, index) in values.iter().zip(indices) {
                prop_assert_eq!(usize::from(index), nearest(&table, value));
            }
        }
    }
}
