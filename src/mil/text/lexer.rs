//! Tokens of the textual form, each with the place it stands at.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::fmt;

use thiserror::Error;

use super::{MAX_DEPTH, MAX_PARTS};
use crate::base::error::Hint;

/// A place in the text, counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Position and reason of a syntax error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{at}: {what}")]
pub struct TextError {
    /// Where.
    pub at: Position,
    /// Why.
    pub what: What,
}

impl Hint for TextError {
    fn hint(&self) -> Option<String> {
        None
    }
}

/// An error of a program's text form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum What {
    /// Something else than belongs there.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A character that begins nothing.
    #[error("character {0:?} begins nothing")]
    Character(char),
    /// A string or a comment without an end.
    #[error("{0} has no end")]
    Endless(&'static str),
    /// An escape sequence that the form does not have.
    #[error("`\\{0}` is no escape sequence")]
    Escape(String),
    /// A number that the type does not hold.
    #[error("`{number}` is no {dtype}")]
    Number {
        /// The number as written.
        number: String,
        /// The element type.
        dtype: &'static str,
    },
    /// Another number of elements than the shape has.
    #[error("dimension of {expected} has {found} elements")]
    Count {
        /// The extent.
        expected: u64,
        /// Elements there are.
        found: u64,
    },
    /// A second definition where one is allowed.
    #[error("{kind} `{name}` is given twice")]
    Twice {
        /// `function`, `argument` or `attribute`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Nested deeper than the bound.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// More parts than the bound.
    #[error("more than {MAX_PARTS} operations, arguments, types and values")]
    Parts,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A name or a keyword.
    Word(&'t str),
    /// A number as written, sign included.
    Number(&'t str),
    /// A string, its escapes resolved.
    Text(String),
    /// A bracket, a comma and the like.
    Mark(char),
    /// `->`.
    Arrow,
    /// `...`.
    Dots,
    /// Nothing more.
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(f, "`{text}`"),
            Self::Text(text) => write!(f, "string {text:?}"),
            Self::Mark(mark) => write!(f, "`{mark}`"),
            Self::Arrow => f.write_str("`->`"),
            Self::Dots => f.write_str("`...`"),
            Self::End => f.write_str("the end of the text"),
        }
    }
}

/// Gives the tokens of a text one after the other.
pub(super) struct Lexer<'t> {
    text: &'t str,
    /// Byte offset of the next character.
    offset: usize,
    at: Position,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        // A mark of the byte order is no part of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { text, offset: 0, at: Position { line: 1, column: 1 } }
    }

    /// The next token and where it begins.
    pub(super) fn next(&mut self) -> Result<(Position, Token<'t>), TextError> {
        self.skip()?;
        let at = self.at;
        let Some(first) = self.peek() else { return Ok((at, Token::End)) };
        let token = match first {
            '"' => Token::Text(self.string()?),
            c if begins_word(c) => Token::Word(self.take(continues_word)),
            '-' if self.rest().starts_with("->") => {
                self.step();
                self.step();
                Token::Arrow
            }
            '.' if self.rest().starts_with("...") => {
                (0..3).for_each(|_| self.step());
                Token::Dots
            }
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | ',' | ';' | '=' | '?' => {
                self.step();
                Token::Mark(first)
            }
            other => return Err(TextError { at, what: What::Character(other) }),
        };
        Ok((at, token))
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn step(&mut self) {
        let Some(c) = self.peek() else { return };
        self.offset += c.len_utf8();
        if c == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        let taken = rest.get(..end).unwrap_or_default();
        taken.chars().for_each(|_| self.step());
        taken
    }

    /// Goes past white space and comments.
    fn skip(&mut self) -> Result<(), TextError> {
        loop {
            self.take(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.take(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                let at = self.at;
                let Some(end) = self.rest().find("*/") else {
                    return Err(TextError { at, what: What::Endless("comment") });
                };
                let end = self.offset + end + 2;
                while self.offset < end {
                    self.step();
                }
            } else {
                return Ok(());
            }
        }
    }

    /// A sign, then letters, digits and points; `-inf` is one, and so is the `p-3` of a hexadecimal float.
    fn number(&mut self) -> Token<'t> {
        let rest = self.rest();
        let start = self.offset;
        if rest.starts_with(['-', '+']) {
            self.step();
        }
        let hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        let exponent = if hex { ['p', 'P'] } else { ['e', 'E'] };
        loop {
            let part = self.take(|c| c.is_ascii_alphanumeric() || c == '.');
            if !(part.ends_with(exponent) && self.rest().starts_with(['-', '+'])) {
                break;
            }
            self.step();
        }
        Token::Number(self.text.get(start..self.offset).unwrap_or_default())
    }

    /// A string; escapes are those of C.
    fn string(&mut self) -> Result<String, TextError> {
        let begin = self.at;
        self.step();
        let mut out = String::new();
        loop {
            out.push_str(self.take(|c| c != '"' && c != '\\'));
            let at = self.at;
            let quote = self.peek();
            self.step();
            match quote {
                Some('"') => return Ok(out),
                None => return Err(TextError { at: begin, what: What::Endless("string") }),
                Some(_) => {
                    let c = self
                        .escape()
                        .map_err(|escape| TextError { at, what: What::Escape(escape) })?;
                    out.push(c);
                }
            }
        }
    }

    /// What stands behind a backslash; the sequence itself where there is none like it.
    fn escape(&mut self) -> Result<char, String> {
        let letter = self.peek().ok_or_else(String::new)?;
        self.step();
        let digits = |lexer: &mut Self, n: usize| {
            let digits = lexer.rest().get(..n).filter(|d| d.chars().all(|c| c.is_ascii_hexdigit()));
            let code = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
            let c = code.and_then(char::from_u32).ok_or_else(|| letter.to_string())?;
            (0..n).for_each(|_| lexer.step());
            Ok(c)
        };
        Ok(match letter {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '"' | '\\' | '\'' | '/' | '?' => letter,
            'x' => return digits(self, 2),
            'u' => return digits(self, 4),
            'U' => return digits(self, 8),
            other => return Err(other.to_string()),
        })
    }
}

/// True if a name can begin with `c`.
pub(super) fn begins_word(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '@' | '$')
}

/// True if a name can go on with `c`.
pub(super) fn continues_word(c: char) -> bool {
    begins_word(c) || c.is_numeric() || c == '.'
}
