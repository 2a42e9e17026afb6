//! The list of models in the forms that clients read.

use actix_web::HttpRequest;
use chrono::DateTime;
use serde_json::{Value, json};

use super::entry::ModelEntry;
use crate::domain::headers::ANTHROPIC_VERSION;

/// Whose list a client expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    OpenAi,
    /// For clients that send the version of Anthropic's API.
    Anthropic,
    /// For Codex, which sends its own version in the query.
    Codex,
}

impl Shape {
    /// The form for this request.
    pub fn of(request: &HttpRequest) -> Self {
        let mut query = request.query_string().split('&');
        if query.any(|part| part == "client_version" || part.starts_with("client_version=")) {
            Self::Codex
        } else if request.headers().contains_key(ANTHROPIC_VERSION) {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    /// The whole list, in one part. `unavailable` names the providers whose lists could not be read.
    pub fn list(self, entries: &[ModelEntry], unavailable: &[&str]) -> Value {
        let models: Vec<Value> = entries.iter().map(|entry| self.one(entry)).collect();
        let id_of = |entry: Option<&ModelEntry>| entry.map(|entry| entry.id.clone());
        let mut list = match self {
            Self::OpenAi => json!({"object": "list", "data": models}),
            Self::Anthropic => json!({
                "data": models,
                "has_more": false,
                "first_id": id_of(entries.first()),
                "last_id": id_of(entries.last()),
            }),
            Self::Codex => json!({"models": models}),
        };
        if !unavailable.is_empty() {
            list["tollgate"] = json!({"unavailable": unavailable});
        }
        list
    }

    /// One model.
    pub fn one(self, entry: &ModelEntry) -> Value {
        let name = entry.display_name.as_ref().unwrap_or(&entry.id);
        let created = entry.created.unwrap_or(0);
        match self {
            Self::OpenAi => json!({
                "id": entry.id,
                "object": "model",
                "created": created,
                "owned_by": entry.owned_by,
                "tollgate": entry.place(),
            }),
            Self::Anthropic => json!({
                "type": "model",
                "id": entry.id,
                "display_name": name,
                // 1970 where it is not known, as Anthropic has it.
                "created_at": DateTime::from_timestamp(created, 0).unwrap_or_default(),
                "tollgate": entry.place(),
            }),
            Self::Codex => json!({"slug": entry.id, "display_name": name}),
        }
    }
}
