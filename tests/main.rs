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

mod accounting;
mod admin_port;
mod api_keys;
mod audit_log;
mod charges;
mod checks;
mod command_line;
mod concurrency;
mod default_policies;
mod doc_comments;
mod edited_limits;
mod egress;
mod first_call;
mod gateway_policies;
mod granting;
mod invoice_works;
mod ledger;
mod ledger_sums;
mod ledger_troubles;
mod log_hygiene;
mod metadata;
mod model_access;
mod model_configurations;
mod model_prices;
mod observability;
mod outage;
mod policy_spend;
mod problems;
mod proxy_answers;
mod proxy_bodies;
mod proxy_cut_streams;
mod proxy_drain;
mod proxy_failures;
mod proxy_headers;
mod proxy_leaving;
mod proxy_limits;
mod proxy_routes;
mod proxy_streams;
mod rate_limits;
mod readme;
mod replicas;
mod requests;
mod rotation;
mod secrets;
mod sent_back;
mod server_stops;
mod spend_caps;
mod spend_windows;
mod support;
mod support_works;
mod tenancy;
mod tenants;
mod upgrade;
mod upstream_works;
mod usage;

use std::process::ExitCode;

use support::case::Case;

/// Every case of every capability.
fn collect() -> Vec<Case> {
    [
        accounting::cases(),
        admin_port::cases(),
        api_keys::cases(),
        audit_log::cases(),
        charges::cases(),
        checks::cases(),
        command_line::cases(),
        concurrency::cases(),
        default_policies::cases(),
        doc_comments::cases(),
        edited_limits::cases(),
        egress::cases(),
        first_call::cases(),
        gateway_policies::cases(),
        granting::cases(),
        invoice_works::cases(),
        ledger::cases(),
        ledger_sums::cases(),
        ledger_troubles::cases(),
        log_hygiene::cases(),
        metadata::cases(),
        model_access::cases(),
        model_configurations::cases(),
        model_prices::cases(),
        observability::cases(),
        outage::cases(),
        policy_spend::cases(),
        problems::cases(),
        proxy_answers::cases(),
        proxy_bodies::cases(),
        proxy_cut_streams::cases(),
        proxy_drain::cases(),
        proxy_failures::cases(),
        proxy_headers::cases(),
        proxy_leaving::cases(),
        proxy_limits::cases(),
        proxy_routes::cases(),
        proxy_streams::cases(),
        rate_limits::cases(),
        readme::cases(),
        replicas::cases(),
        requests::cases(),
        rotation::cases(),
        secrets::cases(),
        sent_back::cases(),
        server_stops::cases(),
        spend_caps::cases(),
        spend_windows::cases(),
        support_works::cases(),
        tenancy::cases(),
        tenants::cases(),
        upgrade::cases(),
        upstream_works::cases(),
        usage::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    support::runner::run(collect())
}
