//! The only code that looks at raw JSON bytes: byte search, the pull tokenizer, objects that are
//! edited in place, the push scanner for answers that arrive in chunks, string values and their
//! escapes, and key comparison under case folding.
//!
//! What the JSON means (which field is a limit, which text is a prompt) belongs in [`crate::llm`].

pub(crate) mod bytes;
pub(crate) mod case_fold;
pub mod long_texts;
pub mod object;
pub mod scanner;
pub(crate) mod strings;
pub(crate) mod tokenizer;
