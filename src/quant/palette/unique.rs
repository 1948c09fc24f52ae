//! Entries that are the values themselves, where these are few.

use std::collections::BTreeSet;

use half::f16;

use super::super::bits::Bits;
use super::super::error::Error;
use super::super::grid::Grid;
use super::super::source::{Source, of_signed_key, signed_key};
use super::nearest::Nearest;
use super::vector::Vectors;

/// The fewest bits for the values of every group, the tables, `[blocks of grid, 2^bits]`, each ascending, then zeros as
/// coremltools has them, and the way to find values in them. What is pruned counts as zero.
pub(super) fn tables(source: &Source<'_>, grid: &Grid) -> Result<(Bits, Vec<f16>, Nearest), Error> {
    let mut scratch = Vec::new();
    let mut sets = vec![BTreeSet::new(); grid.n_blocks()];
    for (block, set) in sets.iter_mut().enumerate() {
        let mut last = None;
        grid.runs_of(block, |run| {
            for &value in source.read(run, &mut scratch) {
                let key = signed_key(value);
                if last != Some(key) && set.len() <= Bits::EIGHT.n_values() {
                    set.insert([key]);
                    last = Some(key);
                }
            }
        });
    }
    let (bits, lut) = arranged(source, &sets, 1)?;
    // Searched are ascending tables, which end in their largest value.
    let mut ascending = lut.clone();
    for (table, set) in ascending.chunks_exact_mut(bits.n_values()).zip(&sets) {
        let last = table[set.len() - 1];
        table[set.len()..].fill(last);
    }
    let nearest = Nearest::new(&ascending, bits.n_values());
    Ok((bits, lut, nearest))
}

/// Likewise for vectors, `[blocks of grid, 2^bits, size]`, in lexicographic order.
pub(super) fn vector_tables(
    source: &Source<'_>,
    vectors: &Vectors,
) -> Result<(Bits, Vec<f16>), Error> {
    let mut values = Vec::new();
    let mut sets: Vec<BTreeSet<Vec<i16>>> = vec![BTreeSet::new(); vectors.indices.n_blocks()];
    for (block, set) in sets.iter_mut().enumerate() {
        vectors.indices.runs_of(block, |run| {
            vectors.read(source, run, &mut values);
            for vector in values.chunks_exact(vectors.size) {
                if set.len() <= Bits::EIGHT.n_values() {
                    set.insert(vector.iter().map(|&v| signed_key(v)).collect());
                }
            }
        });
    }
    arranged(source, &sets, vectors.size)
}

fn arranged<K: AsRef<[i16]>>(
    source: &Source<'_>,
    sets: &[BTreeSet<K>],
    dim: usize,
) -> Result<(Bits, Vec<f16>), Error> {
    let most = sets.iter().map(BTreeSet::len).max().unwrap_or(0);
    let bits = Bits::ALL.into_iter().find(|bits| most <= bits.n_values());
    let bits =
        bits.ok_or_else(|| Error::SortedHistogram { shape: source.weight.shape().to_vec() })?;
    let length = bits.n_values() * dim;
    let mut lut = vec![f16::ZERO; sets.len() * length];
    for (table, set) in lut.chunks_exact_mut(length).zip(sets) {
        let entries = set.iter().flat_map(|entry| entry.as_ref().iter());
        for (place, &key) in table.iter_mut().zip(entries) {
            *place = of_signed_key(key);
        }
    }
    Ok((bits, lut))
}
