//! Stop strings: matched across token boundaries; partial matches are held back.

/// Looks for stop texts in text that comes in pieces.
pub(super) struct StopMatcher<'s> {
    stops: &'s [String],
    /// Text that may be the beginning of a stop text.
    held: String,
}

/// Result of matching a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StopMatch<'s> {
    /// Text that can no longer be part of a stop string.
    pub text: String,
    /// The stop text that stood behind it; the continuation ends.
    pub stop: Option<&'s str>,
}

impl<'s> StopMatcher<'s> {
    /// Watches for `stops`, none of which is empty.
    pub(super) fn new(stops: &'s [String]) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes `piece` more text; a stop text may also end in `rest`, which follows it for the time being.
    ///
    /// Of several stop texts the one that begins first counts, and of those the one named first.
    pub(super) fn push(&mut self, piece: &str, rest: &str) -> StopMatch<'s> {
        self.held.push_str(piece);
        let text = format!("{}{rest}", self.held);
        let found = self.stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            self.held.clear();
            return StopMatch { text: text[..at].to_owned(), stop: Some(stop) };
        }
        let begins = |at: usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let starts = self.held.char_indices().map(|(at, _)| at);
        let at = starts.into_iter().find(|&at| begins(at)).unwrap_or(self.held.len());
        let held = self.held.split_off(at);
        StopMatch { text: std::mem::replace(&mut self.held, held), stop: None }
    }

    /// The text that was held back: no stop text came of it.
    pub(super) fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces as they pass, what is held back at the end, and the stop text that was met.
    fn matcher<'s>(
        stops: &'s [String],
        pieces: &[(&str, &str)],
    ) -> (Vec<String>, String, Option<&'s str>) {
        let mut matcher = StopMatcher::new(stops);
        let mut passed = Vec::new();
        for (piece, rest) in pieces {
            let StopMatch { text, stop } = matcher.push(piece, rest);
            passed.push(text);
            if stop.is_some() {
                return (passed, matcher.finish(), stop);
            }
        }
        (passed, matcher.finish(), None)
    }

    #[test]
    fn stop_texts_are_cut_off_and_their_beginnings_held_back() {
        /// Stop texts, pieces; what passes, what is held, which is met.
        type Case<'a> =
            (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str], &'a str, Option<&'a str>);
        let cases: [Case<'_>; 9] = [
            (&[], &[("a", ""), ("b", "")], &["a", "b"], "", None),
            (&["END"], &[("the E", ""), ("ND of", "")], &["the ", ""], "", Some("END")),
            (&["END"], &[("the E", ""), ("NT", "")], &["the ", "ENT"], "", None),
            (&["END"], &[("the EN", "")], &["the "], "EN", None),
            // The first to begin, though it is named last.
            (&["d", "bcd"], &[("abc", ""), ("d", "")], &["a", ""], "", Some("bcd")),
            (&["ab", "abc"], &[("xabc", "")], &["x"], "", Some("ab")),
            // A beginning within a beginning.
            (
                &["aab"],
                &[("a", ""), ("a", ""), ("a", ""), ("b", "")],
                &["", "", "a", ""],
                "",
                Some("aab"),
            ),
            (&["ö!"], &[("schö", ""), ("n", "")], &["sch", "ön"], "", None),
            // Found in what is not certain yet.
            (&["\n\n"], &[("one", "\n"), ("\n", "\n two")], &["one", ""], "", Some("\n\n")),
        ];
        for (stops, pieces, passed, held, stop) in cases {
            let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
            let want = (passed.iter().map(|&s| s.to_owned()).collect(), held.to_owned(), stop);
            assert_eq!(matcher(&stops, pieces), want, "{stops:?} {pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn borders_of_pieces_decide_nothing_but_when(
            stops in prop::collection::vec("[abö]{1,4}", 0..3),
            pieces in prop::collection::vec("[abö]{0,3}", 0..12),
        ) {
            let with_rest: Vec<(&str, &str)> = pieces.iter().map(|p| (p.as_str(), "")).collect();
            let (passed, held, stop) = matcher(&stops, &with_rest);
            // Piece by piece on the whole text: it ends with the piece that completes a stop text.
            let mut text = String::new();
            let mut want = None;
            for piece in &pieces {
                text.push_str(piece);
                let found = stops.iter().filter_map(|s| Some((text.find(s.as_str())?, s.as_str())));
                if let Some(first) = found.min_by_key(|(at, _)| *at) {
                    want = Some(first);
                    break;
                }
            }
            let end = want.map_or(text.len(), |(at, _)| at);
            prop_assert_eq!(passed.concat() + &held, &text[..end]);
            prop_assert_eq!(stop, want.map(|(_, stop)| stop));
        }
    }
}
