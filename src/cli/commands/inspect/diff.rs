//! `inspect --diff A B`: what differs between two packages.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::base::fmt;
use crate::cli::args::InspectArgs;
use crate::cli::commands::context::Context;
use crate::cli::commands::{Outcome, SUCCESS};
use crate::cli::tables;
use crate::compress::{self, Diff};
use crate::package::Package;

pub(super) fn run(args: &InspectArgs, left: &Path, context: &Context) -> Outcome {
    let diff = compress::diff(&Package::open(left)?, &Package::open(&args.package)?)?;
    let mut answer = json!(diff);
    answer["left"] = json!(left);
    answer["right"] = json!(args.package);
    context.printer.answer(&answer, &text(&diff, left, args, context.printer.width()))?;
    Ok(SUCCESS)
}

fn text(diff: &Diff, left: &Path, args: &InspectArgs, width: usize) -> String {
    let mut text = format!("left {}\nright {}\n", left.display(), args.package.display());
    if diff.equal {
        let weights = fmt::several(diff.equal_weights, "weight");
        write!(text, "\nequal: functions, constants and {weights}").expect("writing to a string");
        return text;
    }
    if !diff.model.is_empty() {
        writeln!(text, "\n{}", tables::differences(diff, width)).expect("writing to a string");
    }
    if !diff.weights.is_empty() {
        writeln!(text, "\n{}", tables::weight_differences(diff, width))
            .expect("writing to a string");
    }
    write!(
        text,
        "\n{}\n{} differing, {} equal",
        tables::totals(diff, width),
        fmt::several(diff.weights.len() as u64, "weight"),
        diff.equal_weights,
    )
    .expect("writing to a string");
    text
}
