//! Tollgate: a multi-tenant LLM gateway.
//!
//! The tree is the map of the house. A URL, a table or a stage of a request names its file:
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`cli`] | the commands, and what each prints |
//! | [`app`] | builds the application from its settings, runs it, drains it |
//! | [`clock`] | what time it is; everything else is told |
//! | `words` | text looked at eight bytes at a time; for all who look for bytes |
//! | [`config`] | every option, its flag and its environment variable |
//! | [`telemetry`] | logs, metrics, readiness and the ids of requests; what may never be logged |
//! | [`domain`] | pure values and rules: ids, names, permissions, principals; no clock, no I/O, no actix |
//! | [`crypto`] | master keys, envelope encryption, the form and hash of API keys, whom TLS trusts |
//! | [`db`] | the database runtime, pools, transactions, migrations, one file a table; the one room that speaks diesel |
//! | [`upstream`] | egress rules and the HTTP client; the one room that speaks to providers |
//! | [`auth`] | credentials to principal: extraction, verification, permission checks |
//! | [`directory`] | the in-memory read model of the data plane and its invalidation |
//! | [`metering`] | what requests used and cost: read out of answers, priced, recorded in the journal and the ledger |
//! | [`policy`] | what an organization allows: its policies arranged, counters, admission before a request is sent, settlement after, the books of it |
//! | [`audit`] | who changed what |
//! | [`api`] | the management plane, `/api/v1`: one file a resource |
//! | [`proxy`] | the data plane, `/providers`: `proxy/mod.rs` reads as the pipeline |
//! | [`demo`] | the built-in demonstration upstream and the `demo` command |
//!
//! Rules between rooms: `main -> cli -> {demo, app} -> {api, proxy} -> {auth, policy, metering, directory,
//! audit, upstream} -> {db, crypto} -> domain`. In the middle, `auth` stands on `directory` and
//! `audit`; `directory` on `upstream`, `metering` and `policy::set`, the arranged policies that it
//! holds; the rest of `policy` on `directory` and `metering`. `policy::set` itself stands on `domain`
//! alone. `clock`, `config` and `telemetry` are for all who need them. `api` and `proxy` never import
//! each other.

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
pub mod metering;
pub mod policy;
pub mod proxy;
pub mod telemetry;
pub mod upstream;
mod words;
