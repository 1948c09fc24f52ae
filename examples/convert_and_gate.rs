//! Converts a checkpoint, compares the package with the source model, and exits with 1 if a gate fails.
//!
//! `cargo run --example convert_and_gate -- CHECKPOINT_DIR OUT.mlpackage CACHE_DIR`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints")]

use std::process::ExitCode;

use coremill::gate;
use coremill::pipeline::convert::{ConvertOptions, Validation, prepare};
use coremill::pipeline::job::{self, Job};
use coremill::pipeline::{Failure, Session, Settings};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn run() -> Result<u8, Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, output, cache] = &args[..] else {
        return Err(Failure::input("expected CHECKPOINT_DIR OUT.mlpackage CACHE_DIR"));
    };
    let session = Session::new(Settings::in_dir(cache));
    let job = Job::new(job::find(model, None, None, &session)?, 128);
    let options = ConvertOptions {
        force: true,
        recipe: "pal6-g16".parse()?,
        validation: Some(Validation::default()),
        ..ConvertOptions::new(output)
    };
    let converted = prepare(&job, &options, &session)?.run()?;
    for package in &converted.packages {
        println!("{}: {:.3} bits per weight", package.package.display(), package.bits_per_weight);
    }
    for verdict in &converted.verdicts {
        println!("{} {}: {}", verdict.outcome.name(), verdict.gate, verdict.message);
    }
    Ok(gate::exit_code(&converted.verdicts))
}
