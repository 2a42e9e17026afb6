//! The one integration test binary: every capability's cases, on every database at hand, and then
//! the checks of the run as a whole.
//!
//! A capability is a file beside this one with `pub(crate) fn cases() -> Vec<Case>`; it is listed
//! here, in [`collect`]. A test that its file does not list is dead code, and the compiler says so.
//! What cases share lives in [`support`]; no test lives there.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a test run speaks on standard output"
)]

<<<<<<< HEAD
mod api_keys;
mod audit_log;
mod concurrency;
mod first_call;
mod model_configurations;
mod problems;
mod readme;
mod secrets;
=======
mod command_line;
mod egress;
mod first_call;
mod log_hygiene;
mod outage;
mod readme;
mod replicas;
mod rotation;
>>>>>>> main
mod support;
mod support_works;
mod tenancy;
mod tenants;
mod upstream_works;

use std::process::ExitCode;

use support::case::Case;

/// Every case of every capability.
fn collect() -> Vec<Case> {
    [
<<<<<<< HEAD
        api_keys::cases(),
        audit_log::cases(),
        concurrency::cases(),
        first_call::cases(),
        model_configurations::cases(),
        problems::cases(),
        readme::cases(),
        secrets::cases(),
        support_works::cases(),
        tenancy::cases(),
        tenants::cases(),
=======
        command_line::cases(),
        egress::cases(),
        first_call::cases(),
        log_hygiene::cases(),
        outage::cases(),
        readme::cases(),
        replicas::cases(),
        rotation::cases(),
        support_works::cases(),
>>>>>>> main
        upstream_works::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    support::runner::run(collect())
}
