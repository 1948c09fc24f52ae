//! The spec of a sweep: a TOML file, every key known, every path relative to the file.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::names;
use super::plan::{BASELINE, Plan, Variant};
use super::texts::Lines;
use crate::base::mistake::Mistake as SpecError;
use crate::gate::Gates;

/// A sweep as its file describes it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// What is converted.
    pub model: ModelSpec,
    /// What is measured.
    pub evaluate: EvaluateSpec,
    /// What is asked of the figures.
    pub gates: Gates,
    /// Where results go and what stays.
    pub output: OutputSpec,
    variants: Vec<Variant>,
}

/// What is converted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The checkpoint.
    pub place: Place,
    /// Adapters that change what the model writes, in order.
    pub lora: Vec<AdapterSpec>,
    /// Adapters that make the model embed, in order.
    pub llm2vec: Vec<AdapterSpec>,
    /// Positions of the context.
    pub seq_len: u64,
    /// Tokens that one call of `init` takes; the converter's choice where it is not given.
    pub prompt_chunk: Option<u64>,
    /// How the cache is kept.
    pub kv_cache: KvCacheForm,
    /// The deployment target as coremltools names it.
    pub target: String,
    /// What becomes of the embedding adapters.
    pub encode_adapters: EncodeAdapters,
}

/// An adapter; the same as a checkpoint's place.
pub type AdapterSpec = Place;

/// Where a checkpoint or an adapter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Path(PathBuf),
    /// A repository on the hub.
    Repository {
        /// Its name, `owner/name`.
        repository: String,
        /// A commit, a branch or a tag.
        revision: Option<String>,
    },
}

/// How the key/value cache is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvCacheForm {
    /// As states, from iOS18 on.
    #[default]
    State,
    /// As inputs and outputs.
    Io,
}

/// What becomes of embedding adapters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodeAdapters {
    /// Low-rank branches beside the weights that generation uses.
    #[default]
    Branches,
    /// Added to a second copy of the weights.
    Merge,
}

/// What is measured.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateSpec {
    /// The text for perplexity and divergence; without one they are not measured.
    pub text: Option<PathBuf>,
    /// Tokens of a window; the length of the context where it is not given.
    pub window: Option<u64>,
    /// Tokens between the starts of two windows; the window where it is not given.
    pub stride: Option<u64>,
    /// Windows at most; all of the text where it is not given.
    pub windows: Option<u64>,
    /// Prompts to continue greedily.
    pub prompts: Lines,
    /// Tokens that each prompt is continued by.
    pub max_new_tokens: Option<u64>,
    /// Sentences to embed.
    pub sentences: Lines,
    /// The instruction of sentences that have none of their own.
    pub instruction: Option<String>,
    /// Timed calls of each function; 0 for none.
    pub latency: Option<u64>,
}

/// Where results go and what stays.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The folder.
    pub dir: PathBuf,
    /// Which packages stay.
    #[serde(default)]
    pub keep: Keep,
}

/// Which packages stay when a sweep is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// All.
    #[default]
    All,
    /// The smallest that passes all gates.
    Best,
    /// None: the report is what is wanted.
    None,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Spanned<RawModel>,
    variants: Spanned<RawVariants>,
    #[serde(default)]
    evaluate: Option<Spanned<EvaluateSpec>>,
    #[serde(default)]
    gates: Gates,
    output: OutputSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    path: Option<PathBuf>,
    repository: Option<String>,
    revision: Option<String>,
    #[serde(default)]
    lora: Vec<RawPlace>,
    #[serde(default)]
    llm2vec: Vec<RawPlace>,
    seq_len: Spanned<u64>,
    prompt_chunk: Option<Spanned<u64>>,
    #[serde(default)]
    kv_cache: KvCacheForm,
    target: Option<Spanned<String>>,
    #[serde(default)]
    encode_adapters: EncodeAdapters,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a path, or a table with `repository` and `revision`"
)]
enum RawPlace {
    Path(PathBuf),
    Repository { repository: String, revision: Option<String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariants {
    #[serde(default)]
    recipes: Vec<Spanned<RawRecipe>>,
    #[serde(default)]
    grid: Vec<Spanned<Grid>>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a recipe, or a table with `name` and `recipe`"
)]
enum RawRecipe {
    Recipe(String),
    Named { name: String, recipe: String },
}

/// All combinations of bits and sizes of one method.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grid {
    method: Method,
    bits: Vec<u32>,
    group_sizes: Vec<u32>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    /// `pal4-g16`: a palette for each group of output channels.
    Palettize,
    /// `int4-b32`: a scale for each block of inputs.
    Linear,
}

