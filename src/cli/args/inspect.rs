//! Arguments of `inspect`, `manifest` and `report`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::coreml::ComputeUnits;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Package or checkpoint directory.
    #[arg(value_name = "PKG|CHECKPOINT")]
    pub package: PathBuf,
    /// Print the program as text with shortened constants.
    #[arg(long)]
    pub program: bool,
    /// Print the complete program in the format of `model.mil`.
    #[arg(long, conflicts_with = "program")]
    pub mil: bool,
    /// Report the error of each weight relative to this uncompressed package.
    #[arg(long, value_name = "DENSE", conflicts_with_all = ["program", "mil"])]
    pub baseline: Option<PathBuf>,
    /// Show differences in functions, weights and totals from this package (left) to PKG (right).
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["program", "mil", "baseline"])]
    pub diff: Option<PathBuf>,
    /// Show the compute device of each operation, and why it is not the Neural Engine (macOS only).
    #[arg(long, conflicts_with_all = ["program", "mil", "baseline", "diff"])]
    pub compute_plan: bool,
    /// Function for `--compute-plan` [default: all].
    #[arg(long, short, value_name = "NAME", requires = "compute_plan")]
    pub function: Option<String>,
    /// Compute units of Core ML: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE [default: `compute_units` of config.toml,
    /// otherwise ALL].
    #[arg(long, value_name = "UNITS", requires = "compute_plan")]
    pub compute_units: Option<ComputeUnits>,
}

/// Arguments of `manifest`.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Check a manifest against its package.
    Check {
        /// Manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },
    /// Update the semantic version of a manifest from its changes since an older one.
    Bump {
        /// Manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
        /// Manifest of the previous version.
        #[arg(long, value_name = "OLD")]
        baseline: PathBuf,
        /// Print the new version without writing it.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print a manifest.
    Show {
        /// Manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The command.
    #[command(subcommand)]
    pub form: ReportForm,
}

/// Report commands.
#[derive(Debug, Subcommand)]
pub enum ReportForm {
    /// Terminal table.
    Table(RenderArgs),
    /// Markdown, for job summaries.
    Markdown(RenderArgs),
    /// CSV: one row per variant, one column per figure.
    Csv(RenderArgs),
    /// JUnit XML: one test case per variant and gate.
    Junit(RenderArgs),
    /// GitHub annotations of failed gates.
    Github(RenderArgs),
    /// Self-contained HTML page; with several reports, the newest one and the history.
    Html {
        /// Reports.
        #[arg(value_name = "REPORT", required = true)]
        reports: Vec<PathBuf>,
        /// Output file.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Merge the reports of a sweep's shards.
    Merge {
        /// Reports.
        #[arg(value_name = "REPORT", required = true)]
        reports: Vec<PathBuf>,
        /// Output file.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Compare two reports; changes within the confidence intervals are not significant.
    Compare {
        /// Old report.
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// New report.
        #[arg(value_name = "NEW")]
        new: PathBuf,
    },
}

/// Arguments of the report renderers.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Report.
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
    /// Output file [default: stdout].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
