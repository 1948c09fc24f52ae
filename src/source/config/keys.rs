//! `keys`: every key of `config.json` that is understood, one row each, and what becomes of it.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

/// One key of `config.json`.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What becomes of its value.
    pub rule: Rule,
    /// What it decides, for the documentation.
    pub about: &'static str,
}

/// What becomes of a key's value.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// It decides something, and the conversion follows it.
    Honoured,
    /// It does not change what the model computes.
    Inert,
    /// Any other value than these, written as JSON, would need another computation.
    Equals(&'static [&'static str]),
    /// A kind of attention for each layer, which must be the same for all: sliding with a window, else full.
    OneKind,
    /// Full or sliding attention for each layer, sliding only with a window.
    Kinds,
}

const fn honoured(name: &'static str, about: &'static str) -> Key {
    Key { name, rule: Rule::Honoured, about }
}

const fn inert(name: &'static str, about: &'static str) -> Key {
    Key { name, rule: Rule::Inert, about }
}

const fn equals(name: &'static str, values: &'static [&'static str], about: &'static str) -> Key {
    Key { name, rule: Rule::Equals(values), about }
}

/// Keys whose value is a positive number.
pub(super) const POSITIVE: &[&str] = &["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"];

/// Keys whose value is a positive integer, or absent.
pub(super) const WINDOWS: &[&str] = &["sliding_window", "window_size"];

/// Keys that name an activation function, and the names that transformers knows.
pub(super) const ACTIVATION_KEYS: &[&str] = &["hidden_act", "activation_function"];
pub(super) const ACTIVATIONS: &[&str] = &[
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "gelu_python_tanh",
    "laplace",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
];

/// Keys whose value is `true` or `false`; Python takes any other text or number but 0 for true.
pub(super) const BOOLEANS: &[&str] = &[
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "use_sliding_window",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
];

/// A family of models: the classes that its checkpoints may name, and the keys it knows.
#[derive(Debug)]
pub struct Family {
    /// `model_type`.
    pub name: &'static str,
    /// True if it writes text; else it makes vectors.
    pub is_decoder: bool,
    /// Classes in `architectures` whose weights and computation are those of the conversion.
    pub classes: &'static [&'static str],
    /// The table, in parts that families share.
    pub keys: &'static [&'static [Key]],
}

impl Family {
    /// The row of the key `name`.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().flat_map(|part| part.iter()).find(|key| key.name == name)
    }

    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().flat_map(|part| part.iter())
    }
}

/// The family `model_type`, if it is converted.
pub fn family(model_type: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == model_type)
}

/// Every family that is converted.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "llama",
        is_decoder: true,
        classes: &["LlamaForCausalLM", "LlamaModel", "LLaMAForCausalLM"],
        keys: &[SHARED, GENERATION, DECODER, ROTARY, LLAMA],
    },
    Family {
        name: "mistral",
        is_decoder: true,
        classes: &["MistralForCausalLM", "MistralModel"],
        keys: &[SHARED, GENERATION, DECODER, ROTARY, MISTRAL],
    },
    Family {
        name: "qwen2",
        is_decoder: true,
        classes: &["Qwen2ForCausalLM", "Qwen2Model"],
        keys: &[SHARED, GENERATION, DECODER, ROTARY, WINDOWED, QWEN2],
    },
    Family {
        name: "qwen3",
        is_decoder: true,
        classes: &["Qwen3ForCausalLM", "Qwen3Model"],
        keys: &[SHARED, GENERATION, DECODER, ROTARY, WINDOWED, QWEN3],
    },
    Family {
        name: "gpt2",
        is_decoder: true,
        classes: &["GPT2LMHeadModel", "GPT2Model"],
        keys: &[SHARED, GENERATION, DECODER, LEARNED, GPT2],
    },
    Family {
        name: "gpt_neo",
        is_decoder: true,
        classes: &["GPTNeoForCausalLM", "GPTNeoModel"],
        keys: &[SHARED, GENERATION, DECODER, LEARNED, GPT_NEO],
    },
    Family {
        name: "bert",
        is_decoder: false,
        classes: &[
            "BertModel",
            "BertForMaskedLM",
            "BertForPreTraining",
            "BertForNextSentencePrediction",
        ],
        keys: &[BERT, SHARED, GENERATION],
    },
];

