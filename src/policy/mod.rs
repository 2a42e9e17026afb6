//! Policies at work: admission before, settlement after, and the [`books`] that are kept of both.
//!
//! [`set`] arranges an organization's policies, and knows nothing of the rest: the directory holds
//! what it makes.

pub mod account;
pub mod admission;
pub mod books;
pub mod bound;
pub mod children;
pub mod counters;
pub mod set;
