//! `Checkpoint`: a folder as `transformers` saves it, checked before anything heavy starts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::config::{self, Allow, ModelConfig, Review};
use super::safetensors::{self, Tensors};
use super::sentence::{self, SentenceConfig};
use super::tokenizer::{self, TokenizerFacts};
use super::{json, names};
use crate::base::digest;
use crate::base::error::{ErrorKind, Hint};

/// An open checkpoint. No weight has been read.
#[derive(Debug)]
pub struct Checkpoint {
    root: PathBuf,
    model_dir: PathBuf,
    config: ModelConfig,
    tensors: Tensors,
    tokenizer: Option<TokenizerFacts>,
    modules: Vec<Module>,
    sentence: Option<SentenceConfig>,
    review: Review,
    warnings: Vec<String>,
    /// True if the head is another matrix than the embedding although the configuration ties them.
    untied: bool,
}

/// One step of a sentence-transformers model, from `modules.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Folder of the step below the checkpoint's, empty for the checkpoint itself.
    pub path: String,
    /// Python class of the step.
    #[serde(rename = "type")]
    pub class: String,
}

/// Size and content of one source file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDigest {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it; the fields are its values")]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("`{dir}` is {}", not_a_folder(.dir))]
    NotADirectory { dir: PathBuf },
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Weights(#[from] safetensors::Error),
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    #[error(transparent)]
    Sentence(#[from] sentence::Error),
    #[error("`{file}` cannot be read: {reason}")]
    BadModules { file: PathBuf, reason: String },
}

/// What stands where the folder of a checkpoint should.
fn not_a_folder(path: &Path) -> &'static str {
    if !path.exists() {
        return "not a folder";
    }
    let start = super::positional::File::open(path).and_then(|file| {
        let mut start = [0; 4];
        file.read_exact_at(&mut start, 0)?;
        Ok(start)
    });
    match start {
        Ok(start) if &start == b"GGUF" => "a GGUF file, not the folder of a checkpoint",
        _ => "a file, not the folder of a checkpoint",
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Json(e) => e.hint(),
            Self::NotADirectory { dir } if dir.is_file() => {
                let folder = dir.parent().filter(|parent| parent.join("config.json").is_file());
                Some(match folder {
                    Some(folder) => format!("pass the folder `{}`", folder.display()),
                    None => {
                        "pass the folder that `save_pretrained` of transformers wrote".to_owned()
                    }
                })
            }
            Self::Config(e) => e.hint(),
            Self::Weights(e) => e.hint(),
            Self::Tokenizer(e) => e.hint(),
            Self::Sentence(e) => e.hint(),
            Self::NotADirectory { .. } => {
                Some("pass the folder of a checkpoint, or a repository as OWNER/NAME".to_owned())
            }
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            Self::Weights(e) => e.error_kind(),
            Self::Config(e) => e.error_kind(),
            Self::Json(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}

impl Checkpoint {
    /// Opens the folder `dir`: configuration, headers of the weights, tokenizer where there is one.
    ///
    /// The steps of a sentence-transformers model lie in sub-folders: the transformer itself may, and the weights of
    /// the others (`2_Dense`) are found under `2_Dense/linear.weight`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        if !dir.is_dir() {
            return Err(Error::NotADirectory { dir: dir.to_owned() });
        }
        let modules = read_modules(dir)?;
        let model_dir = match modules.first() {
            Some(module) => dir.join(&module.path),
            None => dir.to_owned(),
        };
        let config::Read { config, review, mut warnings } =
            config::read(&model_dir, modules.iter().any(|m| m.class.ends_with("Pooling")))?;
        let embeds = !modules.is_empty() || config.model_type == "bert";
        let sentence = if embeds { Some(SentenceConfig::open(dir)?) } else { None };
        let mut tensors = Tensors::open(&model_dir)?;
        for module in modules.iter().skip(1).filter(|m| !m.path.is_empty()) {
            match Tensors::open(&dir.join(&module.path)) {
                Ok(weights) => tensors.mount(&module.path, weights),
                Err(safetensors::Error::NoWeights { .. } | safetensors::Error::Io(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let untied = is_untied(&config, &tensors)?;
        if untied {
            warnings.push(
                "`tie_word_embeddings` in `config.json` is true, but a head of its own is stored: it is used, as in \
                 transformers 5"
                    .to_owned(),
            );
        }
        warnings.extend(tensors.warnings().iter().cloned());
        let tokenizer = match TokenizerFacts::open(&model_dir, config.vocab_size) {
            Ok(facts) => {
                config.check_special_tokens(&model_dir)?;
                Some(facts)
            }
            Err(tokenizer::Error::Missing { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let root = dir.to_owned();
        Ok(Self {
            root,
            model_dir,
            config,
            tensors,
            tokenizer,
            modules,
            sentence,
            review,
            warnings,
            untied,
        })
    }

    /// Fails if something speaks against a conversion that `allow` does not lift.
    pub fn check(&self, allow: &Allow) -> Result<(), Error> {
        self.review.check(allow).map_err(config::Error::from)?;
        Ok(self.tensors.check(&self.config.model_type)?)
    }

    /// What became of each key of `config.json`.
    pub fn review(&self) -> &Review {
        &self.review
    }

    /// What was read otherwise than one might think.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// True if the head is the embedding.
    pub fn is_tied(&self) -> bool {
        self.config.tie_word_embeddings && !self.untied
    }

    /// True if a head of its own is stored although the configuration ties it to the embedding.
    pub fn is_untied(&self) -> bool {
        self.untied
    }

    /// True if the family writes text.
    pub fn is_decoder(&self) -> bool {
        config::keys::family(&self.config.model_type).is_none_or(|family| family.is_decoder)
    }

    /// The folder it was opened from.
    pub fn dir(&self) -> &Path {
        &self.root
    }

    /// The folder of the transformer itself.
    pub fn model_dir(&self) -> &Path {
        &self.model_dir
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The stored tensors.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The steps of a sentence-transformers model; empty for any other checkpoint.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// What sentence-transformers does with the checkpoint; nothing where it is no embedder.
    pub fn sentence(&self) -> Option<&SentenceConfig> {
        self.sentence.as_ref()
    }

    /// True if the checkpoint itself makes embeddings, without adapters of LLM2Vec.
    pub fn embeds(&self) -> bool {
        self.sentence.is_some()
    }

    /// The tokenizer, or the error that says it is missing.
    pub fn tokenizer(&self) -> Result<&TokenizerFacts, Error> {
        let missing = || tokenizer::Error::Missing { dir: self.model_dir.clone() };
        Ok(self.tokenizer.as_ref().ok_or_else(missing)?)
    }

    /// Fails if the model does not know `seq_len` positions; lengths that fit are multiples of `step`.
    pub fn check_seq_len(&self, seq_len: usize, step: usize) -> Result<(), Error> {
        match self.config.max_positions {
            Some(max_positions) if seq_len > max_positions => {
                let dir = self.root.clone();
                let dynamic = self.config.rope.as_ref().is_some_and(config::Rope::is_dynamic);
                // A chunk is never longer than the sequence.
                let fits = if max_positions > step {
                    max_positions - max_positions % step
                } else {
                    max_positions
                };
                Err(config::Error::TooLong { dir, seq_len, max_positions, fits, dynamic }.into())
            }
            _ => Ok(()),
        }
    }

    /// Number of stored float weights; a tied head counts once.
    pub fn n_parameters(&self) -> u64 {
        let weights = self.tensors.iter().filter(|(_, e)| e.dtype.is_float());
        weights.map(|(_, entry)| entry.n_elements() as u64).sum()
    }

    /// Bytes of the stored tensors.
    pub fn n_bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, entry)| entry.end - entry.begin).sum()
    }

    /// The stored tensor that fills the module parameter `parameter`: under its own name, with or without the base
    /// model's prefix, under an old name, or the embedding a tied head shares.
    pub fn resolve(&self, parameter: &str) -> Option<&str> {
        let tied = self.tied(parameter).or_else(|| self.stored(parameter));
        tied.or_else(|| self.head_of(parameter))
    }

    /// The head that stands for its tied embedding, of which nothing else is stored.
    fn head_of(&self, parameter: &str) -> Option<&str> {
        if !self.is_tied() {
            return None;
        }
        self.first_of(&names::heads_of(&self.config.model_type, parameter))
    }

    /// The stored tensor of that name in one of its spellings, ties left aside.
    pub(crate) fn stored(&self, parameter: &str) -> Option<&str> {
        self.first_of(&names::spellings(&self.config.model_type, parameter))
    }

    /// The embedding that a tied head's `parameter` shares.
    fn tied(&self, parameter: &str) -> Option<&str> {
        if !self.is_tied() {
            return None;
        }
        self.first_of(&names::tied_to(&self.config.model_type, parameter))
    }

    fn first_of(&self, names: &[String]) -> Option<&str> {
        names.iter().find_map(|name| self.tensors.key(name))
    }

    /// The path of `file` below the checkpoint's folder, with slashes.
    pub fn below(&self, file: &Path) -> String {
        relative(&self.root, file)
    }

    /// The files the checkpoint consists of, by path below its folder, with their sizes.
    pub fn files(&self) -> io::Result<Vec<(String, u64)>> {
        let mut paths: Vec<PathBuf> =
            self.tensors.files().iter().map(|file| file.path().to_owned()).collect();
        let mut folders = vec![self.root.clone(), self.model_dir.clone()];
        folders.extend(self.modules.iter().map(|m| self.root.join(&m.path)));
        folders.sort();
        folders.dedup();
        for folder in folders {
            paths.extend(COMPANIONS.iter().map(|name| folder.join(name)).filter(|p| p.is_file()));
        }
        let mut files = Vec::new();
        for path in paths {
            let size = fs_err::metadata(&path)?.len();
            files.push((relative(&self.root, &path), size));
        }
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// SHA-256 of each of [`files`](Self::files); reads all of them.
    pub fn digests(&self) -> io::Result<BTreeMap<String, FileDigest>> {
        let digest = |(name, _): (String, u64)| {
            let (sha256, size) = digest::of_file(&self.root.join(&name))?;
            Ok((name, FileDigest { size, sha256 }))
        };
        self.files()?.into_par_iter().map(digest).collect()
    }
}

/// True if a head is stored beside the embedding that the configuration ties it to, with other values.
fn is_untied(config: &ModelConfig, tensors: &Tensors) -> Result<bool, Error> {
    if !config.tie_word_embeddings {
        return Ok(false);
    }
    let key = |names: &[String]| names.iter().find_map(|name| tensors.key(name));
    let Some(head) = tensors.key(names::HEAD) else { return Ok(false) };
    match key(&names::tied_to(&config.model_type, names::HEAD)) {
        None => Ok(false),
        Some(embedding) => Ok(!tensors.are_equal(embedding, head)?),
    }
}

/// Files beside the weights that a conversion reads.
pub(crate) const COMPANIONS: [&str; 21] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "llm2vec_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "modules.json",
    "pytorch_model.bin.index.json",
    "sentence_bert_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];

fn read_modules(dir: &Path) -> Result<Vec<Module>, Error> {
    let file = dir.join("modules.json");
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let bad = |reason: String| Error::BadModules { file: file.clone(), reason };
    let modules: Vec<Module> = json::read(&file).map_err(|error| match error {
        json::Error::Bad { reason, .. } => bad(reason),
        other => other.into(),
    })?;
    for module in &modules {
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if !Path::new(&module.path).components().all(plain) {
            return Err(bad(format!("module path `{}` leaves the checkpoint", module.path)));
        }
    }
    if modules.is_empty() {
        return Err(bad("it names no module".to_owned()));
    }
    Ok(modules)
}

fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = below.components().map(|c| c.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::fixture;

    #[test]
    fn parameters_are_found_under_their_other_names() {
        let tied = fixture::LLAMA.to_owned();
        let untied =
            tied.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
        let bert = tied.replace("llama", "bert");
        let cases = [
            (&tied, "model.norm.weight", "model.norm.weight", Some("model.norm.weight")),
            (&tied, "norm.weight", "model.norm.weight", Some("norm.weight")),
            (&tied, "model.norm.weight", "norm.weight", Some("model.norm.weight")),
            (
                &tied,
                "model.embed_tokens.weight",
                "lm_head.weight",
                Some("model.embed_tokens.weight"),
            ),
            (&tied, "embed_tokens.weight", "lm_head.weight", Some("embed_tokens.weight")),
            (&untied, "model.embed_tokens.weight", "lm_head.weight", None),
            (&bert, "bert.x.LayerNorm.gamma", "x.LayerNorm.weight", Some("bert.x.LayerNorm.gamma")),
            (&bert, "x.LayerNorm.beta", "bert.x.LayerNorm.bias", Some("x.LayerNorm.beta")),
        ];
        for (config, stored, asked, want) in cases {
            let dir = fixture::checkpoint(config, &[(stored, &[4, 4], &[1.0; 16])]);
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            assert_eq!(checkpoint.resolve(asked), want, "{asked} in {stored}");
        }
    }

    #[test]
    fn a_checkpoint_counts_and_lists_itself() {
        let dir = fixture::checkpoint(
            fixture::LLAMA,
            &[("a", &[4, 4], &[1.0; 16]), ("b", &[3], &[0.0; 3])],
        );
        fs_err::write(dir.path().join("tokenizer.json"), r#"{"model": {"vocab": {"x": 3}}}"#)
            .unwrap();
        fs_err::write(dir.path().join("notes.txt"), "not ours").unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!((checkpoint.n_parameters(), checkpoint.n_bytes()), (19, 76));
        assert_eq!(checkpoint.tokenizer().unwrap().n_ids, Some(4));
        checkpoint.check_seq_len(16, 1).unwrap();
        let error = checkpoint.check_seq_len(17, 1).unwrap_err();
        assert!(
            error.to_string().starts_with("sequence length 17 is beyond the 16 positions"),
            "{error}"
        );
        assert_eq!(error.hint().unwrap(), "pass `--seq-len 16` or less");
        let names: Vec<_> = checkpoint.files().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
        let digests = checkpoint.digests().unwrap();
        assert_eq!(
            digests["tokenizer.json"].sha256,
            digest::of_bytes(br#"{"model": {"vocab": {"x": 3}}}"#)
        );
    }

    #[test]
    fn sentence_transformers_keep_steps_in_folders() {
        let modules = |first: &str, second: &str| {
            format!(
                r#"[{{"idx": 0, "path": "{first}", "type": "sentence_transformers.models.Transformer"}},
                {{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}},
                {{"idx": 2, "path": "{second}", "type": "sentence_transformers.models.Dense"}}]"#
            )
        };
        for first in ["", "0_Transformer"] {
            let dir = tempfile::tempdir().unwrap();
            let inner = dir.path().join(first);
            fs_err::create_dir_all(&inner).unwrap();
            fs_err::create_dir(dir.path().join("2_Dense")).unwrap();
            fs_err::write(inner.join("config.json"), fixture::LLAMA).unwrap();
            fixture::write(&inner.join("model.safetensors"), &[("norm.weight", &[1], &[1.0])]);
            let sizes = r#"{"in_features": 2, "out_features": 1}"#;
            fs_err::write(dir.path().join("2_Dense/config.json"), sizes).unwrap();
            let dense = dir.path().join("2_Dense/model.safetensors");
            fixture::write(&dense, &[("linear.weight", &[1, 2], &[3.0, 4.0])]);
            fs_err::write(dir.path().join("modules.json"), modules(first, "2_Dense")).unwrap();
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            assert_eq!(checkpoint.modules()[2].class, "sentence_transformers.models.Dense");
            assert_eq!(checkpoint.resolve("2_Dense/linear.weight"), Some("2_Dense/linear.weight"));
            assert_eq!(checkpoint.tensors().read_f32("2_Dense/linear.weight").unwrap(), [3.0, 4.0]);
            let names: Vec<_> = checkpoint.files().unwrap().into_iter().map(|(n, _)| n).collect();
            assert!(names.contains(&"2_Dense/model.safetensors".to_owned()), "{names:?}");

            fs_err::rename(&dense, dir.path().join("2_Dense/pytorch_model.bin")).unwrap();
            let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains("is not a PyTorch file"), "{error}");
            fs_err::write(dir.path().join("modules.json"), modules(first, "../x")).unwrap();
            let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains("module path `../x` leaves the checkpoint"), "{error}");
        }
    }

    #[test]
    fn what_is_no_checkpoint_says_so() {
        let dir = fixture::checkpoint(fixture::LLAMA, &[]);
        let missing = dir.path().join("gone");
        let error = Checkpoint::open(&missing).unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` is not a folder", missing.display()));
        let error = Checkpoint::open(dir.path()).unwrap().tokenizer().unwrap_err().to_string();
        assert!(error.ends_with("has no tokenizer"), "{error}");
        fs_err::write(dir.path().join("tokenizer.json"), r#"{"model": {"vocab": {"x": 4}}}"#)
            .unwrap();
        let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("id 4 (`x`), outside the model's vocabulary of 4"), "{error}");
        fs_err::remove_file(dir.path().join("config.json")).unwrap();
        let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("has no `config.json`"), "{error}");
    }
}
