//! Entries that are the means of clusters of least squared error, from a histogram of the fp16 values of each group.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::super::bits::Bits;
use super::super::grid::Grid;
use super::super::histogram::{Histogram, SortedHistogram, Weighted};
use super::super::kmeans;
use super::super::search::Search;
use super::super::source::{ChannelScale, Source};
use crate::base::cancel;

/// A group of at least this many values is worked on by several threads, smaller ones by one each.
const LARGE_GROUP: usize = 1 << 20;

/// Values per task within a large group.
const CHUNK: usize = 1 << 18;

/// The tables, `[blocks of grid, 2^bits]`, each ascending.
///
/// No table has a smaller squared error over its group, or hardly (see [`Search`]); with fewer
/// distinct values than entries it holds them all, and repeats the last to its end. What is pruned is no part of a group.
pub(super) fn tables(source: &Source<'_>, grid: &Grid, bits: Bits, search: Search) -> Vec<f16> {
    let mut lut = vec![f16::ZERO; grid.n_blocks() * bits.n_values()];
    if let Some(scale) = &source.scale {
        lut.par_chunks_exact_mut(bits.n_values()).enumerate().for_each(|(block, table)| {
            fit(&of_scaled(source, scale, grid, block), search, table);
        });
        return lut;
    }
    let tables = lut.chunks_exact_mut(bits.n_values());
    if grid.block_len() >= LARGE_GROUP {
        for (block, table) in tables.enumerate() {
            fit(&of_large(source, grid, block), search, table);
        }
        return lut;
    }
    lut.par_chunks_exact_mut(bits.n_values()).enumerate().for_each_init(
        || (Histogram::default(), SortedHistogram::default(), Vec::new()),
        |(histogram, distinct, scratch), (block, table)| {
            grid.runs_of(block, |run| count(source, run, histogram, scratch));
            histogram.drain_into(distinct);
            fit(distinct, search, table);
        },
    );
    lut
}

/// The distinct values of a group, of which each counts as the square of what it will be multiplied by: that is how much
/// its error does.
fn of_scaled(
    source: &Source<'_>,
    scale: &ChannelScale,
    grid: &Grid,
    block: usize,
) -> SortedHistogram {
    let (mut weighted, mut scratch) = (Weighted::default(), Vec::new());
    grid.runs_of(block, |run| {
        if cancel::requested() {
            return;
        }
        scale.grid.runs(run, |channel, run| {
            let factor = scale.values[channel].to_f64();
            weighted.add(source.read(run, &mut scratch), factor * factor);
        });
    });
    weighted.into_distinct()
}

/// Adds the values in `run` that are stored.
fn count(
    source: &Source<'_>,
    run: Range<usize>,
    histogram: &mut Histogram,
    scratch: &mut Vec<f16>,
) {
    let start = run.start;
    let Some(mask) = &source.mask else {
        return histogram.add(source.read(run, scratch));
    };
    let mut stored = source.weight.values()[run].to_vec();
    mask.keep(start, &mut stored);
    histogram.add(&stored);
}

/// The distinct values of a group that several threads count.
fn of_large(source: &Source<'_>, grid: &Grid, block: usize) -> SortedHistogram {
    let mut runs = Vec::new();
    grid.runs_of(block, |run| {
        runs.extend(run.clone().step_by(CHUNK).map(|at| at..(at + CHUNK).min(run.end)));
    });
    let runs_per_task = (CHUNK / grid.run_len()).max(1);
    runs.par_chunks(runs_per_task)
        .fold(Histogram::default, |mut histogram, runs| {
            let mut scratch = Vec::new();
            for run in runs {
                if cancel::requested() {
                    break;
                }
                count(source, run.clone(), &mut histogram, &mut scratch);
            }
            histogram
        })
        .reduce_with(|mut a, b| {
            a.merge(b);
            a
        })
        .unwrap_or_default()
        .into_distinct()
}

/// Fills `table` with the entries of as many clusters, ascending; with zeros where there are no values, or once the run was
/// asked to stop.
pub fn fit(distinct: &SortedHistogram, search: Search, table: &mut [f16]) {
    if cancel::requested() {
        return table.fill(f16::ZERO);
    }
    let boundaries = kmeans::boundaries(distinct, table.len(), search);
    let mut last = f16::ZERO;
    let mut entries = kmeans::entries(distinct, &boundaries);
    for entry in table {
        last = entries.next().unwrap_or(last);
        *entry = last;
    }
}
