//! `manifest`: a manifest checked against its package, given its version, or shown.

use serde_json::json;

use super::context::Context;
use super::{Outcome, SUCCESS};
use crate::cli::args::ManifestCommand;
use crate::manifest::{self, Manifest, Step, next_version};

/// The exit code when a manifest does not hold: the artifact fails its check.
const BROKEN: u8 = 1;

pub(super) fn run(command: &ManifestCommand, context: &Context) -> Outcome {
    match command {
        ManifestCommand::Check { manifest } => {
            let problems = manifest::check(manifest)?;
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let text = if lines.is_empty() {
                format!("{}: everything it states holds", manifest.display())
            } else {
                lines.join("\n")
            };
            context.printer.answer(&json!({"manifest": manifest, "problems": lines}), &text)?;
            Ok(if lines.is_empty() { SUCCESS } else { BROKEN })
        }
        ManifestCommand::Bump { manifest, baseline, dry_run } => {
            let (old, mut new) = (Manifest::read(baseline)?, Manifest::read(manifest)?);
            let Step { version, change, reasons } = next_version(&old, &new);
            let moved = format!("{} {} -> {version}", change.name(), old.version);
            let text = [vec![moved], reasons.clone()].concat().join("\n  ");
            if new.version != version && !dry_run {
                new.version = version.clone();
                new.write(manifest)?;
            }
            let answer = json!({
                "manifest": manifest,
                "change": change.name(),
                "from": old.version,
                "version": version,
                "reasons": reasons,
                "written": !dry_run,
            });
            context.printer.answer(&answer, &text)?;
            Ok(SUCCESS)
        }
        ManifestCommand::Show { manifest } => {
            let read = Manifest::read(manifest)?;
            let text = String::from_utf8_lossy(&read.to_bytes()).into_owned();
            context.printer.answer(&read, &text)?;
            Ok(SUCCESS)
        }
    }
}
