//! `organizations`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::filters::paged;
use super::page::Page;
use super::schema::organizations;
use super::{Conn, DbError, optional};
use crate::domain::ids::OrganizationId;
use crate::domain::names::DisplayName;

/// One organization.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = organizations)]
pub struct OrganizationRow {
    pub id: OrganizationId,
    /// Unique among the organizations that are not deleted.
    pub name: DisplayName,
    /// `active` or `suspended`.
    pub status: String,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// The columns that an update sets.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = organizations)]
pub struct OrganizationChanges {
    pub name: DisplayName,
    pub status: String,
    pub updated_at: NaiveDateTime,
}

/// Inserts an organization.
pub async fn insert_organization(conn: &mut Conn, row: OrganizationRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(organizations::table).values(&row).execute(c)).map(|_| ())
}

/// The organization with this id.
pub async fn find_organization(
    conn: &mut Conn,
    id: OrganizationId,
) -> Result<Option<OrganizationRow>, DbError> {
    optional(on!(conn, c => organizations::table
        .filter(organizations::id.eq(id))
        .filter(organizations::deleted_at.is_null())
        .select(OrganizationRow::as_select())
        .first(c)))
}

/// Whether there is any organization, including deleted ones.
pub async fn any_organization(conn: &mut Conn) -> Result<bool, DbError> {
    on!(conn, c => diesel::select(diesel::dsl::exists(organizations::table.select(organizations::id))).get_result(c))
}

/// The organizations, oldest first.
pub async fn list_organizations(
    conn: &mut Conn,
    page: Page<OrganizationId>,
) -> Result<Vec<OrganizationRow>, DbError> {
    on!(conn, c => {
        let query = organizations::table
            .filter(organizations::deleted_at.is_null())
            .select(OrganizationRow::as_select())
            .into_boxed();
        paged(query, organizations::id, page).load(c)
    })
}

/// Updates an organization.
pub async fn update_organization(
    conn: &mut Conn,
    id: OrganizationId,
    changes: OrganizationChanges,
) -> Result<OrganizationRow, DbError> {
    on!(conn, c => diesel::update(organizations::table)
        .filter(organizations::id.eq(id))
        .filter(organizations::deleted_at.is_null())
        .set(&changes)
        .returning(OrganizationRow::as_returning())
        .get_result(c))
}
