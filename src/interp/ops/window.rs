//! Windows that move over spatial dimensions, as `conv` and the pools have them: steps, padding, number of places.

use std::ops::Range;

use super::extents;
use crate::interp::error::OpError;
use crate::interp::op_context::OpContext;

/// The parameters as a program gives them; nothing means 1 (steps) or 0 (padding) along every dimension.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    padding: Padding,
    ceil: bool,
}

#[derive(Debug, Clone)]
enum Padding {
    None,
    /// Before and after each dimension in turn.
    Custom(Vec<usize>),
    /// The result has ⌈n / stride⌉ places; what is uneven goes after, or before.
    Same {
        more_before: bool,
    },
}

/// One spatial dimension with everything decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dim {
    /// Elements of the input.
    pub(super) size: usize,
    /// Elements of the window.
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    /// Padding before the input, and after it.
    pub(super) before: usize,
    pub(super) after: usize,
    /// Places of the window, which are the elements of the result.
    pub(super) places: usize,
}

impl Windows {
    /// `strides`, `dilations`, `pad_type`, `pad` and `ceil_mode`, as far as the operation has them.
    pub(super) fn of(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        let padding = match site.text("pad_type")?.unwrap_or_default().to_lowercase().as_str() {
            "valid" | "" => Padding::None,
            "custom" => {
                site.ints("pad")?.map_or(Ok(Padding::None), |p| extents(&p).map(Padding::Custom))?
            }
            "same" => Padding::Same { more_before: false },
            "same_lower" => Padding::Same { more_before: true },
            other => return Err(OpError::Unsupported(format!("pad_type `{other}`"))),
        };
        let ceil = site.bool("ceil_mode", false)?;
        if ceil && matches!(padding, Padding::Same { .. }) {
            return Err(OpError::invalid(
                "ceil_mode with a pad_type that fixes the result's shape",
            ));
        }
        let (strides, dilations) = (steps(site, "strides")?, steps(site, "dilations")?);
        Ok(Self { strides, dilations, padding, ceil })
    }

    /// The windows of `kernel` elements over an input of `size`.
    pub(super) fn dims(&self, size: &[usize], kernel: &[usize]) -> Result<Vec<Dim>, OpError> {
        self.check(size.len(), kernel.len())?;
        (0..size.len()).map(|i| self.dim(i, size[i], kernel[i])).collect()
    }

    /// The windows whose places are the `size` elements of an input and that move over a result: of extents `out`, or
    /// those that the padding leaves.
    pub(super) fn transposed(
        &self,
        size: &[usize],
        kernel: &[usize],
        out: Option<&[usize]>,
    ) -> Result<Vec<Dim>, OpError> {
        self.check(size.len(), kernel.len())?;
        (0..size.len()).map(|i| self.spread(i, size[i], kernel[i], out.map(|o| o[i]))).collect()
    }

    fn check(&self, n: usize, kernel: usize) -> Result<(), OpError> {
        if !(1..=3).contains(&n) {
            return Err(OpError::invalid(format!("{n} spatial dimensions, for 1 to 3")));
        }
        let lengths = [
            ("a kernel", Some(kernel)),
            ("strides", self.strides.as_ref().map(Vec::len)),
            ("dilations", self.dilations.as_ref().map(Vec::len)),
        ];
        for (what, length) in lengths {
            if let Some(length) = length.filter(|&l| l != n) {
                let fact = format!("{what} of {length} numbers for {n} spatial dimensions");
                return Err(OpError::invalid(fact));
            }
        }
        match &self.padding {
            Padding::Custom(pad) if pad.len() != 2 * n => {
                Err(OpError::invalid(format!("pad {pad:?} for {n} spatial dimensions")))
            }
            _ => Ok(()),
        }
    }

