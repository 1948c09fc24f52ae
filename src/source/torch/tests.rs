//! Files that PyTorch wrote (`goldens/torch/make.py`), and what is not read.

#![expect(clippy::float_cmp, reason = "values are stored exactly")]
#![expect(clippy::indexing_slicing, reason = "a test that fails by a panic is as good")]

use std::path::{Path, PathBuf};

use super::*;
use crate::source::safetensors::{TensorFile, Tensors};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/goldens/torch").join(name)
}

fn counted(n: u16) -> Vec<f32> {
    (0..n).map(f32::from).collect()
}

#[test]
fn tensors_of_both_formats_are_read_in_place() {
    for name in ["archive.bin", "legacy.bin"] {
        let file = TensorFile::open(&golden(name)).unwrap();
        let read = |tensor: &str| {
            let mut out = vec![0.0; file.entries()[tensor].n_elements()];
            file.read_f32(tensor, 0, &mut out).unwrap();
            out
        };
        for tensor in ["f32", "f16", "bf16", "f64", "shared", "shared_again"] {
            assert_eq!(read(tensor), counted(6), "{name} {tensor}");
        }
        assert_eq!(read("transposed"), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0], "{name}");
        assert_eq!(read("slice"), [8.0, 9.0, 10.0, 14.0, 15.0, 16.0], "{name}");
        assert_eq!(read("parameter"), [0.0, 1.0], "{name}");
        assert_eq!(read("scalar"), [7.0], "{name}");
        let mut block = [0.0; 2];
        file.read_block("transposed", &(1..2), &(1..3), &mut block).unwrap();
        assert_eq!(block, [3.0, 5.0], "{name}");
        file.read_block("f32", &(0..2), &(2..3), &mut block).unwrap();
        assert_eq!(block, [2.0, 5.0], "{name}");
        let whole = file.read("slice").unwrap();
        assert_eq!((whole.shape, whole.bytes.len()), (vec![2, 3], 24));
        let entries = file.entries();
        assert_eq!(entries["shared"].begin, entries["shared_again"].begin);
        assert_eq!((entries["mask"].dtype, entries["ids"].dtype), (Dtype::Bool, Dtype::I64));
    }
}

#[test]
fn shared_storages_are_equal_tensors() {
    let tensors = Tensors::open_file(&golden("archive.bin")).unwrap();
    assert!(tensors.are_equal("shared", "shared_again").unwrap());
    assert!(!tensors.are_equal("shared", "slice").unwrap());
}

#[test]
fn nothing_but_tensors_is_read() {
    let open = |path: &Path| TensorFile::open(path).unwrap_err().to_string();
    let error = open(&golden("class.bin"));
    assert!(error.ends_with("asks for `argparse.Namespace`, which is not a tensor"), "{error}");
    let error = open(&golden("nested.bin"));
    assert!(error.ends_with("holds no tensors by name, but `state_dict`, `epoch`"), "{error}");
}

#[test]
fn broken_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pytorch_model.bin");
    let open = |bytes: &[u8]| {
        fs_err::write(&path, bytes).unwrap();
        TensorFile::open(&path).unwrap_err().to_string()
    };
    let cases: [(&[u8], &str); 5] = [
        (b"", "is not a PyTorch file: it is empty"),
        (b"<html>", "it is an HTML page"),
        (b"GGUF0000", "it is a GGUF file"),
        (
            b"version https://git-lfs.github.com/spec/v1\nsize 5\n",
            "is a Git LFS pointer to 5 bytes",
        ),
        (b"\x80\x02cos\nsystem\nU\x02ls\x85R.", "asks for `os.system`, which is not a tensor"),
    ];
    for (bytes, want) in cases {
        let error = open(bytes);
        assert!(error.contains(want), "{error}");
    }
    for name in ["archive.bin", "legacy.bin"] {
        let bytes = fs_err::read(golden(name)).unwrap();
        for n in (3..bytes.len()).step_by(7) {
            let error = open(&bytes[..n]);
            assert!(error.contains("cut off") || error.contains("not a PyTorch"), "{n}: {error}");
        }
    }
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    for op in [0x85, b'a'] {
        let mut bytes = vec![0x80, 2];
        if op == 0x85 {
            bytes.push(b')');
            bytes.extend(std::iter::repeat_n(0x85, 1 << 20));
        } else {
            bytes.extend(std::iter::repeat_n(b']', 1 << 20));
            bytes.extend(std::iter::repeat_n(b'a', (1 << 20) - 1));
        }
        bytes.push(b'.');
        assert!(pickle::load(&bytes).is_ok());
    }
}
