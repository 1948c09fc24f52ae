//! What coremltools stores for the weights of `goldens/coremltools.json`, what codes stand for, and what no number of threads may
//! change.

use std::ops::ControlFlow;

use half::f16;
use proptest::prelude::*;
use serde_json::Value;

use super::samples::{SHAPES, sample};
use super::*;

/// Written by `goldens/make.py`.
const GOLDENS: &str = include_str!("goldens/coremltools.json");

fn goldens() -> Value {
    serde_json::from_str(GOLDENS).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes();
    digits
        .chunks(2)
        .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
        .collect()
}

fn halves(hex: &Value) -> Vec<f16> {
    bytes(hex).chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()
}

/// The name, values, rows and columns of every weight, with all that is known of it.
fn weights(goldens: &Value) -> impl Iterator<Item = (&str, Vec<f16>, usize, usize, &Value)> {
    goldens["weights"].as_array().unwrap().iter().map(|w| {
        let size = |key: &str| usize::try_from(w[key].as_u64().unwrap()).unwrap();
        (w["name"].as_str().unwrap(), halves(&w["values"]), size("rows"), size("cols"), w)
    })
}

fn compressed<'a>(weight: &Weight<'a>, scheme: &str, search: Search) -> Compressed<'a> {
    compress(weight.clone(), scheme.parse().unwrap(), search).unwrap()
}

#[test]
fn linear_schemes_store_what_coremltools_stores() {
    let mut n_checked = 0;
    for (name, values, rows, cols, golden) in weights(&goldens()) {
        let weight = Weight::matrix(&values, rows, cols).unwrap();
        for (scheme, stored) in golden["linear"].as_object().unwrap() {
            let compressed = compressed(&weight, scheme, Search::Quick);
            let found = compressed.linear().unwrap();
            assert_eq!(compressed.codes(), bytes(&stored["data"]), "{name}, {scheme}: data");
            assert_eq!(found.scale, halves(&stored["scale"]), "{name}, {scheme}: scale");
            assert_eq!(found.offset, stored.get("offset").map(bytes), "{name}, {scheme}: offset");
            if let Some(dequantized) = stored.get("dequantized") {
                assert_eq!(
                    compressed.dequantize(),
                    halves(dequantized),
                    "{name}, {scheme}: values"
                );
            }
            n_checked += 1;
        }
    }
    assert_eq!(n_checked, 40);
}

#[test]
fn palettes_are_no_worse_than_those_of_coremltools() {
    for (name, values, rows, cols, golden) in weights(&goldens()) {
        let weight = Weight::matrix(&values, rows, cols).unwrap();
        for (scheme, errors) in golden["palette"].as_object().unwrap() {
            for (search, slack) in [(Search::Quick, 1e-5), (Search::Exact, 1e-12)] {
                let found = compressed(&weight, scheme, search).dequantize();
                let error: f64 =
                    values.iter().zip(found).map(|(x, y)| (x.to_f64() - y.to_f64()).powi(2)).sum();
                // The default is scikit-learn's for groups this small; kmeans1d finds the optimum.
                for engine in ["default", "kmeans1d"] {
                    let theirs = errors[engine].as_f64().unwrap();
                    assert!(
                        error <= theirs * (1.0 + slack),
                        "{name}, {scheme}, {search:?}: {error} against {theirs} of {engine}"
                    );
                }
            }
        }
    }
}

#[test]
fn packed_bytes_are_those_of_the_blob_writer() {
    for case in goldens()["packed"].as_array().unwrap() {
        let bits = Bits::new(u8::try_from(case["bits"].as_u64().unwrap()).unwrap()).unwrap();
        let elements = bytes(&case["elements"]);
        assert_eq!(pack::pack(&elements, bits), bytes(&case["bytes"]), "{bits} bits: {elements:?}");
    }
}

