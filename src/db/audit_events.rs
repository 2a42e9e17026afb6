//! `audit_events`: written with each change, never altered.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::conn::on;
use super::schema::audit_events;
use super::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, AuditEventId, OrganizationId, UserId, WorkspaceId};

/// One change, and who made it.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_events)]
pub struct AuditEventRow {
    /// Its id.
    pub id: AuditEventId,
    /// The tenant that it concerns; events of the platform alone have none.
    pub organization_id: Option<OrganizationId>,
    /// The workspace that it concerns, if one.
    pub workspace_id: Option<WorkspaceId>,
    /// The key that made the change; the command line has none.
    pub actor_key_id: Option<ApiKeyId>,
    /// The person whose key that is.
    pub actor_user_id: Option<UserId>,
    /// `platform`, `organization`, `workspace` or `command_line`.
    pub actor_scope: String,
    /// For example `create_workspace`.
    pub operation: String,
    /// For example `workspace`.
    pub resource_type: String,
    /// The id (or for secrets the name) of what was changed.
    pub resource_id: String,
    /// Where the request came from.
    pub client_address: Option<String>,
    /// Our id of the request.
    pub request_id: Option<String>,
    /// The caller's id of the request.
    pub client_request_id: Option<String>,
    /// What was there, secrets left out.
    pub before: Option<Value>,
    /// What is there now, secrets left out.
    pub after: Option<Value>,
    /// When, UTC.
    pub created_at: NaiveDateTime,
}

/// Appends an event.
pub async fn insert_audit_event(conn: &mut Conn, row: AuditEventRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(audit_events::table).values(&row).execute(c)).map(|_| ())
}
