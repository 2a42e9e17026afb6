//! Bedrock's Converse, as a provider's format.

mod content;
mod documents;
mod extras;
mod media;
mod messages;
mod plain;
mod request;
mod stop;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod values;

pub(super) use plain::read_answer;
pub(super) use request::write_request;
pub(super) use stream::StreamReader;