impl Spec {
    /// Reads a spec from `text`, the content of the file at `path`.
    ///
    /// `recipe` gives the fewest bits that a recipe gives to a weight, or says in one line why it is none; recipes are
    /// otherwise no more than texts here.
    pub fn parse(
        text: &str,
        path: &Path,
        recipe: &dyn Fn(&str) -> Result<u32, String>,
    ) -> Result<Self, SpecError> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let file: File = toml::from_str(text).map_err(|e| SpecError::toml(&name, text, &e))?;
        let wrong = |span: Range<usize>, what: String| SpecError::at(&name, text, Some(span), what);
        let folder = path.parent().unwrap_or(Path::new(""));
        let model = model(file.model, folder, &wrong)?;
        let variants = variants(file.variants, &wrong, recipe)?;
        let mut evaluate = EvaluateSpec::default();
        if let Some(spanned) = file.evaluate {
            let span = spanned.span();
            evaluate = spanned.into_inner();
            evaluate.check(model.seq_len).map_err(|what| wrong(span, what))?;
        }
        evaluate.text = evaluate.text.map(|path| resolve(folder, &path));
        evaluate.prompts.resolve(folder);
        evaluate.sentences.resolve(folder);
        let OutputSpec { dir, keep } = file.output;
        let output = OutputSpec { dir: resolve(folder, &dir), keep };
        Ok(Self { model, evaluate, gates: file.gates, output, variants })
    }

    /// The variants that the sweep makes: the baseline first, then the others as they are written, each once.
    pub fn plan(&self) -> Plan {
        Plan { variants: self.variants.clone() }
    }
}

impl EvaluateSpec {
    /// Tokens of a window in a context of `seq_len`.
    pub fn window(&self, seq_len: u64) -> u64 {
        self.window.unwrap_or(seq_len)
    }

    /// Tokens between the starts of two windows.
    pub fn stride(&self, seq_len: u64) -> u64 {
        self.stride.unwrap_or_else(|| self.window(seq_len))
    }

    fn check(&self, seq_len: u64) -> Result<(), String> {
        let window = self.window(seq_len);
        if !(2..=seq_len).contains(&window) {
            return Err(format!("window of {window} tokens is not within 2 to seq_len {seq_len}"));
        }
        let stride = self.stride(seq_len);
        if !(1..=window).contains(&stride) {
            return Err(format!("stride of {stride} tokens is not within 1 to window {window}"));
        }
        for (key, value) in [("windows", self.windows), ("max_new_tokens", self.max_new_tokens)] {
            if value == Some(0) {
                return Err(format!("`{key}` is 0"));
            }
        }
        Ok(())
    }
}

type Wrong<'a> = dyn Fn(Range<usize>, String) -> SpecError + 'a;

