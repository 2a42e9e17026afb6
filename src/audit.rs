//! Who changed what: one event a change, written in the change's own transaction.

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
    pub principal: Option<Principal>,
    /// The address that the request came from, as far as trusted proxies tell.
    pub client_address: Option<String>,
    pub request_id: Option<String>,
    pub client_request_id: Option<String>,
    /// The instant that stands in the event and in the changed rows.
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

/// A change, as the log tells it. `before` and `after` are what the API shows of the resource, so
/// they hold no secrets.
#[derive(Clone, Debug)]
pub struct Event {
    /// Verb and noun, for example `create_workspace`.
    pub operation: &'static str,
    /// The noun, for example `workspace`.
    pub resource_type: &'static str,
    /// The id of what was changed; for secrets the name.
    pub resource_id: String,
    /// The tenant that it concerns.
    pub organization_id: Option<OrganizationId>,
    /// The workspace that it concerns, if one.
    pub workspace_id: Option<WorkspaceId>,
    /// What was there.
    pub before: Option<Value>,
    /// What is there now.
    pub after: Option<Value>,
}

/// Writes the event into the open transaction.
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
