//! The counters: in memory against a naive model, and both kinds by one suite.

mod model;
