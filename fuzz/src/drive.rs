//! What each target does with its bytes: everything that an untrusted package can reach, with what must hold asserted.
//!
//! `tests/it/hostile.rs` includes this file and replays the kept inputs, so that it builds with the stable toolchain.

use std::path::Path;
use std::sync::Arc;

use coremill::blob::{Blob, Reader};
use coremill::interp::{self, Options, Port, Precision, Tensor};
use coremill::mil::{self, Allowed, BlobRef, Blobs, ConstError, DType, Program};
use coremill::package::{Model, Package};

/// More elements than this, in all inputs or all states of a model, are not made up here.
const MOST_ELEMENTS: usize = 1 << 16;

/// Where a package keeps its files; `Wrapped` names the parts of a target's bytes after them.
const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

/// The manifest of a package whose bytes bring none.
const MANIFEST: &str = r#"{"fileFormatVersion":"1.0.0","rootModelIdentifier":"A","itemInfoEntries":{"A":{"author":"com.apple.CoreML","name":"model.mlmodel","path":"com.apple.CoreML/model.mlmodel"}}}"#;

/// The files of a package in one run of bytes: a byte of flags, then manifest and model, each behind its length in four
/// bytes, then the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrapped<'a> {
    /// Whether this is an `.mlmodelc` folder: its model is text, its manifest is `metadata.json`.
    pub compiled: bool,
    /// `Manifest.json`, or nothing for the usual one.
    pub manifest: &'a [u8],
    /// `model.mlmodel` or `model.mil`.
    pub model: &'a [u8],
    /// `weight.bin`, or nothing where there is none.
    pub weights: &'a [u8],
}

impl<'a> Wrapped<'a> {
    /// Takes the parts apart; a length that is too large takes what is there.
    pub fn open(bytes: &'a [u8]) -> Self {
        fn part<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
            let (length, rest) = bytes.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let (part, rest) = rest.split_at(length.min(rest.len()));
            *bytes = rest;
            part
        }
        let (flags, mut rest) = bytes.split_first().unwrap_or((&0, &[]));
        let (manifest, model) = (part(&mut rest), part(&mut rest));
        Self { compiled: flags & 1 == 1, manifest, model, weights: rest }
    }

    /// Puts the parts together.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.compiled)];
        for part in [self.manifest, self.model] {
            bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend(part);
        }
        bytes.extend(self.weights);
        bytes
    }

    /// Writes the files of the package into a folder.
    pub fn write(self, folder: &Path) {
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs_err::create_dir_all(path.parent().expect("a file below the folder"))
                .expect("a folder for the package");
            fs_err::write(path, bytes).expect("room for the package");
        };
        if self.compiled {
            put("model.mil", self.model);
            if !self.manifest.is_empty() {
                put("metadata.json", self.manifest);
            }
        } else {
            let usual = self.manifest.is_empty();
            put("Manifest.json", if usual { MANIFEST.as_bytes() } else { self.manifest });
            put(MODEL, self.model);
        }
        if !self.weights.is_empty() {
            put(if self.compiled { "weights/weight.bin" } else { WEIGHTS }, self.weights);
        }
    }
}

/// A package folder: opened, its description read, planned and run.
pub fn package(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Wrapped::open(bytes).write(folder.path());
    if let Ok(package) = Package::open(folder.path()) {
        let blobs = package.blobs();
        mil::edit::for_each_op(package.program(), &mut |_, op| {
            mil::edit::for_each_blob(op, &mut |at| drop(blobs.blob(at)));
        });
        let rules = package.model().rules();
        run(package.program(), &blobs, rules.ok().as_ref());
    }
}

/// `weight.bin`: every record on the grid and some off it, each blob compared with the bytes that its record names.
pub fn blob(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs_err::write(file.path(), bytes).expect("room for the file");
    let Ok(reader) = Reader::open(file.path()) else { return };
    let on_grid = (0..=bytes.len() as u64 + 64).step_by(64);
    let ends = [1, u64::MAX, u64::MAX - 63, 1 << 63, bytes.len() as u64];
    let (words, _) = bytes.as_chunks::<8>();
    let named = words.iter().take(64).map(|word| u64::from_le_bytes(*word));
    for offset in on_grid.chain(ends).chain(named) {
        let Ok(blob) = reader.blob(offset) else { continue };
        let word = |at: usize| {
            let from = usize::try_from(offset).expect("a record inside") + at;
            let word = bytes[from..].first_chunk().expect("a record inside");
            usize::try_from(u64::from_le_bytes(*word)).expect("data inside")
        };
        let (size, data) = (word(8), word(16));
        assert_eq!(blob.bytes(), &bytes[data..data + size], "record at {offset}");
    }
}

