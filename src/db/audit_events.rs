//! `audit_events`: written with each change, never altered.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::conn::on;
use super::page::Page;
use super::schema::audit_events;
use super::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, AuditEventId, OrganizationId, UserId, WorkspaceId};
use crate::domain::scope::Scope;

/// One change, and who made it.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_events)]
pub struct AuditEventRow {
    pub id: AuditEventId,
    /// The tenant that it concerns; events of the platform alone have none.
    pub organization_id: Option<OrganizationId>,
    /// The workspace that it concerns, if one.
    pub workspace_id: Option<WorkspaceId>,
    /// The key that made the change; the command line has none.
    pub actor_key_id: Option<ApiKeyId>,
    pub actor_user_id: Option<UserId>,
    /// `platform`, `organization`, `workspace` or `command_line`.
    pub actor_scope: String,
    /// For example `create_workspace`.
    pub operation: String,
    /// For example `workspace`.
    pub resource_type: String,
    /// The id (or for secrets the name) of what was changed.
    pub resource_id: String,
    pub client_address: Option<String>,
    pub request_id: Option<String>,
    pub client_request_id: Option<String>,
    /// What was there, secrets left out.
    pub before: Option<Value>,
    /// What is there now, secrets left out.
    pub after: Option<Value>,
    pub created_at: NaiveDateTime,
}

/// Appends an event.
pub async fn insert_audit_event(conn: &mut Conn, row: AuditEventRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(audit_events::table).values(&row).execute(c)).map(|_| ())
}

/// Which events a list shows.
#[derive(Clone, Debug, Default)]
pub struct AuditEventFilter {
    /// Not before this instant, UTC.
    pub from: Option<NaiveDateTime>,
    /// Before this instant, UTC.
    pub to: Option<NaiveDateTime>,
    /// A key's or a user's id.
    pub actor: Option<String>,
    pub operation: Option<String>,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub workspace_id: Option<WorkspaceId>,
}

/// The events that concern the scope, newest first. The platform's are those that its keys and the
/// command line caused, in whatever organization.
pub async fn list_audit_events(
    conn: &mut Conn,
    scope: Scope,
    filter: AuditEventFilter,
    page: Page<AuditEventId>,
) -> Result<Vec<AuditEventRow>, DbError> {
    on!(conn, c => {
        let mut query = audit_events::table
            .select(AuditEventRow::as_select())
            .order(audit_events::id.desc())
            .limit(page.rows())
            .into_boxed();
        query = match scope {
            Scope::Platform => {
                query.filter(audit_events::actor_scope.eq_any(["platform", "command_line"]))
            }
            Scope::Organization(id) => query.filter(audit_events::organization_id.eq(id)),
            Scope::Workspace(scope) => query
                .filter(audit_events::organization_id.eq(scope.organization_id))
                .filter(audit_events::workspace_id.eq(scope.workspace_id)),
        };
        if let Some(from) = filter.from {
            query = query.filter(audit_events::created_at.ge(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(audit_events::created_at.lt(to));
        }
        if let Some(actor) = filter.actor {
            query = query.filter(
                audit_events::actor_key_id
                    .eq(actor.clone())
                    .or(audit_events::actor_user_id.eq(actor)),
            );
        }
        if let Some(operation) = filter.operation {
            query = query.filter(audit_events::operation.eq(operation));
        }
        if let Some(resource_type) = filter.resource_type {
            query = query.filter(audit_events::resource_type.eq(resource_type));
        }
        if let Some(resource_id) = filter.resource_id {
            query = query.filter(audit_events::resource_id.eq(resource_id));
        }
        if let Some(workspace_id) = filter.workspace_id {
            query = query.filter(audit_events::workspace_id.eq(workspace_id));
        }
        if let Some(before) = page.after {
            query = query.filter(audit_events::id.lt(before));
        }
        query.load(c)
    })
}
