//! Every secret that the run used, in every form that a log line might show it in.
//!
//! Whoever makes, stores or receives a secret in a test registers it here; the check after the last
//! case looks for all of them in everything that was logged.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::{LazyLock, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::framing::HeaderList;

/// Below this a value occurs by chance, and finding it would prove nothing.
const SHORTEST: usize = 8;

static USED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);

/// Notes that the run uses this secret. Registering one twice is fine.
///
/// # Panics
/// When the value is too short to be told from ordinary text: the test should choose a longer one.
pub(crate) fn register(secret: &str) {
    assert!(
        secret.len() >= SHORTEST,
        "a test secret needs {SHORTEST} bytes or more to be searched for"
    );
    USED.lock().unwrap().insert(secret.to_owned());
}

/// Registers a Tollgate key: the whole, and the part after the lookup id, which is the secret. What
/// is too short to be a key is left out: tests present such things on purpose.
pub(crate) fn register_key(key: &str) {
    let parts = [Some(key), key.rsplit_once('_').map(|(_, secret)| secret)];
    for part in parts.into_iter().flatten().filter(|part| part.len() >= SHORTEST) {
        register(part);
    }
}

/// Registers what a request shows of secrets: the credentials in its headers, and a value that it
/// stores.
pub(super) fn note_sent(target: &str, headers: &HeaderList, body: &[u8]) {
    for (name, value) in headers {
        match name.to_ascii_lowercase().as_str() {
            "authorization" => register_key(value.rsplit(' ').next().unwrap_or(value)),
            "x-api-key" | "x-goog-api-key" => register_key(value),
            _ => {}
        }
    }
    if target.contains("/secrets/") {
        register_field(body, "value");
    }
}

/// Registers the keys that an answer of the management plane shows once.
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

/// All that were registered so far.
pub(crate) fn used() -> Vec<String> {
    USED.lock().unwrap().iter().cloned().collect()
}

/// The forms in which `secret` may stand in a log: as it is, escaped as Rust's `Debug` and as JSON
/// do, percent-encoded, in base64, in hexadecimal, and as the list of its bytes.
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
