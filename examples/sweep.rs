//! Runs the sweep of a specification and writes its HTML report.
//!
//! `cargo run --example sweep -- SPEC.toml REPORT.html CACHE_DIR`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;

use coremill::compress::Recipe;
use coremill::pipeline::convert::fewest_bits;
use coremill::pipeline::sweep::{LoadedSpec, prepare};
use coremill::pipeline::{Failure, Session, Settings};
use coremill::report;
use coremill::sweep::Spec;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, page, cache] = &args[..] else {
        return Err(Failure::input("expected SPEC.toml REPORT.html CACHE_DIR"));
    };
    let (path, text) = (PathBuf::from(path), fs_err::read_to_string(path)?);
    let bits = |recipe: &str| {
        recipe.parse::<Recipe>().map(|recipe| fewest_bits(&recipe)).map_err(|e| e.to_string())
    };
    let spec = Spec::parse(&text, &path, &bits)?;
    let session = Session::new(Settings::in_dir(cache));
    let loaded = LoadedSpec { spec, text, path };
    let (_, report) = prepare(&loaded, None, &session)?.run(Vec::new())?;
    for variant in &report.variants {
        println!("{}", variant.name);
    }
    fs_err::write(page, report::html(&report, &[]))?;
    Ok(())
}
