//! What coremltools stores for the weights of `goldens/coremltools.json`, and what no number of threads may change.

use half::f16;
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

#[test]
fn linear_schemes_store_what_coremltools_stores() {
    let mut n_checked = 0;
    for (name, values, rows, cols, golden) in weights(&goldens()) {
        let weight = Weight::new(&values, rows, cols).unwrap();
        for (scheme, stored) in golden["linear"].as_object().unwrap() {
            let compressed = compress(weight, scheme.parse().unwrap(), Search::Quick).unwrap();
            let Compressed::Affine(found) = &compressed else { panic!("{scheme} is not affine") };
            assert_eq!(found.data, bytes(&stored["data"]), "{name}, {scheme}: data");
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
        let weight = Weight::new(&values, rows, cols).unwrap();
        for (scheme, errors) in golden["palette"].as_object().unwrap() {
            for (search, slack) in [(Search::Quick, 1.001), (Search::Exact, 1.0 + 1e-12)] {
                let compressed = compress(weight, scheme.parse().unwrap(), search).unwrap();
                let error = compressed.distortion(weight).unwrap().squared_error;
                // The default is scikit-learn's for groups this small; kmeans1d finds the optimum.
                for engine in ["default", "kmeans1d"] {
                    let theirs = errors[engine].as_f64().unwrap();
                    assert!(
                        error <= theirs * slack,
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

#[test]
fn the_number_of_threads_changes_nothing() {
    let on = |n_threads: usize, weight: Weight<'_>, scheme: Scheme| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| {
            let compressed = compress(weight, scheme, Search::Quick).unwrap();
            let distortion = compressed.distortion(weight).unwrap();
            match compressed {
                Compressed::Dense(_) => panic!("nothing to compare"),
                Compressed::Palettized(p) => (p.indices, p.lut, None, distortion),
                Compressed::Affine(a) => (a.data, a.scale, a.offset, distortion),
            }
        })
    };
    // Large enough for the per-tensor table to be made by several threads.
    let (rows, cols) = (64, 1 << 14);
    for (seed, scheme) in
        ["pal4-t", "pal2-g8", "int8-c", "uint4-b32", "int8-t"].into_iter().enumerate()
    {
        let values = sample(SHAPES[seed], rows * cols, seed as u64);
        let weight = Weight::new(&values, rows, cols).unwrap();
        let scheme = scheme.parse().unwrap();
        let one = on(1, weight, scheme);
        for n_threads in [2, 5] {
            assert!(on(n_threads, weight, scheme) == one, "{scheme} on {n_threads} threads");
        }
    }
}

#[test]
fn stored_bytes_are_the_ideal_and_the_packing() {
    let values = sample(SHAPES[0], 32 * 64, 1);
    let weight = Weight::new(&values, 32, 64).unwrap();
    for scheme in
        ["fp16", "pal1-t", "pal3-g16", "pal6-g8", "int4-b32", "uint4-b16", "int8-c", "uint8-t"]
    {
        let scheme: Scheme = scheme.parse().unwrap();
        let compressed = compress(weight, scheme, Search::Quick).unwrap();
        let bits = scheme.bits_per_weight(32, 64) * values.len() as f64;
        assert_eq!(compressed.stored_len(), bits as usize / 8, "{scheme}");
        if let Compressed::Palettized(p) = &compressed {
            assert_eq!(
                pack::unpack(&pack::pack(&p.indices, p.bits), p.bits, values.len()),
                Ok(p.indices.clone())
            );
        }
    }
}
