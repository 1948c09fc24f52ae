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

/// Called with every piece; returns true to continue.
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

    /// The continuation by greedy choice, and its pieces, of which the last `n` is not asked for.
    fn spoken(stops: &[&str], eos: &[u32], n: usize) -> (GeneratedText, Vec<Piece>) {
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
        let spoken =
            generate_text(&mut decoder, &letters(), &request, &stops, &clock, &mut each).unwrap();
        (spoken, pieces)
    }

    /// Stop texts, tokens that end it, pieces asked for; tokens, text, why, by which.
    type Case<'a> = (&'a [&'a str], &'a [u32], usize, usize, String, Stop, Option<&'a str>);

    #[test]
    fn text_ends_where_it_should() {
        let (whole, _) = spoken(&[], &[], 99);
        let text = whole.text.clone();
        assert_eq!((text.chars().count(), whole.generated.stop), (9, Stop::Length));
        let chars: Vec<String> = text.chars().map(String::from).collect();
        let at = |n: usize| chars[..n].concat();
        let third = whole.generated.tokens[2];
        let first = whole.generated.tokens.iter().position(|&t| t == third).unwrap() + 1;
        let (across, unmet) = (chars[3..6].concat(), format!("{}#", chars[8]));
        let cases: [Case<'_>; 5] = [
            (&[], &[third], 99, first, at(first), Stop::Eos, None),
            (&[&across], &[], 99, 6, at(3), Stop::Asked, Some(&across)),
            // Both at once: the text says more.
            (&[&across], &[whole.generated.tokens[5]], 99, 6, at(3), Stop::Eos, Some(&across)),
            // What might have become a stop text is not lost.
            (&[&unmet], &[], 99, 9, at(9), Stop::Length, None),
            (&[], &[], 4, 4, at(4), Stop::Asked, None),
        ];
        for (stops, eos, asked, tokens, text, stop, by) in cases {
            let (got, pieces) = spoken(stops, eos, asked);
            assert_eq!(got.generated.tokens.len(), tokens, "{stops:?} {eos:?}");
            assert_eq!(got.generated.stop, stop);
            assert_eq!((&got.text, got.stop.as_deref()), (&text, by));
            let said: Vec<&str> = pieces.iter().map(|p| p.text.as_str()).collect();
            assert_eq!(said.concat(), text);
            let told: Vec<u32> = pieces.iter().filter_map(|p| p.token).collect();
            assert_eq!(told, got.generated.tokens);
        }
    }
}
