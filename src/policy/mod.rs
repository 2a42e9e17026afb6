//! What an organization's policies allow: admission before a request is sent, settlement after it.
//!
//! No HTTP here: this room says what was decided, `proxy` says it to the caller. [`limit`] and [`set`]
//! stand on `domain` alone, since the directory holds compiled sets. [`guard`] decides about content.

pub mod admission;
pub mod child_queue;
pub mod guard;
pub mod limit;
pub mod limits;
pub mod set;