    /// Stride, dilation, and the elements from the first to the last of a window; nothing for an empty one.
    fn steps(&self, i: usize, kernel: usize) -> (usize, usize, Option<usize>) {
        let of = |steps: &Option<Vec<usize>>| steps.as_ref().map_or(1, |s| s[i]);
        let (stride, dilation) = (of(&self.strides), of(&self.dilations));
        let span = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilation));
        (stride, dilation, span.and_then(|s| s.checked_add(1)))
    }

    fn spread(
        &self,
        i: usize,
        size: usize,
        kernel: usize,
        out: Option<usize>,
    ) -> Result<Dim, OpError> {
        let (stride, dilation, span) = self.steps(i, kernel);
        let last = size.checked_sub(1).and_then(|n| n.checked_mul(stride));
        let full = last.zip(span).and_then(|(last, span)| last.checked_add(span));
        let shape_mismatch = || {
            OpError::invalid(format!(
                "{size} elements {stride} apart, each spread over {kernel} elements {dilation} apart, leave no result"
            ))
        };
        let full = full.ok_or_else(shape_mismatch)?;
        let (before, left) = match &self.padding {
            Padding::None => (0, Some(full)),
            Padding::Custom(pad) => {
                let (before, after) = (pad[2 * i], pad[2 * i + 1]);
                (before, full.checked_sub(before).and_then(|n| n.checked_sub(after)))
            }
            Padding::Same { more_before } => {
                let left = size.checked_mul(stride).ok_or_else(shape_mismatch)?;
                let total = full.saturating_sub(out.unwrap_or(left));
                (if *more_before { total - total / 2 } else { total / 2 }, Some(left))
            }
        };
        let n = out.or(left).filter(|&n| n > 0).ok_or_else(shape_mismatch)?;
        Ok(Dim { size: n, kernel, stride, dilation, before, after: 0, places: size })
    }

    fn dim(&self, i: usize, size: usize, kernel: usize) -> Result<Dim, OpError> {
        let (stride, dilation, span) = self.steps(i, kernel);
        let shape_mismatch = |before: usize, after: usize| {
            OpError::invalid(format!(
                "a window of {kernel} elements {dilation} apart does not fit {size} elements padded by {before} and {after}"
            ))
        };
        let span = span.filter(|_| size > 0).ok_or_else(|| shape_mismatch(0, 0))?;
        let (before, after) = match &self.padding {
            Padding::None => (0, 0),
            Padding::Custom(pad) => (pad[2 * i], pad[2 * i + 1]),
            Padding::Same { more_before } => {
                let last = (size.div_ceil(stride) - 1) * stride;
                let total = last.saturating_add(span).saturating_sub(size);
                let (less, more) = (total / 2, total - total / 2);
                if *more_before { (more, less) } else { (less, more) }
            }
        };
        let padded = size.checked_add(before).and_then(|n| n.checked_add(after));
        let room = padded
            .and_then(|n| n.checked_sub(span))
            .ok_or_else(|| shape_mismatch(before, after))?;
        let mut places = room / stride + 1;
        if self.ceil {
            if before != after {
                let fact = format!("ceil_mode with a padding of {before} before and {after} after");
                return Err(OpError::invalid(fact));
            }
            places = room.div_ceil(stride) + 1;
            // coremltools takes back a window that starts behind the input only where there is padding.
            if before > 0 && (places - 1) * stride >= size + before {
                places -= 1;
            }
        }
        Ok(Dim { size, kernel, stride, dilation, before, after, places })
    }
}

fn steps(site: &OpContext<'_, '_>, parameter: &str) -> Result<Option<Vec<usize>>, OpError> {
    let Some(given) = site.ints(parameter)? else { return Ok(None) };
    let sizes = extents(&given)?;
    if sizes.contains(&0) {
        return Err(OpError::invalid(format!("{parameter} {given:?}")));
    }
    Ok(Some(sizes))
}

impl Dim {
    /// A dimension of one element.
    const ONE: Self =
        Self { size: 1, kernel: 1, stride: 1, dilation: 1, before: 0, after: 0, places: 1 };

    /// The elements of the window at `place` that lie on the input.
    pub(super) fn inside(&self, place: usize) -> Range<usize> {
        let start = place * self.stride;
        let end = (self.size + self.before).saturating_sub(start).div_ceil(self.dilation);
        let end = end.min(self.kernel);
        self.before.saturating_sub(start).div_ceil(self.dilation).min(end)..end
    }

    /// The places where element `tap` of the window lies on the input.
    pub(super) fn touching(&self, tap: usize) -> Range<usize> {
        let shift = tap * self.dilation;
        let end = (self.size + self.before).saturating_sub(shift).div_ceil(self.stride);
        let end = end.min(self.places);
        self.before.saturating_sub(shift).div_ceil(self.stride).min(end)..end
    }

