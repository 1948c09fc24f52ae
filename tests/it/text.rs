//! `generate` and `embed` from the command line: what is told, when, and what of it is lost (nothing).

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::bigram::Bigram;
use crate::evaluate::tokenizer;
use crate::support::{Ran, Sandbox};

/// A folder with the package `x`, which continues texts of 12 words and embeds them; for the tokenizer in `plain` no
/// word ends a text.
fn bigram() -> Sandbox {
    let sandbox = Sandbox::bare();
    Bigram::new().write(&sandbox.path().join("x.mlpackage"));
    tokenizer(&sandbox.path().join("x.tokenizer"));
    tokenizer(&sandbox.path().join("plain"));
    fs_err::remove_file(sandbox.path().join("plain/config.json")).unwrap();
    sandbox
}

/// What is drawn from a model without an end.
const DRAW: [&str; 8] = ["generate", "x", "--tokenizer", "plain", "-p", "w1", "--temperature", "2"];

/// Runs a command with `input` on its stdin.
fn fed(sandbox: &Sandbox, args: &[&str], input: &[u8]) -> Ran {
    let mut command = sandbox.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let ran = Ran::of(&child.wait_with_output().unwrap());
    feeder.join().unwrap().unwrap();
    ran
}

/// The values of JSON lines.
#[track_caller]
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn prompts_are_continued() {
    let sandbox = bigram();
    sandbox.write("prompt.txt", "w1 w2\n");
    assert_snapshot!(sandbox.session(&[
        "generate x -p w1 -n 8",
        "generate x -p w1 -n 8 --no-stream --quiet",
        "generate x --prompt-file prompt.txt -n 3 --format jsonl",
        "generate x -p w1 -n 6 --temperature 2 --seed 3",
        "generate x -p w1 -n 6 --temperature 2 --top-k 2 --top-p 0.9 --min-p 0.1 --seed 3",
        "generate x -p w1 -n 0",
    ]));
}

#[test]
fn what_cannot_be_continued_is_told_before_anything_else() {
    let sandbox = bigram();
    sandbox.write("prompt.txt", [0x77, 0xFF]);
    sandbox.write("nothing.txt", "\n");
    assert_snapshot!(sandbox.session(&[
        "generate x",
        "generate x -p w1 --prompt-file prompt.txt",
        "generate x --prompt-file prompt.txt",
        "generate x --prompt-file nothing.txt",
        "generate x --prompt-file absent.txt",
        "generate x -p w1 --temperature -1",
        "generate x -p w1 --temperature nan",
        "generate x -p w1 --temperature warm",
        "generate x -p w1 --top-k 0",
        "generate x -p w1 --top-p 0",
        "generate x -p w1 --top-p 1.5 --temperature 1",
        "generate x -p w1 --min-p 2",
        "generate x -p w1 --stop=",
        "generate nowhere -p w1",
        "generate x --tokenizer nowhere -p w1",
    ]));
    let long = ["generate", "x", "-p", "w1 w1 w1 w1 w1 w1 w1 w1 w1"];
    let ran = sandbox.run(&long).ends(2);
    let want = "error: prompt has 9 tokens, the cache holds 8\nhint: ";
    assert!(ran.stdout.is_empty() && ran.stderr.starts_with(want), "{ran:?}");
}

#[test]
fn text_is_the_same_in_every_form_and_for_every_seed_another() {
    let sandbox = bigram();
    let mut seen = std::collections::BTreeSet::new();
    for seed in ["1", "2", "3"] {
        let args = ["generate", "x", "-p", "w1", "-n", "20", "--temperature", "2", "--seed", seed];
        let with = |more: &[&str]| sandbox.run(&[&args[..], more].concat()).ends(0);
        let json = with(&["--format", "json"]).json();
        let text = json["text"].as_str().unwrap();
        assert_eq!(with(&[]).stdout, format!("w1{text}\n"));
        assert_eq!(with(&["--no-stream"]).stdout, format!("w1{text}\n"));
        let mut told = lines(&with(&["--format", "jsonl"]).stdout);
        let whole = told.pop().unwrap();
        assert_eq!((&whole["text"], &whole["tokens"]), (&json["text"], &json["tokens"]));
        let pieces: String = told.iter().map(|line| line["text"].as_str().unwrap()).collect();
        assert_eq!(pieces, text);
        let tokens: Vec<&Value> = told.iter().filter_map(|line| line.get("token")).collect();
        assert_eq!(tokens, json["tokens"].as_array().unwrap().iter().collect::<Vec<_>>());
        seen.insert(text.to_owned());
    }
    assert!(seen.len() > 1, "{seen:?}");
}

#[test]
fn a_stop_text_ends_the_continuation_and_is_cut_off() {
    let sandbox = bigram();
    let args = [&DRAW[..], &["-n", "20", "--seed", "1"]].concat();
    let with = |more: &[&str]| sandbox.run(&[&args[..], more].concat()).ends(0);
    let whole = with(&["--format", "json"]).json();
    let text = whole["text"].as_str().unwrap();
    assert!(text.len() > 24, "{text}");
    // Across the border of two words, and inside one.
    for at in [7, 9, 16] {
        let stop = &text[at..at + 5];
        let want = &text[..text.find(stop).unwrap()];
        let json = with(&["--stop", "never", "--stop", stop, "--format", "json"]).json();
        assert_eq!((json["text"].as_str(), json["stop_text"].as_str()), (Some(want), Some(stop)));
        assert_eq!(json["stop"], "stop");
        assert!(
            json["tokens"].as_array().unwrap().len() < whole["tokens"].as_array().unwrap().len()
        );
        assert_eq!(with(&["--stop", stop]).stdout, format!("w1{want}\n"));
    }
}

