//! Graph of a bundle, read from the signatures of its parts: shapes, masks, head outputs.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::lm::{layout::CacheForm, layout::DecoderLayout};
use crate::mil::{DType, Dim, Function, TensorType};
use crate::package::{Bundle, Package, Part};

/// One token.
pub(super) const INFER: &str = "infer";
/// A batch of tokens.
pub(super) const PREFILL: &str = "prefill";
/// One token with a full local cache, which rotates by one position.
pub(super) const INFER_ROTATE: &str = "infer_rotate";

/// A mismatch between a bundle and the supported layouts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleGraphError {
    /// A function that a part lacks.
    #[error("part `{part}` has no function `{function}`, only {}", present.join(", "))]
    NoFunction {
        /// The part.
        part: String,
        /// The function.
        function: &'static str,
        /// The functions there are.
        present: Vec<String>,
    },
    /// An input or output that a function lacks.
    #[error("part `{part}`: function `{function}` has no {kind} `{port}`, only {}", present.join(", "))]
    NoPort {
        /// The part.
        part: String,
        /// The function.
        function: String,
        /// `input` or `output`.
        kind: &'static str,
        /// The port.
        port: &'static str,
        /// The ports there are.
        present: Vec<String>,
    },
    /// An input that nothing here provides.
    #[error("part `{part}`: function `{function}` takes `{port}`, which is not known here")]
    Unknown {
        /// The part.
        part: String,
        /// The function.
        function: String,
        /// The input.
        port: String,
    },
    /// A port of another shape.
    #[error("part `{part}`: `{port}` of `{function}` has type {actual}, not {expected}")]
    Shape {
        /// The part.
        part: String,
        /// The function.
        function: String,
        /// The port.
        port: String,
        /// The type there is.
        actual: String,
        /// The shape that it should have.
        expected: String,
    },
    /// Sizes of a split head that are not stated.
    #[error(
        "meta.yaml states neither `vocab_size` nor `lm_head_chunk_sizes` for a head of {parts} parts"
    )]
    NoVocab {
        /// Parts of the head.
        parts: usize,
    },
}

/// The head's outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// Logits in one output or in several, in the order of the tokens.
    Logits(Vec<String>),
    /// The likeliest token of each part of the vocabulary and its logit; where each part begins.
    Likeliest(Vec<usize>),
}

/// A function of a part and the inputs it takes.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) function: String,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
}

/// Execution graph of the parts.
#[derive(Debug, Clone)]
pub struct BundleGraph {
    pub(super) layout: DecoderLayout,
    /// Tokens to hidden states; nothing where the chunks take tokens themselves.
    pub(super) embeddings: Option<Step>,
    /// The layers, one token at a time.
    pub(super) infer: Vec<Step>,
    /// The same where the local cache is full, where the model has one, and from which position on.
    pub(super) rotate: Option<(usize, Vec<Step>)>,
    /// The layers, a batch at a time, where that can be done at any position.
    pub(super) prefill: Option<(usize, Vec<Step>)>,
    /// Hidden states to logits; nothing where the last chunk gives them.
    pub(super) lm_head: Option<Step>,
    pub(super) head: Head,
    /// Columns of the causal mask.
    pub(super) mask_width: usize,
    /// Rows of the mask of positions to update, which older bundles take.
    pub(super) update_rows: usize,
}

impl BundleGraph {
    /// Reads the graph from the signatures of the parts of `bundle`.
    pub fn of(bundle: &Bundle) -> Result<Self, BundleGraphError> {
        let settings = &bundle.settings;
        let of = |kind: Part| {
            bundle.parts.iter().filter(move |(part, _)| *part == kind).map(|(_, p)| Signed(p))
        };
        let whole: Vec<_> = of(Part::Whole).collect();
        let layers: Vec<_> =
            if whole.is_empty() { of(Part::Chunk).collect() } else { whole.clone() };
        let entry = if whole.is_empty() { "hidden_states" } else { "input_ids" };
        let exit = if whole.is_empty() { Some("output_hidden_states") } else { None };
        let steps = |function: &'static str| {
            let step = |part: &Signed<'_>| part.step(function, entry, exit);
            layers.iter().map(step).collect::<Result<Vec<_>, _>>()
        };
        let has = |function: &str| layers.iter().all(|p| p.functions().contains_key(function));
        let infer = steps(INFER)?;
        let embeddings = of(Part::Embeddings).next();
        let head_part = of(Part::Head).next();
        let last = *layers.last().expect("a bundle has layers");
        let (head_signed, head_function) =
            head_part.map_or((last, INFER.to_owned()), |part| (part, part.only()));
        let (head, vocab) = head_signed.head(&head_function, settings)?;

