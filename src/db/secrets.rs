//! `secrets`: sealed values and their metadata.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::filters::{of_owner, of_workspace, paged};
use super::page::Page;
use super::schema::{model_configuration_secrets, model_configurations, secrets};
use super::{Conn, DbError, optional};
use crate::domain::ids::{ConfigurationId, DataKeyId, OrganizationId, SecretId, WorkspaceId};
use crate::domain::names::{ConfigurationName, SecretName};
use crate::domain::scope::{Owner, WorkspaceScope};

/// One sealed secret.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = secrets)]
pub struct SecretRow {
    pub id: SecretId,
    pub organization_id: OrganizationId,
    /// None for the organization's own.
    pub workspace_id: Option<WorkspaceId>,
    pub data_key_id: DataKeyId,
    /// Unique among the owner's.
    pub name: SecretName,
    pub description: Option<String>,
    /// Starts at 1 and increases with every new value.
    pub version: i64,
    pub sealed: Vec<u8>,
    /// A short keyed fingerprint of the value.
    pub fingerprint: String,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
}

impl SecretRow {
    /// Whom it belongs to.
    pub fn owner(&self) -> Owner {
        Owner::of(self.organization_id, self.workspace_id)
    }
}

/// The columns that a new value sets.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = secrets, treat_none_as_null = true)]
pub struct SecretChanges {
    pub data_key_id: DataKeyId,
    pub description: Option<String>,
    pub version: i64,
    pub sealed: Vec<u8>,
    pub fingerprint: String,
    pub updated_at: NaiveDateTime,
}

/// A configuration that uses a secret.
#[derive(Clone, Debug)]
pub struct SecretUse {
    pub secret_id: SecretId,
    pub workspace_id: WorkspaceId,
    pub configuration_id: ConfigurationId,
    pub configuration_name: ConfigurationName,
}

/// Inserts a secret.
pub async fn insert_secret(conn: &mut Conn, row: SecretRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(secrets::table).values(&row).execute(c)).map(|_| ())
}

/// The owner's secret with this name.
pub async fn find_secret(
    conn: &mut Conn,
    owner: Owner,
    name: &SecretName,
) -> Result<Option<SecretRow>, DbError> {
    optional(on!(conn, c => secrets::table
        .filter(of_owner!(secrets, owner))
        .filter(secrets::name.eq(name))
        .select(SecretRow::as_select())
        .first(c)))
}

/// The owner's secrets, oldest first.
pub async fn list_secrets(
    conn: &mut Conn,
    owner: Owner,
    page: Page<SecretId>,
) -> Result<Vec<SecretRow>, DbError> {
    on!(conn, c => {
        let query = secrets::table
            .filter(of_owner!(secrets, owner))
            .select(SecretRow::as_select())
            .into_boxed();
        paged(query, secrets::id, page).load(c)
    })
}

/// Replaces the value of a secret.
pub async fn update_secret(
    conn: &mut Conn,
    owner: Owner,
    id: SecretId,
    changes: SecretChanges,
) -> Result<SecretRow, DbError> {
    on!(conn, c => diesel::update(secrets::table)
        .filter(of_owner!(secrets, owner))
        .filter(secrets::id.eq(id))
        .set(&changes)
        .returning(SecretRow::as_returning())
        .get_result(c))
}

/// Deletes a secret. If a configuration uses it, the error is [`DbError::ForeignKeyViolation`].
pub async fn delete_secret(conn: &mut Conn, owner: Owner, id: SecretId) -> Result<(), DbError> {
    on!(conn, c => diesel::delete(secrets::table
            .filter(of_owner!(secrets, owner))
            .filter(secrets::id.eq(id)))
        .execute(c))
    .map(|_| ())
}

/// The configurations that use these secrets of an organization or of its workspaces.
pub async fn list_secret_uses(
    conn: &mut Conn,
    organization_id: OrganizationId,
    ids: &[SecretId],
) -> Result<Vec<SecretUse>, DbError> {
    let ids: Vec<String> = ids.iter().map(SecretId::to_string).collect();
    let rows: Vec<(SecretId, WorkspaceId, ConfigurationId, ConfigurationName)> = on!(conn, c =>
        model_configuration_secrets::table
            .inner_join(model_configurations::table)
            .filter(model_configuration_secrets::organization_id.eq(organization_id))
            .filter(model_configuration_secrets::secret_id.eq_any(ids.clone()))
            .filter(model_configurations::deleted_at.is_null())
            .order((model_configuration_secrets::secret_id, model_configurations::id))
            .select((
                model_configuration_secrets::secret_id,
                model_configurations::workspace_id,
                model_configurations::id,
                model_configurations::name,
            ))
            .load(c))?;
    Ok(rows
        .into_iter()
        .map(|(secret_id, workspace_id, configuration_id, configuration_name)| SecretUse {
            secret_id,
            workspace_id,
            configuration_id,
            configuration_name,
        })
        .collect())
}

/// The owner's secrets with these names.
pub async fn list_secrets_named(
    conn: &mut Conn,
    owner: Owner,
    names: &[SecretName],
) -> Result<Vec<SecretRow>, DbError> {
    let names: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
    on!(conn, c => secrets::table
        .filter(of_owner!(secrets, owner))
        .filter(secrets::name.eq_any(names.clone()))
        .select(SecretRow::as_select())
        .load(c))
}

/// The secrets that a configuration uses: the workspace's, or its organization's.
pub async fn list_secrets_of_configuration(
    conn: &mut Conn,
    scope: WorkspaceScope,
    id: ConfigurationId,
) -> Result<Vec<SecretRow>, DbError> {
    on!(conn, c => secrets::table
        .inner_join(model_configuration_secrets::table)
        .filter(secrets::organization_id.eq(scope.organization_id))
        .filter(of_workspace!(model_configuration_secrets, scope))
        .filter(model_configuration_secrets::configuration_id.eq(id))
        .select(SecretRow::as_select())
        .load(c))
}

/// Deletes all secrets of a workspace. Returns their number.
pub async fn delete_workspace_secrets(
    conn: &mut Conn,
    scope: WorkspaceScope,
) -> Result<usize, DbError> {
    on!(conn, c => diesel::delete(secrets::table)
        .filter(of_workspace!(secrets, scope))
        .execute(c))
}
