//! Executes a bundle: passes positions, masks and hidden states between parts that share one KV cache.

use std::sync::Arc;

use super::graph::{BundleGraph, Head, Step};
use crate::runtime::{Loaded, RuntimeError, State, Value, Values};

/// Loaded parts as one program with the functions `init` and `decode`.
pub(crate) struct BundleModel {
    wiring: BundleGraph,
    embeddings: Option<Box<dyn Loaded>>,
    layers: Vec<Box<dyn Loaded>>,
    lm_head: Option<Box<dyn Loaded>>,
}

impl BundleModel {
    /// Joins the parts of the bundle that `wiring` was read from, in its order.
    pub(crate) fn new(wiring: BundleGraph, mut parts: Vec<Box<dyn Loaded>>) -> Self {
        let lm_head = if wiring.lm_head.is_some() { parts.pop() } else { None };
        let embeddings = if wiring.embeddings.is_some() { Some(parts.remove(0)) } else { None };
        Self { wiring, embeddings, layers: parts, lm_head }
    }

    fn any(&self) -> &dyn Loaded {
        self.layers.first().expect("a bundle has layers").as_ref()
    }

    /// Feeds one token at `position`; gives what the last layers give.
    fn infer(
        &self,
        token: i32,
        position: usize,
        state: &mut State,
    ) -> Result<Values, RuntimeError> {
        let rotated = self.wiring.rotate.as_ref().filter(|(window, _)| position >= *window);
        let steps = rotated.map_or(&self.wiring.infer, |(_, steps)| steps);
        self.layers(steps, &[token], position, state)
    }

    /// Feeds `tokens` from `position` on through one function of every chunk.
    fn layers(
        &self,
        steps: &[Step],
        tokens: &[i32],
        position: usize,
        state: &mut State,
    ) -> Result<Values, RuntimeError> {
        let n = tokens.len();
        let any = self.any();
        let ids = any.ints(&[1, n], tokens.to_vec());
        let mut entry = match (&self.embeddings, &self.wiring.embeddings) {
            (Some(part), Some(step)) => {
                let inputs = Values::from([("input_ids".to_owned(), ids)]);
                take(&mut call(part.as_ref(), step, inputs, state)?, &step.output)?
            }
            _ => ids,
        };
        let mut values = Values::new();
        for (part, step) in self.layers.iter().zip(steps) {
            let mut inputs = Values::new();
            for name in &step.inputs {
                let value = match name.as_str() {
                    "position_ids" => {
                        any.ints(&[n], (position..position + n).map(|p| p as i32).collect())
                    }
                    "current_pos" => any.ints(&[1], vec![position as i32]),
                    "causal_mask" => self.mask(position, n),
                    "update_mask" => self.update(position),
                    _ => Arc::clone(&entry),
                };
                inputs.insert(name.clone(), value);
            }
            values = call(part.as_ref(), step, inputs, state)?;
            if let Some(hidden) = values.get(&step.output) {
                entry = Arc::clone(hidden);
            }
        }
        Ok(values)
    }

    /// Row i sees the columns up to position + i.
    fn mask(&self, position: usize, n: usize) -> Value {
        let width = self.wiring.mask_width;
        let cell = |row: usize, column: usize| {
            if column <= position + row { 0.0 } else { f32::NEG_INFINITY }
        };
        let cells = (0..n).flat_map(|row| (0..width).map(move |column| cell(row, column)));
        self.any().floats(&[1, 1, n, width], cells.collect())
    }

    /// One at the row of the cache that is written.
    fn update(&self, position: usize) -> Value {
        let rows = self.wiring.update_rows;
        let cells = (0..rows).map(|row| if row == position { 1.0 } else { 0.0 });
        self.any().floats(&[1, 1, rows, 1], cells.collect())
    }

