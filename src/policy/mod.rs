//! Policies at work: admission before, settlement after.
//!
//! [`set`] arranges an organization's policies, and knows nothing of the rest: the directory holds
//! what it makes.

pub mod admission;
pub mod children;
pub mod limits;
pub mod set;
