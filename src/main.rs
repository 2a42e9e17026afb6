//! The binary: reads the command line and runs the library.

use clap::Parser;
use tollgate::cli::Cli;

/// Proxied requests make many small allocations, which are slower with glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tollgate::cli::run(Cli::parse())
}
