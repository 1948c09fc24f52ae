//! What only looks: `inspect`, `manifest`, `report`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::coreml::ComputeUnits;

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The package, or the folder of a checkpoint.
    #[arg(value_name = "PKG|CHECKPOINT")]
    pub package: PathBuf,
    /// Print the program as text, long constants cut short.
    #[arg(long)]
    pub program: bool,
    /// Print the program whole, in the form of a compiled model's `model.mil`.
    #[arg(long, conflicts_with = "program")]
    pub mil: bool,
    /// Compare each weight with the one of its name in this package, with the values that both files give back.
    #[arg(long, value_name = "DENSE", conflicts_with_all = ["program", "mil"])]
    pub baseline: Option<PathBuf>,
    /// Show what differs between this package (left) and PKG (right): functions, weights, totals.
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["program", "mil", "baseline"])]
    pub diff: Option<PathBuf>,
    /// On a Mac, show what Core ML would compute each operation on, and why not on the Neural Engine.
    #[arg(long, conflicts_with_all = ["program", "mil", "baseline", "diff"])]
    pub compute_plan: bool,
    /// The function that `--compute-plan` shows [default: all].
    #[arg(long, short, value_name = "NAME", requires = "compute_plan")]
    pub function: Option<String>,
    /// What Core ML may compute on: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE [default: `compute_units` of config.toml,
    /// else ALL].
    #[arg(long, value_name = "UNITS", requires = "compute_plan")]
    pub compute_units: Option<ComputeUnits>,
}

/// `manifest`.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Check everything that a manifest states against its package.
    Check {
        /// The manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },
    /// Give a manifest the version that follows from what changed since an older one, and say why.
    Bump {
        /// The manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
        /// The manifest of the version before.
        #[arg(long, value_name = "OLD")]
        baseline: PathBuf,
        /// Change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print a manifest.
    Show {
        /// The manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// What to do.
    #[command(subcommand)]
    pub form: ReportForm,
}

/// The forms of a report, and what is done with several.
#[derive(Debug, Subcommand)]
pub enum ReportForm {
    /// A table for terminals.
    Table(Drawn),
    /// Markdown, for a job's summary.
    Markdown(Drawn),
    /// Comma-separated values: a line per variant, a column per figure.
    Csv(Drawn),
    /// JUnit XML: a test case per variant and gate.
    Junit(Drawn),
    /// GitHub annotations of what did not pass.
    Github(Drawn),
    /// One page that needs nothing else; of several reports the newest, with the history of all.
    Html {
        /// The reports.
        #[arg(value_name = "REPORT", required = true)]
        reports: Vec<PathBuf>,
        /// Where the page goes.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Make one report of the shards of a sweep.
    Merge {
        /// The reports.
        #[arg(value_name = "REPORT", required = true)]
        reports: Vec<PathBuf>,
        /// Where the report of all goes.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Show what changed from one report to another, and whether by more than the intervals allow.
    Compare {
        /// The older report.
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// The newer one.
        #[arg(value_name = "NEW")]
        new: PathBuf,
    },
}

/// One report in another form.
#[derive(Debug, Args)]
pub struct Drawn {
    /// The report.
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
    /// Write to a file instead of stdout.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
