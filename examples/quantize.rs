//! Compresses a package and prints its size and bits per weight; needs no Python.
//!
//! `cargo run --example quantize -- tests/fixtures/compression/dense_ios18.mlpackage int8-c out.mlpackage`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::Path;

use coremill::base::progress::Silent;
use coremill::compress::{self, Options, Recipe};
use coremill::package::Package;
use coremill::pipeline::Failure;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, recipe, output] = &args[..] else {
        return Err(Failure::input("expected INPUT RECIPE OUTPUT"));
    };
    let package = Package::open(Path::new(input))?;
    let recipe: Recipe = recipe.parse()?;
    let options = Options { replace: true, ..Options::default() };
    let written = compress::run(&package, &recipe, Path::new(output), &options, &Silent)?;
    let bytes: u64 = written.files.iter().map(|file| file.size).sum();
    println!("{output}: {bytes} bytes");
    for tensor in &written.tensors {
        println!("{:>7.3} bits  {}", tensor.bits_per_weight, tensor.name);
    }
    Ok(())
}
