//! Google's `generateContent`, as a provider's format.

mod answer;
mod candidate;
mod chunk;
mod contents;
mod grounding;
mod model_turn;
mod part;
mod partial_call;
mod request;
mod stop;
#[cfg(test)]
mod tests;
mod thinking;

pub(super) use answer::{StreamReader, read_answer};
pub(super) use request::write_request;
