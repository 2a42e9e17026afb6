//! `/audit-log`: who changed what. Read only; events are written with the changes themselves.

use actix_web::web;
use chrono::{DateTime, Datelike, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Management;
use super::access::{AuditLogRead, Permitted};
use super::date_time;
use super::error::{ApiError, FieldError};
use super::page::{Paged, page};
use super::query::Query;
use super::routes::Routes;
use crate::db::Conn;
use crate::db::audit_events::{AuditEventFilter, AuditEventRow, list_audit_events};
use crate::domain::ids::{ApiKeyId, AuditEventId, OrganizationId, UserId, WorkspaceId};

/// No operation, type or id of ours is longer; secrets' names come closest.
const MOST_CHARS: usize = 128;

/// The query of the audit log. All filters that are given have to hold.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditLogQuery {
    /// How many to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Only events at this instant or later.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub from: Option<DateTime<Utc>>,
    /// Only events before this instant.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub to: Option<DateTime<Utc>>,
    /// Only what the key or the user with this id did.
    #[param(format = Uuid)]
    pub actor: Option<uuid::Uuid>,
    /// Only this operation.
    #[param(max_length = 128, example = "create_workspace")]
    pub operation: Option<String>,
    /// Only changes of this kind of thing.
    #[param(max_length = 128, example = "workspace")]
    pub resource_type: Option<String>,
    /// Only changes of the thing with this id (of secrets, with this name).
    #[param(max_length = 128)]
    pub resource_id: Option<String>,
    /// Only what concerns this workspace.
    pub workspace_id: Option<WorkspaceId>,
}

/// Where whoever made a change stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorScope {
    /// A platform key.
    Platform,
    /// An organization's key.
    Organization,
    /// A workspace's key.
    Workspace,
    /// The command line on the server.
    CommandLine,
}

/// Who made a change.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct AuditActor {
    /// Where they stood.
    pub scope: ActorScope,
    /// The key; the command line has none.
    pub api_key_id: Option<ApiKeyId>,
    /// The person whose key that was.
    pub user_id: Option<UserId>,
}

/// One change.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct AuditEvent {
    /// Its id; later events have higher ones.
    pub id: AuditEventId,
    /// When it was.
    pub created_at: DateTime<Utc>,
    /// The organization that it concerns; events of the platform alone have none.
    pub organization_id: Option<OrganizationId>,
    /// The workspace that it concerns, if one.
    pub workspace_id: Option<WorkspaceId>,
    /// Who made it.
    pub actor: AuditActor,
    /// What they did.
    #[schema(example = "create_workspace")]
    pub operation: String,
    /// What kind of thing they did it to.
    #[schema(example = "workspace")]
    pub resource_type: String,
    /// Its id; of secrets, the name.
    pub resource_id: String,
    /// Where the request came from.
    pub client_address: Option<String>,
    /// Our id of the request.
    pub request_id: Option<String>,
    /// The caller's id of the request.
    pub client_request_id: Option<String>,
    /// What the API showed of the thing before.
    pub before: Option<Value>,
    /// What it shows since; for a deletion of several things, how many.
    pub after: Option<Value>,
}

impl From<AuditEventRow> for AuditEvent {
    fn from(row: AuditEventRow) -> Self {
        Self {
            id: row.id,
            created_at: row.created_at.and_utc(),
            organization_id: row.organization_id,
            workspace_id: row.workspace_id,
            actor: AuditActor {
                scope: match row.actor_scope.as_str() {
                    "platform" => ActorScope::Platform,
                    "organization" => ActorScope::Organization,
                    "workspace" => ActorScope::Workspace,
                    _ => ActorScope::CommandLine,
                },
                api_key_id: row.actor_key_id,
                user_id: row.actor_user_id,
            },
            operation: row.operation,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            client_address: row.client_address,
            request_id: row.request_id,
            client_request_id: row.client_request_id,
            before: row.before,
            after: row.after,
        }
    }
}

/// List changes
///
/// Newest first. An organization's key sees what concerns its organization, a workspace's key what
/// concerns its workspace, a platform key what platform keys and the command line did.
#[utoipa::path(
    get,
    path = "/audit-log",
    params(AuditLogQuery),
    responses((status = 200, description = "A page", body = Paged<AuditEvent>)),
)]
async fn list_audit_log(
    caller: Permitted<AuditLogRead>,
    plane: web::Data<Management>,
    query: Query<AuditLogQuery>,
) -> Result<web::Json<Paged<AuditEvent>>, ApiError> {
    let query = query.0;
    let page = page::<AuditEventId>(query.limit, query.cursor.as_deref())?;
    let filter = filter(query)?;
    let scope = caller.principal.scope;
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| list_audit_events(conn, scope, filter, page).await)
        .await?;
    Ok(web::Json(Paged::of(rows, page, |row| row.id.uuid(), AuditEvent::from)))
}

/// An end of the time that is asked for, if the databases can tell it.
fn instant(
    field: &'static str,
    at: Option<DateTime<Utc>>,
) -> Result<Option<NaiveDateTime>, ApiError> {
    match at {
        Some(at) if !(0..=9999).contains(&at.year()) => {
            Err(ApiError::field(field, "must lie in the years 0 to 9999"))
        }
        at => Ok(at.map(|at| at.naive_utc())),
    }
}

fn filter(query: AuditLogQuery) -> Result<AuditEventFilter, ApiError> {
    let texts = [
        ("operation", &query.operation),
        ("resource_type", &query.resource_type),
        ("resource_id", &query.resource_id),
    ];
    let errors: Vec<FieldError> = texts
        .into_iter()
        .filter(|(_, text)| {
            text.as_ref().is_some_and(|text| text.len() > MOST_CHARS || text.contains('\0'))
        })
        .map(|(field, _)| FieldError {
            field: field.to_owned(),
            message: format!("must be at most {MOST_CHARS} characters of text"),
        })
        .collect();
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    Ok(AuditEventFilter {
        from: instant("from", query.from)?,
        to: instant("to", query.to)?,
        actor: query.actor.map(|id| id.as_hyphenated().to_string()),
        operation: query.operation,
        resource_type: query.resource_type,
        resource_id: query.resource_id,
        workspace_id: query.workspace_id,
    })
}

/// Adds the operations.
pub(super) fn configure(routes: &mut Routes) {
    routes.tag("audit-log").add(__path_list_audit_log, list_audit_log);
}
