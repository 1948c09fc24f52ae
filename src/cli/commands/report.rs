//! `report`: reports drawn again, merged, compared.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::{Outcome, SUCCESS};
use crate::base::fs::write_atomic;
use crate::cli::args::{RenderArgs, ReportArgs, ReportForm};
use crate::pipeline::Failure;
use crate::report::{self, Report};

pub(super) fn run(args: &ReportArgs, context: &Context) -> Outcome {
    match &args.form {
        ReportForm::Table(drawn) => {
            let printer = &context.printer;
            // A file has no terminal's colours.
            let color = drawn.output.is_none() && printer.colored();
            draw(drawn, |r| report::table(r, printer.width(), color), context)
        }
        ReportForm::Markdown(drawn) => draw(drawn, report::markdown, context),
        ReportForm::Csv(drawn) => draw(drawn, report::csv, context),
        ReportForm::Junit(drawn) => draw(drawn, report::junit, context),
        ReportForm::Github(drawn) => draw(drawn, report::github, context),
        ReportForm::Html { reports, output } => {
            let mut read = all(reports)?.into_iter().map(|(_, report)| report);
            let first = read.next().ok_or_else(|| Failure::input("there is no report to draw"))?;
            let others: Vec<Report> = read.collect();
            write(output, &report::html(&first, &others), context)?;
            Ok(SUCCESS)
        }
        ReportForm::Merge { reports, output } => {
            let merged = report::merge(&all(reports)?, std::env::args().collect())?;
            write_atomic(output, report::json(&merged).as_bytes())?;
            let table = report::table(&merged, context.printer.width(), context.printer.colored());
            context.printer.answer(&merged, &table)?;
            context.printer.note(&format!("report: {}", output.display()));
            Ok(SUCCESS)
        }
        ReportForm::Compare { old, new } => {
            let comparison = report::compare(&report::read(old)?, &report::read(new)?);
            context.printer.answer(&comparison, &comparison.text())?;
            Ok(SUCCESS)
        }
    }
}

/// Draws one report to stdout, or to a file.
fn draw(drawn: &RenderArgs, form: impl Fn(&Report) -> String, context: &Context) -> Outcome {
    let read = report::read(&drawn.report)?;
    let text = form(&read);
    match &drawn.output {
        Some(output) => write(output, &text, context)?,
        None => context.printer.answer(&read, &text)?,
    }
    Ok(SUCCESS)
}

fn write(output: &Path, text: &str, context: &Context) -> Result<(), Failure> {
    write_atomic(output, text.as_bytes())?;
    let size = crate::base::fmt::bytes(text.len() as u64);
    context.printer.note(&format!("{}: {size}", output.display()));
    Ok(())
}

fn all(paths: &[PathBuf]) -> Result<Vec<report::Named>, Failure> {
    let read = |path: &PathBuf| Ok((path.display().to_string(), report::read(path)?));
    paths.iter().map(read).collect()
}