const SIZE: &str = "size of the model";
const TRAINING: &str = "training only";
const OUTPUTS: &str = "additional outputs of transformers";
const GENERATING: &str = "default of `generate` in older configurations";
const LABELS: &str = "labels of a classification head";
const RUNTIME: &str = "execution in transformers";
const ORIGIN: &str = "origin of the file";
const KINDS: &str = "attention type by layer";

/// Keys of every family.
const SHARED: &[Key] = &[
    honoured("architectures", "class of the model: one of the family's"),
    honoured("auto_map", "custom code: rejected"),
    honoured("bos_token_id", "beginning-of-sequence token"),
    honoured("eos_token_id", "end-of-sequence tokens"),
    honoured("pad_token_id", "padding token; −1 is none"),
    honoured("model_type", "the family"),
    honoured("quantization_config", "quantized weights: rejected"),
    honoured("tie_word_embeddings", "ties the head to the embedding"),
    honoured("vocab_size", SIZE),
    equals("is_encoder_decoder", &["false"], "encoder-decoder model"),
    equals("pruned_heads", &["{}"], "removed attention heads"),
    equals("add_cross_attention", &["false"], "attention to an encoder's output"),
    equals("cross_attention_hidden_size", &[], "attention to an encoder's output"),
    equals("per_layer_config", &["{}"], "different settings for individual layers"),
    equals("fusion_config", &["{}"], "layers fused by transformers"),
    equals("transformers_weights", &["\"model.safetensors\""], "another weight file"),
    equals("adapters", &["{}"], "adapters of the `adapters` library"),
    inert("adapter_path", TRAINING),
    inert("attn_implementation", RUNTIME),
    inert("chunk_size_feed_forward", RUNTIME),
    inert("cls_token_id", "token id used only by tokenizers"),
    inert("dtype", "type of the stored weights; each tensor has its own"),
    inert("finetuning_task", LABELS),
    inert("gradient_checkpointing", TRAINING),
    inert("id2label", LABELS),
    inert("initializer_range", TRAINING),
    inert("is_decoder", "decoder; known from the family (BERT has its own row)"),
    inert("keys_to_ignore_at_inference", OUTPUTS),
    inert("label2id", LABELS),
    inert("mask_token_id", "token id used only by tokenizers"),
    inert("model_max_length", "tokenizer limit, read from tokenizer_config.json"),
    inert("model_name", ORIGIN),
    inert("name_or_path", ORIGIN),
    inert("num_labels", LABELS),
    inert("output_attentions", OUTPUTS),
    inert("output_hidden_states", OUTPUTS),
    inert("output_past", OUTPUTS),
    inert("output_router_logits", OUTPUTS),
    inert("problem_type", LABELS),
    inert("return_dict", OUTPUTS),
    inert(
        "sentence_transformers",
        "version and activation of a cross encoder, known from its class",
    ),
    inert("sep_token_id", "token id used only by tokenizers"),
    inert("task_specific_params", GENERATING),
    inert("tf_legacy_loss", TRAINING),
    inert("tie_encoder_decoder", "encoder-decoder models"),
    inert("tie_last_hidden_states", OUTPUTS),
    inert("tokenizer_class", "read by the tokenizer"),
    inert("torch_dtype", "type of the stored weights; each tensor has its own"),
    inert("torchscript", RUNTIME),
    inert("training_args", TRAINING),
    inert("transformers_version", ORIGIN),
    inert("unk_token_id", "token id used only by tokenizers"),
    inert("use_bfloat16", RUNTIME),
    inert("use_cache", RUNTIME),
    inert("use_return_dict", OUTPUTS),
    inert("xla_device", RUNTIME),
];

