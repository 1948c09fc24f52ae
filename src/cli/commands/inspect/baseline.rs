//! `inspect --baseline`: how far the weights are from those of another package.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::base::fmt;
use crate::cli::commands::context::Context;
use crate::compress::Audit;
use crate::eval::{self, WeightErrors};
use crate::package::Package;
use crate::pipeline::Failure;

/// Puts the errors into the lines of `audit`; what is said of them together, as JSON and in words.
pub(super) fn measure(
    package: &Package,
    baseline: &Path,
    audit: &mut Audit,
    context: &Context,
) -> Result<(Value, String), Failure> {
    let errors = eval::weight_errors(package, &Package::open(baseline)?, &*context.progress)?;
    for (line, (_, distortion)) in audit.tensors.iter_mut().zip(&errors.weights) {
        if let Some(distortion) = distortion {
            *line = line.clone().with_error(distortion);
        }
    }
    let compared = errors.weights.iter().filter(|(_, distortion)| distortion.is_some()).count();
    let reshaped: Vec<_> = errors
        .other_shape
        .iter()
        .map(|(name, shape, baseline)| json!({"name": name, "shape": shape, "baseline": baseline}))
        .collect();
    let answer = json!({
        "package": baseline,
        "compared": compared,
        "relative_error": errors.total.relative_error(),
        "psnr_db": errors.total.psnr(),
        "max_error": errors.total.max_error,
        "not_in_baseline": errors.not_in_baseline,
        "only_in_baseline": errors.only_in_baseline,
        "other_shape": reshaped,
    });
    Ok((answer, text(&errors, compared, baseline)))
}

fn text(errors: &WeightErrors, compared: usize, baseline: &Path) -> String {
    let mut text = format!(
        "{} against {}: relative error {:.5}, largest {:.3e}",
        fmt::several(compared as u64, "weight"),
        baseline.display(),
        errors.total.relative_error(),
        errors.total.max_error,
    );
    let lines = [
        ("not in the baseline", &errors.not_in_baseline),
        ("only in the baseline", &errors.only_in_baseline),
    ];
    for (fact, names) in lines {
        if !names.is_empty() {
            write!(text, "\n{fact}: {}", names.join(", ")).expect("writing to a string");
        }
    }
    for (name, shape, baseline) in &errors.other_shape {
        write!(text, "\nof another shape: {name}, {shape:?} here and {baseline:?} in the baseline")
            .expect("writing to a string");
    }
    text
}
