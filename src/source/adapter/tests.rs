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
fn what_peft_would_not_load_is_named() {
    let pair: Vec<Listed<'_>> = vec![(A, &[2, 4], &[1.0; 8]), (B, &[4, 2], &[1.0; 8])];
    let bias = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias";
    let with = |name: &'static str| {
        let mut tensors = pair.clone();
        tensors.push((name, &[4], &[1.0; 4]));
        tensors
    };
    let tokens = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta";
    let cases: [(&str, Vec<Listed<'_>>, &str); 10] = [
        (
            r#""target_modules": ["k_proj"]"#,
            pair.clone(),
            "its `target_modules` leaves the module out",
        ),
        (
            r#""layers_to_transform": [1], "target_modules": ["q_proj"]"#,
            pair.clone(),
            "leaves the module out",
        ),
        (
            r#""target_modules": ["q_proj", "v_proj"]"#,
            pair.clone(),
            "`model.layers.0.self_attn.v_proj`, which `target_modules` names",
        ),
        (
            r#""modules_to_save": ["norm"]"#,
            pair.clone(),
            "`model.norm.weight`, which `modules_to_save` names",
        ),
        (
            r#""lora_bias": true"#,
            pair.clone(),
            "no tensor for `model.layers.0.self_attn.q_proj`, which its `lora_bias` asks for",
        ),
        (r#""lora_bias": false"#, with(bias), "lora_B.bias` in"),
        (
            r#""trainable_token_indices": [1]"#,
            pair.clone(),
            "no tensor for `embedding`, which its `trainable_token_indices`",
        ),
        (r#""trainable_token_indices": {"wte": [1]}"#, with(tokens), "trainable_tokens_delta` in"),
        (
            r#""trainable_token_indices": [9]"#,
            vec![(tokens, &[1, 4], &[1.0; 4])],
            "token 9 is beyond its 4 tokens",
        ),
        (
            r#""layer_replication": [[0, 2]]"#,
            pair.clone(),
            "replicates layers [[0, 2]], beyond the 1 layers",
        ),
    ];
    let base = fixture::checkpoint(
        fixture::LLAMA,
        &[
            (Q, &[4, 4], &[0.5; 16]),
            ("model.layers.0.self_attn.v_proj.weight", &[4, 4], &[0.5; 16]),
            ("model.norm.weight", &[4], &[1.0; 4]),
            ("model.embed_tokens.weight", &[4, 4], &[1.0; 16]),
        ],
    );
    let checkpoint = Checkpoint::open(base.path()).unwrap();
    for (settings, tensors, want) in cases {
        let dir = fixture::adapter(&format!(r#""r": 2, {settings}"#), &tensors);
        let error = Adapter::open(dir.path()).unwrap().fits(&checkpoint).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_new_vocabulary_comes_with_embedding_and_head() {
    let values = [1.0; 24];
    let embedding: Listed<'_> = ("base_model.model.model.embed_tokens.weight", &[6, 4], &values);
    let head: Listed<'_> = ("base_model.model.lm_head.weight", &[6, 4], &values);
    let saved = |names: &str| format!(r#""r": 2, "modules_to_save": [{names}]"#);
    let untied =
        fixture::LLAMA.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    let cases = [
        (fixture::LLAMA, saved(""), vec![embedding], Ok(6)),
        (
            fixture::LLAMA,
            saved(r#""embed_tokens""#),
            vec![embedding],
            Err("`lm_head.weight`, which the adapter lacks in its vocabulary of 6"),
        ),
        (fixture::LLAMA, saved(r#""embed_tokens", "lm_head""#), vec![embedding, head], Ok(6)),
        (&untied, saved(""), vec![embedding], Err("`lm_head.weight`, which the adapter lacks")),
        (&untied, saved(""), vec![head], Err("`embed_tokens.weight`, which the adapter lacks")),
        (&untied, saved(""), vec![embedding, head], Ok(6)),
    ];
    for (config, settings, tensors, want) in cases {
        let mut stored: Vec<Listed<'_>> = vec![("model.embed_tokens.weight", &[4, 4], &[0.5; 16])];
        if config == untied {
            stored.push(("lm_head.weight", &[4, 4], &[0.5; 16]));
        }
        let base = fixture::checkpoint(config, &stored);
        let checkpoint = Checkpoint::open(base.path()).unwrap();
        let dir = fixture::adapter(&settings, &tensors);
        match (Adapter::open(dir.path()).unwrap().fits(&checkpoint), want) {
            (Ok(fit), Ok(rows)) => assert_eq!(fit.changes().vocab_size, Some(rows)),
            (Err(error), Err(want)) => {
                assert!(error.to_string().contains(want), "{error}");
                assert!(error.hint().unwrap().contains("resize_token_embeddings"), "{error}");
            }
            (got, want) => panic!("{settings}: {got:?} is not {want:?}"),
        }
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
            adapter.changes_nothing(&checkpoint, &adapter.fits(&checkpoint).unwrap()).unwrap(),
            nothing,
            "{settings} {tensors:?}"
        );
        match adapter.check(&checkpoint, &ModelChanges::default()) {
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
        (vec![("x.lora_B.bias", &[1], &[1.0])], "has lora_B.bias but no lora_A"),
        (vec![("x.lora_A.default.weight", &[1], &[1.0])], "has a name that no LoRA adapter uses"),
        (vec![], "holds no tensor"),
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
