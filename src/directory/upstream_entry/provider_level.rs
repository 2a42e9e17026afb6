//! Whose credential and settings a workspace's requests to a built-in provider have: the workspace's own,
//! or those of its organization. They are never mixed: what says where a request goes comes from the
//! owner of the secret that it carries.

use std::collections::BTreeMap;

use crate::db::provider_settings::{ProviderSettingsRow, find_provider_settings};
use crate::db::secrets::{SecretRow, list_secrets_named};
use crate::db::{Conn, DbError};
use crate::domain::names::SecretName;
use crate::domain::provider_settings::{ProviderSettings, UnmeteredEndpoint};
use crate::domain::scope::{Owner, WorkspaceScope};
use crate::providers::built_in::BuiltInProvider;

/// What applies to requests of one workspace to one provider.
pub struct ProviderLevel {
    /// Whose secret and settings they are.
    pub owner: Owner,
    /// The owner's settings.
    pub settings: ProviderSettings,
    /// Neither the workspace nor its organization has disabled the provider.
    pub is_enabled: bool,
    /// Which models names refer to that say nothing of them: the organization's and the workspace's.
    pub models: BTreeMap<String, String>,
    /// The organization's.
    pub unmetered_endpoints: Vec<UnmeteredEndpoint>,
    /// The organization's.
    pub subscription_pass_through: bool,
    /// The name of the secret with the provider's key.
    pub secret_name: SecretName,
    /// The owner's secrets that the provider needs; without those that are missing.
    pub secrets: Vec<SecretRow>,
}

/// Finds it. A workspace's own secret comes before its organization's; settings of the workspace that say
/// where requests go need a secret of the workspace.
pub async fn find_provider_level(
    conn: &mut Conn,
    scope: WorkspaceScope,
    built_in: &BuiltInProvider,
) -> Result<ProviderLevel, DbError> {
    let organization = Owner::Organization(scope.organization_id);
    let mut own = settings_of(conn, scope.into(), built_in).await?.unwrap_or_default();
    let mut inherited = settings_of(conn, organization, built_in).await?.unwrap_or_default();
    let mut models = std::mem::take(&mut inherited.models);
    models.append(&mut own.models);
    let is_enabled = own.enabled && inherited.enabled;
    let unmetered_endpoints = inherited.unmetered_endpoints.clone();
    let subscription_pass_through = inherited.subscription_pass_through;
    let level = |owner, settings, secret_name, secrets| ProviderLevel {
        owner,
        settings,
        is_enabled,
        models,
        unmetered_endpoints,
        subscription_pass_through,
        secret_name,
        secrets,
    };
    let (name, names) = names_of(built_in, &own)?;
    let secrets = list_secrets_named(conn, scope.into(), &names).await?;
    if own.say_where() || !secrets.is_empty() {
        return Ok(level(scope.into(), own, name, secrets));
    }
    let (inherited_name, names) = names_of(built_in, &inherited)?;
    let inherited_secrets = list_secrets_named(conn, organization, &names).await?;
    if inherited_secrets.is_empty() {
        return Ok(level(scope.into(), own, name, secrets));
    }
    Ok(level(organization, inherited, inherited_name, inherited_secrets))
}

/// The secret that holds the provider's key, and all that it may be called with.
fn names_of(
    built_in: &BuiltInProvider,
    settings: &ProviderSettings,
) -> Result<(SecretName, Vec<SecretName>), DbError> {
    let invalid = |cause: &dyn std::fmt::Display| {
        DbError::Internal(format!("secrets of {}: {cause}", built_in.provider.as_str()))
    };
    let names = built_in.secret_names(settings).map_err(|error| invalid(&error))?;
    let first = names.first().cloned().ok_or_else(|| invalid(&"there are none"))?;
    Ok((first, names))
}

async fn settings_of(
    conn: &mut Conn,
    owner: Owner,
    built_in: &BuiltInProvider,
) -> Result<Option<ProviderSettings>, DbError> {
    let row = find_provider_settings(conn, owner, built_in.provider).await?;
    row.map(|row| parse_settings(&row)).transpose()
}

/// Reads the settings of a row. The gateway wrote them, so an error means that the database was edited by
/// hand.
pub fn parse_settings(row: &ProviderSettingsRow) -> Result<ProviderSettings, DbError> {
    serde_json::from_value(row.settings.clone())
        .map_err(|error| DbError::Internal(format!("provider settings {}: {error}", row.id)))
}
