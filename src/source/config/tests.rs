#![expect(clippy::indexing_slicing, reason = "a test that fails by a panic is as good")]

use super::*;

fn write(config: &str, generation: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("config.json"), config).unwrap();
    if let Some(text) = generation {
        fs_err::write(dir.path().join("generation_config.json"), text).unwrap();
    }
    dir
}

fn open(config: &str, generation: Option<&str>) -> Result<ModelConfig, Error> {
    let dir = write(config, generation);
    let config = ModelConfig::open(dir.path())?;
    config.check_special_tokens(dir.path())?;
    Ok(config)
}

/// A small configuration of `family` with `extra` keys.
fn small(family: &str, extra: &str) -> String {
    let sizes = match family {
        "gpt2" => r#""n_positions": 64, "n_embd": 8, "n_layer": 2, "n_head": 4"#,
        "gpt_neo" => {
            r#""max_position_embeddings": 64, "hidden_size": 8, "num_layers": 2, "num_heads": 4"#
        }
        _ => {
            r#""max_position_embeddings": 64, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4"#
        }
    };
    let comma = if extra.is_empty() { "" } else { ", " };
    format!(r#"{{"model_type": "{family}", "vocab_size": 99, {sizes}{comma}{extra}}}"#)
}

fn review(config: &str) -> Read {
    read(write(config, None).path(), false).unwrap()
}

#[test]
fn families_speak_one_language() {
    let gpt2 = r#"{"model_type": "gpt2", "n_positions": 1024, "n_ctx": 512, "vocab_size": 50257, "n_embd": 768,
        "n_layer": 12, "n_head": 12, "architectures": ["GPT2LMHeadModel"], "eos_token_id": 50256}"#;
    let got = open(gpt2, None).unwrap();
    assert_eq!(
        (got.max_positions, got.n_layers, got.n_kv_heads, got.head_dim),
        (Some(1024), 12, 12, 64)
    );
    assert_eq!((got.tie_word_embeddings, got.eos_token_ids), (true, vec![50256]));

    let neo = r#"{"model_type": "gpt_neo", "max_position_embeddings": 2048, "vocab_size": 9, "hidden_size": 8,
        "num_layers": 2, "num_heads": 2}"#;
    let got = open(neo, None).unwrap();
    assert_eq!((got.n_layers, got.n_heads, got.head_dim), (2, 2, 4));

    let llama = r#"{"model_type": "llama", "max_position_embeddings": 64, "vocab_size": 99, "hidden_size": 8,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "eos_token_id": 1, "bos_token_id": 0}"#;
    let got = open(llama, Some(r#"{"eos_token_id": [1, 7]}"#)).unwrap();
    assert_eq!((got.n_kv_heads, got.head_dim, got.tie_word_embeddings), (2, 16, false));
    assert_eq!((got.eos_token_ids, got.bos_token_id), (vec![1, 7], Some(0)));
}

#[test]
fn absent_keys_have_the_defaults_of_the_class() {
    let got = open(&small("llama", ""), None).unwrap();
    assert_eq!((got.bos_token_id, got.eos_token_ids, got.n_kv_heads), (Some(1), vec![2], 4));
    let got = open(&small("llama", r#""eos_token_id": null, "head_dim": null"#), None).unwrap();
    assert_eq!((got.eos_token_ids, got.head_dim), (Vec::new(), 2));
    let got = open(&small("mistral", ""), None).unwrap();
    assert_eq!(got.n_kv_heads, 8);
    let got = open(&small("mistral", r#""num_key_value_heads": null"#), None).unwrap();
    assert_eq!(got.n_kv_heads, 4);
    assert_eq!(open(&small("qwen3", ""), None).unwrap().head_dim, 128);
    // The default ids are beyond this vocabulary.
    assert!(open(&small("gpt2", ""), None).unwrap().eos_token_ids.is_empty());
}

#[test]
fn odd_spellings_of_numbers_and_ids_are_read() {
    let text = small("llama", r#""pad_token_id": -1, "bos_token_id": [3], "eos_token_id": -1"#);
    let text = text.replace("\"max_position_embeddings\": 64", "\"max_position_embeddings\": 64.0");
    let read = read(write(&format!("\u{feff}{text}"), None).path(), false).unwrap();
    let config = read.config;
    assert_eq!((config.max_positions, config.bos_token_id), (Some(64), Some(3)));
    assert_eq!((config.pad_token_id, config.eos_token_ids), (None, Vec::new()));
    assert_eq!(read.warnings.len(), 1);
    assert!(read.warnings[0].starts_with("`eos_token_id` in `"), "{:?}", read.warnings);
    let error = open(&small("llama", r#""bos_token_id": [3, 4]"#), None).unwrap_err().to_string();
    assert!(error.ends_with("is [3,4], not one token id"), "{error}");
}

#[test]
fn broken_configurations_are_named() {
    let with = |extra: &str| {
        format!(
            r#"{{"vocab_size": 10, "num_hidden_layers": 1, "num_attention_heads": 3, "hidden_size": 9{extra}}}"#
        )
    };
    let cases = [
        ("[]".to_owned(), "cannot be read: invalid type: sequence, expected a map"),
        (with(""), "lacks `model_type`"),
        (with(r#", "model_type": 3"#), "`model_type` in `"),
        (
            with(r#", "model_type": "bert", "eos_token_id": 10"#),
            "is 10, outside the vocabulary of 10",
        ),
        (
            with(r#", "model_type": "bert", "eos_token_id": ["a"]"#),
            "is [\"a\"], not a token id or a list of them",
        ),
        (
            with(r#", "model_type": "bert", "head_dim": "big""#),
            "is \"big\", not a number of things",
        ),
        (with(r#", "model_type": "bert""#).replace('9', "10"), "size 10 of"),
        (
            with(r#", "model_type": "brandnew", "num_attention_heads": "x""#),
            "architecture `brandnew` of",
        ),
    ];
    for (config, want) in cases {
        let got = open(&config, None).unwrap_err().to_string();
        assert!(got.contains(want), "{config}\n{got}");
    }
}

#[test]
fn keys_that_change_the_computation_are_refused_by_name() {
    let cases = [
        ("llama", r#""logit_scale": 0.5"#, "has `logit_scale`: 0.5, which is not understood"),
        ("llama", r#""a": 1, "b": 2"#, "has `a`: 1, `b`: 2, which are not understood"),
        ("gpt2", r#""is_causal": false"#, "`is_causal` in `"),
        ("bert", r#""is_decoder": true"#, "decoder attention is not supported"),
        ("bert", r#""position_embedding_type": "relative_key""#, "position embedding type"),
        ("gpt2", r#""add_cross_attention": true"#, "attention to an encoder's output"),
        ("gpt2", r#""pruned_heads": {"0": [1]}"#, "removed attention heads"),
        ("gpt2", r#""hidden_size": 16"#, "`n_embd` and `hidden_size` in `"),
        (
            "llama",
            r#""architectures": ["LlamaForSequenceClassification"]"#,
            "`LlamaForSequenceClassification`",
        ),
        (
            "bert",
            r#""architectures": ["BertForTokenClassification"]"#,
            "`BertForTokenClassification`",
        ),
        (
            "llama",
            r#""auto_map": {"AutoModel": "m.Bi"}"#,
            "asks for custom code: `AutoModel` is `m.Bi`",
        ),
        (
            "llama",
            r#""quantization_config": {"quant_method": "gptq"}"#,
            "are quantized already, by `gptq`",
        ),
        (
            "llama",
            r#""quantization": {"group_size": 64, "bits": 4}"#,
            "are quantized already, by `MLX`",
        ),
        (
            "llama",
            r#""layer_types": ["full_attention", "sliding_attention"]"#,
            "attention type by layer",
        ),
        (
            "qwen2",
            r#""layer_types": ["full_attention", "sliding_attention"]"#,
            "attention type by layer",
        ),
        (
            "gpt_neo",
            r#""attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "global"]"#,
            "contradict each other",
        ),
        ("llama", r#""rope_scaling": {"type": "spiral"}"#, "rotary embeddings of type `spiral`"),
        ("llama", r#""rope_scaling": {"type": "linear"}"#, "of type `linear`, lacks `factor`"),
        (
            "llama",
            r#""rope_scaling": {"factor": 2.0}"#,
            "of type `default`, has `factor`: 2.0, which it does not use",
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2}"#,
            "`type` and `rope_type`",
        ),
        (
            "llama",
            r#""rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}"#,
            "contradict each other",
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}"#,
            "`rope_scaling` and `rope_parameters` in `",
        ),
        (
            "qwen3",
            r#""rope_parameters": {"full_attention": {"rope_type": "default"}}"#,
            "settings of its own",
        ),
        ("llama", r#""partial_rotary_factor": 0.5"#, "rotary positions for a part of each head"),
        ("brandnew", "", "architecture `brandnew` of `"),
    ];
    for (family, extra, want) in cases {
        let read = review(&small(family, extra));
        let error = read.review.check(&Allow::default()).unwrap_err();
        assert!(error.to_string().contains(want), "{family} {extra}\n{error}");
        // What the hint offers works.
        let allow = Allow {
            config_keys: error.keys().iter().map(|&key| key.to_owned()).collect(),
            ..Allow::default()
        };
        assert_eq!(read.review.check(&allow).is_ok(), !error.keys().is_empty(), "{extra}");
        let offered = error.hint().unwrap_or_default().contains("--allow-config-key");
        assert_eq!(offered, !error.keys().is_empty(), "{extra}");
    }
}

#[test]
fn what_published_configurations_carry_passes() {
    let cases = [
        (
            "llama",
            r#""pretraining_tp": 2, "unsloth_version": "x", "_name_or_path": "a", "torch_dtype": "bfloat16""#,
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_theta": 1e4, "mlp_bias": true"#,
        ),
        (
            "llama",
            r#""layer_types": ["full_attention", "full_attention"], "quantization_config": null"#,
        ),
        (
            "llama",
            r#""rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "rope_theta": 10000"#,
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "linear", "factor": 2}, "rope_theta": 5e5,
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}"#,
        ),
        ("mistral", r#""sliding_window": null, "layer_types": ["full_attention"]"#),
        (
            "qwen2",
            r#""use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28, "use_mrope": false"#,
        ),
        (
            "gpt2",
            r#""n_ctx": 64, "summary_type": "cls_index", "task_specific_params": {"a": 1}, "n_embd": 8"#,
        ),
        (
            "gpt_neo",
            r#""attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "local"]"#,
        ),
        (
            "bert",
            r#""architectures": ["BertForMaskedLM"], "is_causal": false, "pooler_type": "first_token_transform""#,
        ),
    ];
    for (family, extra) in cases {
        let read = review(&small(family, extra));
        assert_eq!(read.review.refusals, [], "{family} {extra}");
    }
}

#[test]
fn values_of_another_type_are_refused() {
    let cases = [
        (
            "llama",
            r#""rope_theta": "5e5""#,
            "`rope_theta` in",
            "\"5e5\", expected a positive number",
        ),
        ("llama", r#""rope_theta": 0"#, "`rope_theta` in", "is 0, expected a positive number"),
        (
            "llama",
            r#""rope_parameters": {"rope_type": "default", "rope_theta": -1.0}"#,
            "`rope_theta` in",
            "is -1.0, expected a positive number",
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "linear", "factor": 0}"#,
            "of type `linear`",
            "has 0 as `factor`, not a positive number",
        ),
        ("llama", r#""rms_norm_eps": "1e-6""#, "`rms_norm_eps` in", "expected a positive number"),
        ("mistral", r#""sliding_window": -1"#, "`sliding_window`", "expected a positive integer"),
        (
            "llama",
            r#""hidden_act": "gelu_bogus""#,
            "`hidden_act`",
            "expected an activation function",
        ),
        ("bert", r#""layer_norm_eps": -1e-6"#, "`layer_norm_eps` in", "expected a positive number"),
        ("llama", r#""mlp_bias": "false""#, "`mlp_bias` in", "expected true or false"),
        ("qwen2", r#""use_sliding_window": 0"#, "`use_sliding_window`", "expected true or false"),
        (
            "llama",
            r#""original_max_position_embeddings": 32,
            "rope_scaling": {"rope_type": "yarn", "factor": 2.0}"#,
            "of type `yarn`",
            "transformers 4 ignores it there",
        ),
    ];
    for (family, extra, key, what) in cases {
        let found = review(&small(family, extra)).review.refusals;
        let text = found.first().map(ToString::to_string).unwrap_or_default();
        assert!(text.contains(key) && text.contains(what), "{family} {extra}: {found:?}");
    }
}

#[test]
fn longrope_finds_its_original_length_beside_its_settings() {
    let extra = r#""original_max_position_embeddings": 32,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}"#;
    assert_eq!(open(&small("llama", extra), None).unwrap().max_positions, Some(32));
}

#[test]
fn yarn_reaches_beyond_the_original_length() {
    let yarn = r#""rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}"#;
    assert_eq!(open(&small("qwen2", yarn), None).unwrap().max_positions, Some(256));
    let long = r#""rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0],
        "original_max_position_embeddings": 32}"#;
    let got = open(&small("llama", long), None).unwrap();
    assert_eq!((got.max_positions, got.rope.unwrap().is_dynamic()), (Some(32), true));
    let linear = r#""rope_scaling": {"type": "linear", "factor": 4.0}"#;
    assert_eq!(open(&small("llama", linear), None).unwrap().max_positions, Some(64));
}

#[test]
fn generation_settings_that_are_not_applied_are_told() {
    let generation = r#"{"repetition_penalty": 1.1, "temperature": 0.6, "suppress_tokens": [], "min_length": 0}"#;
    let read = read(write(&small("llama", ""), Some(generation)).path(), false).unwrap();
    assert_eq!(read.warnings.len(), 1);
    assert!(read.warnings[0].contains("`repetition_penalty` in"), "{:?}", read.warnings);
}
