//! `Weight`: a view of fp16 values as a matrix of output channels by inputs, known to be finite.

use half::f16;
use rayon::prelude::*;

use super::error::Error;

/// Values per task when they are only looked at once.
const CHUNK: usize = 1 << 16;

/// Finite values, row-major: `rows` output channels of `cols` inputs each.
///
/// A weight of higher rank is a matrix too: the axes behind the first are the inputs.
#[derive(Debug, Clone, Copy)]
pub struct Weight<'a> {
    values: &'a [f16],
    rows: usize,
    cols: usize,
}

impl<'a> Weight<'a> {
    /// Takes `values` as `rows` × `cols`; they must be of that number, 1 to `u32::MAX`, and all finite.
    pub fn new(values: &'a [f16], rows: usize, cols: usize) -> Result<Self, Error> {
        let len = values.len();
        if rows.checked_mul(cols) != Some(len) {
            return Err(Error::Length { rows, cols, len });
        }
        if len == 0 {
            return Err(Error::Empty { rows, cols });
        }
        if u32::try_from(len).is_err() {
            return Err(Error::TooLarge { rows, cols });
        }
        // The check over a chunk has no early exit, so that it vectorises.
        let chunk = values
            .par_chunks(CHUNK)
            .position_first(|chunk| chunk.iter().fold(false, |bad, v| bad | !is_finite(*v)));
        if let Some(chunk) = chunk {
            let start = chunk * CHUNK;
            let index =
                values[start..].iter().position(|v| !is_finite(*v)).map_or(start, |i| start + i);
            return Err(Error::NotFinite {
                index,
                row: index / cols,
                col: index % cols,
                value: values[index],
            });
        }
        Ok(Self { values, rows, cols })
    }

    /// The values, row-major.
    pub fn values(&self) -> &'a [f16] {
        self.values
    }

    /// Output channels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
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
        let check = |rows, cols, expected: &str| {
            assert_eq!(Weight::new(&zeros, rows, cols).unwrap_err().to_string(), expected);
        };
        check(3, 5, "shape [3, 5] needs 15 values, got 12");
        check(
            usize::MAX,
            2,
            &format!("shape [{}, 2] needs {} values, got 12", usize::MAX, usize::MAX),
        );
        let empty = Weight::new(&[], 0, 4).unwrap_err();
        assert_eq!(empty.to_string(), "shape [0, 4] has no values");
        assert!(Weight::new(&zeros, 3, 4).is_ok());
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        let cols = 1 << 10;
        for (value, at) in [(f16::NAN, 0), (f16::INFINITY, 70_003), (f16::NEG_INFINITY, 131_071)] {
            let mut values = vec![f16::MAX; 128 * cols];
            values[at] = value;
            *values.last_mut().unwrap() = f16::NAN;
            let error = Weight::new(&values, 128, cols).unwrap_err().to_string();
            let place = format!("at index {at} (row {}, column {})", at / cols, at % cols);
            assert!(error.contains(&place), "{error}");
        }
    }
}
