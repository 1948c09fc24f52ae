//! Options of schemes: sizes, widths, flags.

use super::super::bits::Bits;

/// A number as it is displayed: no sign and no zero in front.
pub(super) fn number(digits: &str) -> Option<usize> {
    digits.parse().ok().filter(|n: &usize| n.to_string() == digits)
}

/// A number above 0.
pub(super) fn size(digits: &str) -> Result<usize, String> {
    match number(digits) {
        Some(n) if n > 0 => Ok(n),
        _ => Err(format!("size `{digits}` is not a whole number above 0")),
    }
}

/// A width that Core ML has.
pub(super) fn bits(digits: &str) -> Result<Bits, String> {
    number(digits)
        .and_then(|n| u8::try_from(n).ok())
        .and_then(Bits::new)
        .ok_or_else(|| format!("`{digits}` is not 1, 2, 3, 4, 6 or 8 bits"))
}

/// Options behind a kind, each a letter and a number or a word of its own, read from the front.
pub(super) struct Options<'a> {
    kind: &'a str,
    rest: Vec<&'a str>,
}

impl<'a> Options<'a> {
    pub(super) fn new(kind: &'a str, rest: impl Iterator<Item = &'a str>) -> Self {
        let mut rest: Vec<_> = rest.collect();
        rest.reverse();
        Self { kind, rest }
    }

    /// The number behind `letter`, if the next option is one of that letter.
    pub(super) fn number(&mut self, letter: char) -> Option<usize> {
        let found = number(self.rest.last()?.strip_prefix(letter)?)?;
        self.rest.pop();
        Some(found)
    }

    /// True if the next option is `word`.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.rest.last() == Some(&word);
        if found {
            self.rest.pop();
        }
        found
    }

    /// Refuses what is left.
    pub(super) fn end(self, known: &[&str]) -> Result<(), String> {
        let kind = self.kind;
        match self.rest.last() {
            None => Ok(()),
            Some(word) if known.iter().any(|known| word.starts_with(known)) => {
                Err(format!("`{word}` is no option of `{kind}`, or comes too late"))
            }
            Some(word) => Err(format!("`{word}` is no option of `{kind}`")),
        }
    }
}
