//! Generates text: streams pieces as soon as they are final and returns the complete text.

use std::ops::ControlFlow;

use crate::base::clock::Clock;
use crate::lm::LmError;
use crate::lm::decoder::Decoder;
use crate::lm::stop::StopMatcher;
use crate::lm::text_decoder::TextDecoder;
use crate::lm::tokenizer::Tokenizer;
use crate::lm::{generate::Generated, generate::Request, generate::generate};

/// A piece of a continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The token that was chosen; none with what is left over at the end.
    pub token: Option<u32>,
    /// The text that is certain with it, often empty; behind it the next piece goes on.
    pub text: String,
}

/// Called with every piece; returns `ControlFlow::Continue` to go on.
pub type EachPiece<'f> = dyn FnMut(&Piece) -> Result<ControlFlow<()>, LmError> + 'f;

/// A continuation in text.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedText {
    /// The tokens, those of the stop text among them.
    pub generated: Generated,
    /// Their text, up to the stop text.
    pub text: String,
    /// The stop text that ended it.
    pub stop: Option<String>,
}

/// Continues `request.prompt` until its end or one of the texts in `stops`, none of which is empty.
///
/// What `each` is given makes up the text, also where the run is asked to stop in between.
pub fn generate_text(
    decoder: &mut Decoder<'_>,
    tokenizer: &Tokenizer,
    request: &Request<'_>,
    stops: &[String],
    clock: &dyn Clock,
    each: &mut EachPiece<'_>,
) -> Result<GeneratedText, LmError> {
    let mut words = TextDecoder::new(tokenizer);
    let mut matcher = StopMatcher::new(stops);
    let mut text = String::new();
    let mut stop = None;
    let mut say = |token: Option<u32>, piece: String| {
        text.push_str(&piece);
        each(&Piece { token, text: piece })
    };
    let generated = generate(decoder, request, clock, &mut |token| {
        let piece = words.push(token)?;
        let passed = matcher.push(&piece, &words.rest());
        stop = passed.stop;
        let flow = say(Some(token), passed.text)?;
        Ok(if stop.is_some() { ControlFlow::Break(()) } else { flow })
    });
    if stop.is_none() {
        let passed = matcher.push(&words.finish()?, "");
        stop = passed.stop;
        let left = passed.text + &matcher.finish();
        if !left.is_empty() {
            let _end = say(None, left)?;
        }
    }
    Ok(GeneratedText { generated: generated?, text, stop: stop.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::FixedClock;
    use crate::lm::generate::Stop;
    use crate::lm::sampling::Sampling;
    use crate::lm::testing::Fake;
    use crate::lm::tokenizer::letters;

    const PROMPT: [u32; 3] = [4, 8, 15];

    /// Returns the greedy continuation and its pieces, stopped after `n` pieces.
    fn generated(stops: &[&str], eos: &[u32], n: usize) -> (GeneratedText, Vec<Piece>) {
        let engine = Fake::state(16, 4).engine();
        let mut decoder = Decoder::new(&engine).unwrap();
        let request = Request { prompt: &PROMPT, max_tokens: 9, sampling: Sampling::Greedy, eos };
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let mut pieces = Vec::new();
        let mut each = |piece: &Piece| {
            pieces.push(piece.clone());
            let enough = pieces.len() == n;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let clock = FixedClock(0);
        let text =
            generate_text(&mut decoder, &letters(), &request, &stops, &clock, &mut each).unwrap();
        (text, pieces)
    }

    #[test]
    fn generation_ends_at_stop_texts_end_tokens_and_limits() {
        struct Case<'a> {
            stops: &'a [&'a str],
            eos: &'a [u32],
            max_pieces: usize,
            n_tokens: usize,
            text: String,
            stop: Stop,
            stop_text: Option<&'a str>,
        }
        let (full, _) = generated(&[], &[], 99);
        let text = full.text.clone();
        assert_eq!((text.chars().count(), full.generated.stop), (9, Stop::Length));
        let chars: Vec<String> = text.chars().map(String::from).collect();
        let prefix = |n: usize| chars[..n].concat();
        let third = full.generated.tokens[2];
        let first = full.generated.tokens.iter().position(|&t| t == third).unwrap() + 1;
        let (across, unmet) = (chars[3..6].concat(), format!("{}#", chars[8]));
        let cases = [
            Case {
                stops: &[],
                eos: &[third],
                max_pieces: 99,
                n_tokens: first,
                text: prefix(first),
                stop: Stop::Eos,
                stop_text: None,
            },
            Case {
                stops: &[&across],
                eos: &[],
                max_pieces: 99,
                n_tokens: 6,
                text: prefix(3),
                stop: Stop::Asked,
                stop_text: Some(&across),
            },
            // An end token that completes a stop text: both are reported.
            Case {
                stops: &[&across],
                eos: &[full.generated.tokens[5]],
                max_pieces: 99,
                n_tokens: 6,
                text: prefix(3),
                stop: Stop::Eos,
                stop_text: Some(&across),
            },
            // The incomplete start of a stop text is part of the output.
            Case {
                stops: &[&unmet],
                eos: &[],
                max_pieces: 99,
                n_tokens: 9,
                text: prefix(9),
                stop: Stop::Length,
                stop_text: None,
            },
            Case {
                stops: &[],
                eos: &[],
                max_pieces: 4,
                n_tokens: 4,
                text: prefix(4),
                stop: Stop::Asked,
                stop_text: None,
            },
        ];
        for case in cases {
            let (got, pieces) = generated(case.stops, case.eos, case.max_pieces);
            let at = format!("{:?} {:?}", case.stops, case.eos);
            assert_eq!(got.generated.tokens.len(), case.n_tokens, "{at}");
            assert_eq!(got.generated.stop, case.stop, "{at}");
            assert_eq!(got.text, case.text, "{at}");
            assert_eq!(got.stop.as_deref(), case.stop_text, "{at}");
            let texts: Vec<&str> = pieces.iter().map(|p| p.text.as_str()).collect();
            assert_eq!(texts.concat(), case.text, "{at}");
            let tokens: Vec<u32> = pieces.iter().filter_map(|p| p.token).collect();
            assert_eq!(tokens, got.generated.tokens, "{at}");
        }
    }
}
