//! Logs. They go to standard error; standard output is for a command's result.
//!
//! # What may never be logged
//! At any level, in any field, in any error's text:
//! - request and response bodies, and parts of them: prompts, answers, tool arguments, events;
//! - API keys, whole or in part beyond their `short_key`; an `Authorization`, `X-Api-Key` or
//!   `x-goog-api-key` header, ours or an upstream's; cookies;
//! - provider secrets, data keys, master keys, hashes and digests of any of them;
//! - database URLs as given (their Display is fit to be logged), and query parameters;
//! - a caller's query string: some clients put keys there.
//!
//! Secrets are types without Display and with a silent Debug, so most of this holds by itself. A log
//! line holds ids, names, status codes, counts, sizes and times. Amounts of money are decimal text
//! (the Display of `NanoUsd`), never floats.
//!
//! Libraries do not know this list. Those that log heads, bodies or query parameters below `info` are
//! limited to `info` whatever the filter says, and those that report their own start-up to `warn`. What
//! anybody can make a library log by sending bytes is off unless the filter asks for it.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::json_lines::JsonLines;
use crate::config::LogFormat;

/// The most verbose level of some libraries. They would log parameters of statements and heads of
/// requests below `info`, or at `info` what is of no use to an operator.
const LIBRARY_LEVELS: &[(&str, Level)] = &[
    ("actix_http", Level::INFO),
    ("actix_server", Level::WARN),
    ("actix_web", Level::INFO),
    ("awc", Level::INFO),
    ("diesel", Level::INFO),
    ("diesel_async", Level::INFO),
    ("hyper", Level::INFO),
    ("tokio_postgres", Level::INFO),
];

/// Libraries that log every malformed request and every connection that breaks off, at `error`. The first
/// needs no key, and of the second the gateway writes a line of its own. They log if the filter names them,
/// or has `debug` or `trace` for everything.
const OFF_BY_DEFAULT: [&str; 1] = ["actix_http"];

/// The filter cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("`{filter}` is no log filter: {source}")]
pub struct LogFilterError {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging to standard error. Does nothing if logging has started, as in tests.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogFilterError> {
    let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let format = match format {
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Json,
        given => given,
    };
    let layer = layer(format, colors, filter, || StandardError)?;
    let _ = tracing_subscriber::registry().with(layer).try_init();
    Ok(())
}

/// Bytes of space that a thread keeps for its next batch.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    /// What this thread logs inside [`in_one_write`].
    static BATCH: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    /// The space of the last batch.
    static SPACE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` and writes all that it logs on this thread with one system call.
pub fn in_one_write(work: impl FnOnce()) {
    BATCH.set(Some(SPACE.take()));
    work();
    if let Some(mut lines) = BATCH.take()
        && !lines.is_empty()
    {
        // There is nowhere left to report a standard error that cannot be written.
        let _ = io::stderr().write_all(&lines);
        lines.clear();
        lines.shrink_to(KEPT_BYTES);
        SPACE.set(lines);
    }
}

/// Standard error, or the batch of the thread.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BATCH.with_borrow_mut(|batch| match batch {
            Some(lines) => lines.write(bytes),
            None => io::stderr().write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A layer that writes log lines to `writer`, limited by the filter and the rules of this module.
/// For [`init`], and for tests that read all log lines of a run.
pub fn layer<S, W>(
    format: LogFormat,
    colors: bool,
    filter: &str,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, LogFilterError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(with_defaults(filter))
        .map_err(|source| LogFilterError { filter: filter.to_owned(), source })?
        // It says that it may permit every level: otherwise the level of the other filter would not be
        // the process's, and each event that nobody wants would ask both.
        .and(filter_fn(is_permitted).with_max_level_hint(LevelFilter::TRACE));
    let lines = fmt::layer().with_writer(writer);
    Ok(match format {
        LogFormat::Json => lines.json().event_format(JsonLines).with_filter(filter).boxed(),
        LogFormat::Auto | LogFormat::Pretty => lines.with_ansi(colors).with_filter(filter).boxed(),
    })
}

/// The filter, and `off` for libraries that it does not speak of.
fn with_defaults(filter: &str) -> String {
    let asks_for = |library: &str| {
        filter.split(',').map(str::trim).any(|directive| match directive.parse::<LevelFilter>() {
            Ok(level) => level >= LevelFilter::DEBUG,
            // A target is everything that begins with it; spans and fields follow in brackets.
            Err(_) => directive.split(['=', '[']).next().is_some_and(|target| {
                !target.is_empty() && (library.starts_with(target) || target.starts_with(library))
            }),
        })
    };
    // What an empty filter stands for.
    let given = if filter.trim().is_empty() { "error" } else { filter };
    let off = OFF_BY_DEFAULT.iter().filter(|library| !asks_for(library));
    off.fold(given.to_owned(), |filter, library| format!("{library}=off,{filter}"))
}

fn is_permitted(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    let limit = LIBRARY_LEVELS.iter().find(|(name, _)| *name == library);
    limit.is_none_or(|(_, level)| metadata.level() <= level)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = layer(format, false, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_are_objects_with_their_span() {
        let text = logged(LogFormat::Json, "info", || {
            let _span = tracing::info_span!("request", request_id = "r-1").entered();
            tracing::info!(status = 200, "answered");
            tracing::debug!("not this");
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "answered");
        assert_eq!(line["status"], 200);
        assert_eq!(line["span"]["request_id"], "r-1");
    }

    #[test]
    fn pretty_lines_have_level_message_and_fields() {
        let text = logged(LogFormat::Pretty, "debug", || tracing::debug!(status = 200, "answered"));
        assert!(text.contains("DEBUG") && text.contains("answered") && text.contains("status=200"));
    }

    #[test]
    fn libraries_are_limited_to_their_level() {
        let text = logged(LogFormat::Json, "trace", || {
            tracing::trace!(target: "tollgate::proxy", "ours");
            tracing::debug!(target: "tokio_postgres::query", "parameters: [hidden]");
            tracing::trace!(target: "awc", "authorization: hidden");
            tracing::warn!(target: "awc", "a warning");
            tracing::info!(target: "actix_server::builder", "starting hidden workers");
        });
        assert!(text.contains("ours") && text.contains("a warning"));
        assert!(!text.contains("hidden"), "{text}");
    }

    #[test]
    fn what_anybody_can_make_a_library_log_is_off_unless_it_is_asked_for() {
        let is_logged = |filter: &str| {
            let text = logged(LogFormat::Json, filter, || {
                tracing::error!(target: "actix_http::h1::dispatcher", "stream error");
                tracing::error!(target: "actix_web::app", "the gateway's");
            });
            assert!(text.contains("the gateway's") || filter == "actix_http=error", "{filter}");
            text.contains("stream error")
        };
        for filter in ["info", "error", "warn,tollgate=debug", "info,awc=trace", ""] {
            assert!(!is_logged(filter), "{filter}");
        }
        for filter in
            ["debug", "TRACE", "info,actix_http=error", "actix_http=error", "info,actix=info"]
        {
            assert!(is_logged(filter), "{filter}");
        }
        let only = "info,actix_http::h1=warn";
        assert!(is_logged(only), "{only}");
    }

    #[test]
    fn starting_twice_is_no_error() {
        init(LogFormat::Json, "error").unwrap();
        init(LogFormat::Auto, "error").unwrap();
        let error = init(LogFormat::Auto, "a=b=c").unwrap_err().to_string();
        assert!(error.contains("a=b=c"), "{error}");
    }
}
