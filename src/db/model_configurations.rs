//! `model_configurations` and `model_configuration_secrets`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::conn::on;
use super::schema::model_configurations;
use super::{Conn, DbError, optional};
use crate::domain::ids::{ConfigurationId, OrganizationId, WorkspaceId};
use crate::domain::names::{ConfigurationName, SecretName};
use crate::domain::scope::WorkspaceScope;

/// One model configuration.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = model_configurations)]
pub struct ModelConfigurationRow {
    /// Its id.
    pub id: ConfigurationId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The workspace it belongs to.
    pub workspace_id: WorkspaceId,
    /// Unique among the live ones of the workspace.
    pub name: ConfigurationName,
    /// What people noted about it.
    pub description: Option<String>,
    /// A [`Provider`](crate::domain::model_configuration::Provider)'s text form.
    pub provider: String,
    /// In normal form.
    pub base_url: String,
    /// The model that requests are for.
    pub model: String,
    /// The secret that holds the credential, if the upstream wants one.
    pub api_key_name: Option<SecretName>,
    /// A [`Placement`](crate::domain::model_configuration::Placement)'s text form.
    pub auth: String,
    /// An object of header name to template.
    pub extra_headers: Value,
    /// An array of lower-case header names.
    pub forward_headers: Value,
    /// An object of parameters for callers that sent none.
    pub default_parameters: Value,
    /// A [`StreamUsage`](crate::domain::model_configuration::StreamUsage)'s text form.
    pub stream_usage: String,
    /// A [`Timeouts`](crate::domain::model_configuration::Timeouts) object.
    pub timeouts: Value,
    /// How many requests may be under way at once on one replica.
    pub max_concurrent_requests: Option<i64>,
    /// Whether it serves requests.
    pub enabled: bool,
    /// When it was made, UTC.
    pub created_at: NaiveDateTime,
    /// When it last changed, UTC.
    pub updated_at: NaiveDateTime,
    /// When it was deleted, UTC.
    pub deleted_at: Option<NaiveDateTime>,
}

/// Marks all configurations of a workspace deleted and lets go of the secrets they use; how many
/// there were.
pub async fn delete_workspace_model_configurations(
    conn: &mut Conn,
    scope: WorkspaceScope,
    now: NaiveDateTime,
) -> Result<usize, DbError> {
    use super::schema::model_configuration_secrets as uses;

    on!(conn, c => diesel::delete(uses::table)
        .filter(uses::organization_id.eq(scope.organization_id))
        .filter(uses::workspace_id.eq(scope.workspace_id))
        .execute(c))?;
    on!(conn, c => diesel::update(model_configurations::table)
        .filter(model_configurations::organization_id.eq(scope.organization_id))
        .filter(model_configurations::workspace_id.eq(scope.workspace_id))
        .filter(model_configurations::deleted_at.is_null())
        .set((
            model_configurations::deleted_at.eq(Some(now)),
            model_configurations::updated_at.eq(now),
        ))
        .execute(c))
}

/// The workspace's live configuration of that name.
pub async fn find_model_configuration_named(
    conn: &mut Conn,
    scope: WorkspaceScope,
    name: String,
) -> Result<Option<ModelConfigurationRow>, DbError> {
    optional(on!(conn, c => model_configurations::table
        .filter(model_configurations::organization_id.eq(scope.organization_id))
        .filter(model_configurations::workspace_id.eq(scope.workspace_id))
        .filter(model_configurations::name.eq(name.clone()))
        .filter(model_configurations::deleted_at.is_null())
        .select(ModelConfigurationRow::as_select())
        .first(c)))
}
