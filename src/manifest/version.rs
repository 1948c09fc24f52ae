//! The version that follows from what changed between two manifests.

use semver::Version;

use super::Manifest;
use super::quality_delta::QualityDelta;
use super::signature::differences;

/// How far a version moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing changed.
    None,
    /// It behaves the same as far as it was measured.
    Patch,
    /// Size or quality moved behind the same calls, or nobody knows.
    Minor,
    /// What an application calls.
    Major,
}

impl Change {
    /// The word as it stands in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Patch => "patch",
            Self::Minor => "minor",
            Self::Major => "major",
        }
    }
}

/// A version with the reasons for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The version of the new artifact.
    pub version: Version,
    /// How far it moved.
    pub change: Change,
    /// Why, one line each.
    pub reasons: Vec<String>,
}

/// The version of `new` as the successor of `old`, by the rule that stands at the top of this module.
pub fn next_version(old: &Manifest, new: &Manifest) -> Step {
    let mut major = differences(&old.functions, &new.functions);
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let number =
        |value: Option<u64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
    for (what, a, b) in [
        ("deployment target", old.deployment_target.clone(), new.deployment_target.clone()),
        ("cache", text(&old.kv_cache), text(&new.kv_cache)),
        ("sequence length", number(old.seq_len), number(new.seq_len)),
        ("prompt chunk", number(old.prompt_chunk), number(new.prompt_chunk)),
    ] {
        if a != b {
            major.push(format!("{what} is {b}, not {a}"));
        }
    }
    let (mut minor, mut patch) = (Vec::new(), Vec::new());
    if old.sha256 != new.sha256 {
        let digest = |m: &Manifest| {
            let weights = m.files.iter().find(|f| f.path.contains("/weights/"));
            weights.map(|f| f.sha256.clone())
        };
        let what = if digest(old) == digest(new) { "program" } else { "weights" };
        let QualityDelta { lines, compared } = QualityDelta::between(old, new);
        if !lines.is_empty() {
            minor.push(format!("{what} changed"));
            minor.extend(lines);
        } else if compared {
            patch.push(format!("{what} changed, and nothing that was measured moved"));
        } else {
            minor.push(format!("{what} changed, and no figure stands in both manifests"));
        }
    } else if (Manifest { version: new.version.clone(), ..old.clone() }).to_bytes()
        != new.to_bytes()
    {
        patch.push("only what is said about the files changed".to_owned());
    }
    let Version { major: x, minor: y, patch: z, .. } = old.version;
    let (change, version, reasons) = if !major.is_empty() {
        (Change::Major, Version::new(x + 1, 0, 0), major)
    } else if !minor.is_empty() {
        (Change::Minor, Version::new(x, y + 1, 0), minor)
    } else if !patch.is_empty() {
        (Change::Patch, Version::new(x, y, z + 1), patch)
    } else {
        (Change::None, old.version.clone(), patch)
    };
    Step { version, change, reasons }
}
