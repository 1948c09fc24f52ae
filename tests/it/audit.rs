//! What a written package says of its weights: forms, parts, errors; and two packages side by side.

use std::path::{Path, PathBuf};

use coremill::base::progress::Silent;
use coremill::compress::{self, Audit, Options, Recipe, TensorAudit, What};
use coremill::eval;
use coremill::package::Package;
use insta::assert_snapshot;

use crate::support::{Sandbox, copy};

fn dense(name: &str) -> Package {
    Package::open(&root(&format!("compression/dense_{name}.mlpackage"))).unwrap()
}

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The package compressed by the recipe, and what was said of it.
fn compressed(package: &Package, recipe: &str, out: &Path) -> (Package, Vec<TensorAudit>) {
    let recipe: Recipe = recipe.parse().unwrap();
    let options = Options { replace: true, ..Options::default() };
    let made = compress::run(package, &recipe, out, &options, &Silent)
        .unwrap_or_else(|error| panic!("{recipe}: {error}"));
    (Package::open(out).unwrap(), made.tensors)
}

/// The bytes of the blob file are those of weights, of the rest, and of its header.
fn adds_up(package: &Package, audit: &Audit, at: &str) {
    let file = package.path().join("Data/com.apple.CoreML/weights/weight.bin");
    let size = fs_err::metadata(file).unwrap().len();
    let rest = audit.rest.bytes + audit.rest.alignment;
    assert_eq!(64 + audit.parts.aligned() + rest, size.next_multiple_of(64), "{at}");
    assert_eq!(audit.parts.bytes(), audit.bytes, "{at}");
    let of_components: u64 = audit.components.iter().map(|c| c.parts.aligned()).sum();
    assert_eq!(of_components, audit.parts.aligned(), "{at}");
}

