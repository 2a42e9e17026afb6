//! What the tests share: the runner, the databases, the scripted upstream, the raw HTTP client, and the
//! log of the run. It contains no tests.
#![expect(
    dead_code,
    reason = "a toolbox that the capabilities draw on; remove this line when the last tool is used"
)]

pub(crate) mod app;
pub(crate) mod background_load;
pub(crate) mod call_plan;
pub(crate) mod case;
pub(crate) mod connection;
pub(crate) mod database;
pub(crate) mod database_dump;
pub(crate) mod fault_proxy;
pub(crate) mod fixture;
pub(crate) mod framing;
pub(crate) mod http;
pub(crate) mod invoice;
pub(crate) mod ledger_fixture;
pub(crate) mod ledger_rows;
pub(crate) mod ledger_seed;
pub(crate) mod logs;
pub(crate) mod openai;
pub(crate) mod operations;
pub(crate) mod policies;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod property;
pub(crate) mod random;
pub(crate) mod reconciliation;
pub(crate) mod redis;
pub(crate) mod runner;
pub(crate) mod script;
pub(crate) mod secrets;
pub(crate) mod server_process;
pub(crate) mod sql;
pub(crate) mod traffic;
pub(crate) mod two_tenants;
pub(crate) mod upstream;
pub(crate) mod wait;