        let first = layers.first().expect("a bundle has layers");
        let mask = first.shape(INFER, "causal_mask", "[1, 1, 1, C]")?;
        let [1, 1, 1, mask_width] = mask[..] else {
            return Err(first.wrong(INFER, "causal_mask", "[1, 1, 1, C]"));
        };
        let capacity = settings.context_length;
        if mask_width < capacity {
            return Err(first.wrong(INFER, "causal_mask", &format!("[1, 1, 1, {capacity}]")));
        }
        let update_rows = match first.shape(INFER, "update_mask", "[1, 1, C, 1]") {
            Ok(shape) => shape.get(2).copied().unwrap_or(0),
            Err(_) => 0,
        };
        let rotate = match settings.sliding_window {
            Some(window) if has(INFER_ROTATE) => Some((window, steps(INFER_ROTATE)?)),
            _ => None,
        };
        let batch = settings.batch_size;
        let takes_batch = embeddings.as_ref().is_none_or(|part| part.takes_rows(batch));
        let prefill = if settings.prefill_dynamic_slice && takes_batch && has(PREFILL) {
            let steps = steps(PREFILL)?;
            let plain = steps.iter().all(|s| s.inputs.iter().all(|name| name != "update_mask"));
            let fits = first.shape(PREFILL, "causal_mask", "[1, 1, B, C]")?[..]
                == [1, 1, batch, mask_width];
            (plain && fits).then_some((batch, steps))
        } else {
            None
        };
        // A chunk divides the cache, so that no token is fed twice: a cache that rotates forgets at the second time.
        let chunk =
            (1..=batch.min(capacity)).rev().find(|&n| capacity.is_multiple_of(n)).unwrap_or(1);
        Ok(Self {
            layout: DecoderLayout {
                capacity,
                chunk,
                vocab,
                cache: CacheForm::State,
                cache_bytes: state_bytes(&layers),
            },
            embeddings: embeddings
                .map(|part| part.step_of(&part.only(), "input_ids", Some("hidden_states")))
                .transpose()?,
            infer,
            rotate,
            prefill,
            lm_head: head_part
                .map(|part| part.step_of(&part.only(), "hidden_states", None))
                .transpose()?,
            head,
            mask_width,
            update_rows,
        })
    }

    /// Capabilities of the joined parts.
    pub fn layout(&self) -> DecoderLayout {
        self.layout
    }

    /// True if logits come out, or only the likeliest tokens.
    pub fn has_logits(&self) -> bool {
        matches!(self.head, Head::Logits(_))
    }
}

/// Bytes of the states that the parts declare, each name once.
fn state_bytes(parts: &[Signed<'_>]) -> u64 {
    let inputs = parts.iter().flat_map(|p| p.functions().values()).flat_map(|f| &f.inputs);
    let states: BTreeMap<_, _> =
        inputs.filter(|i| i.ty.is_state()).map(|i| (i.name.as_str(), &i.ty)).collect();
    let bytes = |ty: &TensorType| ty.dtype.bytes_for(ty.elements()?);
    states.values().filter_map(|ty| bytes(ty.as_tensor()?)).fold(0, u64::saturating_add)
}

/// A part, asked for its signatures.
#[derive(Clone, Copy)]
struct Signed<'a>(&'a Package);

impl<'a> Signed<'a> {
    fn name(self) -> String {
        self.0.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn functions(self) -> &'a BTreeMap<String, Function> {
        &self.0.program().functions
    }

    /// The function of a part that has one, whatever it is called.
    fn only(self) -> String {
        let functions = self.functions();
        let first = functions.keys().next().cloned().unwrap_or_default();
        if functions.contains_key("main") { "main".to_owned() } else { first }
    }

    fn step(
        self,
        function: &'static str,
        entry: &'static str,
        exit: Option<&'static str>,
    ) -> Result<Step, BundleGraphError> {
        if !self.functions().contains_key(function) {
            return Err(BundleGraphError::NoFunction {
                part: self.name(),
                function,
                present: self.functions().keys().cloned().collect(),
            });
        }
        self.step_of(function, entry, exit)
    }

    /// A function that takes `entry` and gives `exit`, and takes nothing that is not known here.
    fn step_of(
        self,
        function: &str,
        entry: &'static str,
        exit: Option<&'static str>,
    ) -> Result<Step, BundleGraphError> {
        self.input(function, entry)?;
        let known = [entry, "position_ids", "causal_mask", "current_pos", "update_mask"];
        let inputs = self.functions()[function].inputs.iter().filter(|i| !i.ty.is_state());
        let inputs: Vec<_> = inputs.map(|input| input.name.clone()).collect();
        if let Some(port) = inputs.iter().find(|name| !known.contains(&name.as_str())) {
            let (part, function) = (self.name(), function.to_owned());
            return Err(BundleGraphError::Unknown { part, function, port: port.clone() });
        }
        let outputs = &self.functions()[function].block.outputs;
        if let Some(exit) = exit
            && !outputs.iter().any(|output| output == exit)
        {
            return Err(BundleGraphError::NoPort {
                part: self.name(),
                function: function.to_owned(),
                kind: "output",
                port: exit,
                present: outputs.clone(),
            });
        }
        let output = exit.unwrap_or_default().to_owned();
        Ok(Step { function: function.to_owned(), inputs, output })
    }

