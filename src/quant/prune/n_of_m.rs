//! The smallest n of every m values along an axis go.

use half::f16;

use super::super::error::Error;
use super::super::weight::Weight;
use super::{Mask, channels};

/// Of equal magnitudes the first goes first. The last group may be smaller: it counts as if zeros followed, which go before it.
pub(super) fn mask(weight: &Weight<'_>, n: usize, m: usize, axis: usize) -> Result<Mask, Error> {
    let (n_channels, inner) = channels(weight, axis, m)?;
    // Whole groups, side by side: those of one slice of the outermost axis, or of m of them.
    let slice = n_channels * inner;
    let whole = if axis == 0 { m * inner } else { slice };
    let magnitude = |value: f16| value.to_bits() & 0x7fff;
    Ok(Mask::of(weight.values(), whole, |at, values, flags| {
        let mut order: Vec<(u16, usize)> = Vec::with_capacity(m);
        let mut group = |channel: usize, first: usize| {
            let size = m.min(n_channels - channel);
            order.clear();
            order.extend(
                (0..size).map(|i| (magnitude(values[first + i * inner]), first + i * inner)),
            );
            // What is missing is zero and stands last among the zeros.
            let zeros = order.iter().filter(|(magnitude, _)| *magnitude == 0).count();
            let gone = if size == m { n } else { n.saturating_sub(m - size).max(n.min(zeros)) };
            order.sort_by_key(|(magnitude, _)| *magnitude);
            for (_, place) in order.iter().take(gone) {
                flags[*place] = false;
            }
        };
        for line in (0..values.len()).step_by(whole) {
            let (first_channel, n_groups) = if axis == 0 {
                ((at + line) / inner % n_channels, 1)
            } else {
                (0, n_channels.div_ceil(m))
            };
            for g in 0..n_groups {
                let channel = first_channel + g * m;
                for i in 0..inner {
                    group(channel, line + g * m * inner + i);
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::super::weight::Axes;
    use super::*;

    #[test]
    fn by_hand() {
        let check = |shape: &[usize], axis, (n, m), values: &[f32], kept: &[u8]| {
            let values: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
            let weight = Weight::new(&values, shape, Axes::OUTPUT_FIRST).unwrap();
            let mask = mask(&weight, n, m, axis).unwrap();
            let found: Vec<u8> = (0..values.len()).map(|i| u8::from(mask.is_set(i))).collect();
            assert_eq!(found, kept, "{shape:?}, axis {axis}, {n}:{m}");
        };
        check(&[1, 8], 1, (2, 4), &[1., -2., 3., -4., 4., 3., 2., 1.], &[0, 0, 1, 1, 1, 1, 0, 0]);
        check(&[1, 4], 1, (1, 2), &[5., 5., -5., 5.], &[0, 1, 0, 1]);
        // The last group is one value and zeros that are not there, which go first (coremltools' masks).
        let nine = [1., 2., 3., 4., 3., 2., 1., 5., 6.];
        check(&[1, 9], 1, (2, 4), &nine, &[0, 0, 1, 1, 1, 0, 0, 1, 1]);
        let nine = [0., 0., 0., 4., 3., 2., 1., 5., 0.];
        check(&[1, 9], 1, (1, 4), &nine, &[0, 0, 0, 1, 1, 1, 0, 1, 0]);
        check(&[1, 5], 1, (1, 2), &[1., 2., 2., 1., 9.], &[0, 1, 1, 0, 1]);
        check(&[4, 2], 0, (1, 2), &[1., 4., 2., 3., 7., 5., 6., 6.], &[0, 1, 1, 0, 1, 0, 0, 1]);
        check(&[1, 4, 2], 1, (1, 2), &[1., 9., 2., 8., 4., 6., 3., 7.], &[0, 1, 1, 0, 1, 0, 0, 1]);
        check(&[1, 4], 1, (1, 2), &[0., 0., 1., 0.], &[0, 0, 1, 0]);
    }

    #[test]
    fn groups_larger_than_half_the_channels() {
        let values = vec![f16::ONE; 12];
        let weight = Weight::matrix(&values, 2, 6).unwrap();
        let error = mask(&weight, 2, 4, 1).unwrap_err().to_string();
        assert_eq!(error, "shape [2, 6] is not pruned by 4 channels along axis 1");
    }
}
