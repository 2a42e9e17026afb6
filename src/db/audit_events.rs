//! `audit_events`: inserted with each change and never updated.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::conn::on;
use super::filters::{filter_given, of_workspace};
use super::page::Page;
use super::schema::audit_events;
use super::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, AuditEventId, OrganizationId, UserId, WorkspaceId};
use crate::domain::scope::Scope;

/// One change.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_events)]
pub struct AuditEventRow {
    pub id: AuditEventId,
    pub organization_id: Option<OrganizationId>,
    pub workspace_id: Option<WorkspaceId>,
    /// `None` for the command line.
    pub actor_key_id: Option<ApiKeyId>,
    pub actor_user_id: Option<UserId>,
    /// `platform`, `organization`, `workspace` or `command_line`.
    pub actor_scope: String,
    /// For example `create_workspace`.
    pub operation: String,
    /// For example `workspace`.
    pub resource_type: String,
    /// The id of the resource, or the name of a secret.
    pub resource_id: String,
    pub client_address: Option<String>,
    pub request_id: Option<String>,
    pub client_request_id: Option<String>,
    /// The resource before the change, without secrets.
    pub before: Option<Value>,
    /// The resource after the change, without secrets.
    pub after: Option<Value>,
    pub created_at: NaiveDateTime,
}

/// Inserts an event.
pub async fn insert_audit_event(conn: &mut Conn, row: AuditEventRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(audit_events::table).values(&row).execute(c)).map(|_| ())
}

/// Filters a list of events.
#[derive(Clone, Debug, Default)]
pub struct AuditEventFilter {
    /// At or after this instant.
    pub from: Option<NaiveDateTime>,
    /// Before this instant.
    pub to: Option<NaiveDateTime>,
    /// The id of a key or of a user.
    pub actor: Option<String>,
    pub operation: Option<String>,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub workspace_id: Option<WorkspaceId>,
}

/// The events of the scope, newest first. The platform's are those that platform keys and the command
/// line caused, in any organization.
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
            Scope::Workspace(scope) => query.filter(of_workspace!(audit_events, scope)),
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
        query = filter_given(query, audit_events::operation, filter.operation);
        query = filter_given(query, audit_events::resource_type, filter.resource_type);
        query = filter_given(query, audit_events::resource_id, filter.resource_id);
        query = filter_given(query, audit_events::workspace_id, filter.workspace_id);
        if let Some(before) = page.after {
            query = query.filter(audit_events::id.lt(before));
        }
        query.load(c)
    })
}
