//! Preprocessing of sentences to embed, equal to that of LLM2Vec or sentence-transformers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lm::LmError;
use crate::lm::layout::EncoderLayout;
use crate::lm::tokenizer::Tokenizer;
use crate::source::embedding::{EmbeddingConfig, Llm2VecEmbedding, SentenceEmbedding};
use crate::source::llm2vec::{Pooling, Template};

/// A text, perhaps with an instruction that says what its embedding is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Line")]
pub struct Sentence {
    /// The instruction, put before the text; an empty one keeps the checkpoint's default prompt away.
    pub instruction: Option<String>,
    /// The name of one of the checkpoint's prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_name: Option<String>,
    /// The text.
    pub text: String,
}

/// A line of a list: the text alone, or an object that may say other things besides.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Described { instruction: Option<String>, prompt_name: Option<String>, text: String },
}

impl From<Line> for Sentence {
    fn from(line: Line) -> Self {
        match line {
            Line::Text(text) => Self { instruction: None, prompt_name: None, text },
            Line::Described { instruction, prompt_name, text } => {
                Self { instruction, prompt_name, text }
            }
        }
    }
}

/// A sentence as tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prepared {
    /// The tokens.
    pub ids: Vec<u32>,
    /// For each of them, 1 where it is pooled.
    pub pool: Vec<u8>,
    /// Number of additional tokens that the library would keep if the package were longer.
    pub left_out: usize,
}

impl Sentence {
    /// A text with nothing said about it.
    pub fn plain(text: &str) -> Self {
        Self { instruction: None, prompt_name: None, text: text.to_owned() }
    }

    /// The tokens for the function `encode` that `layout` describes; `index` is for errors.
    pub fn prepare(
        &self,
        index: usize,
        tokenizer: &Tokenizer,
        layout: EncoderLayout,
    ) -> Result<Prepared, LmError> {
        let seq_len = layout.seq_len;
        let prepared = match tokenizer.recipe() {
            Some(EmbeddingConfig::Sentence(recipe)) => {
                self.by_prompt(index, recipe, tokenizer, seq_len)?
            }
            Some(EmbeddingConfig::Llm2Vec(recipe)) => {
                self.by_llm2vec(index, recipe, tokenizer, seq_len)?
            }
            // Older packages have no recipe.
            None if layout.pool_mask => {
                self.by_llm2vec(index, &old_llm2vec(tokenizer), tokenizer, seq_len)?
            }
            None => self.by_prompt(index, &old_sentence(tokenizer), tokenizer, seq_len)?,
        };
        if !prepared.pool.contains(&1) {
            return Err(LmError::EmptySentence { index, seq_len });
        }
        if prepared.pool.contains(&0) && !layout.pool_mask {
            return Err(LmError::NoPoolMask { index });
        }
        Ok(prepared)
    }

    /// sentence-transformers: the prompt is put before the text as it is; its tokens may stay out of pooling.
    fn by_prompt(
        &self,
        index: usize,
        recipe: &SentenceEmbedding,
        tokenizer: &Tokenizer,
        seq_len: usize,
    ) -> Result<Prepared, LmError> {
        let prompt = self.prompt(index, recipe)?;
        let tidy = |text: String| if recipe.strip { python::strip(&text).to_owned() } else { text };
        let whole = tidy(format!("{prompt}{}", self.text));
        let length = recipe.max_length.unwrap_or(usize::MAX).min(seq_len);
        let ids = tokenizer.encode_within(&whole, length)?;
        let mut skipped = 0;
        if !recipe.include_prompt && !prompt.is_empty() {
            let alone = tokenizer.encode_within(&tidy(prompt.to_owned()), length)?;
            let ends = alone.last().is_some_and(|&last| tokenizer.is_special(last));
            skipped = alone.len() - usize::from(ends);
        }
        let pool = (0..ids.len()).map(|i| u8::from(i >= skipped)).collect();
        let left_out = left_out(tokenizer, &whole, &ids, seq_len, recipe.max_length)?;
        Ok(Prepared { ids, pool, left_out })
    }

