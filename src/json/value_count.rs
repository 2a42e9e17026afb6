//! Counts how often a text is a string in JSON that arrives in chunks, at any level.

use memchr::memmem::Finder;

/// Counts one text, as a key or as a value.
#[derive(Debug)]
pub(crate) struct ValueCount {
    quoted: Finder<'static>,
    count: u64,
    /// The last bytes, which may be the beginning of the text.
    tail: Vec<u8>,
}

impl ValueCount {
    /// Counts a text without escapes, given with its quotes. Inside of a string they would be escaped, so
    /// that it can't be taken for a part of one.
    pub(crate) fn new(quoted: &'static str) -> Self {
        Self { quoted: Finder::new(quoted), count: 0, tail: Vec::new() }
    }

    /// How often it has passed.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Looks at the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let most = self.quoted.needle().len() - 1;
        // What begins in an earlier chunk ends within the next `most` bytes.
        let joint = bytes.get(..most).unwrap_or(bytes);
        self.tail.extend_from_slice(joint);
        self.count += self.quoted.find_iter(&self.tail).count() as u64;
        if bytes.len() > most {
            self.count += self.quoted.find_iter(bytes).count() as u64;
            self.tail.clear();
            self.tail.extend_from_slice(bytes.get(bytes.len() - most..).unwrap_or_default());
        } else {
            let kept = self.tail.len().saturating_sub(most);
            self.tail.drain(..kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_counted_once_however_it_is_split() {
        let text = r#"{"a":[{"type":"call"},{"type":"call","x":"\"call\""},{"type":"calls"}],"call":"call"}"#;
        for size in 1..text.len() + 1 {
            let mut count = ValueCount::new("\"call\"");
            text.as_bytes().chunks(size).for_each(|chunk| count.feed(chunk));
            assert_eq!(count.count(), 4, "by {size}");
        }
    }
}
