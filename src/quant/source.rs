//! `Source`: the values that are coded, which are those of a weight after pruning and scaling.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::grid::Grid;
use super::histogram::widen;
use super::prune::Mask;
use super::weight::Weight;

/// Values per task when they are only looked at once.
const CHUNK: usize = 1 << 16;

/// A weight, what is left of it, and what its output channels are divided by.
#[derive(Debug, Clone)]
pub(super) struct Source<'a> {
    pub(super) weight: Weight<'a>,
    pub(super) mask: Option<Mask>,
    pub(super) scale: Option<ChannelScale>,
}

/// The largest magnitude of each output channel, or of each input; 1 where that is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelScale {
    pub(super) grid: Grid,
    /// One for each block of the grid.
    pub values: Vec<f16>,
}

impl ChannelScale {
    /// Number along each axis.
    pub fn shape(&self) -> Vec<usize> {
        self.grid.counts()
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(weight: Weight<'a>, mask: Option<Mask>) -> Self {
        Self { weight, mask, scale: None }
    }

    /// Divides each output channel by its largest magnitude from now on.
    pub(super) fn scale_outputs(&mut self) {
        let mut block = self.weight.shape().to_vec();
        block[self.weight.axes().output] = 1;
        self.scale_blocks(&block);
    }

    /// Divides each place along the other axes by its largest magnitude along `axis` from now on.
    pub(super) fn scale_across(&mut self, axis: usize) {
        let shape = self.weight.shape();
        let mut block = vec![1; shape.len()];
        block[axis] = shape[axis];
        self.scale_blocks(&block);
    }

    fn scale_blocks(&mut self, block: &[usize]) {
        let grid = Grid::new(self.weight.shape(), block).expect("1 and all divide every size");
        let magnitude = |(low, high): (f16, f16)| {
            let most = if -low > high { -low } else { high };
            if most == f16::ZERO { f16::ONE } else { most }
        };
        let values = self.extremes(&grid).into_iter().map(magnitude).collect();
        self.scale = Some(ChannelScale { grid, values });
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.weight.values().len()
    }

    /// The values in `range`; what is pruned is 0. `scratch` holds them where they differ from the weight's.
    pub(super) fn read<'b>(&'b self, range: Range<usize>, scratch: &'b mut Vec<f16>) -> &'b [f16] {
        let values = &self.weight.values()[range.clone()];
        if self.mask.is_none() && self.scale.is_none() {
            return values;
        }
        scratch.clear();
        scratch.extend_from_slice(values);
        if let Some(mask) = &self.mask {
            mask.clear(range.start, scratch);
        }
        if let Some(ChannelScale { grid, values }) = &self.scale {
            grid.runs(range.clone(), |channel, run| {
                let scale = widen(values[channel]);
                for v in &mut scratch[run.start - range.start..run.end - range.start] {
                    *v = f16::from_f32(widen(*v) / scale);
                }
            });
        }
        scratch
    }

    /// The smallest and the largest value of each block.
    pub(super) fn extremes(&self, grid: &Grid) -> Vec<(f16, f16)> {
        let n = self.len();
        // A chunk of runs knows a span of blocks; what several chunks know of one block is put together.
        let length = CHUNK.next_multiple_of(grid.run_len().min(CHUNK));
        let parts: Vec<(usize, Vec<(i16, i16)>)> = (0..n.div_ceil(length))
            .into_par_iter()
            .map_init(Vec::new, |scratch, i| {
                let range = i * length..((i + 1) * length).min(n);
                let values = self.read(range.clone(), scratch);
                let mut first = usize::MAX;
                let mut known = Vec::new();
                if grid.is_contiguous() {
                    first = range.start / grid.run_len();
                    let cut = (first + 1) * grid.run_len() - range.start;
                    let (head, rest) = values.split_at(cut.min(values.len()));
                    known.resize(1 + rest.len().div_ceil(grid.run_len()), NOTHING);
                    extremes(head, head.len().max(1), &mut known[..1]);
                    extremes(rest, grid.run_len(), &mut known[1..]);
                } else {
                    grid.runs(range.clone(), |block, run| {
                        // The first run of a chunk need not have its first block.
                        if block < first {
                            let gap = if first == usize::MAX { 0 } else { first - block };
                            known.splice(0..0, std::iter::repeat_n(NOTHING, gap));
                            first = block;
                        }
                        if known.len() <= block - first {
                            known.resize(block - first + 1, NOTHING);
                        }
                        let values = &values[run.start - range.start..run.end - range.start];
                        let at = &mut known[block - first];
                        for &v in values {
                            let key = signed_key(v);
                            *at = (at.0.min(key), at.1.max(key));
                        }
                    });
                }
                (first, known)
            })
            .collect();
        let mut all = vec![NOTHING; grid.n_blocks()];
        for (first, known) in parts {
            for (total, part) in all[first..].iter_mut().zip(known) {
                *total = (total.0.min(part.0), total.1.max(part.1));
            }
        }
        all.into_iter().map(|(low, high)| (of_signed_key(low), of_signed_key(high))).collect()
    }
}

/// The extremes of no values.
const NOTHING: (i16, i16) = (i16::MAX, i16::MIN);

crate::base::simd::multiversion! {
    /// The smallest and largest key of every `run` of `values`.
    fn extremes(values: &[f16], run: usize, out: &mut [(i16, i16)]) {
        for (values, out) in values.chunks(run).zip(out) {
            let (mut low, mut high) = NOTHING;
            for &v in values {
                let key = signed_key(v);
                low = low.min(key);
                high = high.max(key);
            }
            *out = (low, high);
        }
    }
}

/// A number whose signed order is that of the values; −0 has the key of +0, which is 0.
///
/// Signed, because that is how AVX2 compares.
#[inline]
pub(super) fn signed_key(value: f16) -> i16 {
    let bits = value.to_bits().cast_signed();
    let magnitude = bits & 0x7fff;
    if bits < 0 { -magnitude } else { magnitude }
}

/// The value whose key is `key`.
pub(super) fn of_signed_key(key: i16) -> f16 {
    let magnitude = key.unsigned_abs();
    f16::from_bits(if key < 0 { magnitude | 0x8000 } else { magnitude })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{SHAPES, sample};
    use super::*;

    #[test]
    fn keys_have_the_order_of_the_values() {
        let mut finite: Vec<f16> =
            (0..=u16::MAX).map(f16::from_bits).filter(|v| v.is_finite()).collect();
        finite.sort_by_key(|&v| signed_key(v));
        assert!(finite.is_sorted_by(|a, b| a <= b));
        assert!(finite.iter().all(|&v| of_signed_key(signed_key(v)) == v));
        assert_eq!(signed_key(f16::NEG_ZERO), signed_key(f16::ZERO));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn extremes_are_those_of_each_block(
            (rows, cols) in ((1_usize..6, 1_usize..8), (1_usize..6, 1_usize..60)),
            pruned: bool,
            seed: u64,
        ) {
            let shape = [rows.0 * rows.1, cols.0 * cols.1];
            // Large enough for several chunks now and then.
            let shape = if seed % 4 == 0 { [shape[0] * 40, shape[1] * 4] } else { shape };
            let block = [if seed % 4 == 0 { rows.1 * 40 } else { rows.1 }, cols.1];
            let values = sample(SHAPES[seed as usize % SHAPES.len()], shape[0] * shape[1], seed);
            let weight = Weight::matrix(&values, shape[0], shape[1]).unwrap();
            let mask = pruned.then(|| Mask::of(&values, 1, |at, _, flags| flags.iter_mut().enumerate().for_each(|(i, f)| *f &= (at + i) % 3 != 0)));
            let source = Source::new(weight, mask);
            let grid = Grid::new(&shape, &block).unwrap();
            let found = source.extremes(&grid);
            let mut scratch = Vec::new();
            let all = source.read(0..values.len(), &mut scratch);
            for (b, &(low, high)) in found.iter().enumerate() {
                let mut of_block = Vec::new();
                grid.runs_of(b, |run| of_block.extend_from_slice(&all[run]));
                of_block.sort_by(|a, b| a.partial_cmp(b).unwrap());
                prop_assert_eq!((low, high), (of_block[0], of_block[of_block.len() - 1]));
            }
        }
    }
}
