//! `model_configurations` and `model_configuration_secrets`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::conn::on;
use super::filters::{deleted, of_workspace, paged};
use super::page::Page;
use super::schema::{model_configuration_secrets, model_configurations};
use super::{Conn, DbError, optional};
use crate::domain::ids::{ConfigurationId, OrganizationId, SecretId, WorkspaceId};
use crate::domain::model_configuration::ConfiguredModel;
use crate::domain::names::{ConfigurationName, SecretName};
use crate::domain::scope::WorkspaceScope;

/// One model configuration.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = model_configurations)]
pub struct ModelConfigurationRow {
    pub id: ConfigurationId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    #[diesel(embed)]
    pub columns: ModelConfigurationColumns,
    pub created_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// The columns that an update sets.
#[derive(Clone, Debug, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = model_configurations, treat_none_as_null = true)]
pub struct ModelConfigurationColumns {
    /// Unique in the workspace among the configurations that are not deleted.
    pub name: ConfigurationName,
    pub description: Option<String>,
    /// A [`Provider`](crate::domain::provider::Provider)'s text form.
    pub provider: String,
    /// In normal form.
    pub base_url: String,
    pub model: ConfiguredModel,
    /// The name of the secret with the upstream's credential.
    pub api_key_name: Option<SecretName>,
    /// A [`Placement`](crate::domain::model_configuration::Placement)'s text form.
    pub auth: String,
    /// An object of header names and templates.
    pub extra_headers: Value,
    /// An array of lower-case header names.
    pub forward_headers: Value,
    /// An object of parameters that are added to bodies which lack them.
    pub default_parameters: Value,
    /// A [`StreamUsage`](crate::domain::model_configuration::StreamUsage)'s text form.
    pub stream_usage: String,
    /// A [`Timeouts`](crate::domain::model_configuration::Timeouts) object.
    pub timeouts: Value,
    /// For each replica.
    pub max_concurrent_requests: Option<i64>,
    pub enabled: bool,
    pub updated_at: NaiveDateTime,
    /// A [`Price`](crate::domain::pricing::Price) object.
    pub price: Option<Value>,
    pub context_window: Option<i64>,
    pub max_output_tokens: Option<i64>,
    /// An [`OauthClient`](crate::domain::oauth::OauthClient) object.
    pub oauth: Option<Value>,
    /// No field may be left out of a request that is converted.
    pub strict_conversion: bool,
}

#[derive(Insertable)]
#[diesel(table_name = model_configuration_secrets)]
struct UseRow {
    organization_id: OrganizationId,
    workspace_id: WorkspaceId,
    configuration_id: ConfigurationId,
    secret_id: SecretId,
}

/// Inserts a configuration.
pub async fn insert_model_configuration(
    conn: &mut Conn,
    row: ModelConfigurationRow,
) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(model_configurations::table).values(&row).execute(c))
        .map(|_| ())
}

/// The workspace's configuration with this id.
pub async fn find_model_configuration(
    conn: &mut Conn,
    scope: WorkspaceScope,
    id: ConfigurationId,
) -> Result<Option<ModelConfigurationRow>, DbError> {
    optional(on!(conn, c => model_configurations::table
        .filter(of_workspace!(model_configurations, scope))
        .filter(model_configurations::id.eq(id))
        .filter(model_configurations::deleted_at.is_null())
        .select(ModelConfigurationRow::as_select())
        .first(c)))
}

/// The workspace's configurations, oldest first.
pub async fn list_model_configurations(
    conn: &mut Conn,
    scope: WorkspaceScope,
    page: Page<ConfigurationId>,
) -> Result<Vec<ModelConfigurationRow>, DbError> {
    on!(conn, c => {
        let query = model_configurations::table
            .filter(of_workspace!(model_configurations, scope))
            .filter(model_configurations::deleted_at.is_null())
            .select(ModelConfigurationRow::as_select())
            .into_boxed();
        paged(query, model_configurations::id, page).load(c)
    })
}

/// Updates a configuration.
pub async fn update_model_configuration(
    conn: &mut Conn,
    scope: WorkspaceScope,
    id: ConfigurationId,
    columns: ModelConfigurationColumns,
) -> Result<ModelConfigurationRow, DbError> {
    on!(conn, c => diesel::update(model_configurations::table)
        .filter(of_workspace!(model_configurations, scope))
        .filter(model_configurations::id.eq(id))
        .filter(model_configurations::deleted_at.is_null())
        .set(&columns)
        .returning(ModelConfigurationRow::as_returning())
        .get_result(c))
}

/// Marks a configuration as deleted, which makes its name available again, and removes its references to
/// secrets.
pub async fn delete_model_configuration(
    conn: &mut Conn,
    scope: WorkspaceScope,
    id: ConfigurationId,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    let rows = on!(conn, c => diesel::update(model_configurations::table)
        .filter(of_workspace!(model_configurations, scope))
        .filter(model_configurations::id.eq(id))
        .filter(model_configurations::deleted_at.is_null())
        .set(deleted!(model_configurations, now))
        .execute(c))?;
    if rows == 0 {
        return Err(DbError::NotFound);
    }
    update_used_secrets(conn, scope, id, &[]).await
}

/// Replaces the list of secrets that the configuration uses.
pub async fn update_used_secrets(
    conn: &mut Conn,
    scope: WorkspaceScope,
    id: ConfigurationId,
    secrets: &[SecretId],
) -> Result<(), DbError> {
    on!(conn, c => diesel::delete(model_configuration_secrets::table
            .filter(of_workspace!(model_configuration_secrets, scope))
            .filter(model_configuration_secrets::configuration_id.eq(id)))
        .execute(c))?;
    // One by one, since diesel-async does not support batch inserts on SQLite.
    for secret_id in secrets {
        let row = UseRow {
            organization_id: scope.organization_id,
            workspace_id: scope.workspace_id,
            configuration_id: id,
            secret_id: *secret_id,
        };
        on!(conn, c => diesel::insert_into(model_configuration_secrets::table)
            .values(&row)
            .execute(c))?;
    }
    Ok(())
}

/// The workspace's configuration with this name.
pub async fn find_model_configuration_named(
    conn: &mut Conn,
    scope: WorkspaceScope,
    name: String,
) -> Result<Option<ModelConfigurationRow>, DbError> {
    optional(on!(conn, c => model_configurations::table
        .filter(of_workspace!(model_configurations, scope))
        .filter(model_configurations::name.eq(name.clone()))
        .filter(model_configurations::deleted_at.is_null())
        .select(ModelConfigurationRow::as_select())
        .first(c)))
}

/// Marks all configurations of a workspace as deleted and removes their references to secrets. Returns
/// their number.
pub async fn delete_workspace_model_configurations(
    conn: &mut Conn,
    scope: WorkspaceScope,
    now: NaiveDateTime,
) -> Result<usize, DbError> {
    use super::schema::model_configuration_secrets as uses;

    on!(conn, c => diesel::delete(uses::table)
        .filter(of_workspace!(uses, scope))
        .execute(c))?;
    on!(conn, c => diesel::update(model_configurations::table)
        .filter(of_workspace!(model_configurations, scope))
        .filter(model_configurations::deleted_at.is_null())
        .set(deleted!(model_configurations, now))
        .execute(c))
}
