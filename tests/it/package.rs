//! Packages written by coremltools are read, written again and read the same.

use std::path::{Path, PathBuf};

use coremill::blob::Reader;
use coremill::mil::{BlobRef, constant_bytes, edit};
use coremill::package::{Draft, Model, Package};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Writes the package again, its blobs in the order of their offsets.
fn rewrite(package: &Package, to: &Path) {
    let mut places: Vec<BlobRef> = Vec::new();
    edit::for_each_op(package.program(), &mut |_, op| {
        places.extend(op.const_value().and_then(|v| v.as_blob()).cloned());
    });
    places.sort();
    places.dedup();
    let draft = Draft::begin(to, false).unwrap();
    let mut writer = draft.weights(places.len() as u32).unwrap();
    for place in &places {
        let blob = package.blobs().blob(place).unwrap();
        let elements = blob.bytes().len() as u64;
        writer
            .blob::<coremill::blob::WriterError>(blob.ty, elements, 8, |put| put(blob.bytes()))
            .unwrap();
    }
    draft.finish(package.model(), Some(writer.finish().unwrap())).unwrap();
}

#[test]
fn reading_and_writing_keeps_programs_and_bytes() {
    for name in ["tiny.mlpackage", "tiny_multifunction.mlpackage"] {
        let original = Package::open(&fixture(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy.mlpackage");
        rewrite(&original, &copy);
        let again = Package::open(&copy).unwrap();
        assert_eq!(again.model(), original.model(), "{name}");
        let weights = "Data/com.apple.CoreML/weights/weight.bin";
        assert_eq!(
            fs_err::read(copy.join(weights)).unwrap(),
            fs_err::read(fixture(name).join(weights)).unwrap(),
            "{name}"
        );
        assert_eq!(Model::from_bytes(&original.model().to_bytes()).unwrap(), *original.model());
    }
}

#[test]
fn programs_print_as_coremltools_names_them() {
    let package = Package::open(&fixture("tiny_multifunction.mlpackage")).unwrap();
    insta::assert_snapshot!(coremill::mil::print::program(package.program()));
}

#[test]
fn constants_come_from_blobs_and_from_the_program() {
    let package = Package::open(&fixture("tiny.mlpackage")).unwrap();
    let mut sizes = Vec::new();
    edit::for_each_op(package.program(), &mut |_, op| {
        if let Some(value) = op.const_value() {
            let mut mapped = None;
            let bytes = constant_bytes(value, &*package.blobs(), &mut mapped);
            sizes.push((op.name().to_owned(), bytes.map(|b| b.len()).map_err(|e| e.to_string())));
        }
    });
    insta::assert_debug_snapshot!(sizes);
}

#[test]
fn broken_packages_are_refused() {
    let manifest = |path: &str| {
        format!(
            r#"{{"fileFormatVersion":"1.0.0","rootModelIdentifier":"A","itemInfoEntries":{{"A":{{"author":"a","name":"n","path":"{path}"}}}}}}"#
        )
    };
    let cases: [(&str, Option<String>, &str); 5] = [
        ("no manifest", None, "is no .mlpackage"),
        ("no JSON", Some("{".to_owned()), "EOF while parsing"),
        ("path tricks", Some(manifest("../../../etc/passwd")), "leads out of the package"),
        ("absolute", Some(manifest("/etc/passwd")), "leads out of the package"),
        ("missing model", Some(manifest("com.apple.CoreML/model.mlmodel")), "model.mlmodel"),
    ];
    for (name, manifest, want) in cases {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = manifest {
            fs_err::write(dir.path().join("Manifest.json"), text).unwrap();
        }
        let error = Package::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
    assert!(Reader::open(Path::new("does/not/exist")).is_err());
}
