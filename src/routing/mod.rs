//! The targets of fallback chains as both planes see them: where each is, how it has done lately in this
//! process, and which one a request tries first.
//!
//! The data plane reports what became of its attempts and asks which targets cool down; the management plane
//! shows it. Nothing is sent here, and no answers are made.

pub mod find;
pub mod health;
pub mod order;
