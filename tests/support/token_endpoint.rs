//! A scripted OAuth token endpoint.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{script::Script, secrets, upstream::ScriptedUpstream};

/// Starts one whose tokens live as long as it says, unless a script is queued. Also returns what all its
/// tokens begin with; the first one ends in `-0`.
pub(crate) async fn token_endpoint(expires_in: Value) -> (ScriptedUpstream, String) {
    let tokens = format!("oauth-token-{}", Uuid::now_v7().simple());
    secrets::register(&tokens);
    let (count, prefix) = (AtomicUsize::new(0), tokens.clone());
    let endpoint = ScriptedUpstream::with(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        granted(&format!("{prefix}-{number}"), &expires_in)
    });
    (endpoint.await, tokens)
}

/// An answer with this token; null for one that does not tell its life.
pub(crate) fn granted(token: &str, expires_in: &Value) -> Script {
    let mut answer = json!({"access_token": token, "token_type": "Bearer"});
    if !expires_in.is_null() {
        answer["expires_in"] = expires_in.clone();
    }
    Script::json(200, &answer)
}
