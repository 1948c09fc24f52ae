//! Quick dequantization: any run of the values of [`dequant`](super::dequant), without the rest.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::affine::Affine;
use super::palette::Palettized;

/// Values that are rounded to fp16 together.
const PIECE: usize = 1024;

/// Writes the values from the flat position `at` on, which with `out` must lie inside the weight.
pub(super) fn affine(weight: &Affine, at: usize, out: &mut [f16]) {
    let [block_rows, block_cols] = weight.block_shape;
    let blocks_in_row = weight.cols / block_cols;
    let mut exact = [0.0_f32; PIECE];
    for (piece, out) in out.chunks_mut(PIECE).enumerate() {
        let exact = &mut exact[..out.len()];
        let mut at = at + piece * PIECE;
        let mut rest = &mut *exact;
        while !rest.is_empty() {
            let (row, col) = (at / weight.cols, at % weight.cols);
            let block = row / block_rows * blocks_in_row + col / block_cols;
            let n = rest.len().min(block_cols - col % block_cols);
            let (run, after) = rest.split_at_mut(n);
            let offset = weight.offset.as_ref().map_or(0, |all| weight.dtype.value(all[block]));
            let scale = weight.scale[block].to_f32();
            let data = run.iter_mut().zip(&weight.data[at..at + n]);
            if weight.dtype.is_signed() {
                data.for_each(|(v, &q)| *v = (i32::from(q as i8) - offset) as f32 * scale);
            } else {
                data.for_each(|(v, &q)| *v = (i32::from(q) - offset) as f32 * scale);
            }
            at += n;
            rest = after;
        }
        out.convert_from_f32_slice(exact);
    }
}

/// Writes the values from the flat position `at` on, which with `out` must lie inside the weight.
pub(super) fn palettized(weight: &Palettized, at: usize, out: &mut [f16]) {
    let group_len = weight.group_size * weight.cols;
    let (mut at, mut rest) = (at, out);
    while !rest.is_empty() {
        let n = rest.len().min(group_len - at % group_len);
        let (run, after) = rest.split_at_mut(n);
        let table = &weight.lut[at / group_len * weight.bits.n_values()..];
        for (v, &index) in run.iter_mut().zip(&weight.indices[at..at + n]) {
            *v = table[usize::from(index)];
        }
        at += n;
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{SHAPES, sample};
    use super::super::{Compressed, Scheme, Search, Weight, compress};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_run_is_part_of_the_plain_whole(
            scheme in prop::sample::select(&["pal4-t", "pal3-g4", "int4-b8", "uint4-b16", "int8-c", "uint8-t"]),
            rows in 1_usize..5,
            cols in 1_usize..90,
            places in (0.0..1.0_f64, 0.0..1.0_f64),
            seed: u64,
        ) {
            let (rows, cols) = (rows * 4, cols * 16);
            let values = sample(SHAPES[seed as usize % SHAPES.len()], rows * cols, seed);
            let weight = Weight::new(&values, rows, cols).unwrap();
            let compressed = compress(weight, scheme.parse::<Scheme>().unwrap(), Search::Quick).unwrap();
            let whole = compressed.dequantize();
            let place = |p: f64| (p * whole.len() as f64) as usize;
            let (from, to) = (place(places.0.min(places.1)), place(places.0.max(places.1)));
            let mut run = vec![f16::NAN; to - from];
            match &compressed {
                Compressed::Affine(weight) => affine(weight, from, &mut run),
                Compressed::Palettized(weight) => palettized(weight, from, &mut run),
                Compressed::Dense(_) => unreachable!("every scheme compresses"),
            }
            prop_assert_eq!(&run, &whole[from..to]);
        }
    }
}
