//! The binary: reads the command line and runs the library.

use clap::Parser;
use tollgate::cli::Cli;

/// A proxied request makes many small allocations, which showed in its profile with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tollgate::cli::run(Cli::parse())
}
