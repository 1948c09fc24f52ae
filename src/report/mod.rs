//! `report.json`: what a run made and what it is worth; and the same for people, as a table or Markdown.
//!
//! A report is a pure function of results: it reads no file, asks no clock, and can be redrawn years later. Its JSON
//! Schema stands in `docs/report.schema.json`; within one schema version fields are added and never change.

mod build;
mod cells;
mod json;
mod markdown;
mod table;
mod types;

pub use json::{ReportError, json, read, schema};
pub use markdown::markdown;
pub use table::table;
pub use types::{Failure, Origin, Reference, Report, Source, Status, Summary, Timings, Variant};

/// The version of the report's form; readers refuse a larger one.
pub const SCHEMA_VERSION: u32 = 1;

#[cfg(test)]
mod tests;
