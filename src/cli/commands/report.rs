//! `report`: a report drawn again.

use super::context::Context;
use super::{HOLDS, Outcome};
use crate::cli::args::{ReportArgs, ReportForm};
use crate::report;

pub(super) fn run(args: &ReportArgs, context: &Context) -> Outcome {
    let read = report::read(&args.report)?;
    let text = match args.form {
        ReportForm::Table => {
            report::table(&read, context.printer.width(), context.printer.colored())
        }
        ReportForm::Markdown => report::markdown(&read),
    };
    context.printer.answer(&read, &text)?;
    Ok(HOLDS)
}
