//! Writes JSON member by member, so that the order of keys is the writer's and raw values travel as text.

use std::io;

/// A JSON text that is being written. Commas are set by it.
#[derive(Debug, Default)]
pub struct JsonWriter {
    out: String,
    needs_comma: bool,
}

impl JsonWriter {
    /// An empty text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives what was written.
    pub fn finish(self) -> String {
        self.out
    }

    /// An object, whose members `write` writes. Gives what `write` gives, such as an error.
    pub fn object<R>(&mut self, write: impl FnOnce(&mut Self) -> R) -> R {
        self.nested('{', '}', write)
    }

    /// An array, whose elements `write` writes. Gives what `write` gives, such as an error.
    pub fn array<R>(&mut self, write: impl FnOnce(&mut Self) -> R) -> R {
        self.nested('[', ']', write)
    }

    /// The key of the member whose value is written next.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.separate();
        push_quoted(&mut self.out, key);
        self.out.push(':');
        self.needs_comma = false;
        self
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &str) {
        self.separate();
        self.out.push_str(json);
        self.needs_comma = true;
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        self.separate();
        push_quoted(&mut self.out, text);
        self.needs_comma = true;
    }

    /// A whole number.
    pub fn number(&mut self, number: u64) {
        self.raw(itoa::Buffer::new().format(number));
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// `null`.
    pub fn null(&mut self) {
        self.raw("null");
    }

    /// A member that is a string, if there is one.
    pub fn optional_string(&mut self, key: &str, text: Option<impl AsRef<str>>) {
        if let Some(text) = text {
            self.key(key).string(text.as_ref());
        }
    }

    /// A member whose value is JSON already, if there is one.
    pub fn optional_raw(&mut self, key: &str, json: Option<impl AsRef<str>>) {
        if let Some(json) = json {
            self.key(key).raw(json.as_ref());
        }
    }

    /// A member that is `true` or `false`, if there is one.
    pub fn optional_boolean(&mut self, key: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.key(key).boolean(value);
        }
    }

    fn nested<R>(&mut self, open: char, close: char, write: impl FnOnce(&mut Self) -> R) -> R {
        self.separate();
        self.out.push(open);
        self.needs_comma = false;
        let result = write(self);
        self.out.push(close);
        self.needs_comma = true;
        result
    }

    fn separate(&mut self) {
        if self.needs_comma {
            self.out.push(',');
        }
    }
}

/// Appends a string as JSON.
pub fn push_quoted(out: &mut String, text: &str) {
    // A string can always be written to another one.
    let _ = serde_json::to_writer(Pieces(out), text);
}

/// Takes the pieces of a string, each of them whole characters: only what is new is looked at, however long
/// the text is already.
struct Pieces<'s>(&'s mut String);

impl io::Write for Pieces<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let text = str::from_utf8(piece).map_err(|_| io::ErrorKind::InvalidData)?;
        self.0.push_str(text);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        for text in ["", "plain", "é\"\u{1}\n\\€/", "\u{2028}\u{10ffff}\0"] {
            let mut out = "x".to_owned();
            push_quoted(&mut out, text);
            assert_eq!(out, format!("x{}", serde_json::to_string(text).unwrap()));
        }
    }

    #[test]
    fn members_and_elements_are_separated() {
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("a").array(|json| {
                json.number(1);
                json.string("x\"\n");
                json.object(|_| {});
                json.array(|_| {});
            });
            json.key("b\\").raw("1e400");
            json.key("c").object(|json| {
                json.key("d").boolean(true);
                json.key("e").null();
            });
        });
        let text = r#"{"a":[1,"x\"\n",{},[]],"b\\":1e400,"c":{"d":true,"e":null}}"#;
        assert_eq!(json.finish(), text);
    }
}
