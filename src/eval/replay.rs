//! Golden transcripts that a manifest recorded, written once more by the artifact.

use std::ops::ControlFlow;

use crate::base::cancel;
use crate::base::clock::Clock;
use crate::eval::error::EvalError;
use crate::eval::transcripts::first_divergence;
use crate::eval::{results::Transcript, results::Transcripts};
use crate::lm::Decoder;
use crate::lm::Engine;
use crate::lm::Sampling;
use crate::lm::Tokenizer;
use crate::lm::encode_prompt;
use crate::lm::{Request, generate};

/// A recorded transcript beside the one of today.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The prompt.
    pub prompt: String,
    /// The first token that differs, if one does.
    pub first_divergence: Option<u64>,
    /// The largest logit less the second largest there, today: small means a near tie.
    pub margin: Option<f64>,
}

/// Continues the prompts of `recorded` greedily, each by as many tokens as are on record.
pub fn replay(
    engine: &Engine,
    tokenizer: &Tokenizer,
    recorded: &Transcripts,
    clock: &dyn Clock,
) -> Result<Vec<Replay>, EvalError> {
    let one = |transcript: &Transcript| {
        cancel::check()?;
        let prompt = encode_prompt(tokenizer, &transcript.prompt, recorded.chat_template)?;
        let request = Request {
            prompt: &prompt,
            max_tokens: transcript.tokens.len(),
            sampling: Sampling::Greedy,
            eos: tokenizer.eos(),
        };
        let mut decoder = Decoder::new(engine)?;
        let found =
            generate(&mut decoder, &request, clock, &mut |_| Ok(ControlFlow::Continue(())))?;
        let at = first_divergence(&found.tokens, &transcript.tokens);
        let margin = at.and_then(|at| found.margins.get(at)).map(|&margin| f64::from(margin));
        let first_divergence = at.map(|at| at as u64);
        Ok(Replay { prompt: transcript.prompt.clone(), first_divergence, margin })
    };
    recorded.prompts.iter().map(one).collect()
}
