//! Requests and answers of Gemini.

mod answers;
mod contents;
mod requests;