#[test]
fn a_prompt_comes_from_stdin_and_its_last_line_end_does_not_count() {
    let sandbox = bigram();
    for (input, prompt) in [(&b"w1\n"[..], "w1"), (b"w1\r\n", "w1"), (b"w1\n\n", "w1\n")] {
        let ran = fed(&sandbox, &["generate", "x", "--prompt-file", "-", "-n", "2"], input).ends(0);
        assert!(ran.stdout.starts_with(&format!("{prompt}w")), "{:?}", ran.stdout);
    }
    let ran = fed(&sandbox, &["generate", "x", "--prompt-file", "-"], b"\xFF").ends(2);
    assert_eq!(
        ran.stderr.trim_end(),
        "error: failed to read stdin: stream did not contain valid UTF-8"
    );
}

/// So many tokens that no test waits for them.
const ENDLESS: [&str; 2] = ["-n", "99999999"];

#[test]
fn a_reader_that_has_seen_enough_ends_it_without_a_word() {
    let sandbox = bigram();
    for form in [["--format", "table"], ["--format", "jsonl"]] {
        let args = [&DRAW[..], &ENDLESS, &form, &["--quiet"]].concat();
        let mut child =
            sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 5];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ran = Ran::of(&child.wait_with_output().unwrap()).ends(0);
        assert_eq!(ran.stderr, "");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_text_stays() {
    let sandbox = bigram();
    let args = [&DRAW[..], &ENDLESS].concat();
    let mut child =
        sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; 100];
    stdout.read_exact(&mut text).unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    stdout.read_to_end(&mut text).unwrap();
    let ran = Ran::of(&child.wait_with_output().unwrap()).ends(130);
    assert_eq!(ran.stderr, "error: interrupted\n");
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("w1w") && text.ends_with('\n'), "{text}");
    assert!(text.trim_end().rsplit(' ').next().unwrap().starts_with('w'), "{text}");
}

#[test]
fn sentences_are_embedded() {
    let sandbox = bigram();
    sandbox.write("in.txt", "w1 w2\n\n  w3\r\nw4");
    let json = "\"w1 w2\"\n{\"id\": \"b\", \"text\": \"w3\"}\n\n{\"instruction\": \"w5\", \"text\": \"w4\", \"id\": 7}\n";
    sandbox.write("in.jsonl", json);
    assert_snapshot!(sandbox.session(&[
        "embed x w1 w3",
        "embed x w1 -t w3 --format json",
        "embed x --file in.txt --format jsonl",
        "embed x --file in.jsonl --format jsonl --instruction w6 --normalize",
        "embed x --file in.txt --output out.safetensors",
        "embed x --file in.txt --output out.jsonl --format json",
    ]));
    let told = sandbox.run(&["embed", "x", "--file", "in.txt", "--format", "jsonl"]).ends(0);
    let written = fs_err::read_to_string(sandbox.path().join("out.jsonl")).unwrap();
    assert_eq!(written, told.stdout);
    let bytes = fs_err::read(sandbox.path().join("out.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("embeddings").unwrap();
    assert_eq!(tensor.shape(), [3, 4]);
    let elements = tensor.data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
    let lines = lines(&written);
    let want = lines.iter().flat_map(|line| line["embedding"].as_array().unwrap());
    assert!(elements.eq(want.map(|x| x.as_f64().unwrap())));
}

#[test]
fn what_cannot_be_embedded_is_told_by_its_line() {
    let sandbox = bigram();
    sandbox.write("in.txt", "w1\nw2");
    sandbox.write("empty.txt", " \n\n");
    sandbox.write("bad.jsonl", "\"w1\"\n{\"text\": 3}\n\"w2\"\n");
    sandbox.write("long.jsonl", "{\"text\": \"\", \"instruction\": \"w1 w1\"}\n");
    assert_snapshot!(sandbox.session(&[
        "embed x",
        "embed x --input-format text w1",
        "embed x --file absent.txt",
        "embed x --file empty.txt",
        "embed x --file empty.txt --output out.jsonl",
        "embed x --file bad.jsonl --format jsonl",
        "embed x --file bad.jsonl --format json",
        "embed x --file bad.jsonl --output out.jsonl",
        "embed x --file in.txt --input-format jsonl",
        "embed x --file long.jsonl",
        "embed x w1 --output out.csv",
        "embed nowhere w1",
    ]));
    assert!(!sandbox.path().join("out.jsonl").exists());
    assert_eq!(sandbox.entries("").iter().filter(|name| name.starts_with('.')).count(), 0);
}

#[test]
fn many_sentences_keep_their_order_and_a_slow_writer_is_answered_line_by_line() {
    let sandbox = bigram();
    let words = |i: usize| format!("w{} w{}", i % 11, i / 11 % 11);
    let input: String = (0..1000).map(|i| words(i) + "\n").collect();
    let args = ["embed", "x", "--file", "-", "--format", "jsonl"];
    let ran = fed(&sandbox, &args, input.as_bytes()).ends(0);
    let told = lines(&ran.stdout);
    assert_eq!(told.len(), 1000);
    for (i, line) in told.iter().enumerate() {
        assert_eq!((&line["index"], &line["text"]), (&i.into(), &words(i).into()));
        assert_eq!(line["embedding"], told[i % 121]["embedding"]);
    }
    // One line in, one line out, with stdin still open.
    let mut command = sandbox.command(&args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut stdout = std::io::BufReader::new(stdout);
    for i in 0..3 {
        stdin.write_all((words(i) + "\n").as_bytes()).unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert_eq!(lines(&line)[0]["text"], words(i));
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}
