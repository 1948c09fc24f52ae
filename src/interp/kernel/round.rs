//! Rounding to a declared type: to the nearest value it has, ties to even, overflow to infinity.

use half::bf16;
use rayon::prelude::*;

use super::fp16;
use crate::mil::DType;

/// Elements handled by one thread at a time.
const PIECE: usize = 1 << 14;

/// What rounds to a type; nothing for a type that holds every f32.
fn rounding(dtype: DType) -> Option<fn(&mut [f32])> {
    match dtype {
        DType::F16 => Some(fp16::round),
        DType::Bf16 => {
            Some(|piece| piece.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()))
        }
        _ => None,
    }
}

/// Rounds every element to the values that `dtype` has, on this thread.
pub(crate) fn here(dtype: DType, values: &mut [f32]) {
    if let Some(round) = rounding(dtype) {
        round(values);
    }
}

/// Rounds every element to the values that `dtype` has.
pub(crate) fn to(dtype: DType, values: &mut [f32]) {
    let Some(round) = rounding(dtype) else { return };
    if values.len() <= PIECE {
        round(values);
    } else {
        values.par_chunks_mut(PIECE).for_each(round);
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_nearest_value_that_fp16_has(values in prop::collection::vec(-70_000.0_f32..70_000.0, 1..600), small in -1e-6_f32..1e-6) {
            let mut rounded = values.clone();
            rounded.push(small);
            to(DType::F16, &mut rounded);
            for (&x, &got) in values.iter().chain([&small]).zip(&rounded) {
                let want = f16::from_f64(f64::from(x));
                prop_assert_eq!(got, want.to_f32());
                if got.is_finite() {
                    for near in [want.to_bits() + 1, want.to_bits().wrapping_sub(1)] {
                        let near = f16::from_bits(near).to_f32();
                        prop_assert!(!near.is_finite() || near.signum() != got.signum() || (x - got).abs() <= (x - near).abs());
                    }
                }
            }
        }
    }

    #[test]
    fn ties_and_ends() {
        let cases = [
            (2049.0, 2048.0),
            (2051.0, 2052.0),
            (65_519.0, 65_504.0),
            (65_520.0, f32::INFINITY),
            (1e-8, 0.0),
        ];
        for (x, want) in cases {
            let mut v = [x];
            to(DType::F16, &mut v);
            assert_eq!(v[0], want);
        }
    }
}
