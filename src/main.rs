//! The binary: reads the command line and runs the library.

use clap::Parser;
use tollgate::cli::Cli;

fn main() -> std::process::ExitCode {
    tollgate::cli::run(Cli::parse())
}
