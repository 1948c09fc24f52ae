//! Output of `embed`: stdout, or a file that is complete or absent.

use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use crate::base::fs::StagedFile;
use crate::base::progress::Unit;
use crate::pipeline::Failure;

/// Elements of a vector that the form for people shows.
const SHOWN: usize = 6;

/// The fewest columns that the form for people leaves to the text.
const TEXT: usize = 20;

/// An embedded sentence.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    /// Its place among all sentences, from 0.
    pub(super) index: usize,
    /// What its line calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Value>,
    /// The text, without its instruction.
    pub(super) text: String,
    /// Tokens that `encode` saw.
    pub(super) tokens: usize,
    /// The elements.
    pub(super) embedding: Vec<f32>,
}

/// Takes embeddings in their order.
pub(super) struct Sink<'c> {
    context: &'c Context,
    form: Form,
    /// Sentences and elements of each.
    shape: (usize, usize),
}

enum Form {
    /// A line for people.
    Table,
    /// A line of JSON.
    Lines,
    /// One JSON array at the end.
    Array(Vec<Line>),
    /// A line of JSON in a file.
    LinesFile(String, BufWriter<StagedFile>),
    /// The tensor `embeddings` of a safetensors file.
    Tensor(String, BufWriter<StagedFile>),
}

/// Bytes in front of the tensor's elements: the length of the header, and the header with spaces behind it. It is
/// written last, when the number of sentences is known.
const FRONT: usize = 256;

impl<'c> Sink<'c> {
    pub(super) fn new(output: Option<&Path>, context: &'c Context) -> Result<Self, Failure> {
        let printer = context.printer;
        let form = match output {
            Some(path) => {
                let name = path.display().to_string();
                let staged = || Ok::<_, Failure>(BufWriter::new(StagedFile::begin(path)?));
                let form = match path.extension().and_then(|extension| extension.to_str()) {
                    Some("jsonl") => Form::LinesFile(name, staged()?),
                    Some("safetensors") => {
                        let mut file = staged()?;
                        file.write_all(&[0; FRONT])?;
                        Form::Tensor(name, file)
                    }
                    _ => {
                        let message = format!("`{name}` is no name for embeddings");
                        let hint = "a name in `.jsonl` or `.safetensors` says what is written";
                        return Err(Failure::input(message).hint(hint));
                    }
                };
                context.progress.begin("embed", None, Unit::Items);
                form
            }
            None if printer.json_lines() => Form::Lines,
            None if printer.json() => Form::Array(Vec::new()),
            None => Form::Table,
        };
        Ok(Self { context, form, shape: (0, 0) })
    }

    /// Takes the next; says whether there is somebody to take more.
    pub(super) fn put(&mut self, line: Line) -> Result<ControlFlow<()>, Failure> {
        let printer = self.context.printer;
        self.shape = (self.shape.0 + 1, line.embedding.len());
        match &mut self.form {
            Form::Table => return Ok(printer.line(&shown(&line, printer.width()))?),
            Form::Lines => return Ok(printer.line(&to_json(&line)?)?),
            Form::Array(lines) => lines.push(line),
            Form::LinesFile(_, file) => {
                file.write_all(to_json(&line)?.as_bytes())?;
                file.write_all(b"\n")?;
                self.context.progress.advance(1);
            }
            Form::Tensor(_, file) => {
                line.embedding.iter().try_for_each(|x| file.write_all(&x.to_le_bytes()))?;
                self.context.progress.advance(1);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Tells what is told at the end, and lets the file appear.
    pub(super) fn end(self) -> Result<(), Failure> {
        let printer = self.context.printer;
        let (sentences, width) = self.shape;
        let name = match self.form {
            Form::Table | Form::Lines => return Ok(()),
            // Only a program asks for it.
            Form::Array(lines) => return Ok(printer.answer(&lines, "")?),
            Form::LinesFile(name, file) => {
                whole(file)?.commit()?;
                name
            }
            Form::Tensor(name, file) => {
                let mut file = whole(file)?;
                file.seek(SeekFrom::Start(0))?;
                file.write_all(&front(sentences, width))?;
                file.commit()?;
                name
            }
        };
        self.context.progress.end();
        let answer = json!({"output": name, "sentences": sentences, "width": width});
        let plural = if sentences == 1 { "" } else { "s" };
        let text = format!("{name}: {sentences} embedding{plural} of {width} elements");
        Ok(printer.answer(&answer, &text)?)
    }
}

fn to_json(line: &Line) -> Result<String, Failure> {
    Ok(serde_json::to_string(line).map_err(std::io::Error::from)?)
}

/// The file behind its buffer, everything written.
fn whole(file: BufWriter<StagedFile>) -> Result<StagedFile, Failure> {
    file.into_inner().map_err(|e| Failure::from(e.into_error()))
}

/// The front of a safetensors file with one tensor of f32.
fn front(sentences: usize, width: usize) -> Vec<u8> {
    let bytes = sentences as u64 * width as u64 * 4;
    let header = json!({
        "embeddings": {"dtype": "F32", "shape": [sentences, width], "data_offsets": [0, bytes]},
    });
    let header = format!("{:<1$}", header.to_string(), FRONT - 8);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

/// The first elements, how many there are, and as much of the text as fits.
fn shown(line: &Line, width: usize) -> String {
    let first: Vec<_> = line.embedding.iter().take(SHOWN).map(|x| format!("{x:.4}")).collect();
    let n = line.embedding.len();
    let more = if n > SHOWN { ", …" } else { "" };
    let vector = format!("[{}{more}] {n} · ", first.join(", "));
    let room = width.saturating_sub(vector.chars().count()).max(TEXT);
    let text: String = line.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= room {
        return vector + &text;
    }
    let cut: String = text.chars().take(room - 1).collect();
    format!("{vector}{cut}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_of_a_file_is_what_safetensors_reads() {
        for (sentences, width) in [(1, 1), (3, 192), (usize::MAX >> 32, 1 << 28)] {
            let front = front(sentences, width);
            assert_eq!(front.len(), FRONT);
            let header: Value = serde_json::from_slice(&front[8..]).unwrap();
            assert_eq!(header["embeddings"]["shape"], json!([sentences, width]));
        }
        let bytes = [front(2, 3), 1.5_f32.to_le_bytes().repeat(6)].concat();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = file.tensor("embeddings").unwrap();
        assert_eq!((tensor.shape(), tensor.dtype()), (&[2, 3][..], safetensors::Dtype::F32));
    }

    #[test]
    fn people_see_the_beginning_in_one_line() {
        let line = |text: &str, n: usize| {
            let embedding = vec![0.25; n];
            Line { index: 0, id: None, text: text.to_owned(), tokens: 1, embedding }
        };
        let cases = [
            (line("a\nb", 1), 80, "[0.2500] 1 · a b"),
            (line("twenty characters ok", 1), 0, "[0.2500] 1 · twenty characters ok"),
            (line("twenty-one characters", 1), 0, "[0.2500] 1 · twenty-one characte…"),
        ];
        for (line, width, want) in cases {
            assert_eq!(shown(&line, width), want);
        }
        let long = shown(&line(&"x".repeat(99), 8), 80);
        assert_eq!(long.chars().count(), 80);
        assert!(long.contains("] 8 · x"), "{long}");
    }
}
