//! The spec of a sweep: a TOML file, every key known, every path relative to the file.

pub(super) mod either;
mod model;
mod raw;
mod variants;

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use self::either::TextOrNumber;
pub(super) use self::variants::{FALLBACK_RECIPES, N_PLANNED_FALLBACKS};
use super::plan::{Plan, Shard, Variant};
use super::texts::Lines;
use crate::base::package_options::{EncodeAdapters, KvCacheForm, Target};
use crate::base::toml_error::TomlError as SpecError;
use crate::gate::{Gates, Unit};

/// A sweep as its file describes it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Source model.
    pub model: ModelSpec,
    /// Evaluation options.
    pub evaluate: EvaluateSpec,
    /// Constraints on the figures.
    pub gates: Gates,
    /// Budget of the best variant; without one, all variants are run.
    pub budget: Option<BudgetSpec>,
    /// Resources of the run.
    pub run: RunSpec,
    /// Output directory and retention of packages.
    pub output: OutputSpec,
    pub(super) variants: Vec<Variant>,
}

/// Budget of the best variant.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetSpec {
    /// Bytes of the package.
    pub max_size: Option<u64>,
    /// Bits per weight, as the manifest counts them.
    pub max_bits_per_weight: Option<f64>,
    /// True if each part of the model is compressed alone once, to learn how much it matters.
    pub probes: bool,
}

/// Resources of the run; they do not affect results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSpec {
    /// Variants that are measured at the same time.
    pub workers: Option<u64>,
    /// Bytes of memory for these.
    pub memory: Option<u64>,
    /// Cores for all of it.
    pub cores: Option<u64>,
    /// Who makes the variants.
    pub engine: EngineSpec,
    /// The engine's address.
    pub address: Option<String>,
    /// URL (fsspec) for file exchange between machines; without one they share the output directory.
    pub storage: Option<String>,
    /// The folder where answers of the reference are kept; coremill's cache where it is not given.
    pub references: Option<PathBuf>,
}

/// Who makes the variants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineSpec {
    /// This machine.
    #[default]
    Local,
    /// A Ray cluster.
    Ray,
}

/// Source model and interface of its package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The checkpoint.
    pub place: Place,
    /// Adapters that change what the model writes, in order.
    pub lora: Vec<AdapterSpec>,
    /// Adapters that make the model embed, in order.
    pub llm2vec: Vec<AdapterSpec>,
    /// Positions of the context; none where a package has its own.
    pub seq_len: Option<u64>,
    /// Tokens that one call of `init` takes; the converter's choice where it is not given.
    pub prompt_chunk: Option<u64>,
    /// KV cache form.
    pub kv_cache: KvCacheForm,
    /// Minimum deployment target.
    pub target: Target,
    /// Storage of the LLM2Vec adapters.
    pub encode_adapters: EncodeAdapters,
    /// Keys of config.json that pass although they are not understood.
    pub allow_config_keys: Vec<String>,
    /// Regular expressions of stored tensors that pass although nothing uses them.
    pub allow_unused_tensors: Vec<String>,
}

/// An adapter; the same as a checkpoint's place.
pub type AdapterSpec = Place;

/// Location of a checkpoint or adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Path(PathBuf),
    /// A package, which is compressed as it is.
    Package(PathBuf),
    /// A repository on the hub.
    Repository {
        /// Its name, `owner/name`.
        repository: String,
        /// A commit, a branch or a tag.
        revision: Option<String>,
    },
}

/// Evaluation options.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateSpec {
    /// The text for perplexity and divergence, a file or the name of a set; without one they are not measured.
    pub text: Option<PathBuf>,
    /// Calibration text; an evaluation text that overlaps with it is refused.
    pub calibration: Option<PathBuf>,
    /// Tokens of a window; the length of the context where it is not given.
    pub window: Option<u64>,
    /// Tokens between the starts of two windows; the window where it is not given.
    pub stride: Option<u64>,
    /// Windows at most; the command's choice where it is not given.
    pub windows: Option<u64>,
    /// Tokens of the reference that are known one by one; those of [`crate::eval::TOP_K`] where it is not given.
    pub top_k: Option<u64>,
    /// True if the reference is measured against itself with noise.
    pub noise_floor: bool,
    /// Prompts to continue greedily.
    pub prompts: Lines,
    /// True if each prompt is a user's message in the model's chat template, where it has one.
    pub chat_template: bool,
    /// Tokens that each prompt is continued by.
    pub max_new_tokens: Option<u64>,
    /// Sentences to embed.
    pub sentences: Lines,
    /// The instruction of sentences that have none of their own.
    pub instruction: Option<String>,
    /// Timed calls of each function; 0 for none.
    pub latency: Option<u64>,
}

