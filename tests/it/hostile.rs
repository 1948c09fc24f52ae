//! Malformed packages: a clear error for each kind (docs/untrusted-input.md lists them), and what fuzzing found, replayed.

use std::panic::catch_unwind;
use std::path::Path;

use coremill::interp::{Model as Runtime, Options, Precision, Tensor};
use coremill::mil::{Arg, BlobRef, DType, Data, Op, Program, Type, text};
use coremill::package::{Model, Package};
use drive::Wrapped;

#[path = "../../fuzz/src/drive.rs"]
#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
mod drive;

/// The parts of a small package: one input `x`, a `linear` and a `relu`.
fn tiny() -> (Model, Vec<u8>) {
    let inside = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tiny.mlpackage/Data/com.apple.CoreML");
    let model = fs_err::read(inside.join("model.mlmodel")).unwrap();
    (Model::from_bytes(&model).unwrap(), fs_err::read(inside.join("weights/weight.bin")).unwrap())
}

/// Opens a package, plans and runs it: `ran`, or the first error.
fn outcome(folder: &Path) -> String {
    let through = || -> Result<(), String> {
        let package = Package::open(folder).map_err(|e| e.to_string())?;
        let options = Options { precision: Precision::Declared };
        let model = Runtime::load(package.program(), &package.blobs(), options)
            .map_err(|e| e.to_string())?;
        let function = model.function("main").map_err(|e| e.to_string())?;
        let x = Tensor::f32(&[1, 64], vec![1.0; 64]);
        function.run(&[("x", x)], &mut model.state(), &[]).map_err(|e| e.to_string())?;
        Ok(())
    };
    through().err().unwrap_or_else(|| "ran".to_owned())
}

fn of_parts(parts: Wrapped<'_>) -> String {
    let folder = tempfile::tempdir().unwrap();
    parts.write(folder.path());
    let outcome = outcome(folder.path());
    outcome.replace(&folder.path().display().to_string(), "[PKG]")
}

fn of_model(model: &[u8], weights: &[u8]) -> String {
    of_parts(Wrapped { compiled: false, manifest: &[], model, weights })
}

fn ops(program: &mut Program) -> &mut Vec<Op> {
    &mut program.functions.get_mut("main").unwrap().block.ops
}

fn op<'p>(program: &'p mut Program, kind: &str) -> &'p mut Op {
    ops(program).iter_mut().find(|op| op.kind == kind).unwrap()
}

/// The reference of the first constant in the blob file.
fn place(program: &mut Program) -> &mut BlobRef {
    let values = ops(program).iter_mut().filter_map(|op| op.attributes.get_mut("val"));
    let mut places =
        values.filter_map(|v| if let Data::Blob(at) = &mut v.data { Some(at) } else { None });
    places.next().unwrap()
}

fn bind(program: &mut Program, kind: &str, parameter: &str, name: &str) {
    op(program, kind).inputs.insert(parameter.to_owned(), vec![Arg::Name(name.to_owned())]);
}

