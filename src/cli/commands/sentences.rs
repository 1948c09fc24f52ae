//! The sentences of `embed`: arguments, then a file's lines, read while others are embedded and no faster.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::base::cancel;
use crate::base::error::Hint;
use crate::cli::args::{EmbedArgs, InputFormat};
use crate::lm::Sentence;
use crate::pipeline::Failure;
use crate::pipeline::input;

/// Sentences that are embedded side by side before the next are asked for.
const BATCH: usize = 64;

/// How long a wait for the next goes on before it looks whether the run was asked to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// A sentence and where it comes from.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    /// What the line calls it.
    pub(super) id: Option<Value>,
    pub(super) sentence: Sentence,
}

/// Where a sentence stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On the command line.
    Argument,
    /// In a line, counted from 1, of what is called so.
    Line(String, usize),
}

impl Place {
    /// A failure that names this place.
    pub(super) fn attribute<E: std::error::Error + Hint>(&self, error: E) -> Failure {
        let failure = Failure::from(error);
        match self {
            Self::Argument => failure,
            Self::Line(..) => Failure { message: self.tell(&failure.message), ..failure },
        }
    }

    pub(super) fn tell(&self, what: &str) -> String {
        match self {
            Self::Argument => what.to_owned(),
            Self::Line(name, number) => format!("{name}, line {number}: {what}"),
        }
    }
}

/// Sentences to come.
pub(super) struct Sentences {
    items: Receiver<Result<Item, Failure>>,
}

/// Some of them.
pub(super) struct Batch {
    /// The next sentences.
    pub(super) items: Vec<Item>,
    /// What stands behind them, where that is the end.
    pub(super) last: Option<Result<(), Failure>>,
}

impl Sentences {
    /// The sentences that the arguments name; the file is open, and its reader waits until they are asked for.
    pub(super) fn of(args: &EmbedArgs) -> Result<Self, Failure> {
        let said = Prompt { instruction: args.instruction.clone(), name: args.prompt_name.clone() };
        let given: Vec<String> = args.sentences.iter().chain(&args.text).cloned().collect();
        let file = args.file.as_deref();
        let opened = file.map(|path| Ok::<_, Failure>((path, input::open(path)?))).transpose()?;
        let opened = opened.map(|(path, lines)| (input::name(path), form(args, path), lines));
        let (sender, items) = sync_channel(BATCH);
        // Not waited for: it may be waiting for a line of stdin that never comes.
        thread::spawn(move || {
            let item = |text: &str| Item {
                place: Place::Argument,
                id: None,
                sentence: said.before(Sentence::plain(text)),
            };
            let sent = given.iter().all(|text| sender.send(Ok(item(text))).is_ok());
            if let (true, Some((name, form, lines))) = (sent, opened) {
                read(&name, form, lines, &said, &sender);
            }
        });
        Ok(Self { items })
    }

    /// The next sentences: as many as are there, up to [`BATCH`]; none only at the end.
    pub(super) fn next(&self) -> Result<Batch, Failure> {
        let mut items = Vec::new();
        let last = loop {
            let next = match self.items.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => break Some(Ok(())),
                Err(TryRecvError::Empty) if !items.is_empty() => break None,
                Err(TryRecvError::Empty) => {
                    cancel::check()?;
                    match self.items.recv_timeout(PATIENCE) {
                        Ok(next) => next,
                        Err(RecvTimeoutError::Disconnected) => break Some(Ok(())),
                        Err(RecvTimeoutError::Timeout) => continue,
                    }
                }
            };
            match next {
                Ok(item) => items.push(item),
                Err(failure) => break Some(Err(failure)),
            }
            if items.len() == BATCH {
                break None;
            }
        };
        Ok(Batch { items, last })
    }
}

/// What the arguments put before sentences that say nothing of their own.
#[derive(Debug, Default)]
struct Prompt {
    instruction: Option<String>,
    name: Option<String>,
}

impl Prompt {
    fn before(&self, sentence: Sentence) -> Sentence {
        if sentence.instruction.is_some() || sentence.prompt_name.is_some() {
            return sentence;
        }
        let (instruction, prompt_name) = (self.instruction.clone(), self.name.clone());
        Sentence { instruction, prompt_name, ..sentence }
    }
}

fn form(args: &EmbedArgs, path: &Path) -> InputFormat {
    let named = path.extension().is_some_and(|extension| extension == "jsonl");
    args.input_format.unwrap_or(if named { InputFormat::Jsonl } else { InputFormat::Text })
}

/// Sends the lines that are not blank, until a line is wrong or nobody takes them any more.
fn read(
    name: &str,
    form: InputFormat,
    lines: impl std::io::BufRead,
    said: &Prompt,
    sender: &SyncSender<Result<Item, Failure>>,
) {
    for (number, line) in (1..).zip(lines.lines()) {
        let place = Place::Line(name.to_owned(), number);
        let item = match line {
            Err(error) => Err(place.attribute(error)),
            Ok(line) if line.trim().is_empty() => continue,
            Ok(text) if form == InputFormat::Text => {
                Ok(Item { place, id: None, sentence: Sentence::plain(&text) })
            }
            Ok(line) => match parse(&line) {
                Ok((id, sentence)) => Ok(Item { place, id, sentence }),
                Err(what) => Err(Failure::input(place.tell(&what)).hint(
                    "a line is a JSON string, or an object with the string `text` and perhaps `id`, `instruction` and `prompt_name`",
                )),
            },
        };
        let item = item.map(|item| Item { sentence: said.before(item.sentence), ..item });
        let wrong = item.is_err();
        if sender.send(item).is_err() || wrong {
            return;
        }
    }
}

