//! The source model in f32 through the embedded Python: transformers, with adapters merged by peft.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Continuation, Continue, Distributions, EmbedRequest, Identity, Noise, Reference,
    ReferenceError, TokenizedText,
};
use crate::base::error::{ErrorKind, Hint};
use crate::base::fs::Staging;
use crate::python::{Interpreter, PythonError};

/// The Python side, or whatever stands for it: a request in, its answer out.
pub trait Ask: Send + Sync {
    /// Answers one request.
    fn ask(&self, request: &Value) -> Result<Value, ReferenceError>;
}

impl Ask for Interpreter {
    fn ask(&self, request: &Value) -> Result<Value, ReferenceError> {
        self.call(request).map_err(ReferenceError::from)
    }
}

impl From<PythonError> for ReferenceError {
    fn from(error: PythonError) -> Self {
        match error {
            PythonError::Io(e) => Self::Io(e),
            PythonError::Cancelled(e) => Self::Cancelled(e),
            other => {
                let (advice, blame) = (other.hint(), other.error_kind());
                Self::Failed { message: other.to_string(), advice, blame }
            }
        }
    }
}

impl<F: Fn(&Value) -> Result<Value, ReferenceError> + Send + Sync> Ask for F {
    fn ask(&self, request: &Value) -> Result<Value, ReferenceError> {
        self(request)
    }
}

/// A checkpoint with the adapters that artifacts made from it carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// Adapters that `init` and `decode` have merged.
    pub adapters: Vec<PathBuf>,
    /// LLM2Vec adapters of `encode`, in order; they stand on the checkpoint itself, which they were trained on.
    pub encode_adapters: Vec<PathBuf>,
}

/// A checkpoint's answers, computed by Python.
pub struct PythonReference<A> {
    python: A,
    checkpoint: Checkpoint,
    identity: Identity,
    scratch: PathBuf,
}

impl<A: Ask> PythonReference<A> {
    /// `python` is asked about `checkpoint`, whose files are those of `identity`; what it writes goes through
    /// `scratch`, which is left as it was.
    pub fn new(python: A, checkpoint: Checkpoint, identity: Identity, scratch: &Path) -> Self {
        Self { python, checkpoint, identity, scratch: scratch.to_owned() }
    }

    fn ask<T: DeserializeOwned>(&self, request: &Value) -> Result<T, ReferenceError> {
        let answer = self.python.ask(request)?;
        serde_json::from_value(answer).map_err(|e| ReferenceError::Answer {
            what: format!("answer to {}: {e}", request["op"]),
        })
    }
}

#[derive(Deserialize)]
struct Written {
    windows: usize,
    length: usize,
    top_k: usize,
}

#[derive(Deserialize)]
struct Outputs {
    outputs: Vec<Continuation>,
}

#[derive(Deserialize)]
struct Embeddings {
    embeddings: Vec<Vec<f32>>,
    /// The tokens of each sentence.
    tokens: Vec<Vec<u32>>,
}

