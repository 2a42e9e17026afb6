//! The counters: in memory against a naive model, both kinds by one suite, and Redis when it is
//! slow, gone, emptied, back in time or asked too late.

mod failures;
mod lost;
mod model;
mod redis_server;
mod suite;
mod support;
mod tls;
mod worker;
