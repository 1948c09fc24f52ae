//! Many queries at once: products with keys and values by tiles, a few dozen queries after another, over the keys that
//! these see (under a causal mask about half).

use std::cell::{Cell, RefCell};
use std::ops::Range;

use rayon::prelude::*;

use super::{Head, Rows, View};
use crate::interp::kernel::softmax::{exp_and_sum, scale_by};
use crate::interp::kernel::tile::{self, LANES, Panel, ROWS, Sums};

/// Queries worked on together.
const QUERIES: usize = 8 * ROWS;
/// Keys and values of more elements than this are not kept from one head to the next.
const KEPT: usize = 1 << 22;

/// Keys and values of a head.
#[derive(Default)]
struct Packed {
    /// Keys in panels of [`LANES`] keys: `[panel][depth][LANES]`.
    keys: Vec<Panel>,
    /// Values in panels of [`LANES`] columns: `[panel][key][LANES]`.
    values: Vec<Panel>,
    /// The first key in there.
    first: usize,
    /// The number of keys.
    n: usize,
}

#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
}

thread_local! {
    // Taken and put back: a thread that waits for others may be lent to another head.
    static PACKED: Cell<Packed> = Cell::default();
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// As [`super::head`].
pub(super) fn head(
    head: &Head,
    q: &[f32],
    k: Rows<'_>,
    v: Rows<'_>,
    view: View<'_>,
    out: &mut [f32],
) {
    let mut packed = PACKED.take();
    packed.fill(head, view.of(0..head.queries), k, v);
    out.par_chunks_mut(QUERIES * head.value_depth).enumerate().for_each(|(i, out)| {
        SCRATCH.with_borrow_mut(|scratch| scratch.some(head, &packed, i * QUERIES, q, view, out));
    });
    if (packed.keys.len() + packed.values.len()) * LANES <= KEPT {
        PACKED.set(packed);
    }
}

impl Packed {
    fn fill(&mut self, head: &Head, seen: Range<usize>, k: Rows<'_>, v: Rows<'_>) {
        let Head { depth, value_depth, .. } = *head;
        let n = seen.len();
        (self.first, self.n) = (seen.start, n);
        let mut row = Vec::new();
        // What stood here before remains beyond the last key and the last column, where sums are never read.
        self.keys.resize(n.div_ceil(LANES) * depth, Panel::default());
        self.values.resize(value_depth.div_ceil(LANES) * n, Panel::default());
        for (place, key) in seen.enumerate() {
            k.tile(key * depth, (key + 1) * depth, &mut row);
            let panel = &mut self.keys[place / LANES * depth..][..depth];
            for (to, &x) in panel.iter_mut().zip(&row) {
                to.0[place % LANES] = x;
            }
            v.tile(key * value_depth, (key + 1) * value_depth, &mut row);
            for (panel, part) in row.chunks(LANES).enumerate() {
                self.values[panel * n + place].0[..part.len()].copy_from_slice(part);
            }
        }
    }
}

impl Scratch {
    /// The queries from `first` on, as many as `out` has rows.
    fn some(
        &mut self,
        head: &Head,
        packed: &Packed,
        first: usize,
        q: &[f32],
        view: View<'_>,
        out: &mut [f32],
    ) {
        let Head { depth, value_depth, scale, .. } = *head;
        let count = out.len() / value_depth;
        // Places among the packed keys, from the start of a panel on.
        let place = |seen: Range<usize>| {
            let end = seen.end.max(packed.first) - packed.first;
            (seen.start.max(packed.first) - packed.first).min(end)..end
        };
        let seen = place(view.of(first..first + count));
        let start = seen.start / LANES * LANES;
        // One panel may reach beyond the last key; the columns there are never read. The odd panel keeps rows from
        // lying a power of two apart, where they would share few sets of the cache.
        let width = (seen.end - start).next_multiple_of(2 * LANES) + LANES;
        let rows = count.next_multiple_of(ROWS);
        self.queries.clear();
        self.queries.extend_from_slice(&q[first * depth..][..count * depth]);
        self.queries.resize(rows * depth, 0.0);
        self.scores.resize(rows * width, 0.0);
        let tile = |query: usize| {
            let seen = place(view.of(query..(query + ROWS).min(first + count)));
            if seen.is_empty() { start..start } else { seen }
        };
        let tiles: Vec<Range<usize>> = (first..first + count).step_by(ROWS).map(tile).collect();
        for key in (start..seen.end).step_by(LANES) {
            let panel = &packed.keys[key / LANES * depth..][..depth];
            let parts = self.queries.chunks(ROWS * depth).zip(&tiles);
            for (tile, (queries, seen)) in parts.enumerate() {
                if key >= seen.end || key + LANES <= seen.start {
                    continue;
                }
                let mut sums: Sums = [[0.0; LANES]; ROWS];
                tile::add(queries, depth, panel, &mut sums);
                for (r, sums) in sums.iter().enumerate() {
                    let at = (tile * ROWS + r) * width + key - start;
                    self.scores[at..at + LANES].copy_from_slice(sums);
                }
            }
        }
        let mut factors = [0.0; QUERIES];
        for (i, row) in self.scores.chunks_mut(width).take(count).enumerate() {
            let all = &tiles[i / ROWS];
            let own = place(view.of(first + i..first + i + 1));
            if own.is_empty() {
                // A query that sees no key has no weights that sum to one.
                factors[i] = f32::NAN;
                row[all.start - start..all.end - start].fill(0.0);
                continue;
            }
            row[all.start - start..own.start - start].fill(0.0);
            row[own.end - start..all.end - start].fill(0.0);
            let row = &mut row[own.start - start..own.end - start];
            scale_by(row, scale);
            view.apply(first + i, packed.first + own.start..packed.first + own.end, row);
            exp_and_sum(row, &mut factors[i]);
        }
        if packed.n == 0 {
            out.fill(f32::NAN);
            return;
        }
        for (column, values) in (0..value_depth).step_by(LANES).zip(packed.values.chunks(packed.n))
        {
            let lanes = LANES.min(value_depth - column);
            let parts = self.scores.chunks(ROWS * width).zip(&tiles).zip(factors.chunks(ROWS));
            for (((rows, seen), factors), out) in parts.zip(out.chunks_mut(ROWS * value_depth)) {
                let mut sums: Sums = [[0.0; LANES]; ROWS];
                tile::add(&rows[seen.start - start..], width, &values[seen.clone()], &mut sums);
                for ((sums, &factor), out) in
                    sums.iter().zip(factors).zip(out.chunks_mut(value_depth))
                {
                    for (o, s) in out[column..column + lanes].iter_mut().zip(sums) {
                        *o = s * factor;
                    }
                }
            }
        }
    }
}