/// `model.mlmodel`: read, written and read again to the same bytes, planned and run.
pub fn proto(bytes: &[u8]) {
    let Ok(model) = Model::from_bytes(bytes) else { return };
    let written = model.to_bytes();
    let again = Model::from_bytes(&written).expect("what was written reads");
    assert_eq!(again.to_bytes(), written, "written twice");
    let rules = model.rules();
    run(&model.program, &no_blobs(), rules.ok().as_ref());
}

/// `model.mil`: read, written and read again to the same program, planned and run.
pub fn mil_text(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(program) = mil::text::read(text) else { return };
    let written = mil::text::write(&program);
    let again = mil::text::read(&written)
        .unwrap_or_else(|e| panic!("what was written does not read: {e}\n{written}"));
    // As text, for a NaN is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{program:?}"), "{written}");
    drop(mil::print::program(&program));
    if mil::verify::program(&program).is_ok() {
        run(&program, &no_blobs(), None);
    }
}

/// Plans the program, in the precision it declares and unrounded, and runs each function on made-up inputs.
fn run(program: &Program, blobs: &Arc<dyn Blobs>, rules: Option<&mil::Rules>) {
    for precision in [Precision::Declared, Precision::F32] {
        let Ok(model) = interp::Model::load(program, blobs, Options { precision }) else { return };
        let model = match rules {
            Some(rules) => model.with_rules(rules),
            None => model,
        };
        let ports = model.functions().values().flat_map(interp::Function::states);
        let sizes = ports.map(|port| port.shape.iter().flatten().product::<usize>());
        if sizes.fold(0, usize::saturating_add) > MOST_ELEMENTS {
            continue;
        }
        let mut state = model.state();
        for function in model.functions().values() {
            let Some(inputs) = inputs(function.inputs()) else { continue };
            let given: Vec<_> = function.inputs().iter().map(|p| p.name.as_str()).collect();
            let given: Vec<_> = given.into_iter().zip(inputs).collect();
            // Twice: what one run leaves behind is used by the next.
            for _ in 0..2 {
                drop(function.run(&given, &mut state, &[]));
            }
        }
    }
}

/// A tensor for each port, unless they are too large.
fn inputs(ports: &[Port]) -> Option<Vec<Tensor>> {
    let mut elements = 0_usize;
    let one = |port: &Port| {
        let mut shape: Vec<usize> = port.shape.iter().map(|d| d.unwrap_or(2)).collect();
        match &port.rule.allowed {
            Some(Allowed::Enumerated(shapes)) => shape.clone_from(shapes.first()?),
            Some(Allowed::Range(ranges)) => {
                for ((dim, known), (least, _)) in shape.iter_mut().zip(&port.shape).zip(ranges) {
                    *dim = known.unwrap_or(*least);
                }
            }
            None => {}
        }
        let n = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))?;
        elements = elements.checked_add(n).filter(|&all| all <= MOST_ELEMENTS)?;
        Some(match port.dtype {
            DType::Str => Tensor::strings(&shape, vec!["a".to_owned(); n]),
            DType::Bool => Tensor::bool(&shape, (0..n).map(|i| i % 3 != 1).collect()),
            dtype if dtype.is_float() => {
                let value = |i: usize| [0.5, -1.25, 2.0, 0.0, 3.5][i % 5];
                Tensor::f32(&shape, (0..n).map(value).collect())
            }
            _ => Tensor::i32(&shape, (0..n).map(|i| [0, 1, 0, 2, 1][i % 5]).collect()),
        })
    };
    ports.iter().map(one).collect()
}

/// The blobs of a program that comes alone: there are none.
fn no_blobs() -> Arc<dyn Blobs> {
    struct None;
    impl Blobs for None {
        fn blob(&self, at: &BlobRef) -> Result<Blob, ConstError> {
            Err(ConstError::Outside { name: at.file.clone() })
        }
    }
    Arc::new(None)
}
