//! Small functions that several resources need: ids in paths, conflicts of names, descriptions, times,
//! and the audit log.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use chrono::{DateTime, Datelike, NaiveDateTime, SubsecRound, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::IntoResponses;
use utoipa::openapi::{Ref, RefOr, Response};

use super::error::ApiError;
use super::field_errors::both;
use crate::audit::{self, Actor, Event};
use crate::auth::issue::IssueError;
use crate::crypto::SecretText;
use crate::db::workspaces::find_workspace;
use crate::db::{Conn, DbError};
use crate::domain::ids::ConfigurationId;
use crate::domain::provider::{Provider, UpstreamId};
use crate::domain::scope::{Owner, Scope, WorkspaceScope};

/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 1024;

/// Reads an id of a path. A text that is not an id belongs to no resource.
pub(super) fn path_id<T: FromStr>(text: &str, what: &'static str) -> Result<T, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound(what))
}

/// A 409 that names the field if another row has the value.
pub(super) fn or_taken(error: DbError, code: &'static str, detail: &str) -> ApiError {
    match error {
        DbError::UniqueViolation => ApiError::Conflict { code, detail: detail.to_owned() },
        other => other.into(),
    }
}

/// A resource whose changes the audit log records.
pub(super) trait Audited: Serialize {
    /// The type as the audit log names it.
    const TYPE: &'static str;

    /// The id; of secrets, the name.
    fn audit_id(&self) -> String;
}

/// Records a change of a resource in the audit log.
pub(super) async fn record<R: Audited>(
    conn: &mut Conn,
    actor: &Actor,
    scope: Scope,
    operation: &'static str,
    before: Option<&R>,
    after: Option<&R>,
) -> Result<(), ApiError> {
    let event = Event {
        operation,
        resource_type: R::TYPE,
        resource_id: before.or(after).map(R::audit_id).unwrap_or_default(),
        organization_id: scope.organization_id(),
        workspace_id: scope.workspace_id(),
        before: before.map(as_json).transpose()?,
        after: after.map(as_json).transpose()?,
    };
    Ok(audit::record(conn, actor, event).await?)
}

/// The response to a request that created something at this path.
pub(super) fn created(path: String, body: impl Serialize) -> HttpResponse {
    HttpResponse::Created().insert_header((LOCATION, path)).json(body)
}

/// A resource as the API shows it.
pub(super) fn as_json(shown: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(shown)
        .map_err(|error| ApiError::Internal(format!("a resource can't be shown: {error}")))
}

/// Checks that the workspace exists and is not deleted.
pub(super) async fn check_workspace(
    conn: &mut Conn,
    scope: WorkspaceScope,
) -> Result<(), ApiError> {
    find_workspace(conn, scope).await?.map(|_| ()).ok_or(ApiError::NotFound("workspace"))
}

/// The same for a workspace as an owner; an organization exists if it has keys.
pub(super) async fn check_owner(conn: &mut Conn, owner: Owner) -> Result<(), ApiError> {
    match owner {
        Owner::Organization(_) => Ok(()),
        Owner::Workspace(scope) => check_workspace(conn, scope).await,
    }
}

/// The path of what belongs to the owner, in the API.
pub(super) fn owner_path(owner: Owner) -> String {
    match owner.workspace_id() {
        Some(id) => format!("/api/v1/workspaces/{id}"),
        None => "/api/v1".to_owned(),
    }
}

/// Checks the length and the characters of a description.
pub(super) fn check_description(description: Option<&str>) -> Result<(), ApiError> {
    if description.is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
        return Err(ApiError::field(
            "description",
            format!("must be at most {MAX_DESCRIPTION} characters long"),
        ));
    }
    // PostgreSQL can't store NUL, and the others are not visible.
    let unprintable = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if description.is_some_and(|text| text.contains(unprintable)) {
        let message = "must not contain control characters other than line breaks and tabs";
        return Err(ApiError::field("description", message));
    }
    Ok(())
}

/// Serializes a key for the only answer that shows it.
pub(super) fn once<S: serde::Serializer>(key: &SecretText, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(key.expose())
}

/// A time in the future, with the precision of the databases.
pub(super) fn future(
    field: &'static str,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, ApiError> {
    if at <= now {
        return Err(ApiError::field(field, "must lie in the future"));
    }
    // SQLite compares times as text, whose width changes after this year.
    if at.year() > 9999 {
        return Err(ApiError::field(field, "must lie before the year 10000; null means never"));
    }
    Ok(at.trunc_subsecs(6))
}

/// The ends of a time range as the databases compare them, if both lie in these years.
pub(super) fn time_range(
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    years: RangeInclusive<i32>,
) -> Result<(Option<NaiveDateTime>, Option<NaiveDateTime>), ApiError> {
    let end = |field: &str, at: Option<DateTime<Utc>>| match at {
        Some(at) if !years.contains(&at.year()) => {
            let (first, last) = (years.start(), years.end());
            Err(ApiError::field(field, format!("must lie in the years {first} to {last}")))
        }
        at => Ok(at.map(|at| at.naive_utc())),
    };
    both(end("from", from), end("to", to))
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

/// What a filter by a configuration or by a provider selects.
pub(super) fn upstream_filter(
    configuration_id: Option<ConfigurationId>,
    provider: Option<Provider>,
) -> Result<Option<UpstreamId>, ApiError> {
    match (configuration_id, provider) {
        (Some(_), Some(_)) => {
            Err(ApiError::field("provider", "can't be given together with 'configuration_id'"))
        }
        (Some(id), None) => Ok(Some(UpstreamId::Configuration(id))),
        (None, provider) => Ok(provider.map(UpstreamId::Provider)),
    }
}
