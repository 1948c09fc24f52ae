//! Adapters that do not fit, that do nothing, or that are not what they seem.

use super::*;
use crate::base::error::Hint as _;
use crate::source::fixture;

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
const NORM: &str = "base_model.model.model.norm.weight";

type Listed<'a> = (&'a str, &'a [usize], &'a [f32]);

fn base() -> tempfile::TempDir {
    fixture::checkpoint(
        fixture::LLAMA,
        &[(Q, &[4, 4], &[0.5; 16]), ("model.norm.weight", &[4], &[1.0; 4])],
    )
}

#[test]
fn misfits_are_counted_and_the_first_is_shown() {
    let cases: [(&str, Vec<Listed<'_>>, &str); 7] = [
        (
            r#""r": 2"#,
            vec![(A, &[2, 5], &[1.0; 10]), (B, &[4, 2], &[1.0; 8])],
            "1 of its 1 parts, first `model.layers.0.self_attn.q_proj.weight`: shape [4, 5] in the adapter, \
             [4, 4] in the base",
        ),
        (
            r#""r": 3"#,
            vec![(A, &[2, 4], &[1.0; 8]), (B, &[4, 2], &[1.0; 8])],
            "`model.layers.0.self_attn.q_proj`: lora_A [2, 4] and lora_B [4, 2] are not of rank 3",
        ),
        (
            r#""r": 1"#,
            vec![
                ("m.k.lora_A.weight", &[1, 4], &[1.0; 4]),
                ("m.k.lora_B.weight", &[4, 1], &[1.0; 4]),
            ],
            "1 of its 1 parts, first `m.k.weight`, which the base does not have",
        ),
        (
            r#""r": 1"#,
            vec![(NORM, &[3], &[1.0; 3]), ("base_model.model.gone.bias", &[3], &[1.0; 3])],
            "2 of its 2 parts, first `gone.bias`, which the base does not have",
        ),
        (
            r#""r": 1"#,
            vec![(NORM, &[3], &[1.0; 3])],
            "`model.norm.weight`: shape [3] in the adapter, [4] in the base",
        ),
        (
            r#""r": 2, "use_dora": true"#,
            vec![
                (A, &[2, 4], &[1.0; 8]),
                (B, &[4, 2], &[1.0; 8]),
                (
                    "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
                    &[3],
                    &[1.0; 3],
                ),
            ],
            "`model.layers.0.self_attn.q_proj`: 3 magnitudes for 4 outputs",
        ),
        (
            r#""r": 2"#,
            vec![(A, &[2, 2, 2], &[1.0; 8]), (B, &[4, 2], &[1.0; 8])],
            "lora_A [2, 2, 2] and lora_B [4, 2] are not of rank 2",
        ),
    ];
    let base = base();
    let checkpoint = Checkpoint::open(base.path()).unwrap();
    for (settings, tensors, want) in cases {
        let dir = fixture::adapter(settings, &tensors);
        let error = Adapter::open(dir.path()).unwrap().fits(&checkpoint).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(error.hint().unwrap(), "pass the base model that the adapter was trained on");
    }
}

#[test]
fn an_adapter_must_change_something() {
    let zeros = [0.0; 8];
    let cases: [(&str, Vec<Listed<'_>>, bool); 6] = [
        (r#""r": 2"#, vec![(A, &[2, 4], &[1.0; 8]), (B, &[4, 2], &zeros)], true),
        (r#""r": 2"#, vec![(A, &[2, 4], &zeros), (B, &[4, 2], &[1.0; 8])], true),
        (r#""r": 2"#, vec![(A, &[2, 4], &[1.0; 8]), (B, &[4, 2], &[1.0; 8])], false),
        (
            r#""r": 2, "lora_alpha": 0"#,
            vec![(A, &[2, 4], &[1.0; 8]), (B, &[4, 2], &[1.0; 8])],
            true,
        ),
        (r#""r": 2"#, vec![(NORM, &[4], &[1.0; 4])], true),
        (r#""r": 2"#, vec![(NORM, &[4], &[1.0, 1.0, 1.5, 1.0])], false),
    ];
    let base = base();
    let checkpoint = Checkpoint::open(base.path()).unwrap();
    for (settings, tensors, nothing) in cases {
        let dir = fixture::adapter(settings, &tensors);
        let adapter = Adapter::open(dir.path()).unwrap();
        assert_eq!(
            adapter.changes_nothing(&checkpoint).unwrap(),
            nothing,
            "{settings} {tensors:?}"
        );
        match adapter.check(&checkpoint) {
            Ok(_) => assert!(!nothing),
            Err(e) => {
                assert!(nothing);
                assert!(e.to_string().contains("changes nothing"), "{e}");
            }
        }
    }
}

#[test]
fn broken_adapters_are_named() {
    let cases: [(Vec<Listed<'_>>, &str); 6] = [
        (vec![(A, &[2, 4], &[1.0; 8])], "module `model.layers.0.self_attn.q_proj` in"),
        (vec![(B, &[4, 2], &[1.0; 8])], "has lora_B but no lora_A"),
        (
            vec![("x.lora_magnitude_vector", &[1], &[1.0])],
            "has lora_magnitude_vector but no lora_A",
        ),
        (vec![("x.lora_B.bias", &[1], &[1.0])], "has a name that no LoRA adapter uses"),
        (vec![], "holds no tensor"),
        (
            vec![
                ("e.lora_embedding_A", &[1, 1], &[1.0]),
                ("e.lora_embedding_B", &[1, 1], &[1.0]),
                ("e.lora_magnitude_vector", &[1], &[1.0]),
            ],
            "tensor `e.lora_magnitude_vector` in",
        ),
    ];
    for (tensors, want) in cases {
        let dir = fixture::adapter(r#""r": 2"#, &tensors);
        let error = Adapter::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let dir = fixture::adapter(r#""r": 2"#, &[]);
    fs_err::remove_file(dir.path().join("adapter_model.safetensors")).unwrap();
    let error = Adapter::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("holds no `adapter_model.safetensors`"), "{error}");
    fs_err::write(dir.path().join("adapter_model.bin"), "").unwrap();
    let error = Adapter::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("adapter_model.bin` is not a PyTorch file: it is empty"), "{error}");
    fs_err::remove_file(dir.path().join("adapter_config.json")).unwrap();
    let error = Adapter::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("adapter_config.json` does not exist"), "{error}");
}