#[test]
fn each_form_in_words_and_parts() {
    // The weight is 48×64; parts are codes, tables, scales, offsets, mask.
    let cases = [
        ("ios18", "fp16", "fp16", [6144, 0, 0, 0, 0]),
        ("ios18", "pal4-t", "pal4", [1536, 32, 0, 0, 0]),
        ("ios18", "pal4-g16", "pal4 tables 3×1", [1536, 96, 0, 0, 0]),
        ("ios18", "pal3-t", "pal3", [1152, 16, 0, 0, 0]),
        ("ios18", "pal4-g16-v2", "pal4 tables 3×1, vectors of 2", [768, 192, 0, 0, 0]),
        ("ios18", "pal4-t+lut8", "pal4, int8 entries", [1536, 16, 2, 0, 0]),
        ("ios18", "pal4-g16-s", "pal4 tables 3×1, scales per channel", [1536, 96, 96, 0, 0]),
        ("ios18", "int4-b32", "int4 blocks [1, 32]", [1536, 0, 192, 0, 0]),
        ("ios18", "int8-c", "int8 per channel", [3072, 0, 96, 0, 0]),
        ("ios18", "int8-t", "int8 per tensor", [3072, 0, 2, 0, 0]),
        ("ios18", "int4-b16-asym", "int4 blocks [1, 16], offsets", [1536, 0, 384, 96, 0]),
        // One value more than half is zero already.
        ("ios18", "sparse50", "sparse 50.0 %", [3070, 0, 0, 0, 384]),
        ("ios18", "sparse50+pal4-t", "sparse 50.0 % + pal4", [768, 32, 0, 0, 384]),
        (
            "ios18",
            "sparse50+pal4-t+lut8",
            "sparse 50.0 % + pal4, int8 entries",
            [768, 16, 2, 0, 384],
        ),
        ("ios18", "sparse50+int8-c", "sparse 50.0 % + int8 per channel", [1535, 0, 96, 0, 384]),
        ("ios16", "fp16", "fp16", [6144, 0, 0, 0, 0]),
        ("ios16", "pal4-t", "pal4", [1536, 32, 0, 0, 0]),
        ("ios16", "int8-c", "int8 per channel, offsets", [3072, 0, 96, 48, 0]),
        // Scale and zero point are written in the program.
        ("ios16", "int8-t", "int8 per tensor, offsets", [3072, 0, 0, 0, 0]),
        ("ios16", "sparse50", "sparse 50.0 %", [3070, 0, 0, 0, 384]),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (target, recipe, form, parts) in cases {
        let at = format!("{target}, {recipe}");
        let recipe = format!("/linear/={recipe}");
        let (package, said) = compressed(&dense(target), &recipe, &dir.path().join("c.mlpackage"));
        let audit = compress::audit(&package).unwrap();
        adds_up(&package, &audit, &at);
        assert_eq!(audit.tensors.len(), 6, "{at}");
        let line = audit.tensors.iter().find(|t| t.name == "linear_weight").unwrap();
        let p = line.parts;
        assert_eq!(line.form, form, "{at}");
        assert_eq!([p.codes, p.tables, p.scales, p.offsets, p.mask], parts, "{at}");
        let blobs = parts.iter().filter(|n| **n > 0).count() as u64;
        let padding: u64 = parts.iter().map(|n: &u64| n.next_multiple_of(64) - n).sum();
        assert_eq!(p.alignment, blobs * 64 + padding, "{at}");
        assert_eq!((line.elements, line.shape.as_slice()), (3072, &[48, 64][..]), "{at}");
        assert!((line.bits_per_weight - p.bytes() as f64 / 384.0).abs() < 1e-12, "{at}");
        assert!((line.bits_with_alignment - p.aligned() as f64 / 384.0).abs() < 1e-12, "{at}");
        // What was said while it was written is what is read.
        let said: Vec<_> = said.iter().map(|t| (&t.name, t.parts, &t.functions)).collect();
        let read: Vec<_> = audit.tensors.iter().map(|t| (&t.name, t.parts, &t.functions)).collect();
        assert_eq!(said, read, "{at}");
    }
}

#[test]
fn errors_are_those_of_the_values_in_the_file() {
    let cases = [
        ("ios18", "fp16"),
        ("ios18", "pal4-g8"),
        ("ios18", "pal3-g8-v4"),
        ("ios18", "pal4-g8-s"),
        ("ios18", "pal4-g8-si"),
        ("ios18", "pal4-g8+lut8"),
        ("ios18", "int4-b16-asym"),
        ("ios18", "uint8-c"),
        ("ios18", "sparse50"),
        ("ios18", "sparse50+uniform4-g8"),
        ("ios18", "sparse50+int4-b16"),
        ("ios18", "sparse50+pal4-t+lut8"),
        ("ios16", "pal6-t"),
        ("ios16", "uint8-c"),
        ("ios16", "int8-t-asym"),
        ("ios16", "sparse75"),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (target, recipe) in cases {
        let at = format!("{target}, {recipe}");
        let original = dense(target);
        let recipe = format!("/linear|matmul/={recipe}");
        let (package, said) = compressed(&original, &recipe, &dir.path().join("c.mlpackage"));
        let errors = eval::weight_errors(&package, &original, &Silent).unwrap();
        assert_eq!(errors.weights.len(), 6, "{at}");
        let named = errors.not_in_baseline.len() + errors.only_in_baseline.len();
        assert_eq!((named, errors.other_shape.len()), (0, 0), "{at}");
        for (line, (name, distortion)) in said.iter().zip(&errors.weights) {
            let (distortion, told) = (distortion.unwrap(), line.relative_error.unwrap());
            assert_eq!(line.name, *name, "{at}");
            let read = distortion.relative_error();
            assert!(
                (read - told).abs() <= 1e-6 * told,
                "{at}, {name}: {read}, and {told} was said"
            );
            let n = line.shape.iter().product::<u64>();
            assert_eq!(distortion.n, n, "{at}, {name}");
            if let Some(largest) = line.max_error {
                assert_eq!(distortion.max_error.to_bits(), largest.to_bits(), "{at}, {name}");
                assert_eq!(distortion.psnr().is_some(), line.psnr_db.is_some(), "{at}, {name}");
            }
        }
    }
}

#[test]
fn every_form_that_coremltools_reads_is_one_line() {
    // The packages hold each operation in its forms, nested ones too, and small tables as values in the program.
    let cases = [
        ("constexpr_ios16", vec!["int8 per channel, offsets", "pal4", "pal6", "sparse 55.2 %"]),
        (
            "constexpr_ios18",
            vec![
                "pal2 tables 2×3",
                "pal1 tables 1×2, vectors of 3",
                "uint8 blocks [4, 6], offsets",
                "pal4 tables 8×1, int8 entries",
                "sparse 45.8 % + pal4 tables 4×1",
                "sparse 52.1 % + pal2, vectors of 2",
                "sparse 45.8 % + int4 blocks [1, 3]",
            ],
        ),
    ];
    for (name, forms) in cases {
        let package = Package::open(&root(&format!("interp/{name}.mlpackage"))).unwrap();
        let audit = compress::audit(&package).unwrap();
        adds_up(&package, &audit, name);
        let outputs = package.program().functions["main"].block.outputs.len();
        assert_eq!(audit.tensors.len(), outputs, "{name}");
        for form in forms {
            assert!(audit.tensors.iter().any(|t| t.form == form), "{name}: {form}");
        }
        let errors = eval::weight_errors(&package, &package, &Silent).unwrap();
        assert_eq!(
            (errors.total.n, errors.total.max_error.to_bits()),
            (audit.elements, 0),
            "{name}"
        );
    }
}

#[test]
fn weights_that_one_side_lacks_are_named() {
    let (a, b) = (dense("ios18"), Package::open(&root("tiny.mlpackage")).unwrap());
    let errors = eval::weight_errors(&b, &a, &Silent).unwrap();
    assert_eq!(errors.weights, [("linear_0_weight_0".to_owned(), None)]);
    assert_eq!(errors.not_in_baseline, ["linear_0_weight_0"]);
    assert_eq!(errors.only_in_baseline.len(), 6);
    assert_eq!(errors.total.n, 0);
}

/// Two packages, and what differs in which weights.
type Case<'a> = (&'a Package, &'a Package, &'a [(&'a str, What)]);

#[test]
fn packages_differ_in_what_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(format!("{name}.mlpackage"));
    let dense = dense("ios18");
    let (pal, _) = compressed(&dense, "/linear/=pal4-g16", &path("pal"));
    let (again, _) = compressed(&dense, "/linear/=pal4-g16", &path("again"));
    let (uniform, _) = compressed(&dense, "/linear/=uniform4-g16", &path("uniform"));
    let (more, _) = compressed(&dense, "/linear|conv_weight/=pal4-g16", &path("more"));
    let (int, _) = compressed(&dense, "/linear/=int4-c", &path("int"));
    let cases: [Case<'_>; 6] = [
        (&dense, &dense, &[]),
        (&pal, &again, &[]),
        (&dense, &pal, &[("linear_weight", What::Form)]),
        (&pal, &uniform, &[("linear_weight", What::Values)]),
        (&pal, &more, &[("conv_weight", What::Form)]),
        (&pal, &int, &[("linear_weight", What::Form)]),
    ];
    for (a, b, want) in cases {
        let diff = compress::diff(a, b).unwrap();
        assert_eq!(diff.model, []);
        let got: Vec<_> = diff.weights.iter().map(|w| (w.name.as_str(), w.what)).collect();
        assert_eq!(got, want);
        assert_eq!((diff.equal, diff.equal_weights), (want.is_empty(), 6 - want.len() as u64));
        assert_eq!(diff.all.left, compress::audit(a).unwrap().all());
        assert_eq!(diff.all.right, compress::audit(b).unwrap().all());
    }
    let tiny = |name: &str| Package::open(&root(&format!("{name}.mlpackage"))).unwrap();
    let diff = compress::diff(&tiny("tiny"), &tiny("tiny_multifunction")).unwrap();
    assert!(!diff.equal);
    let functions: Vec<_> = diff.model.iter().filter(|d| d.what == "function").collect();
    assert_eq!(functions.len(), 3, "{:?}", diff.model);
}

#[test]
fn what_differs_outside_of_weights_is_shown() {
    let sandbox = Sandbox::bare();
    for name in ["ranged", "control"] {
        let package = format!("{name}.mlpackage");
        copy(&root("edge").join(&package), &sandbox.path().join(&package));
    }
    assert_snapshot!(sandbox.show("inspect --diff ranged.mlpackage control.mlpackage"));
}
