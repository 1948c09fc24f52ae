//! `Grid`: a tensor divided into blocks of one shape, which share a table, a scale or a zero point.

use std::ops::Range;

use super::error::Error;

/// Blocks of a tensor, numbered row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    shape: Vec<usize>,
    block: Vec<usize>,
    /// The last axis that is divided; 0 if none is.
    divided: usize,
    /// Values of one block that stand side by side.
    run: usize,
}

impl Grid {
    /// Blocks of shape `block` in a tensor of `shape`; each axis must divide, a size of 0 is the whole axis.
    pub fn new(shape: &[usize], block: &[usize]) -> Result<Self, Error> {
        let whole = |(&b, &size): (&usize, &usize)| if b == 0 { size } else { b };
        let sizes: Vec<usize> = block.iter().zip(shape).map(whole).collect();
        let fits = |(&size, &b): (&usize, &usize)| b > 0 && size.is_multiple_of(b);
        if block.len() != shape.len() || !shape.iter().zip(&sizes).all(fits) {
            return Err(Error::Block { shape: shape.to_vec(), block: block.to_vec() });
        }
        let divided = (0..shape.len()).rev().find(|&axis| sizes[axis] < shape[axis]).unwrap_or(0);
        let run = sizes[divided..].iter().product();
        Ok(Self { shape: shape.to_vec(), block: sizes, divided, run })
    }

    /// One block.
    pub fn whole(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            block: shape.to_vec(),
            divided: 0,
            run: shape.iter().product(),
        }
    }

    /// The shape of a block.
    pub fn block(&self) -> &[usize] {
        &self.block
    }

    /// Blocks along each axis.
    pub fn counts(&self) -> Vec<usize> {
        self.shape.iter().zip(&self.block).map(|(size, block)| size / block).collect()
    }

    /// All blocks.
    pub fn n_blocks(&self) -> usize {
        self.counts().iter().product()
    }

    /// Values of a block.
    pub fn block_len(&self) -> usize {
        self.block.iter().product()
    }

    /// Number of consecutive values of one block.
    pub fn run_len(&self) -> usize {
        self.run
    }

    /// True if each block is one run, so that the blocks follow one another.
    pub fn is_contiguous(&self) -> bool {
        self.run == self.block_len()
    }

    /// Calls `f` with every run of values of one block in the flat `range`, in their order, cut off at its ends.
    #[inline]
    pub fn runs(&self, range: Range<usize>, mut f: impl FnMut(usize, Range<usize>)) {
        // Runs along the last divided axis, and the lines of runs.
        let along = self.shape[self.divided] / self.block[self.divided];
        let line = along * self.run;
        let mut at = range.start;
        while at < range.end {
            let first = self.block_of_line(at / line) * along;
            let line_end = (at / line + 1) * line;
            let end = line_end.min(range.end);
            while at < end {
                let run = at % line / self.run;
                let run_end = (at - at % self.run + self.run).min(end);
                f(first + run, at..run_end);
                at = run_end;
            }
        }
    }

    /// Calls `f` with every run of the block `index`, in their order.
    pub fn runs_of(&self, index: usize, mut f: impl FnMut(Range<usize>)) {
        // The first place of the block, and the strides of the axes before the run.
        let mut rest = index;
        let (mut start, mut stride) = (0, 1);
        let mut leading = Vec::with_capacity(self.divided);
        for axis in (0..self.shape.len()).rev() {
            let count = self.shape[axis] / self.block[axis];
            start += rest % count * self.block[axis] * stride;
            rest /= count;
            if axis < self.divided {
                leading.push((self.block[axis], stride));
            }
            stride *= self.shape[axis];
        }
        let n_runs: usize = leading.iter().map(|(n, _)| n).product();
        for run in 0..n_runs {
            let (mut rest, mut at) = (run, start);
            for (n, stride) in &leading {
                at += rest % n * stride;
                rest /= n;
            }
            f(at..at + self.run);
        }
    }

    /// The number of the block of the `line`-th line, counted among the axes before the divided one.
    fn block_of_line(&self, line: usize) -> usize {
        let (mut rest, mut number, mut scale) = (line, 0, 1);
        for axis in (0..self.divided).rev() {
            let at = rest % self.shape[axis];
            rest /= self.shape[axis];
            number += at / self.block[axis] * scale;
            scale *= self.shape[axis] / self.block[axis];
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The block of a flat position by the definition.
    fn block_of(shape: &[usize], block: &[usize], at: usize) -> usize {
        let (mut rest, mut number, mut scale) = (at, 0, 1);
        for axis in (0..shape.len()).rev() {
            number += rest % shape[axis] / block[axis] * scale;
            scale *= shape[axis] / block[axis];
            rest /= shape[axis];
        }
        number
    }

    #[test]
    fn blocks_that_do_not_fit() {
        for (shape, block) in [(&[4, 10][..], &[1, 3][..]), (&[4, 10], &[1]), (&[4, 10], &[8, 10])]
        {
            let error = Grid::new(shape, block).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("shape {shape:?} does not divide into blocks of shape {block:?}")
            );
        }
        assert_eq!(Grid::new(&[4, 10], &[0, 5]).unwrap().block(), [4, 5]);
    }

    proptest! {
        #[test]
        fn runs_are_the_places_of_their_block(
            axes in prop::collection::vec((1_usize..4, 1_usize..5), 1..5),
            places in (0.0..1.0_f64, 0.0..1.0_f64),
        ) {
            let (shape, block): (Vec<usize>, Vec<usize>) = axes.iter().map(|(count, size)| (count * size, *size)).unzip();
            let grid = Grid::new(&shape, &block).unwrap();
            let n: usize = shape.iter().product();
            let place = |p: f64| (p * n as f64) as usize;
            let range = place(places.0.min(places.1))..place(places.0.max(places.1));
            let mut found = Vec::new();
            grid.runs(range.clone(), |b, run| {
                assert!(!run.is_empty() && run.len() <= grid.run_len());
                found.extend(run.map(|at| (at, b)));
            });
            let expected: Vec<_> = range.map(|at| (at, block_of(&shape, &block, at))).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(grid.n_blocks() * grid.block_len(), n);
            for b in 0..grid.n_blocks() {
                let mut of_block = Vec::new();
                grid.runs_of(b, |run| of_block.extend(run));
                let expected: Vec<_> = (0..n).filter(|&at| block_of(&shape, &block, at) == b).collect();
                prop_assert_eq!(of_block, expected);
            }
        }
    }
}