#[test]
fn programs_that_mean_harm_are_refused() {
    type Edit = fn(&mut Program);
    let cases: &[(&str, Edit, &str)] = &[
        ("nothing", |_| {}, "ran"),
        // Two constants in the same bytes are only that.
        ("overlap", |p| place(p).offset = 64, "ran"),
        (
            "record far outside",
            |p| place(p).offset = u64::MAX - 63,
            "has no record at offset 18446744073709551552",
        ),
        ("record at the end", |p| place(p).offset = 4352, "has no record at offset 4352"),
        ("record in the data", |p| place(p).offset = 192, "has no record at offset 192"),
        ("another type", |p| op(p, "const").outputs[0].ty = Type::tensor(DType::I32, &[]), "ran"),
        (
            "a name upwards",
            |p| place(p).file = "@model_path/../../../etc/passwd".to_owned(),
            "blob file name `@model_path/../../../etc/passwd` leads out of the package",
        ),
        (
            "an absolute name",
            |p| place(p).file = "@model_path//etc/passwd".to_owned(),
            "blob file name `@model_path//etc/passwd` leads out of the package",
        ),
        (
            "no root",
            |p| place(p).file = "/etc/passwd".to_owned(),
            "`/etc/passwd` leads out of the package",
        ),
        ("a folder", |p| place(p).file = "@model_path/weights".to_owned(), "[PKG]"),
        (
            "a name before it is defined",
            |p| bind(p, "relu", "x", "out"),
            "operation `out_cast_fp16` (`relu`) uses `out` in `x`, which nothing before it defines",
        ),
        (
            "a name that defines itself",
            |p| bind(p, "relu", "x", "out_cast_fp16"),
            "operation `out_cast_fp16` (`relu`) uses `out_cast_fp16` in `x`, which nothing before it defines",
        ),
        (
            "a name twice",
            |p| op(p, "relu").outputs[0].name = "x".to_owned(),
            "function `main`: `x` is defined twice",
        ),
        (
            "a wrong rank",
            |p| op(p, "relu").outputs[0].ty = Type::tensor(DType::F16, &[32]),
            "operation `out_cast_fp16` (`relu`) failed: the result has shape [1, 32], declared is [32]",
        ),
        (
            "a huge shape",
            |p| op(p, "relu").outputs[0].ty = Type::tensor(DType::F16, &[1 << 33, 1 << 33]),
            "`out_cast_fp16` has type fp16[8589934592, 8589934592], too large to be held",
        ),
        (
            "an input without end",
            |p| {
                let main = p.functions.get_mut("main").unwrap();
                main.inputs[0].ty = Type::tensor(DType::F32, &[u64::MAX]);
            },
            "`x` has type fp32[18446744073709551615], too large to be held",
        ),
        (
            "many outputs",
            |p| p.functions.get_mut("main").unwrap().block.outputs = vec!["out".to_owned(); 5000],
            "function `main` has 5000 outputs, more than 4096",
        ),
        (
            "a name without end",
            |p| op(p, "relu").outputs[0].name = "n".repeat(5000),
            "name `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…` has 5000 bytes, more than 4096",
        ),
        (
            "many functions",
            |p| {
                let main = p.functions["main"].clone();
                p.functions.extend((0..5000).map(|i| (format!("f{i}"), main.clone())));
            },
            "the program has 5001 functions, more than 4096",
        ),
    ];
    for (name, edit, want) in cases {
        let (mut model, weights) = tiny();
        edit(&mut model.program);
        let binary = of_model(&model.to_bytes(), &weights);
        assert!(binary.contains(want), "{name}: {binary}");
        // The same as text, in a compiled model.
        let text = text::write(&model.program);
        let parts =
            Wrapped { compiled: true, manifest: &[], model: text.as_bytes(), weights: &weights };
        let compiled = of_parts(parts);
        assert!(compiled.contains(want), "{name}: {compiled}");
    }
}

