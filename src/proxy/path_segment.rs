//! Segments of paths.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stays as it is in a segment of a path (RFC 3986, section 3.3). Names on Vertex have an `@`.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// The name as a segment of a path.
pub fn path_segment(name: &str) -> impl Display {
    utf8_percent_encode(name, SEGMENT)
}
