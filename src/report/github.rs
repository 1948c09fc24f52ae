//! The report as GitHub workflow commands: what did not pass as annotations of the run.

use super::cells::{UNJUDGED, summary};
use super::{Report, Status};
use crate::gate::Outcome;

/// One line per annotation: what fails is an error, what is undecided a warning, the counts a notice.
///
/// The gravest come first, because GitHub shows ten of each kind per step.
pub fn github(report: &Report) -> String {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    for variant in &report.variants {
        for verdict in &variant.verdicts {
            let (level, list) = match verdict.outcome {
                Outcome::Pass => continue,
                Outcome::Fail | Outcome::Invalid => ("error", &mut errors),
                Outcome::Inconclusive => ("warning", &mut warnings),
            };
            let title = format!("{}: {}", variant.name, verdict.gate);
            let message = format!("{}: {}", verdict.outcome.name(), verdict.message);
            list.push(command(level, &title, &message));
        }
        if variant.status == Status::NotJudged {
            warnings.push(command("warning", &variant.name, UNJUDGED));
        }
        if let Some(failure) = &variant.failure {
            let hint = failure.hint.as_ref().map(|h| format!("\nhint: {h}")).unwrap_or_default();
            let title = format!("{}: {} failed", variant.name, failure.stage);
            errors.push(command("error", &title, &format!("{}{hint}", failure.message)));
        }
    }
    let all = !report.variants.is_empty()
        && report.variants.iter().all(|variant| variant.status == Status::Pass);
    let title = format!("{}: {}", report.source.name, if all { "all gates hold" } else { "gates" });
    let notice = command("notice", &title, &summary(report));
    errors.into_iter().chain(warnings).chain([notice]).collect()
}

fn command(level: &str, title: &str, message: &str) -> String {
    let title = data(title).replace(':', "%3A").replace(',', "%2C");
    format!("::{level} title={title}::{}\n", data(message))
}

/// `text` on one line, as workflow commands escape it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_text() {
        insta::assert_snapshot!(github(&samples::report()));
    }

    #[test]
    fn a_name_ends_no_command() {
        for (title, message, want) in [
            ("a", "b", "::error title=a::b\n"),
            ("a:b,c", "d:e,f", "::error title=a%3Ab%2Cc::d:e,f\n"),
            ("50%", "1%\r\n::error::x", "::error title=50%25::1%25%0D%0A::error::x\n"),
            ("%3A", "%0A", "::error title=%253A::%250A\n"),
        ] {
            assert_eq!(command("error", title, message), want);
        }
        let report = samples::hostile();
        for line in github(&report).lines() {
            assert!(
                ["::error title=", "::warning title=", "::notice title="]
                    .iter()
                    .any(|start| line.starts_with(start))
            );
        }
    }
}
