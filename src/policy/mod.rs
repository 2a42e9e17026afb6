//! Policies at work: admission before, settlement after.

pub mod admission;
pub mod bound;
pub mod children;
pub mod counters;
pub mod set;
