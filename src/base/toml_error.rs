//! `TomlError`: what is wrong in a TOML file that somebody wrote, where, and what was meant.

use std::ops::Range;

use thiserror::Error;

use super::did_you_mean::did_you_mean;
use super::error::Hint;

/// A file that cannot be used. The message is the fact with its place; below it stand the line and a caret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{file}`{}: {what}{}", place.as_ref().map(Place::head).unwrap_or_default(),
    place.as_ref().map(Place::excerpt).unwrap_or_default())]
pub struct TomlError {
    file: String,
    what: String,
    place: Option<Place>,
    hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    /// Characters marked.
    width: usize,
    text: String,
}

impl TomlError {
    /// `what` is wrong in `file`, whose content is `text`, at `span`.
    pub fn at(file: &str, text: &str, span: Option<Range<usize>>, what: String) -> Self {
        let place = span.map(|span| Place::find(text, span));
        let hint = meant(&what);
        Self { file: file.to_owned(), what, place, hint }
    }

    /// What `toml` says, with its place.
    pub fn toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        Self::at(file, text, error.span(), error.message().replace('\n', "; "))
    }

    /// The same with advice, where there is some.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
}

impl Hint for TomlError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl Place {
    fn find(text: &str, span: Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_text = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before[start..].chars().count() + 1;
        let marked = text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
        let left = line_text.chars().count() + 1 - (column - 1).min(line_text.chars().count());
        let width = marked.chars().count().clamp(1, left.max(1));
        let line = before.matches('\n').count() + 1;
        Self { line, column, width, text: line_text.to_owned() }
    }

    fn head(&self) -> String {
        format!(" line {}, column {}", self.line, self.column)
    }

    fn excerpt(&self) -> String {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let (indent, carets) = (" ".repeat(self.column - 1), "^".repeat(self.width));
        format!("\n{gutter} |\n{number} | {}\n{gutter} | {indent}{carets}", self.text)
    }
}

/// The nearest of the names that serde offers in place of one it does not know.
///
/// Its messages have the form ``unknown field `x`, expected one of `a`, `b` `` and ``unknown variant …``.
fn meant(what: &str) -> Option<String> {
    let rest = what.strip_prefix("unknown field ").or(what.strip_prefix("unknown variant "))?;
    let mut names = rest.split('`').skip(1).step_by(2);
    let typed = names.next()?;
    did_you_mean(typed, names).map(|name| format!("did you mean `{name}`"))
}