    /// The element of the input under element `tap` of the window at `place`, which must be one of those inside.
    pub(super) fn at(&self, place: usize, tap: usize) -> usize {
        place * self.stride + tap * self.dilation - self.before
    }
}

/// One to three dimensions as three, the missing ones in front.
pub(super) fn three(dims: &[Dim]) -> [Dim; 3] {
    let mut out = [Dim::ONE; 3];
    for (o, d) in out.iter_mut().rev().zip(dims.iter().rev()) {
        *o = *d;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(strides: &[usize], dilations: &[usize], padding: Padding, ceil: bool) -> Windows {
        let (strides, dilations) = (Some(strides.to_vec()), Some(dilations.to_vec()));
        Windows { strides, dilations, padding, ceil }
    }

    #[test]
    fn places_as_coremltools_counts_them() {
        let same = |more_before| Padding::Same { more_before };
        let custom = |p: usize| Padding::Custom(vec![p, p]);
        // size, kernel, stride, dilation, padding, ceil: padding before, places.
        let cases = [
            (7, 3, 3, 1, same(false), false, (1, 3)),
            (2, 2, 1, 1, same(false), false, (0, 2)),
            (2, 2, 1, 1, same(true), false, (1, 2)),
            (5, 2, 3, 1, same(false), false, (0, 2)),
            (10, 3, 2, 2, Padding::None, false, (0, 3)),
            (5, 2, 2, 1, Padding::None, false, (0, 2)),
            (5, 2, 2, 1, Padding::None, true, (0, 3)),
            (4, 2, 3, 1, custom(1), true, (1, 2)),
            (4, 1, 4, 1, Padding::None, true, (0, 2)),
            (6, 3, 2, 1, custom(1), true, (1, 4)),
        ];
        for (size, kernel, stride, dilation, padding, ceil, want) in cases {
            let dims = windows(&[stride], &[dilation], padding, ceil).dims(&[size], &[kernel]);
            let got = dims.unwrap()[0];
            assert_eq!((got.before, got.places), want, "{got:?}");
        }
    }

    #[test]
    fn numbers_that_do_not_go_together() {
        let most = i32::MAX as usize;
        let cases = [
            (windows(&[1], &[1], Padding::None, false), vec![2], vec![3], "a window of 3 elements"),
            (windows(&[1], &[1], Padding::None, false), vec![2], vec![0], "a window of 0 elements"),
            (
                windows(&[1], &[1], Padding::None, false),
                vec![0],
                vec![1],
                "does not fit 0 elements",
            ),
            (windows(&[1], &[most], Padding::None, false), vec![4], vec![9], "does not fit"),
            (windows(&[1, 1], &[1], Padding::None, false), vec![4], vec![1], "strides of 2"),
            (windows(&[1], &[1], Padding::None, false), vec![4], vec![1, 1], "a kernel of 2"),
            (windows(&[1], &[1], Padding::Custom(vec![1]), false), vec![4], vec![1], "pad [1]"),
            (windows(&[1], &[1], Padding::Custom(vec![1, 0]), true), vec![4], vec![1], "ceil_mode"),
            (windows(&[1], &[1], Padding::None, false), vec![1; 4], vec![1; 4], "4 spatial"),
        ];
        for (windows, size, kernel, want) in cases {
            let failed = windows.dims(&size, &kernel).unwrap_err().to_string();
            assert!(failed.contains(want), "{failed}");
        }
    }

    proptest! {
        #[test]
        fn inside_and_touching_as_their_definition(size in 1_usize..8, kernel in 1_usize..5, stride in 1_usize..4, dilation in 1_usize..4, pad in 0_usize..5) {
            let windows = windows(&[stride], &[dilation], Padding::Custom(vec![pad, pad]), false);
            let Ok(dims) = windows.dims(&[size], &[kernel]) else { return Ok(()) };
            let dim = dims[0];
            for place in 0..dim.places {
                for tap in 0..kernel {
                    let at = (place * stride + tap * dilation).checked_sub(pad).filter(|&p| p < size);
                    prop_assert_eq!(dim.inside(place).contains(&tap), at.is_some());
                    prop_assert_eq!(dim.touching(tap).contains(&place), at.is_some());
                    prop_assert_eq!(at.is_none_or(|p| p == dim.at(place, tap)), true);
                }
            }
        }
    }
}
