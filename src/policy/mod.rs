//! Policies at work: admission before, settlement after.

pub mod counters;
