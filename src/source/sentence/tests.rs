use super::*;

const TRANSFORMER: &str =
    r#"{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}"#;

/// Opens a checkpoint of the given modules after the Transformer, each a class and its settings, and other files.
fn open(modules: &[(&str, &str)], files: &[(&str, &str)]) -> Result<SentenceConfig, Error> {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = vec![TRANSFORMER.to_owned()];
    for (i, (class, settings)) in modules.iter().enumerate() {
        let folder = format!("{}_module", i + 1);
        fs_err::create_dir(dir.path().join(&folder)).unwrap();
        if !settings.is_empty() {
            fs_err::write(dir.path().join(&folder).join("config.json"), settings).unwrap();
        }
        rows.push(format!(
            r#"{{"idx": {i}, "name": "m{i}", "path": "{folder}", "type": "{class}"}}"#
        ));
    }
    fs_err::write(dir.path().join("modules.json"), format!("[{}]", rows.join(", "))).unwrap();
    for (name, text) in files {
        fs_err::write(dir.path().join(name), text).unwrap();
    }
    SentenceConfig::open(dir.path())
}

const POOLING: (&str, &str) = ("sentence_transformers.models.Pooling", "{}");

#[test]
fn classes_of_both_generations_are_known_and_other_code_is_not() {
    let known = [
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.sentence_transformer.modules.Pooling",
    ];
    for class in known {
        assert_eq!(open(&[(class, "{}")], &[]).unwrap().modules.len(), 1, "{class}");
    }
    open(&[POOLING, ("sentence_transformers.base.modules.normalize.Normalize", "")], &[]).unwrap();
    for class in [
        "custom_st.Pooling",
        "sentence_transformers.models.LSTM",
        "sentence_transformers.models.CNN",
        "sentence_transformers.models.WordWeights",
        "sentence_transformers.sentence_transformer.modules.weighted_layer_pooling.WeightedLayerPooling",
        "sentence_transformers.models.x.y.Pooling",
    ] {
        let error = open(&[POOLING, (class, "{}")], &[]).unwrap_err().to_string();
        assert!(error.contains(class), "{error}");
    }
    let error = open(&[], &[]).unwrap_err().to_string();
    assert!(error.contains("has no Pooling"), "{error}");
}