/// Defaults of `generate`, which configurations of transformers 4 carry.
const GENERATION: &[Key] = &[
    inert("bad_words_ids", GENERATING),
    inert("begin_suppress_tokens", GENERATING),
    inert("decoder_start_token_id", GENERATING),
    inert("diversity_penalty", GENERATING),
    inert("do_sample", GENERATING),
    inert("early_stopping", GENERATING),
    inert("encoder_no_repeat_ngram_size", GENERATING),
    inert("exponential_decay_length_penalty", GENERATING),
    inert("forced_bos_token_id", GENERATING),
    inert("forced_eos_token_id", GENERATING),
    inert("length_penalty", GENERATING),
    inert("max_length", GENERATING),
    inert("max_new_tokens", GENERATING),
    inert("min_length", GENERATING),
    inert("min_p", GENERATING),
    inert("no_repeat_ngram_size", GENERATING),
    inert("num_beam_groups", GENERATING),
    inert("num_beams", GENERATING),
    inert("num_return_sequences", GENERATING),
    inert("output_scores", GENERATING),
    inert("prefix", GENERATING),
    inert("remove_invalid_values", GENERATING),
    inert("repetition_penalty", GENERATING),
    inert("return_dict_in_generate", GENERATING),
    inert("suppress_tokens", GENERATING),
    inert("temperature", GENERATING),
    inert("top_k", GENERATING),
    inert("top_p", GENERATING),
    inert("typical_p", GENERATING),
];

/// Keys of every decoder.
const DECODER: &[Key] = &[
    equals("is_causal", &["true"], "attention to later tokens"),
    equals("bidirectional", &["false"], "attention to later tokens"),
    equals("use_bidirectional_attention", &["false"], "attention to later tokens"),
    inert("attention_dropout", TRAINING),
    inert("classifier_dropout", LABELS),
    inert("embd_pdrop", TRAINING),
    inert("hidden_dropout", TRAINING),
    inert("hidden_dropout_prob", TRAINING),
    inert("resid_pdrop", TRAINING),
    inert("use_flash_attention", RUNTIME),
    inert("use_flash_attn", RUNTIME),
];

/// Keys of the families with rotary positions.
const ROTARY: &[Key] = &[
    honoured("head_dim", SIZE),
    honoured("hidden_act", "activation of the feed-forward layers"),
    honoured("hidden_size", SIZE),
    honoured("intermediate_size", SIZE),
    honoured("max_position_embeddings", "maximum number of positions"),
    honoured("num_attention_heads", SIZE),
    honoured("num_hidden_layers", SIZE),
    honoured("num_key_value_heads", SIZE),
    honoured("rms_norm_eps", "epsilon of the norms"),
    honoured("rope_parameters", "rotary positions, transformers 5"),
    honoured("rope_scaling", "rotary positions, transformers 4"),
    honoured("rope_theta", "base of the rotary positions"),
    honoured("original_max_position_embeddings", "original length of `longrope`"),
    equals("partial_rotary_factor", &["1", "1.0"], "rotary positions for a part of each head"),
    equals("rope_interleaved", &["false"], "interleaved rotary pairs"),
    equals("use_qk_norm", &["false"], "norms of queries and keys"),
    inert("max_sequence_length", "length of the training texts"),
    inert("pretraining_tp", "tensor parallelism in training; the result is the same"),
    inert("rotary_dim", "rotary width of the original format: the full head"),
];

const LLAMA: &[Key] = &[
    honoured("attention_bias", "biases of the attention's four projections"),
    honoured("mlp_bias", "biases of the feed-forward layers"),
    Key { name: "layer_types", rule: Rule::OneKind, about: KINDS },
    equals("qkv_bias", &["false"], "biases of the attention"),
    equals("use_sliding_window", &["false"], "an attention window"),
];

const MISTRAL: &[Key] = &[
    honoured("sliding_window", "width of the attention window"),
    equals("attention_bias", &["false"], "biases of the attention"),
    equals("mlp_bias", &["false"], "biases of the feed-forward layers"),
    Key { name: "layer_types", rule: Rule::OneKind, about: KINDS },
];