    fn input(self, function: &str, port: &'static str) -> Result<&'a TensorType, BundleGraphError> {
        let inputs = &self.functions()[function].inputs;
        let found = inputs.iter().find(|i| i.name == port).and_then(|i| i.ty.as_tensor());
        found.ok_or_else(|| BundleGraphError::NoPort {
            part: self.name(),
            function: function.to_owned(),
            kind: "input",
            port,
            present: inputs.iter().map(|i| i.name.clone()).collect(),
        })
    }

    fn shape(
        self,
        function: &str,
        port: &'static str,
        expected: &str,
    ) -> Result<Vec<usize>, BundleGraphError> {
        let shape = self.input(function, port)?.fixed_shape();
        let shape =
            shape.and_then(|s| s.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<_>>());
        shape.ok_or_else(|| self.wrong(function, port, expected))
    }

    fn wrong(self, function: &str, port: &str, expected: &str) -> BundleGraphError {
        let function_ = &self.functions()[function];
        let results = function_.block.ops.iter().flat_map(|op| &op.outputs);
        let ty = function_.inputs.iter().chain(results).find(|named| named.name == port);
        BundleGraphError::Shape {
            part: self.name(),
            function: function.to_owned(),
            port: port.to_owned(),
            actual: ty.map_or_else(|| "nothing".to_owned(), |named| named.ty.to_string()),
            expected: expected.to_owned(),
        }
    }

    /// True if the embeddings take `n` tokens at once.
    fn takes_rows(self, n: usize) -> bool {
        let Ok(ty) = self.input(&self.only(), "input_ids") else { return false };
        match ty.shape[..] {
            [_, Dim::Fixed(rows)] => rows == n as u64,
            [_, Dim::Unknown { .. }] => true,
            _ => false,
        }
    }

    /// The form of the head and the size of the vocabulary.
    fn head(
        self,
        function: &str,
        settings: &crate::package::Settings,
    ) -> Result<(Head, usize), BundleGraphError> {
        let outputs = &self.functions()[function].block.outputs;
        if outputs.iter().any(|output| output == "argmax_idx") {
            let n = self.width(function, "argmax_idx")?;
            let sizes = sizes(settings, n).ok_or(BundleGraphError::NoVocab { parts: n })?;
            let starts = sizes.iter().scan(0, |next, size| {
                let start = *next;
                *next += size;
                Some(start)
            });
            return Ok((Head::Likeliest(starts.collect()), sizes.iter().sum()));
        }
        let mut names: Vec<String> = (1..=outputs.len())
            .map(|k| format!("logits{k}"))
            .take_while(|name| outputs.contains(name))
            .collect();
        if names.is_empty() {
            names.push("logits".to_owned());
        }
        if !outputs.contains(&names[0]) {
            return Err(BundleGraphError::NoPort {
                part: self.name(),
                function: function.to_owned(),
                kind: "output",
                port: "logits1",
                present: outputs.clone(),
            });
        }
        let widths = names.iter().map(|name| self.width(function, name));
        let vocab = widths.sum::<Result<usize, _>>()?;
        Ok((Head::Logits(names), vocab))
    }

    /// The last extent of an output.
    fn width(self, function: &str, output: &str) -> Result<usize, BundleGraphError> {
        let ops = &self.functions()[function].block.ops;
        let found = ops.iter().flat_map(|op| &op.outputs).find(|named| named.name == output);
        let ty = found.and_then(|named| named.ty.as_tensor());
        match ty.and_then(|ty| ty.shape.last().filter(|_| ty.dtype != DType::Str)) {
            Some(Dim::Fixed(n)) => usize::try_from(*n).ok(),
            _ => None,
        }
        .ok_or_else(|| self.wrong(function, output, "[…, V]"))
    }
}

/// Tokens of each of `n` parts: as stated, or even, the first ones with one more where that does not go out.
fn sizes(settings: &crate::package::Settings, n: usize) -> Option<Vec<usize>> {
    if settings.lm_head_chunk_sizes.len() == n && n > 0 {
        return Some(settings.lm_head_chunk_sizes.clone());
    }
    let vocab = settings.vocab_size?;
    let rest = vocab.checked_rem(n)?;
    Some((0..n).map(|k| vocab / n + usize::from(k < rest)).collect())
}
