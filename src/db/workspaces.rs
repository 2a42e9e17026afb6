//! `workspaces`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::schema::workspaces;
use super::{Conn, DbError, optional};
use crate::domain::ids::{OrganizationId, WorkspaceId};
use crate::domain::names::{DisplayName, Handle};
use crate::domain::scope::WorkspaceScope;

/// One workspace.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = workspaces)]
pub struct WorkspaceRow {
    /// Its id.
    pub id: WorkspaceId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// What people call it.
    pub name: DisplayName,
    /// Unique among the live ones of the organization.
    pub handle: Handle,
    /// When it was made, UTC.
    pub created_at: NaiveDateTime,
    /// When it last changed, UTC.
    pub updated_at: NaiveDateTime,
    /// When it was deleted, UTC.
    pub deleted_at: Option<NaiveDateTime>,
}

/// The live workspace of that scope.
pub async fn find_workspace(
    conn: &mut Conn,
    scope: WorkspaceScope,
) -> Result<Option<WorkspaceRow>, DbError> {
    optional(on!(conn, c => workspaces::table
        .filter(workspaces::organization_id.eq(scope.organization_id))
        .filter(workspaces::id.eq(scope.workspace_id))
        .filter(workspaces::deleted_at.is_null())
        .select(WorkspaceRow::as_select())
        .first(c)))
}
