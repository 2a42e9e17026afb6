//! The small things that several resources need: ids in paths, whether a workspace is there, names
//! that are taken, descriptions, instants to come, problems in the documentation, and what the audit
//! log shows of a resource.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::IntoResponses;
use utoipa::openapi::{Ref, RefOr, Response};

use super::error::ApiError;
use crate::auth::issue::IssueError;
use crate::crypto::SecretText;
use crate::db::workspaces::find_workspace;
use crate::db::{Conn, DbError};
use crate::domain::scope::WorkspaceScope;

/// The longest description, in characters.
const MOST_DESCRIPTION: usize = 1024;

/// Reads an id that stands in a path. What is no id is the id of nothing.
pub(super) fn path_id<T: FromStr>(text: &str, what: &'static str) -> Result<T, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound(what))
}

/// A 409 that names the field, where another live row has the value.
pub(super) fn or_taken(error: DbError, code: &'static str, detail: &str) -> ApiError {
    match error {
        DbError::UniqueViolation => ApiError::Conflict { code, detail: detail.to_owned() },
        other => other.into(),
    }
}

/// What the API shows of a resource, as the audit log keeps it.
pub(super) fn as_json(shown: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(shown)
        .map_err(|error| ApiError::Internal(format!("a resource can't be shown: {error}")))
}

/// That the workspace is there and not deleted.
pub(super) async fn live_workspace(conn: &mut Conn, scope: WorkspaceScope) -> Result<(), ApiError> {
    find_workspace(conn, scope).await?.map(|_| ()).ok_or(ApiError::NotFound("workspace"))
}

/// That a description is not too long.
pub(super) fn check_description(description: Option<&str>) -> Result<(), ApiError> {
    if description.is_some_and(|text| text.chars().count() > MOST_DESCRIPTION) {
        return Err(ApiError::field(
            "description",
            format!("must be at most {MOST_DESCRIPTION} characters long"),
        ));
    }
    // PostgreSQL can't store some of them, and nobody can read the others.
    let unprintable = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if description.is_some_and(|text| text.contains(unprintable)) {
        let message = "must not contain control characters other than line breaks and tabs";
        return Err(ApiError::field("description", message));
    }
    Ok(())
}

/// Serializes a key into the one answer that shows it.
pub(super) fn once<S: serde::Serializer>(key: &SecretText, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(key.expose())
}

/// An instant at which something is to end, in the precision that the databases keep.
pub(super) fn future(
    field: &'static str,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, ApiError> {
    if at <= now {
        return Err(ApiError::field(field, "must lie in the future"));
    }
    // Beyond it, the text form that SQLite compares by has another width.
    if at.year() > 9999 {
        return Err(ApiError::field(field, "must lie before the year 10000; null means never"));
    }
    Ok(at.trunc_subsecs(6))
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Database(error) => error.into(),
            IssueError::Hash(error) => Self::Internal(format!("no key was made: {error}")),
        }
    }
}

/// For the `responses` of an operation that the present state can forbid.
pub(super) struct Conflicts;

/// For the `responses` of an operation that may not find something that its query or body names.
pub(super) struct NotFound;

impl IntoResponses for Conflicts {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([("409".to_owned(), Ref::from_response_name("Conflict").into())])
    }
}

impl IntoResponses for NotFound {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([("404".to_owned(), Ref::from_response_name("NotFound").into())])
    }
}
