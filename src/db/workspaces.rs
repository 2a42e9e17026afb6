//! `workspaces`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::filters::{deleted, filter_given, live_of, paged};
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
    /// Unique in the organization among the workspaces that are not deleted.
    pub handle: Handle,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// The workspace of this scope.
pub async fn find_workspace(
    conn: &mut Conn,
    scope: WorkspaceScope,
) -> Result<Option<WorkspaceRow>, DbError> {
    optional(on!(conn, c => workspaces::table
        .filter(live_of!(workspaces, scope.organization_id))
        .filter(workspaces::id.eq(scope.workspace_id))
        .select(WorkspaceRow::as_select())
        .first(c)))
}

/// The columns that an update sets.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = workspaces)]
pub struct WorkspaceChanges {
    pub name: DisplayName,
    pub handle: Handle,
    pub updated_at: NaiveDateTime,
}

/// Inserts a workspace.
pub async fn insert_workspace(conn: &mut Conn, row: WorkspaceRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(workspaces::table).values(&row).execute(c)).map(|_| ())
}

/// The organization's workspaces, oldest first; only `only` if it is given.
pub async fn list_workspaces(
    conn: &mut Conn,
    organization_id: OrganizationId,
    only: Option<WorkspaceId>,
    page: Page<WorkspaceId>,
) -> Result<Vec<WorkspaceRow>, DbError> {
    on!(conn, c => {
        let query = workspaces::table
            .filter(live_of!(workspaces, organization_id))
            .select(WorkspaceRow::as_select())
            .into_boxed();
        let query = paged(query, workspaces::id, page);
        filter_given(query, workspaces::id, only).load(c)
    })
}

/// Updates a workspace.
pub async fn update_workspace(
    conn: &mut Conn,
    scope: WorkspaceScope,
    changes: WorkspaceChanges,
) -> Result<WorkspaceRow, DbError> {
    on!(conn, c => diesel::update(workspaces::table)
        .filter(live_of!(workspaces, scope.organization_id))
        .filter(workspaces::id.eq(scope.workspace_id))
        .set(&changes)
        .returning(WorkspaceRow::as_returning())
        .get_result(c))
}

/// Marks a workspace as deleted, which makes its handle available again. Does not delete its resources.
pub async fn delete_workspace(
    conn: &mut Conn,
    scope: WorkspaceScope,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    on!(conn, c => diesel::update(workspaces::table)
        .filter(live_of!(workspaces, scope.organization_id))
        .filter(workspaces::id.eq(scope.workspace_id))
        .set(deleted!(workspaces, now))
        .execute(c))
    .map(|_| ())
}
