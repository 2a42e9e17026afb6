//! The integration test binary: every capability's cases, on every database available, and then the
//! checks of the run as a whole.
//!
//! A capability is a file in this directory with `pub(crate) fn cases() -> Vec<Case>`, listed once
//! below. A test that its file does not list is dead code, and the compiler says so. What cases share
//! lives in [`support`]; no test lives there.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a test run reports on standard output"
)]

mod support;

use std::process::ExitCode;

use support::case::Case;

/// Declares the capability files and collects their cases, so that each file is listed once. It has
/// the name and the form of the macro of the `cfg-if` crate, because that is the only macro in which
/// rustfmt looks for modules.
macro_rules! cfg_if {
    (if #[cfg(all())] { $(mod $capability:ident;)* }) => {
        $(mod $capability;)*

        fn all_cases() -> Vec<Case> {
            [$($capability::cases()),*].into_iter().flatten().collect()
        }
    };
}

cfg_if! {
    if #[cfg(all())] {
        mod accounting;
        mod admin_port;
        mod agent_loops;
        mod answer_scanning;
        mod answered_model;
        mod api_errors;
        mod api_keys;
        mod audit_log;
        mod authorization;
        mod azure;
        mod bedrock;
        mod bedrock_account;
        mod bedrock_profiles;
        mod built_in_providers;
        mod chosen_models;
        mod command_line;
        mod compaction;
        mod concurrent_changes;
        mod conversion;
        mod conversion_chains;
        mod conversion_errors;
        mod conversion_failures;
        mod conversion_streams;
        mod converted_counts;
        mod configuration_checks;
        mod connections;
        mod converse;
        mod data_policy;
        mod data_policy_cases;
        mod data_policy_limits;
        mod database_outage;
        mod default_policies;
        mod doc_comments;
        mod documentation;
        mod egress;
        mod embeddings;
        mod entities;
        mod entities_in_answers;
        mod end_to_end;
        mod fallback;
        mod fallback_costs;
        mod fallback_errors;
        mod fallback_policies;
        mod fallback_prologue;
        mod fallback_weights;
        mod gateway_policies;
        mod gemini;
        mod guarded_conversations;
        mod guarded_records;
        mod import_rules;
        mod ledger;
        mod ledger_database_failures;
        mod ledger_rollups;
        mod log_hygiene;
        mod master_key_rotation;
        mod messages;
        mod metadata;
        mod missing_usage;
        mod model_access;
        mod model_configurations;
        mod model_list;
        mod model_prices;
        mod oauth;
        mod oauth_settings;
        mod observability;
        mod odd_answers;
        mod organization_secrets;
        mod own_responses;
        mod pagination;
        mod policy_edits;
        mod policy_spend;
        mod postgres_restart;
        mod presidio_calls;
        mod price_dimensions;
        mod provider_settings;
        mod proxy_broken_streams;
        mod proxy_disconnects;
        mod proxy_drain;
        mod proxy_failures;
        mod proxy_headers;
        mod proxy_limits;
        mod proxy_request_bodies;
        mod proxy_responses;
        mod proxy_routes;
        mod proxy_streams;
        mod rate_limits;
        mod read_modify_write;
        mod recordings;
        mod refused_credentials;
        mod replicas;
        mod request_validation;
        mod requests;
        mod role_grants;
        mod route_health;
        mod scanned_answer_fields;
        mod scanned_streams;
        mod secrets;
        mod serve_command;
        mod spend_caps;
        mod spend_windows;
        mod subscriptions;
        mod support_reconciliation;
        mod support_runner;
        mod support_upstream;
        mod tenants;
        mod unified;
        mod unified_clouds;
        mod unmetered;
        mod upgrade;
        mod usage;
        mod vertex;
        mod vertex_locations;
    }
}

fn main() -> ExitCode {
    support::runner::run(all_cases())
}
