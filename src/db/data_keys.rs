//! `data_keys`: one for each workspace, and one for an organization's own secrets, wrapped by a master key.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::filters::{of_owner, of_workspace};
use super::schema::data_keys;
use super::{Conn, DbError, optional};
use crate::domain::ids::{DataKeyId, OrganizationId, WorkspaceId};
use crate::domain::scope::{Owner, WorkspaceScope};

/// One wrapped data key.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = data_keys)]
pub struct DataKeyRow {
    pub id: DataKeyId,
    pub organization_id: OrganizationId,
    /// None for the organization's own.
    pub workspace_id: Option<WorkspaceId>,
    pub master_key_id: String,
    pub wrapped: Vec<u8>,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
}

impl DataKeyRow {
    /// Whose secrets it encrypts.
    pub fn owner(&self) -> Owner {
        Owner::of(self.organization_id, self.workspace_id)
    }
}

/// The owner's data key.
pub async fn find_data_key(conn: &mut Conn, owner: Owner) -> Result<Option<DataKeyRow>, DbError> {
    optional(on!(conn, c => data_keys::table
        .filter(of_owner!(data_keys, owner))
        .select(DataKeyRow::as_select())
        .first(c)))
}

/// Inserts an owner's data key.
pub async fn insert_data_key(conn: &mut Conn, row: DataKeyRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(data_keys::table).values(&row).execute(c)).map(|_| ())
}

/// Deletes the workspace's data key. Its secrets have to be deleted before.
pub async fn delete_data_key(conn: &mut Conn, scope: WorkspaceScope) -> Result<(), DbError> {
    on!(conn, c => diesel::delete(data_keys::table)
        .filter(of_workspace!(data_keys, scope))
        .execute(c))
    .map(|_| ())
}

/// The oldest data keys of any tenant that are wrapped by another master key, up to `limit`.
pub async fn list_wrapped_by_others(
    conn: &mut Conn,
    master_key_id: &str,
    limit: i64,
) -> Result<Vec<DataKeyRow>, DbError> {
    let master_key_id = master_key_id.to_owned();
    on!(conn, c => data_keys::table
        .filter(data_keys::master_key_id.ne(master_key_id.clone()))
        .order(data_keys::id)
        .limit(limit)
        .select(DataKeyRow::as_select())
        .load(c))
}

/// Replaces the wrapped form of a data key.
pub async fn update_wrapping(
    conn: &mut Conn,
    id: DataKeyId,
    master_key_id: String,
    wrapped: Vec<u8>,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    on!(conn, c => diesel::update(data_keys::table.filter(data_keys::id.eq(id)))
        .set((
            data_keys::master_key_id.eq(master_key_id.clone()),
            data_keys::wrapped.eq(wrapped.clone()),
            data_keys::updated_at.eq(now),
        ))
        .execute(c))
    .map(|_| ())
}

/// One data key for each master key that wraps any: the keyring has to open all of them.
pub async fn list_one_per_master_key(conn: &mut Conn) -> Result<Vec<DataKeyRow>, DbError> {
    let ids: Vec<String> = on!(conn, c => data_keys::table
        .select(data_keys::master_key_id)
        .distinct()
        .order(data_keys::master_key_id)
        .load(c))?;
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        rows.push(on!(conn, c => data_keys::table
            .filter(data_keys::master_key_id.eq(id.clone()))
            .select(DataKeyRow::as_select())
            .first(c))?);
    }
    Ok(rows)
}
