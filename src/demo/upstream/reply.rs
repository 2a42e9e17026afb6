//! What the demonstration upstream says, and how it counts and streams it. A word is a token.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;

/// The most of a caller's words that are said back, in characters.
const MOST_QUOTED: usize = 500;

/// An answer.
pub(super) struct Reply {
    /// In order; each but the first begins with its space.
    pub(super) words: Vec<String>,
    /// Whether the caller's own limit cut it.
    pub(super) cut: bool,
    /// Words that the caller sent.
    pub(super) asked: usize,
}

impl Reply {
    /// Answers `said`, in at most so many words.
    pub(super) fn to(said: &str, asked: usize, most: Option<u64>) -> Self {
        let mut quoted: String = said.chars().take(MOST_QUOTED).collect();
        if quoted.len() < said.len() {
            quoted.push('…');
        }
        let text = format!(
            "This is Tollgate's demonstration upstream, not a model. You said: {}",
            if quoted.trim().is_empty() { "(nothing)" } else { quoted.trim() },
        );
        let mut words: Vec<String> =
            text.split_inclusive(' ').fold(Vec::new(), |mut words, word| {
                // The space goes to the word that follows it, as models' tokens have it.
                let space = if words.is_empty() { "" } else { " " };
                words.push(format!("{space}{}", word.strip_suffix(' ').unwrap_or(word)));
                words
            });
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let cut = words.len() > most;
        words.truncate(most);
        Self { words, cut, asked }
    }

    pub(super) fn text(&self) -> String {
        self.words.concat()
    }

    pub(super) fn answered(&self) -> usize {
        self.words.len()
    }
}

/// The words of a message's content: text, or a list of parts of which some are text.
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

/// The last thing that a user said in a list of messages, and the words of them all.
pub(super) fn last_words(messages: &[Value]) -> (String, usize) {
    let said = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user")
        .map(|message| content_text(&message["content"]))
        .unwrap_or_default();
    let count = messages
        .iter()
        .map(|message| content_text(&message["content"]).split_whitespace().count())
        .sum();
    (said, count)
}

/// Sends the events one at a time, with a pause before each of those that say something.
pub(super) fn stream_events(events: Vec<(bool, String)>, pause: Duration) -> HttpResponse {
    let paced = stream::unfold(events.into_iter(), move |mut events| async move {
        let (says_something, event) = events.next()?;
        if says_something {
            tokio::time::sleep(pause).await;
        }
        Some((Ok::<_, Infallible>(Bytes::from(event)), events))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .streaming(paced)
}
