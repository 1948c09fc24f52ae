//! `Weight`: a view of fp16 values as a tensor whose channel axes are known, and whose values are finite.

use half::f16;
use rayon::prelude::*;

use super::error::Error;
use crate::base::index::unravel;

/// Values per task when they are only looked at once.
const CHUNK: usize = 1 << 16;

/// The axes of a weight that are the channels of a product's result and of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Axes {
    /// Output channels.
    pub output: usize,
    /// Input channels.
    pub input: usize,
}

impl Axes {
    /// `[output, input, …]`, as in `linear`, `conv` and embeddings.
    pub const OUTPUT_FIRST: Self = Self { output: 0, input: 1 };
}

/// Finite values, row-major in `shape`.
#[derive(Debug, Clone)]
pub struct Weight<'a> {
    values: &'a [f16],
    shape: Vec<usize>,
    axes: Axes,
}

impl<'a> Weight<'a> {
    /// Takes `values` as a tensor of `shape`; they must be of that number, 1 to `u32::MAX`, and all finite.
    pub fn new(values: &'a [f16], shape: &[usize], axes: Axes) -> Result<Self, Error> {
        let len = values.len();
        let shape = shape.to_vec();
        let product = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
        if product != Some(len) {
            return Err(Error::Length { shape, len });
        }
        if len == 0 {
            return Err(Error::Empty { shape });
        }
        if u32::try_from(len).is_err() {
            return Err(Error::TooLarge { shape });
        }
        if axes.output.max(axes.input) >= shape.len() {
            return Err(Error::Axis { axis: axes.output.max(axes.input), shape });
        }
        // The check over a chunk has no early exit, so that it vectorises.
        let chunk = values
            .par_chunks(CHUNK)
            .position_first(|chunk| chunk.iter().fold(false, |bad, v| bad | !is_finite(*v)));
        if let Some(chunk) = chunk {
            let start = chunk * CHUNK;
            let index =
                values[start..].iter().position(|v| !is_finite(*v)).map_or(start, |i| start + i);
            return Err(Error::NotFinite { at: unravel(index, &shape), value: values[index] });
        }
        Ok(Self { values, shape, axes })
    }

    /// `rows` output channels of `cols` inputs.
    pub fn matrix(values: &'a [f16], rows: usize, cols: usize) -> Result<Self, Error> {
        Self::new(values, &[rows, cols], Axes::OUTPUT_FIRST)
    }

    /// The values, row-major.
    pub fn values(&self) -> &'a [f16] {
        self.values
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The channel axes.
    pub fn axes(&self) -> Axes {
        self.axes
    }
}

fn is_finite(value: f16) -> bool {
    value.to_bits() & 0x7c00 != 0x7c00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_weight() {
        let zeros = vec![f16::ZERO; 12];
        let check = |shape: &[usize], axes, expected: &str| {
            assert_eq!(Weight::new(&zeros, shape, axes).unwrap_err().to_string(), expected);
        };
        let first = Axes::OUTPUT_FIRST;
        check(&[3, 5], first, "shape [3, 5] needs 15 values, got 12");
        let most = usize::MAX;
        check(&[most, 2], first, &format!("shape [{most}, 2] needs {most} values, got 12"));
        check(&[12], first, "shape [12] has no axis 1");
        check(&[3, 4], Axes { output: 7, input: 0 }, "shape [3, 4] has no axis 7");
        let empty = Weight::matrix(&[], 0, 4).unwrap_err();
        assert_eq!(empty.to_string(), "shape [0, 4] has no values");
        assert!(Weight::matrix(&zeros, 3, 4).is_ok());
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        let shape = [16, 8, 1 << 10];
        for (value, at) in [(f16::NAN, 0), (f16::INFINITY, 70_003), (f16::NEG_INFINITY, 131_071)] {
            let mut values = vec![f16::MAX; 1 << 17];
            values[at] = value;
            *values.last_mut().unwrap() = f16::NAN;
            if at == 131_071 {
                values[at] = value;
            }
            let error = Weight::new(&values, &shape, Axes::OUTPUT_FIRST).unwrap_err().to_string();
            let (row, at) = (at >> 10, at % (1 << 10));
            let place = format!("{value} at [{}, {}, {at}] is not finite", row / 8, row % 8);
            assert!(error.contains(&place), "{error}");
        }
    }
}
