//! A package as the reference: what others are measured against when the source model is not at hand.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{
    Continuation, Continue, Distributions, EmbedRequest, Identity, Noise, Reference, ReferenceError,
};
use crate::base::clock::Clock;
use crate::base::error::Hint;
use crate::interp::sum_exp;
use crate::lm::Artifact;
use crate::lm::Decoder;
use crate::lm::Engine;
use crate::lm::LmError;
use crate::lm::Sampling;
use crate::lm::Scorer;
use crate::lm::embed;
use crate::lm::{Request, generate};
use crate::runtime::Runtime;

/// A package's own answers, in the precision in which it runs.
pub struct PackageReference<'a> {
    path: PathBuf,
    identity: Identity,
    runtime: &'a dyn Runtime,
    clock: &'a dyn Clock,
}

impl<'a> PackageReference<'a> {
    /// The package at `path`, whose files are those of `identity`, run by `runtime`.
    pub fn new(
        path: &Path,
        identity: Identity,
        runtime: &'a dyn Runtime,
        clock: &'a dyn Clock,
    ) -> Self {
        Self { path: path.to_owned(), identity, runtime, clock }
    }

    /// The package and its functions, loaded anew for each question: most are answered from a cache.
    fn load(&self) -> Result<(Artifact, Engine), LmError> {
        let artifact = Artifact::open(&self.path)?;
        let engine = Engine::load(&artifact, self.runtime, self.clock)?;
        Ok((artifact, engine))
    }
}

impl From<LmError> for ReferenceError {
    fn from(error: LmError) -> Self {
        let (advice, blame) = (error.hint(), error.error_kind());
        Self::Failed { message: error.to_string(), advice, blame }
    }
}

impl Reference for PackageReference<'_> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn describe(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("package `{name}`")
    }

    fn kind(&self) -> String {
        self.describe()
    }

    fn logits(&self, windows: &[Vec<u32>], top_k: usize) -> Result<Distributions, ReferenceError> {
        let (artifact, engine) = self.load()?;
        let vocab = engine.decoder()?.vocab;
        let scorer = Scorer::new(&artifact, &engine, self.runtime)?;
        let window = windows.first().map_or(0, Vec::len);
        let mut found = Distributions {
            window,
            top_k,
            next: Vec::new(),
            ids: Vec::new(),
            log_probs: Vec::new(),
            tail: Vec::new(),
        };
        for tokens in windows {
            scorer.score(tokens, &mut |first, logits| {
                let rows: Vec<(usize, &[f32])> = (first..).zip(logits.chunks(vocab)).collect();
                let summaries: Vec<Summary> = rows
                    .par_iter()
                    .map(|&(position, logits)| Summary::of(logits, tokens[position + 1], top_k))
                    .collect();
                for summary in summaries {
                    found.next.push(summary.next);
                    found.ids.extend(summary.ids);
                    found.log_probs.extend(summary.log_probs);
                    found.tail.push(summary.tail);
                }
                Ok(())
            })?;
            // Nothing is asked of the last position, which has no token behind it.
            found.ids.extend(0..top_k as u32);
            found.log_probs.extend(vec![f32::NEG_INFINITY; top_k]);
            found.tail.push(0.0);
        }
        Ok(found)
    }

    fn noise(&self, _windows: &[Vec<u32>]) -> Result<Option<Noise>, ReferenceError> {
        Ok(None)
    }

    fn generate(&self, request: &Continue) -> Result<Vec<Continuation>, ReferenceError> {
        let (_, engine) = self.load()?;
        let one = |prompt: &Vec<u32>| -> Result<Continuation, LmError> {
            let mut decoder = Decoder::new(&engine)?;
            let max_tokens = request.max_tokens;
            let asked =
                Request { prompt, max_tokens, sampling: Sampling::Greedy, eos: &request.eos };
            let on = &mut |_| Ok(ControlFlow::Continue(()));
            let found = generate(&mut decoder, &asked, self.clock, on)?;
            let margins = found.margins.into_iter().map(f64::from).collect();
            Ok(Continuation { tokens: found.tokens, margins, likeliest: Vec::new() })
        };
        Ok(request.prompts.iter().map(one).collect::<Result<_, _>>()?)
    }

    fn embed(&self, request: &EmbedRequest) -> Result<Vec<Vec<f32>>, ReferenceError> {
        let (_, engine) = self.load()?;
        let all: Result<Vec<_>, _> =
            request.prepared.par_iter().map(|s| embed(&engine, s)).collect();
        Ok(all?)
    }
}

/// Summary of the logits of one position.
struct Summary {
    next: f32,
    ids: Vec<u32>,
    log_probs: Vec<f32>,
    tail: f32,
}

impl Summary {
    /// The `top_k` likeliest tokens, of equals the first ones, and the rest as one.
    fn of(logits: &[f32], next: u32, top_k: usize) -> Self {
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        let order =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if top_k < ids.len() {
            ids.select_nth_unstable_by(top_k, order);
        }
        let rest = ids.split_off(top_k.min(ids.len()));
        ids.sort_unstable_by(order);
        let largest = ids.first().map_or(0.0, |&id| logits[id as usize]);
        let rest: Vec<f32> = rest.into_iter().map(|id| logits[id as usize]).collect();
        let rest = sum_exp(&rest, largest);
        let kept: f64 = ids.iter().map(|&id| f64::from(logits[id as usize] - largest).exp()).sum();
        let total = f64::from(largest) + (kept + rest).ln();
        let log_prob = |id: u32| (f64::from(logits[id as usize]) - total) as f32;
        Self {
            next: log_prob(next),
            log_probs: ids.iter().map(|&id| log_prob(id)).collect(),
            ids,
            tail: (rest.ln() + f64::from(largest) - total) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_by_hand() {
        // Weights 1, 4, 2, 1 of 8.
        let logits = [0.0, 4.0_f32.ln(), 2.0_f32.ln(), 0.0];
        let summary = Summary::of(&logits, 3, 2);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert_eq!(summary.ids, [1, 2]);
        assert!(
            close(summary.log_probs[0], 0.5_f32.ln()) && close(summary.log_probs[1], 0.25_f32.ln())
        );
        assert!(close(summary.tail, 0.25_f32.ln()) && close(summary.next, 0.125_f32.ln()));
        // Of equals the first, and nothing is left of all.
        let all = Summary::of(&logits, 0, 4);
        assert_eq!((all.ids, all.tail), (vec![1, 2, 0, 3], f32::NEG_INFINITY));
    }
}