    /// Prefix of the text: the instruction, the named prompt, or the checkpoint's default prompt.
    fn prompt<'a>(
        &'a self,
        index: usize,
        recipe: &'a SentenceEmbedding,
    ) -> Result<&'a str, LmError> {
        if let Some(instruction) = &self.instruction {
            return Ok(instruction);
        }
        let named = |name: &str| recipe.prompts.get(name).map(String::as_str);
        match &self.prompt_name {
            Some(name) => named(name).ok_or_else(|| LmError::PromptName {
                index,
                name: name.clone(),
                known: recipe.prompts.keys().cloned().collect(),
            }),
            None => Ok(recipe.default_prompt_name.as_deref().and_then(named).unwrap_or_default()),
        }
    }

    /// LLM2Vec: the text loses words until it is short enough, then instruction, text and template are tokenized
    /// together; as many tokens are pooled, counted from the end, as the text and what follows it have alone.
    fn by_llm2vec(
        &self,
        index: usize,
        recipe: &Llm2VecEmbedding,
        tokenizer: &Tokenizer,
        seq_len: usize,
    ) -> Result<Prepared, LmError> {
        if let Some(name) = &self.prompt_name {
            return Err(LmError::PromptName { index, name: name.clone(), known: Vec::new() });
        }
        let length = recipe.max_length.min(seq_len);
        let count = |text: &str| Ok::<_, LmError>(tokenizer.encode_plain(text)?.len().min(length));
        let mut text = self.text.clone();
        let mut n = count(&text)?;
        while n > recipe.doc_max_length {
            let words = python::split(&text);
            let kept = (words.len() as f64 * (recipe.doc_max_length as f64 / n as f64)) as usize;
            text = words[..kept.min(words.len())].join(" ");
            n = count(&text)?;
        }
        let mut whole = match self.instruction.as_deref().filter(|text| !text.is_empty()) {
            Some(instruction) => format!("{} {MARK}{text}", python::strip(instruction)),
            None => format!("{MARK}{text}"),
        };
        if let Some(Template { before, behind }) = &recipe.template {
            whole = format!("{before}{}{behind}", python::strip(&whole));
        }
        if let Some(end) = &recipe.end {
            whole = format!("{}{end}", python::strip(&whole));
        }
        let alone = whole.split(MARK).nth(1).unwrap_or_default();
        let (all, n) = (whole.replace(MARK, ""), count(alone)?);
        let ids = tokenizer.encode_within(&all, length)?;
        let first = match recipe.pooling_mode {
            Pooling::Mean | Pooling::WeightedMean if recipe.skip_instruction => {
                ids.len().saturating_sub(n)
            }
            Pooling::Mean | Pooling::WeightedMean => 0,
            Pooling::EosToken | Pooling::LastToken => ids.len().saturating_sub(1),
            Pooling::BosToken => {
                let places: Vec<usize> =
                    (0..ids.len()).filter(|&i| Some(ids[i]) == recipe.bos_token_id).collect();
                let [place] = places[..] else {
                    return Err(LmError::FirstTokens { index, found: places.len() });
                };
                place
            }
        };
        let last = if recipe.pooling_mode == Pooling::BosToken { first } else { ids.len() };
        let pool = (0..ids.len()).map(|i| u8::from(i >= first && i <= last)).collect();
        let left_out = left_out(tokenizer, &all, &ids, seq_len, Some(recipe.max_length))?;
        Ok(Prepared { ids, pool, left_out })
    }
}

/// What LLM2Vec keeps between instruction and text until both are tokens.
const MARK: &str = "!@#$%^&*()";

