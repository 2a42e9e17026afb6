//! The counters: in memory against a naive model, both kinds by one suite, and Redis when it is
//! slow, gone, emptied or asked too late.

mod failures;
mod model;
mod redis_server;
mod suite;
mod support;