/// Output directory and retention of packages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The folder.
    pub dir: PathBuf,
    /// Which packages stay.
    #[serde(default)]
    pub keep: Keep,
    /// A folder of packages that several sweeps share.
    pub cache: Option<PathBuf>,
    /// True if the baseline is linked to the `[model] package` that it is, in place of a copy.
    #[serde(default)]
    pub link_baseline: bool,
    /// True if everything is made again; no key of the spec.
    #[serde(skip)]
    pub fresh: bool,
}

/// Packages to keep when a sweep ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// All.
    #[default]
    All,
    /// The smallest that passes all gates; under a budget the one of those that fit which diverges least.
    Best,
    /// Those that no smaller one is as good as.
    Pareto,
    /// All except those that failed a gate.
    Passing,
    /// None; only the report is written.
    None,
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
        let file: raw::File = toml::from_str(text).map_err(|e| SpecError::toml(&name, text, &e))?;
        let wrong = |span: Range<usize>, what: String| SpecError::at(&name, text, Some(span), what);
        let folder = path.parent().unwrap_or(Path::new(""));
        let model = model::model(file.model, folder, &wrong)?;
        let budget = file.budget.map(|raw| budget(raw, &wrong)).transpose()?;
        let run = file.run.map(|raw| run(raw, folder, &wrong)).transpose()?.unwrap_or_default();
        let variants = variants::variants(file.variants, budget.is_some(), &wrong, recipe)?;
        let mut evaluate = EvaluateSpec::default();
        if let Some(spanned) = file.evaluate {
            let span = spanned.span();
            evaluate = spanned.into_inner();
            evaluate.check(model.seq_len).map_err(|what| wrong(span, what))?;
        }
        for text in [&mut evaluate.text, &mut evaluate.calibration].into_iter().flatten() {
            // A word alone that is no file is the name of a set.
            if text.extension().is_some()
                || text.components().count() > 1
                || folder.join(&*text).exists()
            {
                *text = resolve(folder, text);
            }
        }
        evaluate.prompts.resolve(folder);
        evaluate.sentences.resolve(folder);
        let span = file.output.span();
        let mut output = file.output.into_inner();
        output.dir = resolve(folder, &output.dir);
        output.cache = output.cache.map(|cache| resolve(folder, &cache));
        if output.link_baseline && !matches!(model.place, Place::Package(_)) {
            let what = "`link_baseline` is for a `package`, and the model is converted".to_owned();
            return Err(wrong(span, what));
        }
        Ok(Self { model, evaluate, gates: file.gates, budget, run, output, variants })
    }

    /// The variants that the sweep makes: the baseline first, then the others as they are written, each once.
    pub fn plan(&self) -> Plan {
        Plan { variants: self.variants.clone() }
    }

    /// Leaves the part of the variants that is `shard`'s.
    pub fn keep_shard(&mut self, shard: Shard) {
        shard.assign_shard(&mut self.variants);
    }

    /// Leaves the baseline and the variants with these names; one that no variant has is given back as the error, with the
    /// nearest that there is.
    pub fn keep_only(&mut self, names: &[String]) -> Result<(), (String, Option<String>)> {
        let known = |name: &&String| !self.variants.iter().any(|v| v.name == **name);
        if let Some(unknown) = names.iter().find(known) {
            let all = self.variants.iter().map(|v| v.name.as_str());
            let meant = crate::base::did_you_mean::did_you_mean(unknown, all).map(str::to_owned);
            return Err((unknown.clone(), meant));
        }
        self.variants.retain(|v| v.is_baseline() || names.contains(&v.name));
        Ok(())
    }
}