/// Tokens that the library would have kept and the package's length does not hold.
fn left_out(
    tokenizer: &Tokenizer,
    text: &str,
    ids: &[u32],
    seq_len: usize,
    limit: Option<usize>,
) -> Result<usize, LmError> {
    let limit = limit.unwrap_or(usize::MAX);
    if ids.len() < seq_len || limit <= seq_len {
        return Ok(0);
    }
    Ok(tokenizer.encode(text)?.len().min(limit).saturating_sub(ids.len()))
}

/// The rules for a sentence-transformers package without a recipe.
fn old_sentence(tokenizer: &Tokenizer) -> SentenceEmbedding {
    SentenceEmbedding {
        prompts: BTreeMap::new(),
        default_prompt_name: None,
        strip: true,
        lower_case: tokenizer.lower_case(),
        max_length: tokenizer.max_seq_length(),
        include_prompt: true,
        similarity: None,
    }
}

/// The rules for an LLM2Vec package without a recipe.
fn old_llm2vec(tokenizer: &Tokenizer) -> Llm2VecEmbedding {
    Llm2VecEmbedding {
        pooling_mode: Pooling::Mean,
        max_length: usize::MAX,
        doc_max_length: usize::MAX,
        skip_instruction: true,
        template: tokenizer.trained_as().and_then(Template::of),
        end: None,
        bos_token_id: None,
    }
}

/// Python's idea of space in `str.strip` and `str.split`.
mod python {
    fn is_space(c: char) -> bool {
        c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
    }

    pub(super) fn strip(text: &str) -> &str {
        text.trim_matches(is_space)
    }

