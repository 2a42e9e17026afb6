//! `workspaces`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::page::Page;
use super::schema::workspaces;
use super::{Conn, DbError, optional};
use crate::domain::ids::{OrganizationId, WorkspaceId};
use crate::domain::names::{DisplayName, Handle};
use crate::domain::scope::WorkspaceScope;

/// One workspace.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = workspaces)]
pub struct WorkspaceRow {
    pub id: WorkspaceId,
    pub organization_id: OrganizationId,
    pub name: DisplayName,
    /// Unique among the live ones of the organization.
    pub handle: Handle,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
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

/// What an update may change.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = workspaces)]
pub struct WorkspaceChanges {
    pub name: DisplayName,
    pub handle: Handle,
    pub updated_at: NaiveDateTime,
}

/// Inserts a row.
pub async fn insert_workspace(conn: &mut Conn, row: WorkspaceRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(workspaces::table).values(&row).execute(c)).map(|_| ())
}

/// The organization's live workspaces, oldest first; only that one if one is named.
pub async fn list_workspaces(
    conn: &mut Conn,
    organization_id: OrganizationId,
    only: Option<WorkspaceId>,
    page: Page<WorkspaceId>,
) -> Result<Vec<WorkspaceRow>, DbError> {
    on!(conn, c => {
        let mut query = workspaces::table
            .filter(workspaces::organization_id.eq(organization_id))
            .filter(workspaces::deleted_at.is_null())
            .select(WorkspaceRow::as_select())
            .order(workspaces::id)
            .limit(page.rows())
            .into_boxed();
        if let Some(id) = only {
            query = query.filter(workspaces::id.eq(id));
        }
        if let Some(after) = page.after {
            query = query.filter(workspaces::id.gt(after));
        }
        query.load(c)
    })
}

/// Changes a live workspace.
pub async fn update_workspace(
    conn: &mut Conn,
    scope: WorkspaceScope,
    changes: WorkspaceChanges,
) -> Result<WorkspaceRow, DbError> {
    on!(conn, c => diesel::update(workspaces::table)
        .filter(workspaces::organization_id.eq(scope.organization_id))
        .filter(workspaces::id.eq(scope.workspace_id))
        .filter(workspaces::deleted_at.is_null())
        .set(&changes)
        .returning(WorkspaceRow::as_returning())
        .get_result(c))
}

/// Marks a live workspace deleted, which frees its handle. What is in it is its own tables' matter.
pub async fn delete_workspace(
    conn: &mut Conn,
    scope: WorkspaceScope,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    on!(conn, c => diesel::update(workspaces::table)
        .filter(workspaces::organization_id.eq(scope.organization_id))
        .filter(workspaces::id.eq(scope.workspace_id))
        .filter(workspaces::deleted_at.is_null())
        .set((workspaces::deleted_at.eq(Some(now)), workspaces::updated_at.eq(now)))
        .execute(c))
    .map(|_| ())
}
