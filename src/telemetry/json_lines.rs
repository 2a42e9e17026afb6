//! Log lines as JSON, one object a line, with the fields of `tracing-subscriber`'s flattened JSON
//! format. That one builds a map for every line and parses the span's fields again, which costs more
//! than the rest of a proxied request's reporting.

use std::cell::RefCell;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

thread_local! {
    static LINE: RefCell<Line> = RefCell::default();
}

/// Formats an event as one line of JSON. Spans' fields have to be formatted as JSON, too
/// (`JsonFields`).
pub(super) struct JsonLines;

/// The line so far, and a place to format values in before they are quoted.
#[derive(Default)]
struct Line {
    json: Vec<u8>,
    value: String,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        LINE.with_borrow_mut(|line| {
            let metadata = event.metadata();
            line.json.clear();
            line.json.push(b'{');
            line.value.clear();
            SystemTime.format_time(&mut Writer::new(&mut line.value))?;
            line.key("timestamp");
            line.quote_value();
            line.text("level", metadata.level().as_str());
            event.record(line);
            line.text("target", metadata.target());
            if let Some(span) = context.lookup_current() {
                line.key("span");
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<N>>();
                let fields = fields.map_or("{}", |fields| fields.fields.as_str());
                // The object is left open for the span's name.
                let open = fields.strip_suffix('}').filter(|open| open.starts_with('{'));
                line.json.extend_from_slice(open.unwrap_or("{").as_bytes());
                line.text("name", span.name());
                line.json.push(b'}');
            }
            line.json.extend_from_slice(b"}\n");
            writer.write_str(std::str::from_utf8(&line.json).map_err(|_| fmt::Error)?)
        })
    }
}

impl Line {
    /// Begins a member of the object that is open.
    fn key(&mut self, name: &str) {
        if self.json.last() != Some(&b'{') {
            self.json.push(b',');
        }
        self.put_text(name);
        self.json.push(b':');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.key(name);
        self.put_text(value);
    }

    fn member(&mut self, name: &str, value: impl serde::Serialize) {
        self.key(name);
        self.put(value);
    }

    fn quote_value(&mut self) {
        let value = std::mem::take(&mut self.value);
        self.put_text(&value);
        self.value = value;
    }

    /// Appends a text in quotes. Nearly all have nothing to escape, and to see that takes much less time
    /// than to look for the places.
    fn put_text(&mut self, text: &str) {
        let is_escaped = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
        if text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
            return self.put(text);
        }
        self.json.push(b'"');
        self.json.extend_from_slice(text.as_bytes());
        self.json.push(b'"');
    }

    /// Appends a value; texts, numbers and booleans cannot fail to be written to memory.
    fn put(&mut self, value: impl serde::Serialize) {
        let _ = serde_json::to_writer(&mut self.json, &value);
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.value.clear();
        // Only a Debug of the value's own could fail, and then what it wrote so far is kept.
        let _ = fmt::write(&mut self.value, format_args!("{value:?}"));
        self.key(field.name().strip_prefix("r#").unwrap_or(field.name()));
        self.quote_value();
    }
}
