//! Products of a stored weight with many vectors: the vectors are packed once, the weight is expanded a tile at a time.
//!
//! Vectors stand in panels of [`LANES`], cut along k into [`DEPTH`]s; a task owns some rows of the weight and goes
//! through all panels, so that a panel of one depth stays in the first-level cache and the task's rows and sums in the
//! second. Every element is summed by one thread in one order: results do not depend on the thread count.

use std::cell::{Cell, RefCell};

use rayon::prelude::*;

use super::columns::Columns;
use super::tile::{self, LANES, Panel, ROWS, Sums};
use super::transpose::transpose;
use crate::interp::stored::Stored;

/// Elements of k that are worked on together: a panel takes 16 KiB.
const DEPTH: usize = 256;
/// Rows of the weight in a task: with [`DEPTH`] 48 KiB in f32.
pub(crate) const TASK: usize = 8 * ROWS;
/// Panels whose sums are held together: with [`TASK`] 96 KiB.
const HELD: usize = 32;
/// From one expanded row to the next: not a power of two, whose rows would share few sets of the cache.
const STRIDE: usize = DEPTH + LANES;

/// The sums of a task's rows with the vectors of one panel.
pub(crate) struct Block<'a> {
    /// The first row.
    pub(crate) row: usize,
    /// The number of rows.
    pub(crate) rows: usize,
    /// The first vector.
    pub(crate) vector: usize,
    /// The number of vectors.
    pub(crate) vectors: usize,
    tiles: &'a [Sums],
}

impl Block<'_> {
    /// The sums of one row (counted from the first of the block) with all vectors.
    pub(crate) fn row(&self, i: usize) -> &[f32] {
        &self.tiles[i / ROWS][i % ROWS][..self.vectors]
    }

    /// The sums turned: those of each vector with the rows of the block, followed by anything up to [`TASK`].
    pub(crate) fn transposed(&self) -> [[f32; TASK]; LANES] {
        let mut out = [[0.0; TASK]; LANES];
        let sums = self.tiles.as_flattened().as_flattened();
        transpose(sums, LANES, out.as_flattened_mut(), TASK, (self.rows, self.vectors));
        out
    }
}

#[derive(Default)]
struct Scratch {
    rows: Vec<f32>,
    sums: Vec<Sums>,
}

/// Vectors of more elements than this are not kept from one product to the next.
const KEPT: usize = 1 << 23;

thread_local! {
    // Taken and put back: a thread that waits for others may be lent to another product.
    static PANELS: Cell<Vec<Panel>> = Cell::default();
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Vectors in panels: `[depth][panel][k in depth][LANES]`; whatever stands beyond the last vector is never read.
struct Packed {
    panels: Vec<Panel>,
    n_panels: usize,
    k: usize,
}

impl Packed {
    fn new(x: &Columns<'_>, k: usize) -> Self {
        let n_panels = x.t.div_ceil(LANES);
        let mut panels = PANELS.take();
        panels.resize(n_panels * k, Panel::default());
        let mut pieces = Vec::new();
        let mut rest = panels.as_mut_slice();
        for from in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - from);
            for panel in 0..n_panels {
                let (piece, after) = rest.split_at_mut(depth);
                pieces.push((from, panel, piece));
                rest = after;
            }
        }
        let pack = |(from, panel, piece): (usize, usize, &mut [Panel])| {
            let lanes = LANES.min(x.t - panel * LANES);
            if x.t_stride == 1 {
                for (p, to) in piece.iter_mut().enumerate() {
                    let at = (from + p) * x.k_stride + panel * LANES;
                    to.0[..lanes].copy_from_slice(&x.data[at..at + lanes]);
                }
            } else if x.k_stride == 1 {
                let vectors = &x.data[panel * LANES * x.t_stride + from..];
                let part = (lanes, piece.len());
                transpose(vectors, x.t_stride, bytemuck::cast_slice_mut(piece), LANES, part);
            } else {
                for lane in 0..lanes {
                    let at = (panel * LANES + lane) * x.t_stride;
                    let vector = &x.data[at + from * x.k_stride..];
                    for (to, v) in piece.iter_mut().zip(vector.iter().step_by(x.k_stride)) {
                        to.0[lane] = *v;
                    }
                }
            }
        };
        pieces.into_par_iter().with_min_len(4).for_each(pack);
        Self { panels, n_panels, k }
    }

    fn keep(self) {
        if self.panels.len() * LANES <= KEPT {
            PANELS.set(self.panels);
        }
    }

    /// The panels of the depth that starts at `from`, one after another.
    fn depth(&self, from: usize) -> (usize, &[Panel]) {
        let depth = DEPTH.min(self.k - from);
        (depth, &self.panels[from * self.n_panels..][..depth * self.n_panels])
    }
}

/// `w · x` for `w` of `[n, k]` and the vectors `x`: every block of sums goes to `emit` once.
pub(crate) fn gemm(
    w: &dyn Stored,
    (n, k): (usize, usize),
    x: &Columns<'_>,
    emit: &(dyn Fn(&Block<'_>) + Sync),
) {
    let packed = Packed::new(x, k);
    (0..n.div_ceil(TASK)).into_par_iter().for_each(|task| {
        let row = task * TASK;
        let n_rows = TASK.min(n - row);
        let n_tiles = n_rows.div_ceil(ROWS);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.rows.resize(TASK * STRIDE, 0.0);
            for held in (0..packed.n_panels).step_by(HELD) {
                let n_held = HELD.min(packed.n_panels - held);
                scratch.sums.clear();
                scratch.sums.resize(n_tiles * n_held, [[0.0; LANES]; ROWS]);
                for from in (0..k).step_by(DEPTH) {
                    let (depth, panels) = packed.depth(from);
                    for (i, out) in scratch.rows.chunks_mut(STRIDE).take(n_rows).enumerate() {
                        expand(w, (row + i) * k + from, &mut out[..depth]);
                    }
                    // The weight's next part, in short pieces far apart, which no processor foresees.
                    let next = from + depth;
                    let rows = if next < k { row..row + n_rows } else { 0..0 };
                    for at in rows.map(|row| row * k + next) {
                        if let Some(part) = w.run(at, DEPTH.min(k - next)) {
                            part.prefetch();
                        }
                    }
                    let panels = panels.chunks(depth).skip(held);
                    for (sums, panel) in scratch.sums.chunks_mut(n_tiles).zip(panels) {
                        for (sums, rows) in sums.iter_mut().zip(scratch.rows.chunks(ROWS * STRIDE))
                        {
                            tile::add(rows, STRIDE, panel, sums);
                        }
                    }
                }
                for (i, tiles) in scratch.sums.chunks(n_tiles).enumerate() {
                    let vector = (held + i) * LANES;
                    let vectors = LANES.min(x.t - vector);
                    emit(&Block { row, rows: n_rows, vector, vectors, tiles });
                }
            }
        });
    });
    packed.keep();
}

fn expand(w: &dyn Stored, at: usize, out: &mut [f32]) {
    match w.run(at, out.len()) {
        Some(row) => row.expand(out),
        None => w.fill(at, out),
    }
}
