//! `users`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::schema::users;
use super::{Conn, DbError, optional};
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::names::{DisplayName, Email};

/// One person.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = users)]
pub struct UserRow {
    /// Their id.
    pub id: UserId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// Unique among the live ones of the organization.
    pub email: Email,
    /// What they are called.
    pub name: DisplayName,
    /// `active` or `deactivated`.
    pub status: String,
    /// When they were added, UTC.
    pub created_at: NaiveDateTime,
    /// When they last changed, UTC.
    pub updated_at: NaiveDateTime,
    /// When they were deleted, UTC.
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
