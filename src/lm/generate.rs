//! Continues a prompt token by token.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::lm::LmError;
use crate::lm::decoder::Decoder;
use crate::lm::{sampling::Sampling, sampling::margin};

/// A generation request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request<'a> {
    /// The prompt's tokens.
    pub prompt: &'a [u32],
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Sampling method.
    pub sampling: Sampling,
    /// Tokens that end the text; the one met is the last of the result.
    pub eos: &'a [u32],
}

/// A continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The new tokens.
    pub tokens: Vec<u32>,
    /// For each of them, the largest logit less the second largest.
    pub margins: Vec<f32>,
    /// Reason for the end.
    pub stop: Stop,
    /// Duration of feeding the prompt.
    pub prompt_time: Duration,
    /// Duration of feeding a token and choosing the next in milliseconds, for all tokens after the first.
    pub steps: Vec<f64>,
}

/// Reason for the end of a continuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A token that ends the text.
    Eos,
    /// The maximum number of tokens was reached.
    Length,
    /// The callback stopped the generation.
    Asked,
}

/// Called with every sampled token; returns `ControlFlow::Continue` to go on.
pub type EachToken<'f> = dyn FnMut(u32) -> Result<ControlFlow<()>, LmError> + 'f;

/// Continues `request.prompt` in `decoder`; `each` sees every token, the one that ends the text among them.
pub fn generate(
    decoder: &mut Decoder<'_>,
    request: &Request<'_>,
    clock: &dyn Clock,
    each: &mut EachToken<'_>,
) -> Result<Generated, LmError> {
    let mut sampler = request.sampling.start();
    let (mut tokens, mut margins, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    let start = clock.elapsed();
    let mut logits = decoder.prefill(request.prompt)?;
    let prompt_time = clock.elapsed().saturating_sub(start);
    let mut stop = Stop::Length;
    let mut fed = None;
    while tokens.len() < request.max_tokens {
        check(&logits, request.prompt.len() + tokens.len())?;
        let token = sampler.choose(&logits);
        if let Some(start) = fed {
            steps.push(milliseconds(clock.elapsed().saturating_sub(start)));
        }
        tokens.push(token);
        margins.push(margin(&logits));
        let ended = request.eos.contains(&token);
        if each(token)?.is_break() || ended {
            stop = if ended { Stop::Eos } else { Stop::Asked };
            break;
        }
        if tokens.len() < request.max_tokens {
            fed = Some(clock.elapsed());
            logits = decoder.feed(token)?;
        }
    }
    Ok(Generated { tokens, margins, stop, prompt_time, steps })
}

/// Returns a duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Refuses logits among which no choice means anything; -inf rules a token out and is meant.
fn check(logits: &[f32], fed: usize) -> Result<(), LmError> {
    let broken = |logit: &&f32| logit.is_nan() || **logit == f32::INFINITY;
    let count = logits.iter().filter(broken).count();
    let ruled_out = logits.iter().filter(|&&logit| logit == f32::NEG_INFINITY).count();
    if count == 0 && ruled_out < logits.len() {
        return Ok(());
    }
    let position = fed.saturating_sub(1);
    Err(LmError::NonFinite { count: count + ruled_out, vocab: logits.len(), position })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::FixedClock;
    use crate::lm::{sampling::Filter, sampling::top};
    use crate::lm::{testing::Fake, testing::Ticking, testing::logits_after};

    const CLOCK: FixedClock = FixedClock(0);
    const ON: Result<ControlFlow<()>, LmError> = Ok(ControlFlow::Continue(()));

    fn plain(prompt: &[u32], max_tokens: usize) -> Vec<u32> {
        let mut tokens = prompt.to_vec();
        for _ in 0..max_tokens {
            tokens.push(top(&logits_after(&tokens)) as u32);
        }
        tokens.split_off(prompt.len())
    }

    #[test]
    fn greedy_follows_the_model_and_stops_where_it_should() {
        let prompt = [4, 8, 15];
        let want = plain(&prompt, 9);
        for fake in [Fake::state(16, 4), Fake::io(16)] {
            let engine = fake.engine();
            // An end token stops at its first place, and none never does.
            for eos in [None, Some(want[4])] {
                let mut decoder = Decoder::new(&engine).unwrap();
                let mut seen = Vec::new();
                let eos: Vec<u32> = eos.into_iter().collect();
                let request = Request {
                    prompt: &prompt,
                    max_tokens: 9,
                    sampling: Sampling::Greedy,
                    eos: &eos,
                };
                let mut each = |token| {
                    seen.push(token);
                    ON
                };
                let got = generate(&mut decoder, &request, &Ticking::default(), &mut each).unwrap();
                let end = want.iter().position(|t| eos.contains(t)).map_or(9, |i| i + 1);
                assert_eq!(got.tokens, want[..end]);
                assert_eq!(got.tokens, seen);
                assert_eq!(got.margins.len(), end);
                assert_eq!(got.stop, if eos.is_empty() { Stop::Length } else { Stop::Eos });
                // The last token is not fed: nothing follows it.
                assert_eq!(decoder.resident().len(), prompt.len() + end - 1);
                assert_eq!(got.prompt_time, Duration::from_millis(1));
                assert_eq!(got.steps, vec![1.0; end - 1]);
            }
        }
    }

    #[test]
    fn who_watches_may_end_it() {
        let engine = Fake::state(16, 4).engine();
        let request =
            Request { prompt: &[4, 8], max_tokens: 9, sampling: Sampling::Greedy, eos: &[] };
        for after in 1..=9 {
            let mut left = after;
            let mut each = |_| {
                left -= 1;
                Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            };
            let mut decoder = Decoder::new(&engine).unwrap();
            let got = generate(&mut decoder, &request, &CLOCK, &mut each).unwrap();
            assert_eq!((got.tokens.len(), got.stop), (after, Stop::Asked));
            assert_eq!(got.steps.len(), after - 1);
        }
    }

    #[test]
    fn generation_goes_on_beyond_the_cache() {
        let engine = Fake::state(16, 4).engine();
        let mut decoder = Decoder::new(&engine).unwrap();
        let sampling = Sampling::new(1.0, Filter::ALL, 3).unwrap();
        let request = Request { prompt: &[1; 16], max_tokens: 40, sampling, eos: &[] };
        let got = generate(&mut decoder, &request, &CLOCK, &mut |_| ON).unwrap();
        assert_eq!(got.tokens.len(), 40);
        // 16 + 39 tokens were fed; every eviction of 8 made room for 8 more.
        assert_eq!(decoder.usage().evictions, 40);
        let mut decoder = Decoder::new(&engine).unwrap();
        let again = generate(&mut decoder, &request, &CLOCK, &mut |_| ON).unwrap();
        assert_eq!(got, again);
    }

    #[test]
    fn logits_without_a_choice_are_refused() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let cases: [(&[f32], Option<&str>); 4] = [
            (&[1.0, -inf], None),
            (&[1.0, nan, 0.0], Some("1 of 3 logits after token 6 are not finite")),
            (&[inf, 1.0], Some("1 of 2 logits after token 6 are not finite")),
            (&[-inf, -inf], Some("2 of 2 logits after token 6 are not finite")),
        ];
        for (logits, want) in cases {
            assert_eq!(check(logits, 7).err().map(|e| e.to_string()).as_deref(), want);
        }
    }
}
