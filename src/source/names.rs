//! How a parameter of a `transformers` module is called in a checkpoint of the same family.

/// For each family the attribute under which a model with a head keeps the model without.
const BASE_MODEL_PREFIXES: [(&str, &str); 18] = [
    ("albert", "albert"),
    ("bert", "bert"),
    ("distilbert", "distilbert"),
    ("electra", "electra"),
    ("gemma", "model"),
    ("gemma2", "model"),
    ("gpt2", "transformer"),
    ("gpt_neo", "transformer"),
    ("llama", "model"),
    ("mistral", "model"),
    ("mpnet", "mpnet"),
    ("phi", "model"),
    ("phi3", "model"),
    ("qwen2", "model"),
    ("qwen3", "model"),
    ("roberta", "roberta"),
    ("xlm-roberta", "roberta"),
    ("modernbert", "model"),
];

/// Names of the output head, and of the embedding it is tied to below the base model.
const TIED: [(&str, &str); 3] = [
    ("lm_head.weight", "embed_tokens.weight"),
    ("lm_head.weight", "wte.weight"),
    ("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
];

/// Names that old checkpoints of the BERT family use.
const OLD: [(&str, &str); 2] =
    [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];

/// The prefix of the base model in the family `model_type`.
pub(crate) fn base_model_prefix(model_type: &str) -> Option<&'static str> {
    BASE_MODEL_PREFIXES.iter().find(|(family, _)| *family == model_type).map(|(_, prefix)| *prefix)
}

/// The embedding of tokens in the family `model_type`, without the base model's prefix.
pub(crate) fn embedding(model_type: &str) -> Option<&'static str> {
    match model_type {
        "llama" | "mistral" | "qwen2" | "qwen3" => Some("embed_tokens.weight"),
        "gpt2" | "gpt_neo" => Some("wte.weight"),
        "bert" => Some("embeddings.word_embeddings.weight"),
        _ => None,
    }
}

/// Everything that `parameter` may be called, in the order in which to look.
///
/// As when `transformers` loads a checkpoint: the name itself; with the base model's prefix, when a bare model is
/// filled from one with a head; without it, the other way round; and each of these under its old name.
pub(crate) fn spellings(model_type: &str, parameter: &str) -> Vec<String> {
    let mut out = vec![parameter.to_owned()];
    if let Some(prefix) = base_model_prefix(model_type) {
        match parameter.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) {
            Some(bare) => out.push(bare.to_owned()),
            None => out.push(format!("{prefix}.{parameter}")),
        }
    }
    for i in 0..out.len() {
        for (new, old) in OLD {
            if let Some(stem) = out[i].strip_suffix(new) {
                out.push(format!("{stem}{old}"));
            }
        }
    }
    out
}

/// The embeddings that `parameter`, if it is a head's weight, may be tied to.
pub(crate) fn tied_to(model_type: &str, parameter: &str) -> Vec<String> {
    let heads = TIED.iter().filter(|(head, _)| *head == parameter);
    heads.flat_map(|(_, embedding)| spellings(model_type, embedding)).collect()
}

/// The embedding of the family's tokens and the output head, by their names in a model without prefix.
const VOCABULARY: [&str; 4] =
    ["embed_tokens.weight", "wte.weight", "embeddings.word_embeddings.weight", "lm_head.weight"];

/// Names of modules that look vectors up by token, position or type.
const EMBEDDINGS: [&str; 6] = [
    "embed_tokens",
    "wte",
    "wpe",
    "word_embeddings",
    "position_embeddings",
    "token_type_embeddings",
];

/// The name of `parameter` in the model without a head, which a parameter beside it keeps: one name for each
/// parameter, whether the model that is spoken of has a head or not.
pub(crate) fn bare<'a>(model_type: &str, parameter: &'a str) -> &'a str {
    let prefix = base_model_prefix(model_type);
    let rest = prefix.and_then(|prefix| parameter.strip_prefix(prefix)?.strip_prefix('.'));
    rest.unwrap_or(parameter)
}

/// The name that `transformers` gives today to a parameter of that stored name.
pub(crate) fn modern(stored: &str) -> String {
    let old = OLD.iter().find_map(|(new, old)| Some((new, stored.strip_suffix(old)?)));
    old.map_or_else(|| stored.to_owned(), |(new, stem)| format!("{stem}{new}"))
}

/// True if the parameter of that bare name has one row for each token of the vocabulary.
pub(crate) fn of_vocabulary(bare: &str) -> bool {
    VOCABULARY.contains(&bare)
}