#[test]
fn poolings_keep_the_order_of_the_library() {
    use PoolingMode::{Cls, LastToken, Max, Mean, MeanSqrt, WeightedMean};
    let cases: [(&str, &[PoolingMode]); 6] = [
        ("{}", &[Mean]),
        (r#"{"pooling_mode_mean_tokens": false}"#, &[Mean]),
        (r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#, &[Cls, Mean]),
        (r#"{"pooling_mode": "lasttoken", "pooling_mode_cls_token": true}"#, &[LastToken]),
        (r#"{"pooling_mode": ["max", "weightedmean", "cls"]}"#, &[Max, WeightedMean, Cls]),
        (
            r#"{"pooling_mode_mean_sqrt_len_tokens": true, "pooling_mode_max_tokens": true}"#,
            &[Max, MeanSqrt],
        ),
    ];
    for (settings, want) in cases {
        let found = open(&[(POOLING.0, settings)], &[]).unwrap();
        let want = Module::Pooling { modes: want.to_vec(), include_prompt: true };
        assert_eq!(found.modules, [want], "{settings}");
    }
    let left_out = open(&[(POOLING.0, r#"{"include_prompt": false}"#)], &[]).unwrap();
    assert!(!left_out.include_prompt());
}

#[test]
fn settings_that_are_not_known_are_refused_by_name() {
    let dense = "sentence_transformers.models.Dense";
    let sizes = r#""in_features": 4, "out_features": 2"#;
    let with = |more: &str| format!("{{{sizes}, {more}}}");
    let modules = [
        (POOLING.0, r#"{"pooling_mode": "median"}"#.to_owned(), "`pooling_mode`"),
        (POOLING.0, r#"{"pooling_mode_median": true}"#.to_owned(), "`pooling_mode_median`"),
        (dense, with(r#""activation_function": "torch.nn.modules.activation.Softmax""#), "Softmax"),
        (dense, with(r#""activation_function": "mine.Tanh""#), "mine.Tanh"),
        (dense, with(r#""module_output_name": "other""#), "`module_output_name`"),
        (dense, with(r#""dropout": 0.5"#), "`dropout`"),
        (dense, "{}".to_owned(), "`in_features` is missing"),
        ("sentence_transformers.models.LayerNorm", "{}".to_owned(), "`dimension` is missing"),
    ];
    for (class, settings, want) in modules {
        let error = open(&[POOLING, (class, &settings)], &[]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let (bert, all) = ("sentence_bert_config.json", "config_sentence_transformers.json");
    let files = [
        (bert, r#"{"max_seq_length": "x"}"#, "`max_seq_length` is \"x\""),
        (bert, r#"{"max_len": 3}"#, "`max_len`"),
        (bert, r#"{"model_args": {"rope_scaling": 2}}"#, "`rope_scaling`"),
        (bert, r#"{"config_args": {"num_hidden_layers": 2}}"#, "`num_hidden_layers`"),
        (bert, r#"{"tokenizer_args": {"do_lower_case": true}}"#, "`do_lower_case`"),
        (
            bert,
            r#"{"max_seq_length": 3, "tokenizer_args": {"model_max_length": 4}}"#,
            "model_max_length",
        ),
        (bert, r#"{"transformer_task": "fill-mask"}"#, "`transformer_task`"),
        (bert, r#"{"module_output_name": "sentence_embedding"}"#, "`module_output_name`"),
        (bert, r#"{"modality_config": {"message": {}}}"#, "`modality_config`"),
        (bert, r#"{"processing_kwargs": {"text": {"max_length": 9}}}"#, "`processing_kwargs`"),
        (bert, r#"{"query_length": 32}"#, "`query_length`"),
        (all, r#"{"prompts": {"a": 3}}"#, "`prompts` is"),
        (all, r#"{"prompts": {"a": "b"}, "default_prompt_name": "c"}"#, "`default_prompt_name`"),
        (all, r#"{"model_type": "CrossEncoder"}"#, "`model_type`"),
        (all, r#"{"normalize": true}"#, "`normalize`"),
    ];
    for (name, text, want) in files {
        let error = open(&[POOLING], &[(name, text)]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let error = open(&[POOLING], &[("adapter_config.json", "{}")]).unwrap_err().to_string();
    assert!(error.contains("an adapter inside the checkpoint"), "{error}");
}

#[test]
fn settings_that_change_nothing_are_passed_over() {
    let bert = r#"{"max_seq_length": 9, "do_lower_case": true, "unpad_inputs": false, "query_length": null,
        "model_args": {"torch_dtype": "float16", "attn_implementation": "sdpa"},
        "tokenizer_args": {"padding_side": "left"}, "config_args": {"trust_remote_code": true},
        "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}}"#;
    let all = r#"{"__version__": {"sentence_transformers": "5.1.0", "pytorch": "2"}, "prompts": {"query": null, "p": "x "},
        "default_prompt_name": "query", "similarity_fn_name": "cosine", "truncate_dim": 3, "model_type": "SentenceTransformer"}"#;
    let files = [("sentence_bert_config.json", bert), ("config_sentence_transformers.json", all)];
    let found =
        open(&[POOLING, ("sentence_transformers.models.Dropout", r#"{"dropout": 0.1}"#)], &files)
            .unwrap();
    assert_eq!(
        found.transformer,
        TransformerSettings { max_seq_length: Some(9), do_lower_case: true }
    );
    let prompts: Vec<_> =
        found.prompts.prompts.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(prompts, [("document", ""), ("p", "x "), ("query", "")]);
    assert_eq!((found.prompts.truncate_dim, found.strip), (Some(3), true));
    assert_eq!(found.modules.get(1), Some(&Module::Dropout));
}

#[test]
fn spaces_around_a_text_are_removed_as_the_version_that_saved_it_did() {
    let version = |v: &str| format!(r#"{{"__version__": {{"sentence_transformers": "{v}"}}}}"#);
    let all = "config_sentence_transformers.json";
    for (v, want) in [("2.2.0", true), ("5.3.9", true), ("5.4.0.dev0", false), ("6.2.0", false)] {
        assert_eq!(open(&[POOLING], &[(all, &version(v))]).unwrap().strip, want, "{v}");
    }
    for (v, want) in [("4.57.6", true), ("5.24.0", false)] {
        let config = format!(r#"{{"transformers_version": "{v}"}}"#);
        assert_eq!(open(&[POOLING], &[("config.json", &config)]).unwrap().strip, want, "{v}");
    }
    assert!(!open(&[POOLING], &[]).unwrap().strip);
}
