//! Everything that the run logs, in one file: events, span fields, records of the `log` crate, and the
//! output of child processes.
//!
//! The layer sees fields before the application's formatters, so a secret that a formatter shortens
//! still counts as logged.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::secrets;

/// A file of log lines; a long run at `TRACE` is too large for memory.
#[derive(Clone)]
pub(crate) struct Sink {
    path: PathBuf,
    file: Arc<Mutex<BufWriter<File>>>,
}

impl Sink {
    /// Creates an empty one in Cargo's directory for this test binary.
    pub(crate) fn create(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}.log", std::process::id()));
        let file = File::create(&path).expect("the log of the run can be written");
        Self { path, file: Arc::new(Mutex::new(BufWriter::new(file))) }
    }

    pub(crate) fn write(&self, line: &str) {
        let mut file = self.file.lock().unwrap();
        writeln!(file, "{line}").expect("the log of the run can be written");
    }

    pub(crate) fn read(&self) -> String {
        self.file.lock().unwrap().flush().expect("the log of the run can be written");
        String::from_utf8_lossy(&fs::read(&self.path).expect("the log can be read")).into_owned()
    }

    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }
}

/// Writes every span and event into a [`Sink`].
pub(crate) struct Capture(pub(crate) Sink);

impl Capture {
    fn line(&self, kind: &str, metadata: &Metadata<'_>, fields: &str) {
        let (level, target, name) = (metadata.level(), metadata.target(), metadata.name());
        self.0.write(&format!("{kind} {level} {target} {name}{fields}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.line("span", attributes.metadata(), &fields.0);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id) {
            self.line("record", span.metadata(), &fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            let _ = write!(fields.0, " in:{}", span.name());
        }
        self.line("event", event.metadata(), &fields.0);
    }
}

/// ` name=value` for each field.
#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {field}={value}");
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        let _ = write!(self.0, " {field}={}", String::from_utf8_lossy(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let _ = write!(self.0, " {field}={value} {value:?}");
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(self.0, " caused by {error} {error:?}");
            cause = error.source();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

static RUN: OnceLock<Sink> = OnceLock::new();

/// Starts to record for the whole process: Tollgate at `TRACE` and other crates at `DEBUG`, as an
/// operator might when investigating a problem.
pub(crate) fn install() {
    let sink = RUN.get_or_init(|| Sink::create("run"));
    let levels = Targets::new().with_default(Level::DEBUG).with_target("tollgate", Level::TRACE);
    tracing_subscriber::registry().with(Capture(sink.clone()).with_filter(levels)).init();
}

/// The log of this run.
pub(crate) fn run() -> &'static Sink {
    RUN.get().expect("the runner installs the log before it starts a case")
}

/// Adds a line of a child process.
pub(crate) fn append(source: &str, line: &str) {
    run().write(&format!("child {source} {line}"));
}

/// The lines so far that contain `needle`. Tests run concurrently, so search for a unique id.
pub(crate) fn lines_with(needle: &str) -> Vec<String> {
    run().read().lines().filter(|line| line.contains(needle)).map(str::to_owned).collect()
}

/// Finds `secrets` in `log`: one message for each form that was found, with the form and the log line,
/// but without the secret.
///
/// Searches for all secrets in one pass: thousands of passes over the log of a run would take minutes.
pub(crate) fn leaks(log: &str, secrets: &[String]) -> Vec<String> {
    let needles: Vec<Needle> = secrets
        .iter()
        .flat_map(|secret| {
            secrets::forms(secret).into_iter().map(move |(how, form)| (secret, how, form))
        })
        .map(|(secret, how, form)| Needle { secret, how, form, first: None, times: 0 })
        .collect();
    let mut by_start: HashMap<u64, Vec<Needle>> = HashMap::new();
    for needle in needles {
        by_start.entry(key(needle.form.as_bytes())).or_default().push(needle);
    }
    // Two bytes rule out nearly every position without hashing.
    let mut may_start = vec![false; 1 << 16];
    for start in by_start.keys() {
        may_start[usize::from(*start as u16)] = true;
    }
    let bytes = log.as_bytes();
    for (at, window) in bytes.windows(size_of::<u64>()).enumerate() {
        if !may_start[usize::from(u16::from_le_bytes([window[0], window[1]]))] {
            continue;
        }
        for needle in by_start.get_mut(&key(window)).into_iter().flatten() {
            if bytes[at..].starts_with(needle.form.as_bytes()) {
                needle.first.get_or_insert(at);
                needle.times += 1;
            }
        }
    }
    let mut found: Vec<_> =
        by_start.into_values().flatten().filter_map(|needle| needle.tell(log)).collect();
    found.sort();
    found
}

struct Needle<'a> {
    secret: &'a str,
    how: &'static str,
    form: String,
    first: Option<usize>,
    times: usize,
}

impl Needle<'_> {
    fn tell(&self, log: &str) -> Option<String> {
        let at = self.first?;
        let start = log[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = log[at..].find('\n').map_or(log.len(), |newline| at + newline);
        // A line may contain several forms.
        let mut line = log[start..end].to_owned();
        for (_, form) in secrets::forms(self.secret) {
            line = line.replace(&form, "<SECRET>");
        }
        let line: String = line.chars().take(400).collect();
        let hint: String = self.secret.chars().take(3).collect();
        let Self { how, times, .. } = self;
        Some(format!("a secret that begins with {hint:?}, {how}, {times} times, first in: {line}"))
    }
}

/// The first eight bytes. Every registered secret has at least eight.
fn key(text: &[u8]) -> u64 {
    u64::from_le_bytes(text[..size_of::<u64>()].try_into().unwrap())
}