/// Schemes of every kind, for weights of 32 output channels and 64 inputs or more.
const SCHEMES: [&str; 36] = [
    "pal1-t",
    "pal2-g8",
    "pal3-g4",
    "pal4-t",
    "pal4-g16",
    "pal6-g8",
    "pal8-t",
    "pal4-g16-a1",
    "pal6-g8-a1",
    "pal4-g8-s",
    "pal4-g8-si",
    "uniform3-t-si",
    "pal2-g8-a1-si",
    "pal2-t-v2",
    "pal3-g8-v4",
    "pal4-g16-a1-v2",
    "pal2-t-v2-s",
    "pal4-g16+lut8",
    "pal3-t-v2+lut8",
    "uniform4-t",
    "uniform3-g8-a1",
    "uniform6-g16+lut8",
    "int8-t",
    "int8-c",
    "int4-b32",
    "uint4-b16",
    "int4-b0x16",
    "int8-b4x1",
    "uint8-c-sym",
    "int8-c-asym",
    "int4-b32-ls",
    "sparse50",
    "sparse2:4",
    "sparse50-b4",
    "sparse75+pal4-g16+lut8",
    "sparse50+uint4-b16",
];

/// Everything that is stored.
fn stored(compressed: &Compressed<'_>) -> (Vec<u8>, Distortion, String) {
    let mut bytes = Vec::new();
    let distortion = compressed.pour(&mut |piece| {
        bytes.extend(piece);
        ControlFlow::Continue(())
    });
    (bytes, distortion, format!("{:?} {:?}", compressed.mask(), compressed.coded()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_is_stored_stands_for_what_is_said(
        scheme in prop::sample::select(&SCHEMES),
        kind in prop::sample::select(&SHAPES),
        swapped: bool,
        kernel: bool,
        seed: u64,
    ) {
        let shape: &[usize] = match (swapped, kernel) {
            (false, false) => &[32, 64],
            (false, true) if !scheme.contains('x') => &[32, 32, 3],
            (true, true) if !scheme.contains('x') => &[32, 64, 2],
            (_, true) => &[64, 64],
            (true, false) => &[64, 32],
        };
        let axes = if swapped { Axes { output: 1, input: 0 } } else { Axes::OUTPUT_FIRST };
        let values = sample(kind, shape.iter().product(), seed);
        let weight = Weight::new(&values, shape, axes).unwrap();
        let compressed = compressed(&weight, scheme, Search::Quick);
        let whole = compressed.dequantize();
        if !matches!(compressed.coded(), EncodedWeights::Float) {
            prop_assert_eq!(&reference::dequantized(&compressed, shape, &compressed.codes()), &whole);
        }
        let (bytes, distortion, _) = stored(&compressed);
        prop_assert_eq!(bytes.len(), compressed.poured_len());
        let between = Distortion::between(&values, &whole).unwrap();
        prop_assert_eq!((distortion.n, distortion.max_error, distortion.peak), (between.n, between.max_error, between.peak));
        prop_assert!((distortion.squared_error - between.squared_error).abs() <= 1e-6 * between.squared_error);
        // The bytes hold the codes that are stored.
        if let Some(bits) = compressed.palette().map(|p| p.bits).or(compressed.linear().map(|l| l.dtype.bits())) {
            let mut codes = compressed.codes();
            if let Some(mask) = compressed.mask() {
                mask.keep(0, &mut codes);
            }
            prop_assert_eq!(bytes, pack::pack(&codes, bits));
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let on = |n_threads: usize, weight: &Weight<'_>, scheme: &str| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| stored(&compressed(weight, scheme, Search::Quick)))
    };
    // Large enough for the per-tensor table to be made by several threads, and for several pieces.
    let (rows, cols) = (64, 1 << 14);
    for (seed, scheme) in [
        "pal4-t",
        "pal2-g8",
        "int8-c",
        "uint4-b32",
        "int8-t",
        "sparse50",
        "sparse2:4-a0+pal3-t",
        "uniform4-g16-a1",
    ]
    .into_iter()
    .enumerate()
    {
        let values = sample(SHAPES[seed], rows * cols, seed as u64);
        let weight = Weight::matrix(&values, rows, cols).unwrap();
        let one = on(1, &weight, scheme);
        for n_threads in [2, 5] {
            assert!(on(n_threads, &weight, scheme) == one, "{scheme} on {n_threads} threads");
        }
    }
}

#[test]
fn few_values_are_kept_and_the_last_is_repeated() {
    let halves =
        |values: &[f32]| -> Vec<f16> { values.iter().map(|&v| f16::from_f32(v)).collect() };
    let check = |scheme: &str, values: &[f32], table: &[f32], indices: &[u8]| {
        let values = halves(values);
        let weight = Weight::matrix(&values, 1, values.len()).unwrap();
        let found = compressed(&weight, scheme, Search::Quick);
        assert_eq!(found.palette().unwrap().lut, halves(table), "{scheme}");
        assert_eq!(found.codes(), indices, "{scheme}");
    };
    check("pal2-g1", &[0.0, 0.0, -0.0], &[0.0; 4], &[0, 0, 0]);
    check("pal2-g1", &[-7.0, -7.0], &[-7.0; 4], &[0, 0]);
    check("pal2-t", &[3.0, -1.0, 3.0], &[-1.0, 3.0, 3.0, 3.0], &[1, 0, 1]);
    check("pal2-t", &[4.0, 3.0, 2.0, 1.0], &[1.0, 2.0, 3.0, 4.0], &[3, 2, 1, 0]);
    check("pal2-t", &[65504.0, -65504.0], &[-65504.0, 65504.0, 65504.0, 65504.0], &[1, 0]);
    check("pal2-t", &[6e-8, 0.0], &[0.0, 6e-8, 6e-8, 6e-8], &[1, 0]);
    // coremltools fills up with zeros here.
    check("unique-t", &[3.0, -1.0, 3.0, 2.0], &[-1.0, 2.0, 3.0, 0.0], &[2, 0, 2, 1]);
    check("uniform2-t", &[0.0, 0.4, 1.0, 3.0], &[0.0, 1.0, 2.0, 3.0], &[0, 0, 1, 3]);
    // All equal: coremltools divides by zero.
    check("uniform2-t", &[0.5, 0.5], &[0.5; 4], &[0, 0]);
    // Where everything is pruned the first value stays.
    check("sparse50+pal1-t", &[0.0, 0.0], &[0.0, 0.0], &[0, 0]);
    check("sparse50+pal1-t", &[4.0, 1.0, 2.0, 3.0], &[3.0, 4.0], &[1, 0, 0, 0]);
}

#[test]
fn what_cannot_be_compressed_is_named() {
    let values: Vec<f16> = (0..40 * 10).map(|i| f16::from_f32(i as f32)).collect();
    let weight = Weight::matrix(&values, 10, 40).unwrap();
    let cases = [
        ("pal4-g3", "shape [10, 40] does not divide into groups of 3 channels along axis 0"),
        ("pal4-g16-a1", "shape [10, 40] does not divide into groups of 16 channels along axis 1"),
        ("pal4-g1-a2", "shape [10, 40] has no axis 2"),
        ("pal2-t-v3", "shape [10, 40]: 10 channels along axis 0 do not divide into vectors of 3"),
        ("pal2-g5-v2", "shape [10, 40]: 5 channels along axis 0 do not divide into vectors of 2"),
        ("unique-t", "shape [10, 40] has more than 256 distinct values that share a table"),
        ("sparse50-b6", "shape [10, 40] is not pruned by 6 channels along axis 0"),
        ("sparse2:4-a2", "shape [10, 40] is not pruned by 4 channels along axis 2"),
    ];
    for (scheme, want) in cases {
        let error = compress(weight.clone(), scheme.parse().unwrap(), Search::Quick).unwrap_err();
        assert_eq!(error.to_string(), want, "{scheme}");
    }
}
