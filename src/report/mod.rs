//! `report.json`: what a run made and what it is worth; and the same as a page, a table, Markdown, CSV, XML for CI
//! systems and annotations; reports merged and compared.
//!
//! A report is a pure function of results: it reads no file, asks no clock, and can be redrawn years later. Its JSON
//! Schema stands in `docs/report.schema.json`; within one schema version fields are added and never change.

mod build;
mod cells;
mod compare;
mod csv;
mod figures;
mod github;
mod html;
mod json;
mod junit;
mod markdown;
mod merge;
mod numbers;
mod pareto;
mod table;
mod types;

pub use compare::{Change, Compared, Comparison, compare};
pub use csv::csv;
pub use github::github;
pub use html::html;
pub use json::{ReportError, json, read, schema};
pub use junit::junit;
pub use markdown::markdown;
pub use merge::{MergeError, Named, merge};
pub use pareto::{Front, Point};
pub use table::table;
pub use types::{
    Failure, Origin, Reference, Report, Shard, Source, Status, Summary, Timings, Variant,
};

/// The version of the report's form; readers refuse a larger one.
pub const SCHEMA_VERSION: u32 = 1;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod xml;