fn model(raw: Spanned<RawModel>, folder: &Path, wrong: &Wrong<'_>) -> Result<ModelSpec, SpecError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let place = match (raw.path, raw.repository) {
        (Some(path), None) if raw.revision.is_none() => Place::Path(resolve(folder, &path)),
        (None, Some(repository)) => Place::Repository { repository, revision: raw.revision },
        (Some(_), None) => {
            return Err(wrong(span, "`revision` goes with `repository`, not `path`".to_owned()));
        }
        (Some(_), Some(_)) => {
            return Err(wrong(span, "both `path` and `repository` are given".to_owned()));
        }
        (None, None) => {
            return Err(wrong(span, "neither `path` nor `repository` is given".to_owned()));
        }
    };
    let seq_len = *raw.seq_len.get_ref();
    if seq_len == 0 {
        return Err(wrong(raw.seq_len.span(), "seq_len is 0".to_owned()));
    }
    if let Some(chunk) = &raw.prompt_chunk {
        let n = *chunk.get_ref();
        if n == 0 || !seq_len.is_multiple_of(n) {
            let what = format!("prompt_chunk {n} does not divide seq_len {seq_len}");
            return Err(wrong(chunk.span(), what));
        }
    }
    let target = match raw.target {
        None => "iOS18".to_owned(),
        Some(target) => {
            let name = target.get_ref();
            if crate::manifest::target(name).is_none() {
                let error = crate::manifest::ManifestError::Target(name.clone());
                let hint = crate::base::error::Hint::hint(&error);
                return Err(wrong(target.span(), error.to_string()).with_hint(hint));
            }
            target.into_inner()
        }
    };
    let adapters = |raw: Vec<RawPlace>| raw.into_iter().map(|raw| raw.resolve(folder)).collect();
    Ok(ModelSpec {
        place,
        lora: adapters(raw.lora),
        llm2vec: adapters(raw.llm2vec),
        seq_len,
        prompt_chunk: raw.prompt_chunk.map(Spanned::into_inner),
        kv_cache: raw.kv_cache,
        target,
        encode_adapters: raw.encode_adapters,
    })
}

fn variants(
    raw: Spanned<RawVariants>,
    wrong: &Wrong<'_>,
    bits_of: &dyn Fn(&str) -> Result<u32, String>,
) -> Result<Vec<Variant>, SpecError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let mut asked: Vec<(Range<usize>, Option<String>, String)> = Vec::new();
    for entry in raw.recipes {
        let span = entry.span();
        match entry.into_inner() {
            RawRecipe::Recipe(recipe) => asked.push((span, None, recipe)),
            RawRecipe::Named { name, recipe } => asked.push((span, Some(name), recipe)),
        }
    }
    for grid in raw.grid {
        let (span, Grid { method, bits, group_sizes }) = (grid.span(), grid.into_inner());
        for bits in bits {
            for size in &group_sizes {
                let recipe = match method {
                    Method::Palettize => format!("pal{bits}-g{size}"),
                    Method::Linear => format!("int{bits}-b{size}"),
                };
                asked.push((span.clone(), None, recipe));
            }
        }
    }
    if asked.is_empty() {
        return Err(wrong(span, "there are no variants: neither `recipes` nor `grid`".to_owned()));
    }
    let baseline = bits_of(BASELINE).map_err(|what| wrong(span, what))?;
    let first = Variant { name: BASELINE.to_owned(), recipe: BASELINE.to_owned(), bits: baseline };
    let mut out: Vec<Variant> = vec![first];
    for (span, name, recipe) in asked {
        let bits = bits_of(&recipe).map_err(|what| wrong(span.clone(), what))?;
        if out.iter().any(|v| v.recipe == recipe) {
            continue;
        }
        // File systems that fold case would make two such names one file.
        let taken = |name: &str| out.iter().any(|v| v.name.eq_ignore_ascii_case(name));
        let name = match name {
            Some(name) if !names::is_plain(&name) => {
                let what = format!("name `{name}` is no plain file name");
                return Err(wrong(span, what));
            }
            Some(name) if taken(&name) => {
                return Err(wrong(span, format!("two variants have the name `{name}`")));
            }
            Some(name) => name,
            None => {
                let name = names::of_recipe(&recipe);
                if taken(&name) { names::marked(&name, &recipe) } else { name }
            }
        };
        out.push(Variant { name, recipe, bits });
    }
    Ok(out)
}

impl RawPlace {
    fn resolve(self, folder: &Path) -> Place {
        match self {
            Self::Path(path) => Place::Path(resolve(folder, &path)),
            Self::Repository { repository, revision } => Place::Repository { repository, revision },
        }
    }
}

/// `path` as seen from `folder`; `a/sweeps/../out` is written `a/out`.
pub(super) fn resolve(folder: &Path, path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(out.components().next_back(), Some(Component::Normal(_))) =>
            {
                out.pop();
            }
            part => out.push(part),
        }
    }
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}