/// True if a module of that name is an embedding.
pub(crate) fn is_embedding(module: &str) -> bool {
    EMBEDDINGS.contains(&module.rsplit('.').next().unwrap_or(module))
}

/// The number of the layer in the name of a parameter, and where it is written.
pub(crate) fn layer(parameter: &str) -> Option<(std::ops::Range<usize>, usize)> {
    let mut begin = 0;
    let mut before = "";
    for part in parameter.split('.') {
        if ["layers", "layer", "h"].contains(&before)
            && let Ok(number) = part.parse()
        {
            return Some((begin..begin + part.len(), number));
        }
        begin += part.len() + 1;
        before = part;
    }
    None
}

/// The weight of a decoder's head.
pub(crate) const HEAD: &str = "lm_head.weight";

/// The heads that may be tied to `parameter`, if it is an embedding.
pub(crate) fn heads_of(model_type: &str, parameter: &str) -> Vec<String> {
    let is_embedding = |embedding: &str| {
        let spellings = spellings(model_type, embedding);
        spellings.iter().any(|name| name == parameter)
    };
    let tied = TIED.iter().filter(|(_, embedding)| is_embedding(embedding));
    tied.map(|(head, _)| (*head).to_owned()).collect()
}

/// True if the family keeps the weight of `parameter` as [in, out]: GPT-2's `Conv1D`.
///
/// `None` for a family that is not in the table.
pub(crate) fn stored_in_out(model_type: &str, parameter: &str) -> Option<bool> {
    const CONV1D: [&str; 3] = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];
    base_model_prefix(model_type)?;
    Some(model_type == "gpt2" && CONV1D.iter().any(|name| parameter.ends_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_comes_and_goes() {
        let cases: [(&str, &str, &[&str]); 5] = [
            ("llama", "model.norm.weight", &["model.norm.weight", "norm.weight"]),
            ("llama", "norm.weight", &["norm.weight", "model.norm.weight"]),
            ("gpt2", "transformer.h.0.ln_1.bias", &["transformer.h.0.ln_1.bias", "h.0.ln_1.bias"]),
            ("unheard-of", "a.b", &["a.b"]),
            (
                "bert",
                "embeddings.LayerNorm.weight",
                &[
                    "embeddings.LayerNorm.weight",
                    "bert.embeddings.LayerNorm.weight",
                    "embeddings.LayerNorm.gamma",
                    "bert.embeddings.LayerNorm.gamma",
                ],
            ),
        ];
        for (family, parameter, want) in cases {
            assert_eq!(spellings(family, parameter), want);
        }
    }

    #[test]
    fn a_parameter_has_one_bare_name_and_one_layer() {
        let cases = [
            (
                "llama",
                "model.layers.12.mlp.up_proj.weight",
                "layers.12.mlp.up_proj.weight",
                Some(12),
            ),
            ("llama", "layers.0.mlp.up_proj.weight", "layers.0.mlp.up_proj.weight", Some(0)),
            ("llama", "lm_head.weight", "lm_head.weight", None),
            ("gpt2", "transformer.h.3.ln_1.bias", "h.3.ln_1.bias", Some(3)),
            (
                "bert",
                "bert.encoder.layer.1.output.dense.bias",
                "encoder.layer.1.output.dense.bias",
                Some(1),
            ),
        ];
        for (family, parameter, want, number) in cases {
            assert_eq!(bare(family, parameter), want);
            let found = layer(parameter);
            assert_eq!(found.as_ref().map(|(_, number)| *number), number, "{parameter}");
            if let Some((at, number)) = found {
                assert_eq!(parameter[at], number.to_string());
            }
        }
        assert!(of_vocabulary("wte.weight") && !of_vocabulary("wpe.weight"));
        assert!(is_embedding("transformer.wpe") && !is_embedding("lm_head"));
    }

    #[test]
    fn only_gpt2_keeps_in_before_out() {
        let cases = [
            ("gpt2", "transformer.h.0.attn.c_attn.weight", Some(true)),
            ("gpt2", "lm_head.weight", Some(false)),
            ("gpt_neo", "transformer.h.0.mlp.c_fc.weight", Some(false)),
            ("unheard-of", "c_attn.weight", None),
        ];
        for (family, parameter, want) in cases {
            assert_eq!(stored_in_out(family, parameter), want, "{family} {parameter}");
        }
    }
}
