//! `/audit-log`: who changed what. Read only; events are written with the changes themselves.

use actix_web::web;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Management;
use super::access::{AuditLogRead, Permitted};
use super::date_time;
use super::error::{ApiError, FieldError};
use super::field_errors::both;
use super::page::{Paged, page};
use super::query::Query;
use super::routes::Routes;
use super::shared::time_range;
use crate::db::Conn;
use crate::db::audit_events::{AuditEventFilter, AuditEventRow, list_audit_events};
use crate::domain::ids::{ApiKeyId, AuditEventId, OrganizationId, UserId, WorkspaceId};

/// The longest operation, type or id; the names of secrets can be as long.
const MAX_CHARS: usize = 128;

/// The query of the audit log. All filters that are given apply.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditLogQuery {
    /// The largest number of items to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(super) limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    pub(super) cursor: Option<String>,
    /// Only events at this time or later.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub(super) from: Option<DateTime<Utc>>,
    /// Only events before this time.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub(super) to: Option<DateTime<Utc>>,
    /// Only changes by the key or the user with this id.
    #[param(format = Uuid)]
    pub(super) actor: Option<uuid::Uuid>,
    /// Only this operation.
    #[param(max_length = 128, example = "create_workspace")]
    pub(super) operation: Option<String>,
    /// Only changes of resources of this type.
    #[param(max_length = 128, example = "workspace")]
    pub(super) resource_type: Option<String>,
    /// Only changes of the resource with this id (of secrets, with this name).
    #[param(max_length = 128)]
    pub(super) resource_id: Option<String>,
    /// Only changes in this workspace.
    pub(super) workspace_id: Option<WorkspaceId>,
}

/// The scope of the actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ActorScope {
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
pub(super) struct AuditActor {
    pub(super) scope: ActorScope,
    /// The key; the command line has none.
    pub(super) api_key_id: Option<ApiKeyId>,
    /// The user of the key.
    pub(super) user_id: Option<UserId>,
}

/// One change.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AuditEvent {
    /// Later events have higher ids.
    pub(super) id: AuditEventId,
    pub(super) created_at: DateTime<Utc>,
    /// Null for changes that concern the platform only.
    pub(super) organization_id: Option<OrganizationId>,
    pub(super) workspace_id: Option<WorkspaceId>,
    pub(super) actor: AuditActor,
    #[schema(example = "create_workspace")]
    pub(super) operation: String,
    #[schema(example = "workspace")]
    pub(super) resource_type: String,
    /// For secrets, the name.
    pub(super) resource_id: String,
    /// Where the request came from.
    pub(super) client_address: Option<String>,
    /// The `x-request-id` of the answer.
    pub(super) request_id: Option<String>,
    /// The caller's id of the request.
    pub(super) client_request_id: Option<String>,
    /// The resource before the change, as the API shows it.
    pub(super) before: Option<Value>,
    /// The resource after the change; for a deletion of several resources, their number.
    pub(super) after: Option<Value>,
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
/// concerns its workspace, a platform key what platform keys and the command line changed.
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
    let (page, filter) = query.check(|query| {
        both(page::<AuditEventId>(query.limit, query.cursor.as_deref()), filter(query))
    })?;
    let scope = caller.scope;
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| list_audit_events(conn, scope, filter, page).await)
        .await?;
    Ok(web::Json(Paged::of(rows, page, |row| row.id.uuid(), AuditEvent::from)))
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
            text.as_ref().is_some_and(|text| text.len() > MAX_CHARS || text.contains('\0'))
        })
        .map(|(field, _)| FieldError {
            field: field.to_owned(),
            message: format!("must be at most {MAX_CHARS} characters of text"),
        })
        .collect();
    let texts = if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid(errors)) };
    // The years that both databases can store.
    let (times, ()) = both(time_range(query.from, query.to, 0..=9999), texts)?;
    Ok(AuditEventFilter {
        from: times.0,
        to: times.1,
        actor: query.actor.map(|id| id.as_hyphenated().to_string()),
        operation: query.operation,
        resource_type: query.resource_type,
        resource_id: query.resource_id,
        workspace_id: query.workspace_id,
    })
}

pub(super) fn configure(routes: &mut Routes) {
    routes.tag("audit-log").add(__path_list_audit_log, list_audit_log);
}
