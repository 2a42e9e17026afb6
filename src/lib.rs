//! Tollgate: a multi-tenant LLM gateway.
//!
//! The tree is the map: a URL, a table or a stage of a request names its file.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`cli`] | the commands, and what each prints |
//! | [`app`] | builds the application from its settings, runs it, drains it |
//! | [`config`] | every option, its flag and its environment variable |
//! | [`api`] | the management plane, `/api/v1`: one file an operation group |
//! | [`proxy`] | the data plane: `/v1/models` and the calls of models under `/v1`, `/providers`, `/models`, `/routes` and the names of built-in providers; `proxy/mod.rs` reads as the pipeline |
//! | [`auth`] | credentials to principal: extraction, verification, issuing; the address of the caller |
//! | [`policy`] | admission before a request is sent, settlement after it; limits in memory and in Redis; what may leave in content (`guard`) |
//! | [`presidio`] | the client of Presidio, which recognizes names, places and organizations for the guard |
//! | [`routing`] | the targets of fallback chains: where each is, which cools down, in which order a request tries them |
//! | [`accounting`] | requests that an upstream may bill: attempts, estimates of usage that was not reported, the journal and the ledger |
//! | [`directory`] | what the data plane looks up: keys, configurations, policies, cached and invalidated |
//! | [`audit`] | who changed what |
//! | [`credentials`] | what an upstream is called with: opened secrets, tokens, minted and cached, and signatures |
//! | [`upstream`] | egress rules and the HTTP client, which follows no redirect; the only room that speaks to providers |
//! | [`providers`] | the built-in providers, their hosts and secrets, those of clouds with their regions and accounts; what is particular to a provider: fields it ignores, fields that choose another model |
//! | [`llm`] | what the API formats mean: the most that a request can use (`limits`), answers, streams, usage, and requests and answers from one format into another (`convert`); no I/O |
//! | [`json`] | the only code that reads raw JSON bytes |
//! | [`db`] | the database runtime, pools, transactions, migrations, one file a table; the only room that speaks diesel |
//! | [`crypto`] | master keys, envelope encryption, the form and hash of API keys |
//! | [`domain`] | pure values and rules: ids, names, permissions, money, prices and their catalogue; no clock, no I/O, no actix |
//! | [`telemetry`] | logs, metrics, readiness, the record of a proxied request, which is its log line (`request_record`) |
//! | [`clock`] | the time, and ids that hold it |
//! | [`demo`] | the `demo` command and its built-in upstream |
//!
//! What is not where its name may lead first:
//!
//! | what | where |
//! | --- | --- |
//! | how an answer's bytes are relayed | `proxy/relay_body`, after its head (`proxy/relay_head`) |
//! | which format a model is asked in | `providers/native`; the path of that operation is in `llm/format/operation` |
//! | one request from one format into another | `llm/convert::convert_request`: a reader of the caller's format, a writer of the target's |
//! | `x-tollgate-dropped`, `-served-by`, `-attempts` | `proxy/relay_head`; the fields that are dropped are listed by `proxy/conversion` |
//! | the status and the words of an error | `proxy/error/table`; of a denial by policies `proxy/error/row` |
//! | `POST .../gateway-policies/{id}/test` | `api/gateway_policies/guard` |
//! | options | `config`: one file a section of `--help`; Redis and Presidio are in `config/policies` |
//! | `usage_rollups` | written by `db/ledger/rollups`, read by `db/usage` |
//!
//! Rules between rooms, which a test reads from here and holds. A room may import `domain` and the rooms of
//! its row, all of which are further down. `api` and `proxy` never import each other.
//!
//! | room | may import |
//! | --- | --- |
//! | `cli` | `demo`, `app`, `api`, `accounting`, `telemetry`, `clock`, `config` |
//! | `demo` | `app`, `telemetry`, `clock`, `config`, `crypto` |
//! | `app` | `proxy`, `api`, `accounting`, `presidio`, `routing`, `credentials`, `auth`, `audit`, `policy`, `policy::guard`, `directory`, `telemetry`, `clock`, `config`, `providers`, `upstream`, `llm`, `db`, `crypto` |
//! | `proxy` | `accounting`, `presidio`, `routing`, `credentials`, `auth`, `policy`, `policy::set`, `policy::limit`, `policy::guard`, `directory`, `telemetry`, `clock`, `providers`, `upstream`, `llm`, `json`, `crypto` |
//! | `api` | `accounting`, `presidio`, `routing`, `credentials`, `auth`, `audit`, `policy::set`, `policy::guard`, `directory`, `telemetry`, `clock`, `providers`, `upstream`, `llm`, `db`, `crypto` |
//! | `accounting` | `policy`, `policy::set`, `directory`, `telemetry`, `clock`, `providers`, `llm`, `json`, `db` |
//! | `presidio` | `policy::guard`, `telemetry`, `clock`, `config`, `upstream` |
//! | `routing` | `directory`, `providers`, `llm`, `json` |
//! | `credentials` | `directory`, `clock`, `providers`, `upstream`, `llm`, `crypto` |
//! | `auth` | `audit`, `directory`, `clock`, `db`, `crypto` |
//! | `audit` | `clock`, `db` |
//! | `policy` | `policy::set`, `policy::limit`, `directory`, `telemetry`, `clock`, `config`, `llm`, `db`, `crypto` |
//! | `directory` | `policy::set`, `policy::guard`, `telemetry`, `clock`, `providers`, `upstream`, `db`, `crypto` |
//! | `policy::set` | `policy::limit`, `policy::guard`, `llm` |
//! | `policy::limit` | |
//! | `policy::guard` | `llm`, `json`, `crypto` |
//! | `telemetry` | `config` |
//! | `clock` | |
//! | `config` | `providers`, `upstream`, `crypto` |
//! | `providers` | `upstream`, `llm`, `json` |
//! | `upstream` | `json`, `crypto` |
//! | `llm` | `json` |
//! | `json` | |
//! | `db` | |
//! | `crypto` | |
//! | `domain` | |
//!
//! Files of one room import each other in no circle either, where a module and the modules in it count as
//! one.
//!
//! `policy::guard`, `policy::set` and `policy::limit` are pure, so that the directory can hold an
//! organization's arranged policies; the rest of `policy` reads the directory.

pub mod accounting;
pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod crypto;
pub mod db;
pub mod demo;
pub mod directory;
pub mod domain;
pub mod json;
pub mod llm;
pub mod policy;
pub mod presidio;
pub mod providers;
pub mod proxy;
pub mod routing;
pub mod telemetry;
pub mod upstream;
