//! The only code that reads raw JSON bytes: the pull tokenizer, bodies with their edits, the push
//! scanners for answers that arrive in chunks, strings and their escapes, keys under case folding, and
//! byte search.
//!
//! What the JSON means (which field is a limit, which text is a prompt) belongs in [`crate::llm`].

pub(crate) mod array;
pub(crate) mod bytes;
pub(crate) mod case_fold;
pub(crate) mod compact;
pub(crate) mod escapes;
pub(crate) mod key_search;
pub(crate) mod members;
pub mod object;
pub mod scanner;
mod string_end;
pub(crate) mod strings;
pub mod tokenizer;
pub mod writer;
