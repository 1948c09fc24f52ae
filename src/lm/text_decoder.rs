//! Incremental detokenization: emitted text is never changed by later tokens.

use crate::lm::{tokenizer::Tokenizer, tokenizer::TokenizerError, tokenizer::cleaned};

/// Replacement character for bytes that are not, or not yet, a character.
const INCOMPLETE: char = char::REPLACEMENT_CHARACTER;

/// The text of tokens that come one by one.
pub(super) struct TextDecoder<'t> {
    tokenizer: &'t Tokenizer,
    /// The tokens that the last text came from, which decide how the next begin, and those that have given none.
    window: Vec<u32>,
    /// Number of tokens whose text was returned.
    read: usize,
    /// The text of these.
    given: String,
    /// Text that what follows may still clean up.
    unclean: String,
}

impl<'t> TextDecoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        let (given, unclean) = (String::new(), String::new());
        Self { tokenizer, window: Vec::new(), read: 0, given, unclean }
    }

    /// The text that is certain with one token more.
    pub(super) fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        self.window.push(token);
        let new = self.new_text()?;
        if !new.is_empty() && !new.ends_with(INCOMPLETE) {
            self.unclean.push_str(&new);
            self.window.drain(..self.read);
            self.read = self.window.len();
            self.given = self.tokenizer.decode_as_is(&self.window)?;
        }
        Ok(if self.tokenizer.cleans_up() {
            let rest = self.unclean.split_off(settled(&self.unclean));
            cleaned(&std::mem::replace(&mut self.unclean, rest))
        } else {
            std::mem::take(&mut self.unclean)
        })
    }

    /// What stands behind the text given out if nothing follows, without characters that are not whole.
    pub(super) fn rest(&self) -> String {
        cleaned(&self.unclean)
    }

    /// All text that has not been given out.
    pub(super) fn finish(mut self) -> Result<String, TokenizerError> {
        let new = self.new_text()?;
        self.unclean.push_str(&new);
        Ok(if self.tokenizer.cleans_up() { cleaned(&self.unclean) } else { self.unclean })
    }

    /// The text of the tokens that have given none, behind those that have.
    fn new_text(&self) -> Result<String, TokenizerError> {
        let text = self.tokenizer.decode_as_is(&self.window)?;
        match text.strip_prefix(&self.given) {
            Some(new) => Ok(new.to_owned()),
            // Bytes that are no character may hide the whole run of bytes they stand in.
            None => self.tokenizer.decode_as_is(&self.window[self.read..]),
        }
    }
}

/// How much of `text` is cleaned up the same whatever follows.
///
/// Every rule of [`cleaned`] takes a space away and looks at no more than the three characters behind it. So one that
/// changes text on both sides of a space begins in front of that space: with `" '"`, with `" n"`, or with a space that
/// becomes the first of a rule once those behind it are gone.
fn settled(text: &str) -> usize {
    let open =
        |before: &str| before.ends_with([' ', '\'']) || before.ends_with(" n") || before == "n";
    let spaces = text.rmatch_indices(' ').map(|(at, _)| at);
    spaces.into_iter().find(|&at| !open(&text[..at])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::lm::tokenizer::words;

    fn tokenizer(content: &serde_json::Value) -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("tokenizer.json"), content.to_string()).unwrap();
        Tokenizer::open(folder.path()).unwrap()
    }

    /// GPT-2's kind: token n is byte n.
    fn bytes() -> Tokenizer {
        let printed = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
        let mut others = (256..).map(|c| char::from_u32(c).unwrap());
        let vocab: serde_json::Map<_, _> = (0..=255_u8)
            .map(|b| if printed(b) { char::from(b) } else { others.next().unwrap() })
            .zip(0..)
            .map(|(c, id): (char, u32)| (c.to_string(), id.into()))
            .collect();
        tokenizer(&json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "truncation": null, "padding": null, "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        }))
    }

    /// Llama-2's kind: token n is byte n where no piece has it, and 256 is ` word`.
    fn fallback() -> Tokenizer {
        let mut vocab: serde_json::Map<_, _> =
            (0..=255_u32).map(|b| (format!("<0x{b:02X}>"), b.into())).collect();
        vocab.insert("▁word".to_owned(), 256.into());
        tokenizer(&json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "truncation": null, "padding": null, "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ]},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        }))
    }

    /// Everything that `tokens` give, piece by piece.
    fn pieces(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<String> {
        let mut words = TextDecoder::new(tokenizer);
        let mut pieces: Vec<String> = tokens.iter().map(|&t| words.push(t).unwrap()).collect();
        pieces.push(words.finish().unwrap());
        pieces
    }

    #[test]
    fn text_waits_for_whole_characters_and_for_what_may_clean_it_up() {
        let clean = [("tokenizer_config.json", r#"{"clean_up_tokenization_spaces": true}"#)];
        let (plain, clean) = (words(&[]), words(&clean));
        let (bytes, fallback) = (bytes(), fallback());
        let cases: [(&Tokenizer, &[u32], &[&str]); 10] = [
            // Special tokens have no text.
            (&plain, &[0, 3, 4, 1], &["", "a", " king", "", ""]),
            (&plain, &[4, 7, 8, 1], &["king", " 's", " .", "", ""]),
            (&clean, &[4, 7, 8, 3, 1], &["", "king", "'s", ".", "", " a"]),
            (&clean, &[3], &["", "a"]),
            // 240 159 152 128 are one character, 195 164 another.
            (&bytes, &[240, 159, 152, 128, 97], &["", "", "", "😀", "a", ""]),
            (&bytes, &[97, 195, 164, 195], &["a", "", "ä", "", "\u{FFFD}"]),
            (&bytes, &[255, 97], &["", "\u{FFFD}a", ""]),
            // One broken byte makes this decoder give up the whole run of bytes, for as long as it is broken.
            (&fallback, &[195, 164, 195, 164, 256], &["", "ä", "", "ä", " word", ""]),
            (&fallback, &[256, 195, 164, 195], &["word", "", "ä", "", "\u{FFFD}"]),
            (&fallback, &[97, 195, 256], &["a", "", "\u{FFFD} word", ""]),
        ];
        for (tokenizer, tokens, want) in cases {
            assert_eq!(pieces(tokenizer, tokens), want, "{tokens:?}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_up_in_parts_changes_nothing(
            parts in prop::collection::vec("[ .?!,'nmstvrex]{0,6}", 1..12),
        ) {
            let (mut given, mut unclean) = (String::new(), String::new());
            for part in &parts {
                unclean.push_str(part);
                let rest = unclean.split_off(settled(&unclean));
                given.push_str(&cleaned(&std::mem::replace(&mut unclean, rest)));
            }
            given.push_str(&cleaned(&unclean));
            prop_assert_eq!(given, cleaned(&parts.concat()));
        }

        #[test]
        fn pieces_are_the_text(text in "\\PC{0,20}", ids in prop::collection::vec(0_u32..9, 0..20)) {
            let utf8: Vec<u32> = text.bytes().map(u32::from).collect();
            prop_assert_eq!(pieces(&bytes(), &utf8).concat(), &text[..]);
            // A word between its bytes.
            let mixed: Vec<u32> = utf8.iter().flat_map(|&b| if b == 0x20 { vec![256] } else { vec![b] }).collect();
            let fallback = fallback();
            prop_assert_eq!(pieces(&fallback, &mixed).concat(), fallback.decode(&mixed).unwrap());
            let words = words(&[]);
            prop_assert_eq!(pieces(&words, &ids).concat(), words.decode(&ids).unwrap());
        }
    }
}
