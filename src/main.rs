//! The command line: everything is in [`coremill::cli`].

fn main() -> std::process::ExitCode {
    coremill::cli::main()
}
