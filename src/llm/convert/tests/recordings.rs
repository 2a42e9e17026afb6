//! The recorded answers in the repository.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{ALL, name};
use crate::llm::event_stream::event_message;
use crate::llm::format::Format;

#[derive(Clone)]
pub(super) struct Recording {
    pub(super) format: Format,
    /// That of its file, with a number where the file holds several answers.
    pub(super) name: String,
    pub(super) is_stream: bool,
    /// As the provider sent it.
    pub(super) body: Vec<u8>,
}

/// All recordings, in the order of their names.
pub(super) fn recordings() -> Vec<Recording> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut recordings = Vec::new();
    for format in ALL {
        let mut files: Vec<_> = fs::read_dir(fixtures.join(name(format)))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension != "md"))
            .collect();
        files.sort();
        for file in files {
            let stem = file.file_name().unwrap().to_str().unwrap().split('.').next().unwrap();
            let text = fs::read_to_string(&file).unwrap();
            let answers = if file.extension().is_some_and(|extension| extension == "txt") {
                chunks(format, &text)
            } else {
                exchanges(&text)
            };
            let is_one = answers.len() == 1;
            for (number, (is_stream, body)) in answers.into_iter().enumerate() {
                let name = if is_one { stem.to_owned() } else { format!("{stem}_{}", number + 1) };
                recordings.push(Recording { format, name, is_stream, body });
            }
        }
    }
    recordings
}

/// The answers in a recording of requests and answers, or the one that the file is.
fn exchanges(text: &str) -> Vec<(bool, Vec<u8>)> {
    let file: Value = serde_json::from_str(text).unwrap();
    let Some(exchanges) = file["exchanges"].as_array() else {
        return vec![(false, text.as_bytes().to_vec())];
    };
    let answer = |exchange: &Value| {
        let response = &exchange["response"];
        match (&response["text"], &response["base64"]) {
            (Value::String(text), _) => (true, text.as_bytes().to_vec()),
            (_, Value::String(data)) => (true, STANDARD.decode(data).unwrap()),
            _ => (false, response["json"].to_string().into_bytes()),
        }
    };
    exchanges.iter().map(answer).collect()
}

/// Streams in a file with the data of one event in each line.
fn chunks(format: Format, text: &str) -> Vec<(bool, Vec<u8>)> {
    let mut streams: Vec<(bool, Vec<u8>)> = Vec::new();
    let mut is_over = true;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if is_over || line.contains(r#""type":"response.created""#) {
            streams.push((true, Vec::new()));
        }
        is_over = line.contains(r#""type":"message_stop""#);
        let (_, stream) = streams.last_mut().unwrap();
        if format == Format::Converse {
            let line: Value = serde_json::from_str(line).unwrap();
            let (name, data) = line.as_object().unwrap().iter().next().unwrap();
            stream.extend(event_message(name, data.to_string().as_bytes()));
        } else {
            stream.extend(format!("data: {line}\n\n").bytes());
        }
    }
    if format == Format::Chat {
        streams.iter_mut().for_each(|(_, stream)| stream.extend(b"data: [DONE]\n\n"));
    }
    streams
}
