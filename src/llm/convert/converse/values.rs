//! Values of an answer: without them it can't be used.

use super::super::answer::Failure;
use super::super::fields::{Fields, Path, parse_text};

pub(super) fn parse_object(raw: &str) -> Result<Fields<'_>, Failure> {
    Fields::parse(raw, &Path::ROOT).map_err(|_| Failure::malformed())
}

pub(super) fn string(raw: &str) -> Result<String, Failure> {
    parse_text(raw).map(|text| text.into_owned()).ok_or_else(Failure::malformed)
}
