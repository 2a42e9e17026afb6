//! The text of an answer, and how it is counted and streamed. Every word counts as a token.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;

/// The most characters of the message that are repeated.
const MAX_QUOTED: usize = 500;

pub(super) struct Reply {
    /// Each but the first begins with a space.
    pub(super) words: Vec<String>,
    /// Whether the caller's limit shortened it.
    pub(super) is_truncated: bool,
    pub(super) input_words: usize,
}

impl Reply {
    /// Repeats the message, in at most `max_words` words.
    pub(super) fn to(message: &str, input_words: usize, max_words: Option<u64>) -> Self {
        let mut quoted: String = message.chars().take(MAX_QUOTED).collect();
        if quoted.len() < message.len() {
            quoted.push('…');
        }
        let text = format!(
            "This is Tollgate's built-in demo upstream, not a model. You said: {}",
            if quoted.trim().is_empty() { "(nothing)" } else { quoted.trim() },
        );
        let mut words: Vec<String> =
            text.split_inclusive(' ').fold(Vec::new(), |mut words, word| {
                // The space belongs to the following word, as in the tokens of models.
                let space = if words.is_empty() { "" } else { " " };
                words.push(format!("{space}{}", word.strip_suffix(' ').unwrap_or(word)));
                words
            });
        let max_words = max_words.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        let is_truncated = words.len() > max_words;
        words.truncate(max_words);
        Self { words, is_truncated, input_words }
    }

    pub(super) fn text(&self) -> String {
        self.words.concat()
    }

    pub(super) fn output_words(&self) -> usize {
        self.words.len()
    }
}

/// The text of a message's content, which is a string or a list of parts.
pub(super) fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

/// The last message of a user, and the number of words of all messages.
pub(super) fn last_message(messages: &[Value]) -> (String, usize) {
    let text = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user")
        .map(|message| content_text(&message["content"]))
        .unwrap_or_default();
    let count = messages
        .iter()
        .map(|message| content_text(&message["content"]).split_whitespace().count())
        .sum();
    (text, count)
}

/// Streams the events, with a pause before those that are marked.
pub(super) fn stream_events(events: Vec<(bool, String)>, pause: Duration) -> HttpResponse {
    let paced = stream::unfold(events.into_iter(), move |mut events| async move {
        let (pause_before, event) = events.next()?;
        if pause_before {
            tokio::time::sleep(pause).await;
        }
        Some((Ok::<_, Infallible>(Bytes::from(event)), events))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .streaming(paced)
}