    pub(super) fn split(text: &str) -> Vec<&str> {
        text.split(is_space).filter(|word| !word.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::tokenizer::words;

    const PLAIN: EncoderLayout = EncoderLayout { seq_len: 8, width: 2, pool_mask: false };
    const LLM2VEC: EncoderLayout = EncoderLayout { pool_mask: true, ..PLAIN };
    const LLAMA: &str = r#"{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}"#;

    fn sentence(instruction: &str, text: &str) -> Sentence {
        let instruction = (!instruction.is_empty()).then(|| instruction.to_owned());
        Sentence { instruction, ..Sentence::plain(text) }
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
            // What does not fit is cut off at the end; the text's number of tokens counts from there.
            (
                ("a a a a a", "king of Judah"),
                LLM2VEC,
                vec![0, 3, 3, 3, 3, 3, 4, 5],
                vec![0, 0, 0, 0, 0, 1, 1, 1],
            ),
            // sentence-transformers counts every token, and joins without a space.
            (("king ", " of "), PLAIN, vec![0, 4, 5], vec![1, 1, 1]),
        ];
        for ((instruction, text), layout, ids, pool) in cases {
            let got = sentence(instruction, text).prepare(0, &tokenizer, layout).unwrap();
            assert_eq!((got.ids, got.pool), (ids, pool), "{instruction:?} {text:?}");
        }
        let none = sentence("a", "").prepare(3, &tokenizer, LLM2VEC).unwrap_err();
        assert_eq!(none.to_string(), "sentence 3 has no tokens within the sequence length 8");
    }

    #[test]
    fn chat_models_get_the_template_they_were_trained_with() {
        let config = r#"{"_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2"}"#;
        let tokenizer = words(&[("tokenizer_config.json", LLAMA), ("config.json", config)]);
        let got = sentence("a", "king of ").prepare(0, &tokenizer, LLM2VEC).unwrap();
        // "[INST]" and "[/INST]" are unknown here; the second stands behind the text and counts.
        assert_eq!((got.ids, got.pool), (vec![0, 2, 3, 4, 5, 2], vec![0, 0, 0, 1, 1, 1]));
    }

    #[test]
    fn sentence_transformers_settings_are_heeded() {
        let settings = r#"{"max_seq_length": 3, "do_lower_case": true}"#;
        let tokenizer = words(&[("sentence_bert_config.json", settings)]);
        let got = sentence("", "A KING Judah of").prepare(0, &tokenizer, PLAIN).unwrap();
        assert_eq!(got.ids, [3, 4, 2]);
    }

    /// The recipe as a file beside the tokenizer, with `changes` to a plain one.
    fn recipe(library: &str, changes: &str) -> String {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(match library {
            "llm2vec" => {
                r#"{"pooling_mode": "mean", "max_length": 512, "doc_max_length": 400, "skip_instruction": true,
                    "template": null, "end": null, "bos_token_id": null}"#
            }
            _ => {
                r#"{"prompts": {"query": "king ", "document": ""}, "default_prompt_name": null, "strip": false,
                    "lower_case": false, "max_length": null, "include_prompt": true, "similarity": null}"#
            }
        })
        .unwrap();
        fields.extend(serde_json::from_str::<serde_json::Map<_, _>>(changes).unwrap());
        fields.insert("library".to_owned(), library.into());
        serde_json::Value::from(fields).to_string()
    }

    /// Token 0 begins every text and 1 ends it; "a" is 3, "king" 4, "of" 5, "Judah" 6.
    const AROUND: &str = r#"{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
        "add_eos_token": true}"#;

    #[test]
    fn prompts_are_found_and_left_out_as_the_recipe_says() {
        let pooled = EncoderLayout { pool_mask: true, ..PLAIN };
        let named = |name: &str, text: &str| Sentence {
            prompt_name: Some(name.to_owned()),
            ..Sentence::plain(text)
        };
        let (default, outside) =
            (r#"{"default_prompt_name": "query"}"#, r#"{"include_prompt": false}"#);
        let (of, whole) = (vec![0, 5, 1], vec![0, 4, 5, 1]);
        let cases = [
            ("{}", Sentence::plain("of"), &of, vec![1, 1, 1]),
            (default, Sentence::plain("of"), &whole, vec![1, 1, 1, 1]),
            (default, sentence("a ", "of"), &vec![0, 3, 5, 1], vec![1, 1, 1, 1]),
            (
                default,
                Sentence { instruction: Some(String::new()), ..Sentence::plain("of") },
                &of,
                vec![1, 1, 1],
            ),
            (default, named("document", "of"), &of, vec![1, 1, 1]),
            ("{}", named("query", "of"), &whole, vec![1, 1, 1, 1]),
            // The prompt's own tokens stay out, those around it with it; what ends the text stays in.
            (outside, named("query", "of"), &whole, vec![0, 0, 1, 1]),
            (outside, Sentence::plain("of"), &of, vec![1, 1, 1]),
            // A prompt that fills the length leaves the end alone.
            (
                r#"{"include_prompt": false, "max_length": 3}"#,
                sentence("a a a ", "of"),
                &vec![0, 3, 1],
                vec![0, 0, 1],
            ),
            (
                r#"{"lower_case": true}"#,
                Sentence::plain("A oF"),
                &vec![0, 3, 5, 1],
                vec![1, 1, 1, 1],
            ),
        ];
        for (changes, sentence, ids, pool) in cases {
            let recipe = recipe("sentence-transformers", changes);
            let tokenizer =
                words(&[("tokenizer_config.json", AROUND), ("embedding.json", recipe.as_str())]);
            let got = sentence.prepare(0, &tokenizer, pooled).unwrap();
            assert_eq!((&got.ids, got.pool), (ids, pool), "{changes} {sentence:?}");
        }
        let recipe = recipe("sentence-transformers", outside);
        let tokenizer =
            words(&[("tokenizer_config.json", AROUND), ("embedding.json", recipe.as_str())]);
        let error = named("passage", "of").prepare(2, &tokenizer, pooled).unwrap_err();
        assert_eq!(error.to_string(), "sentence 2: no prompt is called `passage`");
        assert_eq!(crate::base::error::Hint::hint(&error).unwrap(), "it has document, query");
        let error = named("query", "of").prepare(2, &tokenizer, PLAIN).unwrap_err().to_string();
        assert!(error.contains("has no input `pool_mask`"), "{error}");
    }

    #[test]
    fn what_the_package_is_too_short_for_is_counted() {
        let text = Sentence::plain("a a a a a a a a a");
        // The library's own limit, tokens kept, and tokens that only the package leaves out.
        for (limit, kept, left_out) in [("null", 8, 3), ("10", 8, 2), ("8", 8, 0), ("5", 5, 0)] {
            let changes = format!(r#"{{"max_length": {limit}}}"#);
            let recipe = recipe("sentence-transformers", &changes);
            let tokenizer =
                words(&[("tokenizer_config.json", AROUND), ("embedding.json", recipe.as_str())]);
            let got = text.prepare(0, &tokenizer, PLAIN).unwrap();
            assert_eq!((got.ids.len(), got.left_out), (kept, left_out), "{limit}");
            assert_eq!(got.ids.last(), Some(&1));
        }
    }

    #[test]
    fn llm2vec_pools_what_its_settings_say() {
        let cases = [
            ("{}", ("king", "of Judah"), vec![0, 4, 5, 6], vec![0, 0, 1, 1]),
            (r#"{"skip_instruction": false}"#, ("king", "of"), vec![0, 4, 5], vec![1, 1, 1]),
            (r#"{"pooling_mode": "last_token"}"#, ("", "of Judah"), vec![0, 5, 6], vec![0, 0, 1]),
            (
                r#"{"pooling_mode": "eos_token", "end": " a"}"#,
                ("", "of "),
                vec![0, 5, 3],
                vec![0, 0, 1],
            ),
            (
                r#"{"pooling_mode": "bos_token", "bos_token_id": 0}"#,
                ("", "of"),
                vec![0, 5],
                vec![1, 0],
            ),
            // Of five words three are kept, joined by single spaces.
            (
                r#"{"doc_max_length": 3}"#,
                ("king", "a of  a of a"),
                vec![0, 4, 3, 5, 3],
                vec![0, 0, 1, 1, 1],
            ),
            // Cut at 4 tokens; the text has 3, and as many are pooled from the end.
            (r#"{"max_length": 4}"#, ("king king", "a of a"), vec![0, 4, 4, 3], vec![0, 1, 1, 1]),
            (
                r#"{"template": {"before": "king ", "behind": " a"}, "end": null}"#,
                ("of", " Judah "),
                vec![0, 4, 5, 6, 3],
                vec![0, 0, 0, 1, 1],
            ),
        ];
        for (changes, (instruction, text), ids, pool) in cases {
            let recipe = recipe("llm2vec", changes);
            let tokenizer =
                words(&[("tokenizer_config.json", LLAMA), ("embedding.json", recipe.as_str())]);
            let got = sentence(instruction, text).prepare(0, &tokenizer, LLM2VEC).unwrap();
            assert_eq!((got.ids, got.pool), (ids, pool), "{changes}");
        }
        let recipe = recipe("llm2vec", r#"{"pooling_mode": "bos_token", "bos_token_id": 0}"#);
        let tokenizer =
            words(&[("tokenizer_config.json", LLAMA), ("embedding.json", recipe.as_str())]);
        let error = sentence("", "<s> a").prepare(0, &tokenizer, LLM2VEC).unwrap_err().to_string();
        assert!(error.contains("occurs 2 times"), "{error}");
        let error = Sentence { prompt_name: Some("query".to_owned()), ..Sentence::plain("a") };
        let error = error.prepare(0, &tokenizer, LLM2VEC).unwrap_err().to_string();
        assert!(error.contains("no prompt is called `query`"), "{error}");
    }

    #[test]
    fn spaces_are_those_of_python() {
        assert_eq!(python::strip("\u{1c}\u{a0} a b\u{85}\t"), "a b");
        assert_eq!(python::split(" a\u{1f}b \u{3000}c\n"), ["a", "b", "c"]);
        assert_eq!(python::strip("\u{200b}a"), "\u{200b}a");
    }
}