/// A line of JSON, or what is wrong with it.
fn parse(line: &str) -> Result<(Option<Value>, Sentence), String> {
    let value: Value = serde_json::from_str(line).map_err(|e| {
        let told = e.to_string();
        let what = told.split(" at line ").next().unwrap_or_default();
        format!("column {}: {what}", e.column())
    })?;
    match value {
        Value::String(text) => Ok((None, Sentence::plain(&text))),
        Value::Object(mut fields) => {
            let text = match fields.remove("text") {
                Some(Value::String(text)) => text,
                Some(other) => return Err(format!("`text` is {}, not a string", kind(&other))),
                None => return Err("`text` is missing".to_owned()),
            };
            let mut optional = |name: &str| match fields.remove(name) {
                Some(Value::String(said)) => Ok(Some(said)),
                Some(Value::Null) | None => Ok(None),
                Some(other) => Err(format!("`{name}` is {}, not a string", kind(&other))),
            };
            let (instruction, prompt_name) = (optional("instruction")?, optional("prompt_name")?);
            if instruction.is_some() && prompt_name.is_some() {
                return Err("`instruction` and `prompt_name` exclude each other".to_owned());
            }
            let id = fields.remove("id").filter(|id| !id.is_null());
            Ok((id, Sentence { instruction, prompt_name, text }))
        }
        other => Err(format!("{} is no sentence", kind(&other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    fn read_all(form: InputFormat, text: &str) -> (Vec<Item>, Option<Failure>) {
        let (sender, items) = sync_channel(99);
        let said = Prompt { instruction: Some("find".to_owned()), name: None };
        read("`x`", form, text.as_bytes(), &said, &sender);
        drop(sender);
        let mut good = Vec::new();
        for item in items {
            match item {
                Ok(item) => good.push(item),
                Err(failure) => return (good, Some(failure)),
            }
        }
        (good, None)
    }

    #[test]
    fn lines_are_sentences() {
        // The form, the text; lines, instructions and texts of the sentences.
        type Case<'a> = (InputFormat, &'a str, &'a [(usize, &'a str, &'a str)]);
        let cases: [Case<'_>; 5] = [
            (InputFormat::Text, "", &[]),
            (
                InputFormat::Text,
                "a\n \n{}\r\nb",
                &[(1, "find", "a"), (3, "find", "{}"), (4, "find", "b")],
            ),
            (InputFormat::Jsonl, "\"a\"\n\n", &[(1, "find", "a")]),
            (
                InputFormat::Jsonl,
                r#"{"text": "a", "instruction": "say", "more": 1}"#,
                &[(1, "say", "a")],
            ),
            (InputFormat::Jsonl, r#"{"text": "ä\n", "instruction": null}"#, &[(1, "find", "ä\n")]),
        ];
        for (form, text, want) in cases {
            let (items, failure) = read_all(form, text);
            assert!(failure.is_none(), "{text:?}");
            let got: Vec<_> = items
                .iter()
                .map(|Item { place, sentence, .. }| {
                    let Place::Line(name, number) = place else { panic!("{place:?}") };
                    assert_eq!(name, "`x`");
                    let instruction = sentence.instruction.as_deref().unwrap();
                    (*number, instruction, sentence.text.as_str())
                })
                .collect();
            assert_eq!(got, want, "{text:?}");
        }
        let (named, _) = read_all(InputFormat::Jsonl, r#"{"text": "a", "prompt_name": "query"}"#);
        let Sentence { instruction, prompt_name, .. } = &named[0].sentence;
        assert_eq!((instruction, prompt_name.as_deref()), (&None, Some("query")));
        let (items, _) = read_all(
            InputFormat::Jsonl,
            "{\"text\": \"a\", \"id\": 7}\n{\"id\": \"x\", \"text\": \"b\"}",
        );
        let ids: Vec<_> = items.into_iter().map(|item| item.id.unwrap().to_string()).collect();
        assert_eq!(ids, ["7", "\"x\""]);
    }

    #[test]
    fn lines_that_are_wrong_are_named_and_those_before_them_read() {
        let cases = [
            (InputFormat::Jsonl, "{\"text\": }", "`x`, line 2: column 10: expected value"),
            (InputFormat::Jsonl, "{\"text\"", "`x`, line 2: column 7: EOF while parsing an object"),
            (InputFormat::Jsonl, "3", "`x`, line 2: a number is no sentence"),
            (InputFormat::Jsonl, "{\"id\": 1}", "`x`, line 2: `text` is missing"),
            (
                InputFormat::Jsonl,
                "{\"text\": [\"a\"]}",
                "`x`, line 2: `text` is an array, not a string",
            ),
            (
                InputFormat::Jsonl,
                "{\"text\": \"a\", \"instruction\": {}}",
                "`x`, line 2: `instruction` is an object, not a string",
            ),
        ];
        for (form, line, want) in cases {
            let (items, failure) = read_all(form, &format!("\"a\"\n{line}\n\"b\""));
            let failure = failure.unwrap();
            assert_eq!(
                (items.len(), failure.message.as_str(), failure.kind),
                (1, want, ErrorKind::Input)
            );
        }
        let (sender, items) = sync_channel(9);
        read("stdin", InputFormat::Text, &b"a\n\xFF\n"[..], &Prompt::default(), &sender);
        let failure = items.iter().nth(1).unwrap().unwrap_err();
        assert_eq!(failure.message, "stdin, line 2: stream did not contain valid UTF-8");
        assert_eq!(failure.kind, ErrorKind::Input);
    }
}