impl<A: Ask> Reference for PythonReference<A> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn describe(&self) -> String {
        let name = self.checkpoint.folder.file_name().unwrap_or_default().to_string_lossy();
        let adapters = &self.checkpoint.encode_adapters;
        let adapters: Vec<_> = adapters.iter().filter_map(|a| a.file_name()).collect();
        if adapters.is_empty() {
            return format!("checkpoint `{name}` in f32");
        }
        let list: Vec<_> = adapters.iter().map(|a| format!("`{}`", a.to_string_lossy())).collect();
        format!("LLM2Vec checkpoint {} on `{name}` in f32", list.join(", "))
    }

    fn logits(&self, windows: &[Vec<u32>], top_k: usize) -> Result<Distributions, ReferenceError> {
        let folder = Staging::begin(&self.scratch.join("logits"))?;
        let out = folder.path().join("logits.safetensors");
        let Checkpoint { folder: model, adapters, .. } = &self.checkpoint;
        let written: Written = self.ask(&json!({
            "op": "reference_logits", "model": model, "adapters": adapters, "windows": windows,
            "top_k": top_k, "out": out,
        }))?;
        let found = Distributions::from_bytes(&fs_err::read(&out)?)?;
        let (n, length) = (windows.len(), windows.first().map_or(0, Vec::len));
        let said = (written.windows, written.length, written.top_k);
        if said != (n, length, top_k) || !found.fits(n, length, top_k) {
            let what = format!("{said:?} windows, tokens and K asked as {:?}", (n, length, top_k));
            return Err(ReferenceError::Answer { what });
        }
        Ok(found)
    }

    fn noise(&self, windows: &[Vec<u32>]) -> Result<Option<Noise>, ReferenceError> {
        let Checkpoint { folder: model, adapters, .. } = &self.checkpoint;
        let noise: Noise = self.ask(&json!({
            "op": "reference_noise", "model": model, "adapters": adapters, "windows": windows,
        }))?;
        let length = windows.first().map_or(0, Vec::len);
        if !noise.fits(windows.len(), length) {
            let what = format!("noise of another shape than {} windows of {length}", windows.len());
            return Err(ReferenceError::Answer { what });
        }
        Ok(Some(noise))
    }

    fn generate(&self, request: &Continue) -> Result<Vec<Continuation>, ReferenceError> {
        let Checkpoint { folder: model, adapters, .. } = &self.checkpoint;
        let Outputs { outputs } = self.ask(&json!({
            "op": "reference_generate", "model": model, "adapters": adapters,
            "prompts": request.prompts, "max_new_tokens": request.max_tokens, "eos": request.eos,
        }))?;
        same_number("continuations", outputs.len(), request.prompts.len())?;
        let even = outputs.iter().all(|one| one.tokens.len() == one.margins.len());
        if !even {
            let what = "a continuation has another number of margins than of tokens".to_owned();
            return Err(ReferenceError::Answer { what });
        }
        Ok(outputs)
    }

    fn embed(&self, request: &EmbedRequest) -> Result<Vec<Vec<f32>>, ReferenceError> {
        let Checkpoint { folder: model, encode_adapters, .. } = &self.checkpoint;
        let Embeddings { embeddings, tokens } = self.ask(&json!({
            "op": "reference_embed", "model": model, "encode_adapters": encode_adapters,
            "inputs": request.sentences, "seq_len": request.seq_len, "strip": request.strip,
        }))?;
        same_number("embeddings", embeddings.len(), request.prepared.len())?;
        same_number("token lists", tokens.len(), request.prepared.len())?;
        for (index, (ours, theirs)) in request.prepared.iter().zip(&tokens).enumerate() {
            if ours.ids != *theirs {
                return Err(other_tokens(index, &ours.ids, theirs));
            }
        }
        Ok(embeddings)
    }

    fn check_tokens(&self, texts: &[TokenizedText]) -> Result<(), ReferenceError> {
        let Checkpoint { folder: model, adapters, .. } = &self.checkpoint;
        let TokenCheck { mismatch } = self.ask(&json!({
            "op": "reference_tokens", "model": model, "adapters": adapters, "texts": texts,
        }))?;
        let Some(Mismatch { text, at, expected }) = mismatch else { return Ok(()) };
        let Some(TokenizedText { text, ids, .. }) = texts.get(text) else {
            let what = format!("text {text} of {} differs", texts.len());
            return Err(ReferenceError::Answer { what });
        };
        let begin = at.saturating_sub(2).min(ids.len());
        let ours = &ids[begin..ids.len().min(begin + expected.len())];
        let shown: String = text.chars().take(60).collect();
        Err(ReferenceError::Failed {
            message: format!(
                "text {shown:?} has the tokens {ours:?} from token {begin} on, `AutoTokenizer` gives {expected:?}"
            ),
            advice: Some(
                "convert the checkpoint again, so that its tokenizer is current".to_owned(),
            ),
            blame: ErrorKind::Evaluation,
        })
    }
}

#[derive(Deserialize)]
struct TokenCheck {
    mismatch: Option<Mismatch>,
}

#[derive(Deserialize)]
struct Mismatch {
    text: usize,
    at: usize,
    expected: Vec<u32>,
}

/// A sentence that the artifact's tokenizer and the checkpoint's own library see as other tokens.
fn other_tokens(index: usize, ours: &[u32], theirs: &[u32]) -> ReferenceError {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let token = |ids: &[u32]| ids.get(at).map_or_else(|| "none".to_owned(), u32::to_string);
    ReferenceError::Failed {
        message: format!(
            "sentence {index} has {} tokens here and {} in the reference; token {at} is {} here and {} there",
            ours.len(),
            theirs.len(),
            token(ours),
            token(theirs)
        ),
        advice: Some(
            "convert the checkpoint again, so that its tokenizer and recipe are current".to_owned(),
        ),
        blame: ErrorKind::Input,
    }
}

fn same_number(what: &str, got: usize, want: usize) -> Result<(), ReferenceError> {
    if got == want {
        return Ok(());
    }
    Err(ReferenceError::Answer { what: format!("{got} {what} for {want} inputs") })
}