#[test]
fn blob_files_that_mean_harm_are_refused() {
    type Edit<'e> = &'e dyn Fn(&mut Vec<u8>);
    let cases: &[(&str, Edit<'_>, &str)] = &[
        ("gone", &|w| w.clear(), "No such file"),
        ("cut in the header", &|w| w.truncate(63), "has 63 bytes, fewer than its header of 64"),
        ("cut in a record", &|w| w.truncate(127), "has no record at offset 64"),
        ("cut in the data", &|w| w.truncate(4000), "outside the file of 4000 bytes"),
        (
            "a size that overflows",
            &|w| w[72..80].fill(0xFF),
            "places 18446744073709551615 bytes at 128",
        ),
        (
            "a place that overflows",
            &|w| w[80..88].copy_from_slice(&(u64::MAX - 63).to_le_bytes()),
            "at 18446744073709551552",
        ),
        ("off the grid", &|w| w[80] = 1, "off the 64-byte grid"),
        (
            "too small",
            &|w| w[72..80].copy_from_slice(&2_u64.to_le_bytes()),
            "needs 4096 bytes and has 2",
        ),
        ("another type", &|w| w[68] = 3, "of type fp16[32, 64] refers to a blob of Uint8"),
        ("no type", &|w| w[68] = 200, "unknown type code 200"),
        ("another version", &|w| w[4] = 9, "has version 9, not 2"),
    ];
    for (name, edit, want) in cases {
        let (model, mut weights) = tiny();
        edit(&mut weights);
        let got = of_model(&model.to_bytes(), &weights);
        assert!(got.contains(want), "{name}: {got}");
    }
}

/// `inner` in one field after another, the last number innermost.
fn within(numbers: &[u32], inner: Vec<u8>) -> Vec<u8> {
    numbers.iter().rev().fold(inner, |inner, &number| field(number, &inner))
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let varint = |mut n: usize| {
        let mut out = Vec::new();
        while n > 0x7F {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    [varint((number as usize) << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

#[test]
fn protobuf_bombs_are_refused_before_they_are_decoded() {
    // Two bytes each, a hundred in memory: operations in a block, texts in a value of one.
    let many = |of: u32| field(of, &[]).repeat((1 << 23) + 1);
    let block = [502, 2, 2, 3, 2];
    let texts = [&block[..], &[3, 5, 2, 3, 1, 4]].concat();
    for bytes in [within(&block, many(3)), within(&texts, many(1))] {
        let error = Model::from_bytes(&bytes).unwrap_err().to_string();
        assert_eq!(error, "model file has more than 8388608 fields");
    }
    let (model, _) = tiny();
    let mut cut = model.to_bytes();
    cut.truncate(cut.len() - 1);
    // States of states: an input of `main` with its type, and the types in that.
    let deep = [vec![502, 2, 2, 1, 2], [5, 1].repeat(100)].concat();
    for bytes in [cut, within(&deep, vec![]), vec![0xFF; 1000], vec![0x08; 1000]] {
        let error = Model::from_bytes(&bytes).unwrap_err().to_string();
        let refused =
            error.starts_with("model file is damaged") || error == "model is no ML program";
        assert!(refused, "{error}");
    }
}

#[cfg(unix)]
#[test]
fn files_that_are_none_are_not_read() {
    use std::process::Command;
    let (model, weights) = tiny();
    let model = model.to_bytes();
    let cases = [
        ("Data/com.apple.CoreML/model.mlmodel", "model.mlmodel` is no plain file"),
        ("Data/com.apple.CoreML/weights/weight.bin", "fewer than its header of 64"),
        ("Manifest.json", "is no .mlpackage"),
    ];
    for (file, want) in cases {
        let folder = tempfile::tempdir().unwrap();
        Wrapped { compiled: false, manifest: &[], model: &model, weights: &weights }
            .write(folder.path());
        let path = folder.path().join(file);
        fs_err::remove_file(&path).unwrap();
        // Whoever opened it would wait for a writer for ever.
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let got = outcome(folder.path());
        assert!(got.contains(want), "{file}: {got}");
    }
    // Large without a byte on the disk.
    for (file, size, want) in [
        ("Manifest.json", 1 << 30, "Manifest.json` has 1073741824 bytes, more than 1048576"),
        (
            "Data/com.apple.CoreML/model.mlmodel",
            1 << 32,
            "has 4294967296 bytes, more than 2147483648",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        Wrapped { compiled: false, manifest: &[], model: &model, weights: &weights }
            .write(folder.path());
        let path = folder.path().join(file);
        fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
        let got = outcome(folder.path());
        assert!(got.contains(want), "{file}: {got}");
    }
}

#[test]
fn the_parts_of_a_package_come_back() {
    let parts = Wrapped { compiled: true, manifest: b"{}", model: b"program", weights: b"w" };
    assert_eq!(Wrapped::open(&parts.to_bytes()), parts);
    let cut = &parts.to_bytes()[..10];
    assert_eq!(Wrapped::open(cut).model, b"");
    assert_eq!(Wrapped::open(&[]).weights, b"");
}

/// What fuzzing found, by target: each input ended a process before its case was mended.
#[test]
fn what_fuzzing_found_stays_mended() {
    type Target = fn(&[u8]);
    let targets: [(&str, Target); 4] = [
        ("package", drive::package),
        ("blob", drive::blob),
        ("proto", drive::proto),
        ("mil_text", drive::mil_text),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let mut failed = Vec::new();
    for (name, target) in targets {
        let Ok(entries) = fs_err::read_dir(folder.join(name)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let bytes = fs_err::read(&path).unwrap();
            if catch_unwind(|| target(&bytes)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
