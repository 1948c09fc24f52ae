//! Many queries at once: products with keys and values by tiles, a few dozen queries after another, so that keys which
//! none of these sees (all later ones, under a causal mask) are left out.

use std::cell::RefCell;

use super::{Head, KEYS, Mask, Rows, softmax};
use crate::interp::kernel::tile::{self, LANES, ROWS, Sums};

/// Queries worked on together.
const QUERIES: usize = 8 * ROWS;

type Panel = [f32; LANES];

#[derive(Default)]
struct Scratch {
    /// Keys in panels of [`LANES`] keys: `[panel][depth][LANES]`.
    keys: Vec<Panel>,
    /// Values in panels of [`LANES`] columns: `[panel][key][LANES]`.
    values: Vec<Panel>,
    queries: Vec<f32>,
    scores: Vec<f32>,
    row: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// As [`super::head`].
pub(super) fn head(
    head: &Head,
    q: &[f32],
    k: Rows<'_>,
    v: Rows<'_>,
    mask: Mask<'_>,
    out: &mut [f32],
) {
    SCRATCH.with_borrow_mut(|scratch| {
        // Keys behind the last that any query sees are not read.
        let all = 0..head.queries;
        let mut blocks =
            (0..head.keys).step_by(KEYS).map(|from| from..(from + KEYS).min(head.keys)).rev();
        let last = blocks.find(|b| !mask.hides(&all, b.clone()));
        let n = last.map_or(0, |b| b.end);
        scratch.pack(head, n, k, v);
        for (i, out) in out.chunks_mut(QUERIES * head.value_depth).enumerate() {
            scratch.some(head, n, i * QUERIES, q, mask, out);
        }
    });
}

impl Scratch {
    fn pack(&mut self, head: &Head, n: usize, k: Rows<'_>, v: Rows<'_>) {
        let Head { depth, value_depth, .. } = *head;
        self.keys.clear();
        self.keys.resize(n.div_ceil(LANES) * depth, [0.0; LANES]);
        for key in 0..n {
            k.tile(key * depth, (key + 1) * depth, &mut self.row);
            let panel = &mut self.keys[key / LANES * depth..][..depth];
            for (to, &x) in panel.iter_mut().zip(&self.row) {
                to[key % LANES] = x;
            }
        }
        self.values.clear();
        self.values.resize(value_depth.div_ceil(LANES) * n, [0.0; LANES]);
        for key in 0..n {
            v.tile(key * value_depth, (key + 1) * value_depth, &mut self.row);
            for (panel, part) in self.row.chunks(LANES).enumerate() {
                self.values[panel * n + key][..part.len()].copy_from_slice(part);
            }
        }
    }

    /// The queries from `first` on, as many as `out` has rows, over the first `n` keys.
    fn some(
        &mut self,
        head: &Head,
        n: usize,
        first: usize,
        q: &[f32],
        mask: Mask<'_>,
        out: &mut [f32],
    ) {
        let Head { depth, value_depth, scale, .. } = *head;
        let count = out.len() / value_depth;
        let asked = first..first + count;
        let blocks = (0..n).step_by(KEYS).map(|from| from..(from + KEYS).min(n));
        let seen: Vec<_> = blocks.filter(|b| !mask.hides(&asked, b.clone())).collect();
        let (Some(start), Some(end)) = (seen.first().map(|b| b.start), seen.last().map(|b| b.end))
        else {
            // A query that sees no key has no weights that sum to one.
            out.fill(f32::NAN);
            return;
        };
        let rows = count.next_multiple_of(ROWS);
        self.queries.clear();
        self.queries.extend_from_slice(&q[first * depth..][..count * depth]);
        self.queries.resize(rows * depth, 0.0);
        // One panel may reach beyond the last key; the columns there are never read.
        let width = (end - start).next_multiple_of(LANES);
        self.scores.clear();
        self.scores.resize(rows * width, f32::NEG_INFINITY);
        for block in &seen {
            for key in block.clone().step_by(LANES) {
                let panel = &self.keys[key / LANES * depth..][..depth];
                let tiles = self.queries.chunks(ROWS * depth);
                for (tile, queries) in tiles.enumerate() {
                    let mut sums: Sums = [[0.0; LANES]; ROWS];
                    tile::add(queries, depth, panel, &mut sums);
                    for (r, sums) in sums.iter().enumerate() {
                        let at = (tile * ROWS + r) * width + key - start;
                        self.scores[at..at + LANES].copy_from_slice(sums);
                    }
                }
            }
        }
        let scores = self.scores.chunks_mut(width).take(count);
        for (query, row) in asked.zip(scores) {
            let row = &mut row[..end - start];
            for s in row.iter_mut() {
                *s *= scale;
            }
            mask.apply(query, start, row);
            softmax(row);
        }
        for (column, values) in (0..value_depth).step_by(LANES).zip(self.values.chunks(n)) {
            let lanes = LANES.min(value_depth - column);
            let tiles = self.scores.chunks(ROWS * width);
            for (rows, out) in tiles.zip(out.chunks_mut(ROWS * value_depth)) {
                let mut sums: Sums = [[0.0; LANES]; ROWS];
                tile::add(rows, width, &values[start..end], &mut sums);
                for (sums, out) in sums.iter().zip(out.chunks_mut(value_depth)) {
                    out[column..column + lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
    }
}
