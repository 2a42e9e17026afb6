//! Requests and answers of Converse.

mod answers;
mod requests;
