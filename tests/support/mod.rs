//! What the cases share: the runner, the databases, the scripted upstream, the raw HTTP client, and
//! the record of everything logged. No case lives here.
#![expect(
    dead_code,
    reason = "a toolbox that the capabilities draw on; remove this line when the last tool is used"
)]

pub(crate) mod accounts;
pub(crate) mod app;
pub(crate) mod bench;
pub(crate) mod case;
pub(crate) mod connection;
pub(crate) mod cut;
pub(crate) mod database;
pub(crate) mod eventually;
pub(crate) mod fixture;
pub(crate) mod framing;
pub(crate) mod http;
pub(crate) mod invoice;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod openai;
pub(crate) mod operations;
pub(crate) mod plan;
pub(crate) mod policies;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod property;
pub(crate) mod random;
pub(crate) mod reconcile;
pub(crate) mod redis;
pub(crate) mod runner;
pub(crate) mod script;
pub(crate) mod secrets;
pub(crate) mod served;
pub(crate) mod sql;
pub(crate) mod tables;
pub(crate) mod traffic;
pub(crate) mod upstream;
pub(crate) mod world;
