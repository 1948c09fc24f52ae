//! The report as JSON, and the schema of that JSON.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Report, SCHEMA_VERSION, Status, Summary, Variant};
use crate::base::error::{ErrorKind, Hint};

/// Why a report cannot be read.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no report.
    #[error("`{}` is no report: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// It is of a form that this version does not know.
    #[error("`{}` has schema version {found}, newer than {SCHEMA_VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u64,
    },
}

impl Hint for ReportError {
    fn hint(&self) -> Option<String> {
        matches!(self, Self::Newer { .. }).then(|| "use a newer version of coremill".to_owned())
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}

/// `report.json`'s text.
pub fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("plain data is JSON");
    text.push('\n');
    text
}

/// Reads the report at `path`.
pub fn read(path: &Path) -> Result<Report, ReportError> {
    let bytes = fs_err::read(path)?;
    let wrong = |error| ReportError::Json { path: path.to_owned(), error };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(wrong)?;
    let schema = value.get("schema_version").and_then(serde_json::Value::as_u64);
    if let Some(found) = schema.filter(|&found| found > u64::from(SCHEMA_VERSION)) {
        return Err(ReportError::Newer { path: path.to_owned(), found });
    }
    // From the text again, so that an error names its line.
    let mut report: Report = serde_json::from_slice(&bytes).map_err(wrong)?;
    // Older versions wrote `pass` where no gate had judged.
    let unjudged = |v: &Variant| v.status == Status::Pass && v.verdicts.is_empty();
    if report.variants.iter().any(unjudged) {
        for variant in report.variants.iter_mut().filter(|v| unjudged(v)) {
            variant.status = Status::NotJudged;
        }
        let best = report.summary.best.take();
        report.summary = Summary { best, ..Summary::of(&report.variants) };
    }
    Ok(report)
}

/// The JSON Schema of reports, as it stands in `docs/report.schema.json`.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Report);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}
