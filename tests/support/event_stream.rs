//! Writes AWS's binary event streams, with code of its own.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// A message with text headers.
pub(crate) fn message(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap());
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let total = u32::try_from(16 + head.len() + payload.len()).unwrap();
    let mut all = [total, u32::try_from(head.len()).unwrap()].map(u32::to_be_bytes).concat();
    all.extend_from_slice(&crc32fast::hash(&all).to_be_bytes());
    all.extend_from_slice(&head);
    all.extend_from_slice(payload.as_bytes());
    all.extend_from_slice(&crc32fast::hash(&all).to_be_bytes());
    all
}

/// The stream of a model that was invoked: each event in base64 inside of a chunk.
pub(crate) fn invoked(events: &[Value]) -> Vec<u8> {
    let chunks = events.iter().map(|event| {
        let bytes = BASE64_STANDARD.encode(event.to_string());
        let headers = [
            (":event-type", "chunk"),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ];
        message(&headers, &json!({"bytes": bytes, "p": "abcdefgh"}).to_string())
    });
    chunks.flatten().collect()
}
