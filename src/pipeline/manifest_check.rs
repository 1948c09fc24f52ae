//! Verification of a manifest against its package: files, signatures, versions, golden transcripts.

use std::path::Path;

use serde_json::{Value, json};

use super::Session;
use super::open_tokenizer::open_tokenizer;
use crate::eval::results::NEAR_TIE;
use crate::eval::{Replay, replay};
use crate::lm::{Artifact, Engine};
use crate::manifest::{self, Manifest, manifest_path};
use crate::pipeline::Failure;
use crate::runtime::Runtime;

/// Result of the verification.
pub(crate) struct Recorded {
    /// True if all of it still holds.
    pub(crate) holds: bool,
    /// One line for each thing looked at.
    pub(crate) lines: Vec<String>,
    /// The same for programs.
    pub(crate) answer: Value,
}

/// Checks the manifest beside `package`; returns `None` if there is none.
pub(crate) fn check(
    package: &Path,
    tokenizer: Option<&Path>,
    runtime: &dyn Runtime,
    session: &Session,
) -> Result<Option<Recorded>, Failure> {
    let place = manifest_path(package);
    if !place.is_file() || !package.is_dir() {
        return Ok(None);
    }
    let problems: Vec<String> = manifest::check(package)?.iter().map(ToString::to_string).collect();
    let mut lines = problems.clone();
    if problems.is_empty() {
        lines.push(format!("{}: files, signatures and versions hold", place.display()));
    }
    let recorded = Manifest::read(&place)?.quality.transcripts;
    let mut replays = Vec::new();
    // A package that is not the recorded one need not write what that one wrote.
    if let (Some(recorded), true) = (recorded, problems.is_empty()) {
        let artifact = Artifact::open(package)?;
        let tokenizer = open_tokenizer(&artifact, tokenizer, session)?;
        let engine = Engine::load(&artifact, runtime, &session.clock)?;
        replays = replay(&engine, &tokenizer, &recorded, &session.clock)?;
        let same = replays.iter().filter(|replay| stays(replay)).count();
        lines.push(format!("{same} of {} recorded transcripts are written again", replays.len()));
        lines.extend(replays.iter().filter_map(differing));
    }
    let holds = problems.is_empty() && replays.iter().all(stays);
    let listed: Vec<_> = replays
        .iter()
        .map(|r| json!({"prompt": r.prompt, "first_divergence": r.first_divergence, "margin": r.margin}))
        .collect();
    let answer =
        json!({"manifest": place, "holds": holds, "problems": problems, "transcripts": listed});
    Ok(Some(Recorded { holds, lines, answer }))
}

/// True if it is the same transcript, or parts at a near tie, which another processor may decide otherwise.
fn stays(replay: &Replay) -> bool {
    replay.first_divergence.is_none() || replay.margin.is_some_and(|margin| margin < NEAR_TIE)
}

fn differing(replay: &Replay) -> Option<String> {
    let at = replay.first_divergence?;
    let margin = replay.margin.map_or_else(String::new, |m| format!(", margin {m:.4} there"));
    Some(format!("  {:?} differs from token {at}{margin}", replay.prompt))
}
