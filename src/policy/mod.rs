//! Policies at work: admission before, settlement after.

pub mod bound;
pub mod counters;
