//! The command line: everything is in `coremill::cli`.
fn main() {}