/// Keys of the families whose layers differ in their attention window.
const WINDOWED: &[Key] = &[
    Key { name: "layer_types", rule: Rule::Kinds, about: KINDS },
    honoured("max_window_layers", "first layer with a window"),
    honoured("sliding_window", "width of the attention window"),
    honoured("use_sliding_window", "enables the attention window"),
    equals("mlp_bias", &["false"], "biases of the feed-forward layers"),
    equals("use_mrope", &["false"], "rotary positions of images"),
];

const QWEN2: &[Key] = &[
    equals(
        "attention_bias",
        &["true"],
        "biases of the attention: queries, keys and values have them",
    ),
    equals("qkv_bias", &["true"], "biases of the attention: queries, keys and values have them"),
    inert("seq_length", "length of the training texts"),
];

const QWEN3: &[Key] = &[honoured("attention_bias", "biases of the attention's four projections")];

/// Keys of the families with learned positions.
const LEARNED: &[Key] = &[
    honoured("activation_function", "activation of the feed-forward layers"),
    honoured("hidden_size", SIZE),
    honoured("layer_norm_epsilon", "epsilon of the norms"),
    honoured("max_position_embeddings", SIZE),
    honoured("num_attention_heads", SIZE),
    honoured("num_hidden_layers", SIZE),
    inert("summary_activation", LABELS),
    inert("summary_first_dropout", LABELS),
    inert("summary_proj_to_labels", LABELS),
    inert("summary_type", LABELS),
    inert("summary_use_proj", LABELS),
];

const GPT2: &[Key] = &[
    honoured("n_embd", SIZE),
    honoured("n_head", SIZE),
    honoured("n_inner", SIZE),
    honoured("n_layer", SIZE),
    honoured("n_positions", SIZE),
    honoured("scale_attn_by_inverse_layer_idx", "scale of the attention"),
    honoured("scale_attn_weights", "scale of the attention"),
    inert("afn", "old name that transformers does not read"),
    inert("attn_pdrop", TRAINING),
    inert("n_ctx", "old name that transformers does not read"),
    inert("n_special", "old name that transformers does not read"),
    inert("predict_special_tokens", "old name that transformers does not read"),
    inert("reorder_and_upcast_attn", "order of operations that avoids overflow"),
];

const GPT_NEO: &[Key] = &[
    honoured("attention_layers", KINDS),
    honoured("attention_types", KINDS),
    honoured("intermediate_size", SIZE),
    honoured("num_heads", SIZE),
    honoured("num_layers", SIZE),
    honoured("window_size", "width of the local attention"),
    inert("embed_dropout", TRAINING),
    inert("resid_dropout", TRAINING),
];

const BERT: &[Key] = &[
    honoured("hidden_act", "activation of the feed-forward layers"),
    honoured("hidden_size", SIZE),
    honoured("intermediate_size", SIZE),
    honoured("layer_norm_eps", "epsilon of the norms"),
    honoured("max_position_embeddings", SIZE),
    honoured("num_attention_heads", SIZE),
    honoured("num_hidden_layers", SIZE),
    honoured("type_vocab_size", SIZE),
    equals("is_decoder", &["false"], "decoder attention"),
    equals("is_causal", &["false"], "decoder attention"),
    equals("position_embedding_type", &["\"absolute\""], "position embedding type"),
    inert("attention_probs_dropout_prob", TRAINING),
    inert("classifier_dropout", LABELS),
    inert("directionality", "field of the original format"),
    inert("hidden_dropout_prob", TRAINING),
    inert("pooler_fc_size", "field of the original format"),
    inert("pooler_num_attention_heads", "field of the original format"),
    inert("pooler_num_fc_layers", "field of the original format"),
    inert("pooler_size_per_head", "field of the original format"),
    inert("pooler_type", "field of the original format"),
];

/// True if a key of this form is inert in every family: private fields, versions of tools and settings of trainers.
pub fn is_inert_form(name: &str) -> bool {
    name.starts_with('_')
        || name.starts_with("unsloth_")
        || name.starts_with("neftune_")
        || name.ends_with("_version")
}
