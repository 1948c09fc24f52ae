//! Texts to evaluate on: a file, JSON lines, or a named set that comes from the hub once.

use std::path::Path;

use serde::Deserialize;

use super::Session;
use super::input;
use crate::base::did_you_mean::did_you_mean;
use crate::pipeline::Failure;

/// A text on the hub that has a name of its own.
struct Named {
    name: &'static str,
    /// The dataset.
    repository: &'static str,
    /// Its file.
    file: &'static str,
    /// The text inside the file, where that is a ZIP archive.
    member: Option<&'static str>,
}

/// WikiText-2 raw (Merity et al., 2016) in the form that llama.cpp's figures rest on, and the held-out part of `TinyStories`
/// (Eldan and Li, 2023).
const NAMED: &[Named] = &[
    Named {
        name: "wikitext-2",
        repository: "ggml-org/ci",
        file: "wikitext-2-raw-v1.zip",
        member: Some("wikitext-2-raw/wiki.test.raw"),
    },
    Named {
        name: "tinystories",
        repository: "roneneldan/TinyStories",
        file: "TinyStories-valid.txt",
        member: None,
    },
];

/// A line of JSON lines: a text alone or in an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Object { text: String },
}

/// The text that `asked` stands for.
pub(crate) fn read(asked: &str, session: &Session) -> Result<String, Failure> {
    let path = Path::new(asked);
    if let Some(named) = NAMED.iter().find(|named| named.name == asked && !path.exists()) {
        return fetch(named, session);
    }
    let text = input::read(path).map_err(|failure| match did_you_mean(asked, names()) {
        Some(near) if !asked.contains(['/', '.']) => {
            failure.hint(format!("did you mean the set `{near}`"))
        }
        _ => failure,
    })?;
    if path.extension().is_some_and(|e| e == "jsonl" || e == "ndjson") {
        return lines(&text, &input::name(path));
    }
    Ok(text)
}

/// The names of the sets.
fn names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|named| named.name)
}

/// Texts line by line, empty lines between them.
fn lines(text: &str, name: &str) -> Result<String, Failure> {
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(Line::Text(text) | Line::Object { text }) => out.push(text),
            Err(_) => {
                let fact = format!("{name}:{}: neither a text nor an object with `text`", i + 1);
                return Err(Failure::input(fact));
            }
        }
    }
    Ok(out.join("\n\n"))
}

/// The text of a named set, from the cache if it was fetched before.
///
/// What was fetched first is what counts: its SHA-256 is kept beside it, and a file that no longer has it is fetched again.
#[cfg(feature = "hub")]
fn fetch(named: &Named, session: &Session) -> Result<String, Failure> {
    use crate::base::{digest, fs};
    let place = session.settings.cache_dir.join("texts").join(format!("{}.txt", named.name));
    let digest_file = place.with_extension("sha256");
    let kept = |path: &Path| fs_err::read_to_string(path).ok();
    if let (Some(text), Some(known)) = (kept(&place), kept(&digest_file))
        && digest::of_bytes(text.as_bytes()) == known.trim()
    {
        return Ok(text);
    }
    let file = super::job::hub(None, session).dataset_file(named.repository, named.file)?;
    let text = match named.member {
        None => fs_err::read_to_string(&file)?,
        Some(member) => unpack(&file, member)?,
    };
    fs::write_atomic(&place, text.as_bytes())?;
    fs::write_atomic(&digest_file, digest::of_bytes(text.as_bytes()).as_bytes())?;
    Ok(text)
}

/// One text out of a ZIP archive.
#[cfg(feature = "hub")]
fn unpack(file: &Path, member: &str) -> Result<String, Failure> {
    use std::io::Read as _;
    /// More than any of the sets has.
    const LARGEST: u64 = 1 << 28;
    let wrong = |what: String| Failure::input(format!("`{}`: {what}", file.display()));
    let archive = zip::ZipArchive::new(fs_err::File::open(file)?);
    let mut archive = archive.map_err(|e| wrong(e.to_string()))?;
    let inside = archive.by_name(member).map_err(|e| wrong(format!("`{member}`: {e}")))?;
    let mut text = String::new();
    let read = inside.take(LARGEST).read_to_string(&mut text);
    read.map_err(|e| wrong(format!("`{member}`: {e}")))?;
    Ok(text)
}

#[cfg(not(feature = "hub"))]
fn fetch(named: &Named, _context: &Session) -> Result<String, Failure> {
    let Named { name, repository, file, member } = named;
    let within = member.map_or_else(String::new, |member| format!(", `{member}` in it"));
    let fact =
        format!("the text `{name}` comes from the hub, and this coremill was built without it");
    Err(Failure::input(fact)
        .hint(format!("it is the file `{file}`{within} of the dataset `{repository}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_are_texts_and_objects_with_one() {
        let text = "\"one\"\n\n{\"text\": \"two\", \"id\": 3}\n";
        assert_eq!(lines(text, "`x`").unwrap(), "one\n\ntwo");
        for wrong in ["{\"title\": \"x\"}", "\"a\"\nplain", "[\"a\"]"] {
            let line = wrong.lines().count();
            let error = lines(wrong, "`x`").unwrap_err().message;
            assert_eq!(error, format!("`x`:{line}: neither a text nor an object with `text`"));
        }
    }

    #[cfg(feature = "hub")]
    #[test]
    fn a_text_comes_out_of_its_archive() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        let mut archive = zip::ZipWriter::new(fs_err::File::create(&path).unwrap());
        archive.start_file("a/b.txt", zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all("one two".as_bytes()).unwrap();
        archive.finish().unwrap();
        assert_eq!(unpack(&path, "a/b.txt").unwrap(), "one two");
        let message = unpack(&path, "c.txt").unwrap_err().message;
        assert!(
            message.ends_with("x.zip`: `c.txt`: specified file not found in archive"),
            "{message}"
        );
        fs_err::write(&path, "no archive").unwrap();
        assert!(unpack(&path, "a/b.txt").is_err());
    }
}