    /// Logits of one token from what the last layers gave for it.
    fn logits(&self, mut values: Values, state: &mut State) -> Result<Values, RuntimeError> {
        if let (Some(part), Some(step)) = (&self.lm_head, &self.wiring.lm_head) {
            let last = self.wiring.infer.last().expect("a bundle has layers");
            let hidden = take(&mut values, &last.output)?;
            let inputs = Values::from([("hidden_states".to_owned(), hidden)]);
            values = call(part.as_ref(), step, inputs, state)?;
        }
        let vocab = self.wiring.layout.vocab;
        let logits = match &self.wiring.head {
            Head::Logits(names) => {
                let mut logits = Vec::with_capacity(vocab);
                for name in names {
                    logits.extend(take(&mut values, name)?.to_f32());
                }
                logits
            }
            Head::Likeliest(starts) => {
                let mut logits = vec![f32::NEG_INFINITY; vocab];
                let indices = take(&mut values, "argmax_idx")?.to_f32();
                let found = take(&mut values, "argmax_val")?.to_f32();
                for ((start, index), value) in starts.iter().zip(indices).zip(found) {
                    let at = start + index as usize;
                    *logits
                        .get_mut(at)
                        .ok_or_else(|| wrong(&format!("token {at} of {vocab}")))? = value;
                }
                logits
            }
        };
        if logits.len() != vocab {
            return Err(wrong(&format!("{} logits, {vocab} were declared", logits.len())));
        }
        let logits = self.any().floats(&[1, vocab], logits);
        Ok(Values::from([("logits".to_owned(), logits)]))
    }
}

impl Loaded for BundleModel {
    fn state(&self) -> State {
        let mut state = self.any().state();
        for part in self.embeddings.iter().chain(&self.layers).chain(&self.lm_head) {
            part.adopt(&mut state);
        }
        state
    }

    fn ints(&self, shape: &[usize], elements: Vec<i32>) -> Value {
        self.any().ints(shape, elements)
    }

    fn floats(&self, shape: &[usize], elements: Vec<f32>) -> Value {
        self.any().floats(shape, elements)
    }

    fn run(
        &self,
        function: &str,
        inputs: Values,
        state: &mut State,
        _taps: &[&str],
    ) -> Result<Values, RuntimeError> {
        let ints = |name: &str| {
            let value = inputs.get(name).ok_or_else(|| wrong(&format!("no input `{name}`")))?;
            Ok::<_, RuntimeError>(value.to_f32().iter().map(|&n| n as i32).collect::<Vec<_>>())
        };
        let one = |name: &str| ints(name).map(|n| n.first().map_or(0, |&n| n.max(0) as usize));
        let mut tokens = ints("input_ids")?;
        let position = one("position")?;
        if function == "init" {
            tokens.truncate(one("length")?);
        }
        let last = *tokens.last().ok_or_else(|| wrong("no token"))?;
        let end = position + tokens.len() - 1;
        let window = self.wiring.rotate.as_ref().map(|(window, _)| *window);
        match &self.wiring.prefill {
            // What `prefill` gives of a batch is thrown away; its last token is fed again for the logits.
            Some((batch, steps))
                if tokens.len() == *batch && window.is_none_or(|window| end < window) =>
            {
                self.layers(steps, &tokens, position, state)?;
            }
            _ => {
                for (i, &token) in tokens.iter().enumerate().take(tokens.len() - 1) {
                    self.infer(token, position + i, state)?;
                }
            }
        }
        let values = self.infer(last, end, state)?;
        self.logits(values, state)
    }
}

fn call(
    part: &dyn Loaded,
    step: &Step,
    inputs: Values,
    state: &mut State,
) -> Result<Values, RuntimeError> {
    part.run(&step.function, inputs, state, &[]).map_err(|e| RuntimeError {
        message: format!("function `{}` of a part: {}", step.function, e.message),
        ..e
    })
}

fn take(values: &mut Values, name: &str) -> Result<Value, RuntimeError> {
    values.remove(name).ok_or_else(|| wrong(&format!("no value `{name}`")))
}

/// Returns the error for an unexpected or missing output of a part; `what` describes it.
fn wrong(what: &str) -> RuntimeError {
    RuntimeError::input(format!("a part of the bundle gave {what}"))
}
