//! Checkpoints that are whole, and every way in which one can be broken.

use super::*;
use crate::source::fixture;

type Files<'a> = Vec<(&'a str, Vec<u8>)>;

/// A file with that header, and that many bytes after it.
fn raw(header: &str, n_data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.extend(std::iter::repeat_n(1, n_data));
    out
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs_err::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

const A: &str = r#""a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}"#;

#[test]
fn broken_files_are_named() {
    let header = format!("{{{A}}}");
    let b = |begin: u64, end: u64| {
        format!(
            r#"{{{A}, "b": {{"dtype": "U8", "shape": [4], "data_offsets": [{begin}, {end}]}}}}"#
        )
    };
    let dtype = header.replace("F16", "F12");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"tiny".to_vec(), "is 4 bytes long: too short"),
        (u64::MAX.to_le_bytes().to_vec(), "claims a header of 18446744073709551615 bytes"),
        (
            raw(&header, 0)[..20].to_vec(),
            "is truncated: its header needs 73 bytes, the file has 20",
        ),
        (raw(&header, 11), "is truncated: its header needs 85 bytes, the file has 84"),
        (raw(&header, 14), "is 87 bytes long, 2 more than its header accounts for"),
        (raw("{\"a\": 1", 0), "is not valid: invalid type: integer `1`"),
        (raw("[]", 0), "is not valid: invalid type: sequence, expected a map of tensor names"),
        (raw(&format!("{{{A}, {A}}}"), 12), "tensor `a` stands twice"),
        (raw(&dtype, 12), "tensor `a` in"),
        (
            raw(&header.replace("[2, 3]", "[2, 4]"), 12),
            "occupies 12 bytes; shape [2, 4] of F16 needs 16",
        ),
        (raw(&header.replace("[0, 12]", "[12, 0]"), 12), "offsets 12..0, which are not a range"),
        (raw(&header.replace('3', &u64::MAX.to_string()), 12), "of F16 needs 18446744073709551615"),
        (raw(&b(8, 12), 12), "tensors `a` and `b` in"),
        (raw(&b(13, 17), 17), "has a hole of 1 bytes before tensor `b`"),
    ];
    for (bytes, want) in cases {
        let dir = folder(&[("model.safetensors", &bytes)]);
        let error = Tensors::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}\n{want}");
        assert!(error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn broken_folders_are_named() {
    let good = raw(&format!("{{{A}}}"), 12);
    let index = |text: &str| text.as_bytes().to_vec();
    let name = "model.safetensors.index.json";
    let two = index(r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#);
    let cases: [(Files<'_>, &str); 9] = [
        (vec![], "holds no weights"),
        (vec![("model.gguf", vec![])], "holds no weights, but `model.gguf`"),
        (
            vec![("pytorch_model.bin", vec![])],
            "pytorch_model.bin` is not a PyTorch file: it is empty",
        ),
        (vec![(name, index("{"))], "is cut off: EOF"),
        (vec![(name, index(r#"{"weight_map": {}}"#))], "its `weight_map` is empty"),
        (
            vec![(name, index(r#"{"weight_map": {"a": "../1"}}"#))],
            "`../1` is not a plain file name",
        ),
        (
            vec![(name, two.clone()), ("1.safetensors", good.clone())],
            "shard `2.safetensors` named by",
        ),
        (
            vec![
                (name, two.clone()),
                ("1.safetensors", good.clone()),
                ("2.safetensors", good.clone()),
            ],
            "places tensor `b` in `2.safetensors`, which does not have it",
        ),
        (
            vec![
                (name, two),
                ("1.safetensors", good.clone()),
                ("2.safetensors", good[..70].to_vec()),
            ],
            "2.safetensors` is truncated: its header needs 73 bytes, the file has 70",
        ),
    ];
    for (files, want) in cases {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (*n, b.as_slice())).collect();
        let dir = folder(&files);
        let error = Tensors::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}\n{want}");
    }
}

#[test]
fn shards_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let b: Vec<f32> = (0..300_000).map(|i| i as f32).collect();
    fixture::write(&dir.path().join("1.safetensors"), &[("a", &[2], &[1.0, 2.0])]);
    fixture::write(
        &dir.path().join("2.safetensors"),
        &[("c", &[], &[3.0]), ("b", &[1000, 300], &b)],
    );
    let index = r#"{"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}}"#;
    fs_err::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let tensors = Tensors::open(dir.path()).unwrap();
    let listed: Vec<_> = tensors.iter().map(|(name, e)| (name, e.shape.clone(), e.dtype)).collect();
    let f32 = Dtype::F32;
    assert_eq!(listed, [("a", vec![2], f32), ("b", vec![1000, 300], f32), ("c", vec![], f32)]);
    assert_eq!(tensors.read_f32("b").unwrap(), b);
    assert_eq!(tensors.read("c").unwrap().bytes, 3f32.to_le_bytes());
    let mut block = [0.0; 4];
    tensors.read_block("b", &(998..1000), &(5..7), &mut block).unwrap();
    assert_eq!(block, [299_405.0, 299_406.0, 299_705.0, 299_706.0]);
    let error = tensors.read("d").unwrap_err().to_string();
    assert!(error.ends_with("has no tensor `d`"), "{error}");
}

#[test]
fn integers_are_not_weights() {
    let bytes = raw(r#"{"a": {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]}}"#, 1);
    let dir = folder(&[("model.safetensors", &bytes)]);
    let tensors = Tensors::open(dir.path()).unwrap();
    assert_eq!(tensors.read("a").unwrap().bytes, [1]);
    let error = tensors.read_f32("a").unwrap_err().to_string();
    assert!(error.ends_with("is I8, not a float weight"), "{error}");
}
