//! `users`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::page::Page;
use super::schema::users;
use super::{Conn, DbError, optional};
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::names::{DisplayName, Email};

/// One person.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = users)]
pub struct UserRow {
    pub id: UserId,
    pub organization_id: OrganizationId,
    /// Unique among the live ones of the organization.
    pub email: Email,
    pub name: DisplayName,
    /// `active` or `deactivated`.
    pub status: String,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// The organization's live user of that id.
pub async fn find_user(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: UserId,
) -> Result<Option<UserRow>, DbError> {
    optional(on!(conn, c => users::table
        .filter(users::organization_id.eq(organization_id))
        .filter(users::id.eq(id))
        .filter(users::deleted_at.is_null())
        .select(UserRow::as_select())
        .first(c)))
}

/// What an update may change.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = users)]
pub struct UserChanges {
    pub email: Email,
    pub name: DisplayName,
    pub status: String,
    pub updated_at: NaiveDateTime,
}

/// Which users a list shows.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Only the one with this address.
    pub email: Option<Email>,
    /// Only those with this status.
    pub status: Option<String>,
}

/// Inserts a row.
pub async fn insert_user(conn: &mut Conn, row: UserRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(users::table).values(&row).execute(c)).map(|_| ())
}

/// The organization's live users, oldest first.
pub async fn list_users(
    conn: &mut Conn,
    organization_id: OrganizationId,
    filter: UserFilter,
    page: Page<UserId>,
) -> Result<Vec<UserRow>, DbError> {
    on!(conn, c => {
        let mut query = users::table
            .filter(users::organization_id.eq(organization_id))
            .filter(users::deleted_at.is_null())
            .select(UserRow::as_select())
            .order(users::id)
            .limit(page.rows())
            .into_boxed();
        if let Some(email) = filter.email {
            query = query.filter(users::email.eq(email));
        }
        if let Some(status) = filter.status {
            query = query.filter(users::status.eq(status));
        }
        if let Some(after) = page.after {
            query = query.filter(users::id.gt(after));
        }
        query.load(c)
    })
}

/// Changes a live user.
pub async fn update_user(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: UserId,
    changes: UserChanges,
) -> Result<UserRow, DbError> {
    on!(conn, c => diesel::update(users::table)
        .filter(users::organization_id.eq(organization_id))
        .filter(users::id.eq(id))
        .filter(users::deleted_at.is_null())
        .set(&changes)
        .returning(UserRow::as_returning())
        .get_result(c))
}
