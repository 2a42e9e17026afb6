//! The guard: what a policy detects in content, and what becomes of it. Pure: no I/O, no clock, no HTTP;
//! whoever calls passes in what tells that the time is over.
//!
//! 1. [`Guard::new`](policy::Guard::new) joins the policies that match a request.
//! 2. [`ConversationKey::derive`](placeholder::ConversationKey::derive) makes the key of the conversation
//!    that the request belongs to, by its session header or its
//!    [first message](conversation::conversation_digest).
//! 3. If names, places or organizations are detected, whoever calls asks a service about the
//!    [texts](policy::Guard::entity_texts) of the body and passes in its [answers](entities::Entities).
//! 4. [`Guard::redact`](policy::Guard::redact) scans the body and replaces what must not leave by
//!    [placeholders](placeholder); [`Guard::check_text`](policy::Guard::check_text) scans what cannot be
//!    changed.
//! 5. [`restore_answer`](restore::restore_answer), or a [`StreamRestorer`](restore::stream::StreamRestorer)
//!    for a stream, puts the values back into the answer. With an [`AnswerScan`](answer::AnswerScan) it
//!    masks what else must not reach the caller; [`AnswerNames`](answer_names::AnswerNames) are what a
//!    service found in it.

pub mod answer;
pub mod answer_names;
pub mod category;
pub mod conversation;
pub mod custom;
mod detect;
pub mod entities;
mod media;
pub mod note;
pub mod placeholder;
pub mod policy;
mod reasoning;
mod record;
pub mod redact;
pub mod restore;
pub mod scan;
pub mod tables;
mod texts;

#[cfg(test)]
mod tests;
