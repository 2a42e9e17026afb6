//! Tollgate: a multi-tenant LLM gateway.
//!
//! The tree is the map of the house. A URL, a table or a stage of a request names its file:
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`cli`] | the commands, and what each prints |
//! | [`app`] | builds the application from its settings, runs it, drains it |
//! | [`clock`] | what time it is; everything else is told |
//! | [`json`] | the only code that reads raw JSON bytes |
//! | [`llm`] | what the API formats mean: limits, answers, streams, usage; no I/O |
//! | [`config`] | every option, its flag and its environment variable |
//! | [`telemetry`] | logs, metrics, readiness and the ids of requests; what may never be logged |
//! | [`domain`] | pure values and rules: ids, names, permissions, principals; no clock, no I/O, no actix |
//! | [`crypto`] | master keys, envelope encryption, the form and hash of API keys, whom TLS trusts |
//! | [`db`] | the database runtime, pools, transactions, migrations, one file a table; the one room that speaks diesel |
//! | [`providers`] | what differs from provider to provider |
//! | [`upstream`] | egress rules and the HTTP client; the one room that speaks to providers |
//! | [`auth`] | credentials to principal: extraction, verification, permission checks |
//! | [`directory`] | the in-memory read model of the data plane and its invalidation |
//! | [`accounting`] | what requests used and cost: attempts, estimates, prices, the journal and the ledger |
//! | [`policy`] | what an organization's policies allow: compiled policies, counters, admission before a request is sent, settlement after it; no HTTP |
//! | [`audit`] | who changed what |
//! | [`api`] | the management plane, `/api/v1`: one file a resource |
//! | [`proxy`] | the data plane, `/providers`: `proxy/mod.rs` reads as the pipeline |
//! | [`demo`] | the built-in demonstration upstream and the `demo` command |
//!
//! Rules between rooms: `main -> cli -> {demo, app} -> {api, proxy} -> {auth, policy, accounting, directory,
//! audit, upstream} -> {llm, json, db, crypto} -> domain`. In the middle, `auth` stands on `directory` and
//! `audit`; `directory` on `upstream`, `accounting` and `policy::set`, the arranged policies that it
//! holds; the rest of `policy` on `directory` and `accounting`. `policy::set` itself stands on `domain`
//! alone. `clock`, `config` and `telemetry` are for all who need them. `api` and `proxy` never import
//! each other.

pub mod accounting;
pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod db;
pub mod demo;
pub mod directory;
pub mod domain;
pub mod json;
pub mod llm;
pub mod policy;
pub mod providers;
pub mod proxy;
pub mod telemetry;
pub mod upstream;
