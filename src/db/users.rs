//! `users`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::filters::{filter_given, live_of, paged};
use super::page::Page;
use super::schema::users;
use super::{Conn, DbError, optional};
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::names::{DisplayName, Email};

/// One user.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = users)]
pub struct UserRow {
    pub id: UserId,
    pub organization_id: OrganizationId,
    /// Unique in the organization among the users that are not deleted.
    pub email: Email,
    pub name: DisplayName,
    /// `active` or `deactivated`.
    pub status: String,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// The organization's user with this id.
pub async fn find_user(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: UserId,
) -> Result<Option<UserRow>, DbError> {
    optional(on!(conn, c => users::table
        .filter(live_of!(users, organization_id))
        .filter(users::id.eq(id))
        .select(UserRow::as_select())
        .first(c)))
}

/// The columns that an update sets.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = users)]
pub struct UserChanges {
    pub email: Email,
    pub name: DisplayName,
    pub status: String,
    pub updated_at: NaiveDateTime,
}

/// Filters a list of users.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    pub email: Option<Email>,
    pub status: Option<String>,
}

/// Inserts a user.
pub async fn insert_user(conn: &mut Conn, row: UserRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(users::table).values(&row).execute(c)).map(|_| ())
}

/// The organization's users, oldest first.
pub async fn list_users(
    conn: &mut Conn,
    organization_id: OrganizationId,
    filter: UserFilter,
    page: Page<UserId>,
) -> Result<Vec<UserRow>, DbError> {
    on!(conn, c => {
        let query = users::table
            .filter(live_of!(users, organization_id))
            .select(UserRow::as_select())
            .into_boxed();
        let query = paged(query, users::id, page);
        let query = filter_given(query, users::email, filter.email);
        filter_given(query, users::status, filter.status).load(c)
    })
}

/// Updates a user.
pub async fn update_user(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: UserId,
    changes: UserChanges,
) -> Result<UserRow, DbError> {
    on!(conn, c => diesel::update(users::table)
        .filter(live_of!(users, organization_id))
        .filter(users::id.eq(id))
        .set(&changes)
        .returning(UserRow::as_returning())
        .get_result(c))
}