impl Default for EvaluateSpec {
    fn default() -> Self {
        Self {
            text: None,
            calibration: None,
            window: None,
            stride: None,
            windows: None,
            top_k: None,
            noise_floor: true,
            prompts: Lines::default(),
            chat_template: true,
            max_new_tokens: None,
            sentences: Lines::default(),
            instruction: None,
            latency: None,
        }
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

    /// Refuses windows that do not fit a context of `seq_len`, where that is known.
    fn check(&self, seq_len: Option<u64>) -> Result<(), String> {
        let seq_len = seq_len.unwrap_or(u64::MAX);
        let window = self.window(seq_len);
        if !(2..=seq_len).contains(&window) {
            return Err(format!("window of {window} tokens is not within 2 to seq_len {seq_len}"));
        }
        let stride = self.stride(seq_len);
        if !(1..=window).contains(&stride) {
            return Err(format!("stride of {stride} tokens is not within 1 to window {window}"));
        }
        for (key, value) in [
            ("windows", self.windows),
            ("top_k", self.top_k),
            ("max_new_tokens", self.max_new_tokens),
        ] {
            if value == Some(0) {
                return Err(format!("`{key}` is 0"));
            }
        }
        Ok(())
    }
}

type Wrong<'a> = dyn Fn(Range<usize>, String) -> SpecError + 'a;

fn budget(raw: Spanned<raw::Budget>, wrong: &Wrong<'_>) -> Result<BudgetSpec, SpecError> {
    let span = raw.span();
    let raw::Budget { max_size, max_bits_per_weight, probes } = raw.into_inner();
    let max_size = max_size.map(|size| bytes(size, wrong)).transpose()?;
    if let Some(bits) = &max_bits_per_weight {
        let n = *bits.get_ref();
        if !(n.is_finite() && n > 0.0) {
            return Err(wrong(bits.span(), format!("{n} bits per weight")));
        }
    }
    if max_size.is_none() && max_bits_per_weight.is_none() {
        let what = "neither `max_size` nor `max_bits_per_weight` is given".to_owned();
        return Err(wrong(span, what));
    }
    let max_bits_per_weight = max_bits_per_weight.map(Spanned::into_inner);
    Ok(BudgetSpec { max_size, max_bits_per_weight, probes })
}

fn run(raw: Spanned<raw::Run>, folder: &Path, wrong: &Wrong<'_>) -> Result<RunSpec, SpecError> {
    let span = raw.span();
    let raw::Run { workers, memory, cores, engine, address, storage, references } =
        raw.into_inner();
    for (key, value) in [("workers", workers), ("cores", cores)] {
        if value == Some(0) {
            return Err(wrong(span, format!("`{key}` is 0")));
        }
    }
    let engine = engine.unwrap_or_default();
    for (key, value) in [("address", &address), ("storage", &storage)] {
        if engine == EngineSpec::Local && value.is_some() {
            return Err(wrong(span, format!("`{key}` is for `engine = \"ray\"`")));
        }
    }
    let memory = memory.map(|memory| bytes(memory, wrong)).transpose()?;
    let references = references.map(|path| resolve(folder, &path));
    Ok(RunSpec { workers, memory, cores, engine, address, storage, references })
}

/// A number of bytes above 0, as a number or as a text with its unit.
fn bytes(raw: Spanned<TextOrNumber>, wrong: &Wrong<'_>) -> Result<u64, SpecError> {
    let span = raw.span();
    let read = match raw.into_inner() {
        TextOrNumber::Number(n) => Ok(n),
        TextOrNumber::Text(text) => parse_bytes(&text),
    };
    match read {
        Ok(0) => Err(wrong(span, "0 bytes".to_owned())),
        read => read.map_err(|what| wrong(span, what)),
    }
}

/// The bytes that `text` says, such as `2GB`, `512 MiB` or `2000000`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = |_| format!("`{text}` is no size such as `2000000` or `\"2 GB\"`");
    Unit::Bytes.parse(text).map(|bytes| bytes as u64).map_err(wrong)
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
