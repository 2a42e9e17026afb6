//! The audit log: one event for each change, written in the transaction of the change.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::clock::Clock;
use crate::db::audit_events::{AuditEventRow, insert_audit_event};
use crate::db::{Conn, DbError};
use crate::domain::ids::{OrganizationId, WorkspaceId};
use crate::domain::permissions::ScopeKind;
use crate::domain::principal::Principal;

/// Who makes a change, from where and when.
#[derive(Clone, Debug)]
pub struct Actor {
    /// `None` for the command line.
    pub principal: Option<Principal>,
    /// The address that the request came from, taken from the headers of trusted proxies if there are any.
    pub client_address: Option<String>,
    pub request_id: Option<String>,
    pub client_request_id: Option<String>,
    /// The instant that is written to the event and to the changed rows.
    pub now: DateTime<Utc>,
    pub clock: Clock,
}

impl Actor {
    /// The command line on the server itself.
    pub fn command_line(clock: &Clock) -> Self {
        Self {
            principal: None,
            client_address: None,
            request_id: None,
            client_request_id: None,
            now: clock.now(),
            clock: clock.clone(),
        }
    }
}

/// A change. `before` and `after` are the resource as the API shows it, so they contain no secrets.
#[derive(Clone, Debug)]
pub struct Event {
    /// For example `create_workspace`.
    pub operation: &'static str,
    /// For example `workspace`.
    pub resource_type: &'static str,
    /// The id of the resource; for secrets the name.
    pub resource_id: String,
    pub organization_id: Option<OrganizationId>,
    pub workspace_id: Option<WorkspaceId>,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// Inserts the event in the open transaction.
pub async fn record(conn: &mut Conn, actor: &Actor, event: Event) -> Result<(), DbError> {
    let principal = actor.principal;
    insert_audit_event(
        conn,
        AuditEventRow {
            id: actor.clock.new_id(),
            organization_id: event.organization_id,
            workspace_id: event.workspace_id,
            actor_key_id: principal.and_then(|principal| principal.api_key_id()),
            actor_user_id: principal.and_then(|principal| principal.user_id),
            actor_scope: match principal.map(|principal| principal.scope.kind()) {
                Some(ScopeKind::Platform) => "platform",
                Some(ScopeKind::Organization) => "organization",
                Some(ScopeKind::Workspace) => "workspace",
                None => "command_line",
            }
            .to_owned(),
            operation: event.operation.to_owned(),
            resource_type: event.resource_type.to_owned(),
            resource_id: event.resource_id,
            client_address: actor.client_address.clone(),
            request_id: actor.request_id.clone(),
            client_request_id: actor.client_request_id.clone(),
            before: event.before,
            after: event.after,
            created_at: actor.now.naive_utc(),
        },
    )
    .await
}
