//! Recipes applied to packages: forms, sharing, values, refusals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coremill::base::progress::Silent;
use coremill::compress::{self, Options, Recipe};
use coremill::mil::{BlobRef, edit};
use coremill::package::{Package, WEIGHT_FILE};
use regex::Regex;

use crate::support::linears;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn compress(
    name: &str,
    recipe: &str,
    to: &Path,
) -> Result<compress::Compressed, compress::CompressError> {
    let package = Package::open(&fixture(name)).unwrap();
    let recipe: Recipe = recipe.parse().unwrap();
    compress::run(&package, &recipe, to, &Options::default(), &Silent)
}

#[test]
fn every_scheme_takes_the_bits_it_says() {
    let cases = [
        ("fp16", 16.0, "const"),
        ("pal8-g16", 12.0, "constexpr_lut_to_dense"),
        ("pal4-g16", 4.25, "constexpr_lut_to_dense"),
        ("pal6-t", 6.5, "constexpr_lut_to_dense"),
        ("pal2-g8", 2.125, "constexpr_lut_to_dense"),
        ("int8-c", 8.25, "constexpr_blockwise_shift_scale"),
        ("int4-b32", 4.5, "constexpr_blockwise_shift_scale"),
        ("other=pal4-g16", 4.25, "constexpr_lut_to_dense"),
        ("/linear_0/=int8-c,pal4-g16", 8.25, "constexpr_blockwise_shift_scale"),
    ];
    for (recipe, bits, kind) in cases {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("c.mlpackage");
        compress("tiny_multifunction.mlpackage", recipe, &out).unwrap();
        let package = Package::open(&out).unwrap();
        let audit = compress::audit(&package).unwrap();
        // Both functions use the weight, and it is stored once.
        assert_eq!(audit.tensors.len(), 1, "{recipe}");
        assert!((audit.bits_per_weight - bits).abs() < 1e-9, "{recipe}: {}", audit.bits_per_weight);
        let text = coremill::mil::print::program(package.program());
        assert!(text.matches(&format!("= {kind}(")).count() >= 2, "{recipe}: {text}");
        if recipe == "fp16" {
            let weights = "Data/com.apple.CoreML/weights/weight.bin";
            let original = fixture("tiny_multifunction.mlpackage").join(weights);
            assert_eq!(fs_err::read(out.join(weights)).unwrap(), fs_err::read(original).unwrap());
        }
    }
}

#[test]
fn the_same_recipe_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.mlpackage"), dir.path().join("b.mlpackage"));
    let first = compress("tiny.mlpackage", "pal4-g16", &a).unwrap();
    let second = compress("tiny.mlpackage", "pal4-g16", &b).unwrap();
    assert_eq!(first.files, second.files);
}

#[test]
fn what_may_be_skipped_becomes_what_it_would_without() {
    let recipes: [Recipe; 3] =
        ["pal4-t", "pal4-t,/^linear/=sparse50+int8-c", "int4-t-ls"].map(|r| r.parse().unwrap());
    let package = Package::open(&fixture("compression/dense_ios18.mlpackage")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = |may_skip: &str, folder: &str| -> Vec<_> {
        let may_skip = vec![Regex::new(may_skip).unwrap()];
        let options = Options { may_skip, ..Options::default() };
        let place = |i: usize| dir.path().join(format!("{folder}/{i}.mlpackage"));
        let paths: Vec<PathBuf> = (0..recipes.len()).map(place).collect();
        let outputs: Vec<_> = recipes.iter().zip(paths.iter().map(PathBuf::as_path)).collect();
        let all = compress::run_all(&package, &outputs, &options, &Silent).unwrap();
        all.into_iter().map(|one| (one.files, one.skipped.len())).collect()
    };
    assert_eq!(files("", "all"), files("^nothing$", "none"));
}

#[test]
fn what_cannot_be_compressed_is_an_error_that_leaves_nothing() {
    let cases = [
        (
            "pal4-g64",
            "weight `linear_0_weight_0` cannot be `pal4-g64`: shape [32, 64] does not divide into groups of 64 channels along axis 0",
        ),
        (
            "int4-b48",
            "weight `linear_0_weight_0` cannot be `int4-b48`: shape [32, 64] does not divide into blocks of shape [1, 48]",
        ),
        ("attention=pal4-g16", "rule for `attention` matches none of the 1 weights"),
        ("/nothing/=int8-c,pal4-g16", "rule for `/nothing/` matches none of the 1 weights"),
    ];
    for (recipe, want) in cases {
        let dir = tempfile::tempdir().unwrap();
        let error =
            compress("tiny.mlpackage", recipe, &dir.path().join("c.mlpackage")).unwrap_err();
        assert_eq!(error.to_string(), want);
        assert!(coremill::base::fs::files_below(dir.path()).unwrap().is_empty(), "{recipe}");
    }
}

#[test]
fn a_weight_that_moves_to_the_place_of_another_stays_itself() {
    // As int8 with one scale each, the first two weights take as much as the first alone took: the third, which is
    // copied, comes to stand where the second stood.
    let dir = tempfile::tempdir().unwrap();
    let dense = dir.path().join("dense.mlpackage");
    let offsets = linears(&dense, &[("a", [32, 74]), ("c", [32, 64]), ("z", [32, 80])]);

    let recipe: Recipe = "int8-t,/^z$/=fp16".parse().unwrap();
    let out = dir.path().join("out.mlpackage");
    let dense = Package::open(&dense).unwrap();
    compress::run(&dense, &recipe, &out, &Options::default(), &Silent).unwrap();
    let out = Package::open(&out).unwrap();
    let mut kinds = BTreeMap::new();
    edit::for_each_op(out.program(), &mut |_, op| {
        kinds.insert(op.name().to_owned(), op.clone());
    });
    let z = kinds["z"].const_value().expect("the third weight is a constant").as_blob().unwrap();
    assert_eq!(z.offset, offsets[1], "the case is one no more");
    let original = BlobRef { file: WEIGHT_FILE.to_owned(), offset: offsets[2] };
    assert_eq!(
        out.blobs().blob(z).unwrap().bytes(),
        dense.blobs().blob(&original).unwrap().bytes()
    );
    assert_eq!(kinds["c"].kind, "constexpr_blockwise_shift_scale");
}

#[test]
fn a_compressed_package_is_not_compressed_again() {
    let dir = tempfile::tempdir().unwrap();
    let once = dir.path().join("once.mlpackage");
    compress("tiny.mlpackage", "pal4-g16", &once).unwrap();
    let recipe: Recipe = "pal4-g16".parse().unwrap();
    let again = dir.path().join("again.mlpackage");
    let package = Package::open(&once).unwrap();
    let error = compress::run(&package, &recipe, &again, &Options::default(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), "package has no uncompressed weights");
}
