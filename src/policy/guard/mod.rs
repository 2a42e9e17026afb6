//! The guard: what a policy detects in content, and what becomes of it. Pure: no I/O, no clock, no HTTP;
//! whoever calls passes in what tells that the time is over.
//!
//! A request: [`Guard::redact`](policy::Guard::redact) scans the body and replaces what must not leave by
//! [placeholders](placeholder).

pub mod category;
pub mod conversation;
pub mod custom;
mod detect;
mod media;
pub mod placeholder;
pub mod policy;
pub mod redact;
pub mod restore;
pub mod scan;
mod texts;

#[cfg(test)]
mod tests;
