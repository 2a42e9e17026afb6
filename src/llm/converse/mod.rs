//! Converse, the format that Amazon Bedrock has for all models.

mod error;
mod stream;
#[cfg(test)]
mod tests;
mod usage;

pub(super) use error::{ERROR_HEADER, error_body, error_message, exception_name};
pub(super) use stream::{read_event, read_long_event};
pub(super) use usage::{USAGE_NAMES, parse_usage};
