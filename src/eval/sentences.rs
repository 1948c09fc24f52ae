//! Sentences to embed, as the checkpoint's own library prepares them: LLM2Vec or sentence-transformers.

use serde::{Deserialize, Serialize};

use super::error::EvalError;
use super::layout::EncoderLayout;
use super::tokenizer::Tokenizer;

/// A text, perhaps with an instruction that says what its embedding is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Line")]
pub struct Sentence {
    /// The instruction.
    pub instruction: Option<String>,
    /// The text.
    pub text: String,
}

/// A line of a list: the text alone, or an object that may say other things besides.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Described { instruction: Option<String>, text: String },
}

impl From<Line> for Sentence {
    fn from(line: Line) -> Self {
        match line {
            Line::Text(text) => Self { instruction: None, text },
            Line::Described { instruction, text } => Self { instruction, text },
        }
    }
}

/// A sentence as tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prepared {
    /// The tokens.
    pub ids: Vec<u32>,
    /// For each of them, 1 where it counts in the mean: the text after the instruction.
    pub pool: Vec<u8>,
}

/// What LLM2Vec puts around instruction and text for the chat models it was trained on, by the name in their
/// configuration. What stands behind counts as text.
const TEMPLATES: [(&str, &str, &str); 6] = [
    (
        "meta-llama/Meta-Llama-3-8B-Instruct",
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    ("mistralai/Mistral-7B-Instruct-v0.2", "[INST] ", " [/INST]"),
    ("meta-llama/Llama-2-7b-chat-hf", "[INST] ", " [/INST]"),
    ("google/gemma-2-9b-it", "<bos><start_of_turn>user\n", "<end_of_turn>"),
    ("Qwen/Qwen2-1.5B-Instruct", "<|im_start|>user\n", "<|im_end|>"),
    ("Qwen/Qwen2-7B-Instruct", "<|im_start|>user\n", "<|im_end|>"),
];

impl Sentence {
    /// The tokens for the function `encode` that `layout` describes; `index` is for errors.
    pub fn prepare(
        &self,
        index: usize,
        tokenizer: &Tokenizer,
        layout: EncoderLayout,
    ) -> Result<Prepared, EvalError> {
        let prepared = if layout.pool_mask {
            self.as_llm2vec(tokenizer, layout.seq_len)?
        } else {
            self.as_sentence_transformer(tokenizer, layout.seq_len)?
        };
        if prepared.pool.contains(&1) {
            return Ok(prepared);
        }
        Err(EvalError::EmptySentence { index, seq_len: layout.seq_len })
    }

    /// Instruction, a space and the text are tokenized together; as many tokens count, from the end, as the text has
    /// alone. What does not fit is cut off at the end.
    fn as_llm2vec(&self, tokenizer: &Tokenizer, seq_len: usize) -> Result<Prepared, EvalError> {
        let instruction =
            self.instruction.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let mut text = self.text.clone();
        let mut whole = match instruction {
            Some(instruction) => format!("{instruction} {text}"),
            None => text.clone(),
        };
        let template = TEMPLATES.iter().find(|(name, ..)| Some(*name) == tokenizer.trained_as());
        if let Some((_, before, behind)) = template {
            whole = format!("{before}{}{behind}", whole.trim());
            text = format!("{}{behind}", text.trim_end());
        }
        let mut ids = tokenizer.encode(&whole)?;
        let counted = tokenizer.encode_plain(&text)?.len().min(ids.len());
        let skipped = ids.len() - counted;
        let mut pool: Vec<u8> = (0..ids.len()).map(|i| u8::from(i >= skipped)).collect();
        ids.truncate(seq_len);
        pool.truncate(seq_len);
        Ok(Prepared { ids, pool })
    }

    /// The instruction is a prompt, put before the text as it is. Every token counts.
    fn as_sentence_transformer(
        &self,
        tokenizer: &Tokenizer,
        seq_len: usize,
    ) -> Result<Prepared, EvalError> {
        let whole = format!("{}{}", self.instruction.as_deref().unwrap_or_default(), self.text);
        let mut text = whole.trim().to_owned();
        if tokenizer.lower_case() {
            text = text.to_lowercase();
        }
        let length = tokenizer.max_seq_length().map_or(seq_len, |n| n.min(seq_len));
        let ids = tokenizer.encode_within(&text, length)?;
        let pool = vec![1; ids.len()];
        Ok(Prepared { ids, pool })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::tokenizer::words;

    const PLAIN: EncoderLayout = EncoderLayout { seq_len: 8, width: 2, pool_mask: false };
    const LLM2VEC: EncoderLayout = EncoderLayout { pool_mask: true, ..PLAIN };
    const LLAMA: &str = r#"{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}"#;

    fn sentence(instruction: &str, text: &str) -> Sentence {
        let instruction = (!instruction.is_empty()).then(|| instruction.to_owned());
        Sentence { instruction, text: text.to_owned() }
    }

    #[test]
    fn lists_hold_texts_and_objects() {
        let list = r#"["a", {"text": "b", "pair": 1}, {"instruction": "c", "text": "d"}]"#;
        let read: Vec<Sentence> = serde_json::from_str(list).unwrap();
        assert_eq!(read, [sentence("", "a"), sentence("", "b"), sentence("c", "d")]);
    }

    #[test]
    fn only_the_text_after_the_instruction_is_pooled() {
        // Token 0 begins every text, "a" is 3, "king" 4, "of" 5, "Judah" 6; 2 is what is unknown.
        let tokenizer = words(&[("tokenizer_config.json", LLAMA)]);
        let cases = [
            // Neither the token before the text nor the instruction counts.
            (("", "a king"), LLM2VEC, vec![0, 3, 4], vec![0, 1, 1]),
            ((" king of ", "Judah a"), LLM2VEC, vec![0, 4, 5, 6, 3], vec![0, 0, 0, 1, 1]),
            ((" ", "Judah"), LLM2VEC, vec![0, 6], vec![0, 1]),
            // What does not fit is cut off at the end.
            (
                ("a a a a a", "king of Judah"),
                LLM2VEC,
                vec![0, 3, 3, 3, 3, 3, 4, 5],
                vec![0, 0, 0, 0, 0, 0, 1, 1],
            ),
            // sentence-transformers counts every token, and joins without a space.
            (("king ", " of "), PLAIN, vec![0, 4, 5], vec![1, 1, 1]),
        ];
        for ((instruction, text), layout, ids, pool) in cases {
            let got = sentence(instruction, text).prepare(0, &tokenizer, layout).unwrap();
            assert_eq!(got, Prepared { ids, pool }, "{instruction:?} {text:?}");
        }
        let long = sentence("a a a a a a a", "king").prepare(3, &tokenizer, LLM2VEC).unwrap_err();
        assert_eq!(long.to_string(), "sentence 3 has no tokens within the sequence length 8");
    }

    #[test]
    fn chat_models_get_the_template_they_were_trained_with() {
        let config = r#"{"_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2"}"#;
        let tokenizer = words(&[("tokenizer_config.json", LLAMA), ("config.json", config)]);
        let got = sentence("a", "king of ").prepare(0, &tokenizer, LLM2VEC).unwrap();
        // "[INST]" and "[/INST]" are unknown here; the second stands behind the text and counts.
        let want = Prepared { ids: vec![0, 2, 3, 4, 5, 2], pool: vec![0, 0, 0, 1, 1, 1] };
        assert_eq!(got, want);
    }

    #[test]
    fn sentence_transformers_settings_are_heeded() {
        let settings = r#"{"max_seq_length": 3, "do_lower_case": true}"#;
        let tokenizer = words(&[("sentence_bert_config.json", settings)]);
        let got = sentence("", "A KING Judah of").prepare(0, &tokenizer, PLAIN).unwrap();
        assert_eq!(got.ids, [3, 4, 2]);
    }
}
