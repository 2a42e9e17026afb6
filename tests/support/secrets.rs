//! Every secret that the run used, and the forms in which a log line might contain it.
//!
//! Tests register the secrets they create, store or receive. After the last test all logs are searched
//! for them.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::{LazyLock, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::framing::HeaderList;

/// A shorter value could occur in a log by chance.
const SHORTEST: usize = 8;

static USED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);

/// Registers a secret.
///
/// # Panics
/// If the value is so short that it could be ordinary text.
pub(crate) fn register(secret: &str) {
    assert!(
        secret.len() >= SHORTEST,
        "a test secret needs {SHORTEST} bytes or more to be searched for"
    );
    USED.lock().unwrap().insert(secret.to_owned());
}

/// Registers a Tollgate key: all of it, and the secret part after the lookup id. Skips what is too
/// short to be a key, which tests send on purpose.
pub(crate) fn register_key(key: &str) {
    let parts = [Some(key), key.rsplit_once('_').map(|(_, secret)| secret)];
    for part in parts.into_iter().flatten().filter(|part| part.len() >= SHORTEST) {
        register(part);
    }
}

/// Registers the secrets in a request: credentials in headers, and the value of a stored secret.
pub(super) fn note_sent(target: &str, headers: &HeaderList, body: &[u8]) {
    for (name, value) in headers {
        match name.to_ascii_lowercase().as_str() {
            "authorization" => register_key(value.rsplit(' ').next().unwrap_or(value)),
            "x-api-key" | "x-goog-api-key" | "api-key" => register_key(value),
            _ => {}
        }
    }
    if target.contains("/secrets/") {
        register_field(body, "value");
    }
}

/// Registers the keys in an answer of the management plane.
pub(super) fn note_received(body: &[u8]) {
    for field in ["key", "admin_key", "platform_key"] {
        register_field(body, field);
    }
}

fn register_field(body: &[u8], field: &str) {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return };
    let Some(value) = body[field].as_str() else { return };
    if value.starts_with("tg_") {
        register_key(value);
    } else if field == "value" && value.len() >= SHORTEST {
        register(value);
    }
}

pub(crate) fn used() -> Vec<String> {
    USED.lock().unwrap().iter().cloned().collect()
}

/// The forms in which a log may contain `secret`: unchanged, escaped as by Rust's `Debug` and JSON,
/// percent-encoded, in base64, in hexadecimal, and as a list of bytes.
pub(crate) fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let debug = format!("{secret:?}");
    let json = serde_json::Value::from(secret).to_string();
    let hex = secret.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let list = format!("{:?}", secret.as_bytes());
    let percent = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
    let mut forms = vec![
        ("as it is", secret.to_owned()),
        ("in debug form", debug.trim_matches('"').to_owned()),
        ("as JSON", json.trim_matches('"').to_owned()),
        ("percent-encoded", percent.replace('+', "%20")),
        ("form-encoded", percent),
        ("in base64", BASE64_STANDARD.encode(secret).trim_end_matches('=').to_owned()),
        ("in hexadecimal", hex),
        ("as bytes", list.trim_matches(['[', ']']).to_owned()),
    ];
    let mut seen = BTreeSet::new();
    forms.retain(|(_, form)| seen.insert(form.clone()));
    forms
}
