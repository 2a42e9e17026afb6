//! `provider_settings`: what organizations and workspaces set for built-in providers.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::conn::on;
use super::filters::{of_owner, of_workspace};
use super::schema::provider_settings;
use super::{Conn, DbError, optional};
use crate::domain::ids::{OrganizationId, ProviderSettingsId, WorkspaceId};
use crate::domain::provider::Provider;
use crate::domain::scope::{Owner, WorkspaceScope};

/// The settings of one owner for one provider.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = provider_settings)]
pub struct ProviderSettingsRow {
    pub id: ProviderSettingsId,
    pub organization_id: OrganizationId,
    /// None for the organization's own.
    pub workspace_id: Option<WorkspaceId>,
    /// A [`Provider`]'s text form.
    pub provider: String,
    /// A [`ProviderSettings`](crate::domain::provider_settings::ProviderSettings) object.
    pub settings: Value,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
}

/// The owner's settings for all providers.
pub async fn list_provider_settings(
    conn: &mut Conn,
    owner: Owner,
) -> Result<Vec<ProviderSettingsRow>, DbError> {
    on!(conn, c => provider_settings::table
        .filter(of_owner!(provider_settings, owner))
        .select(ProviderSettingsRow::as_select())
        .load(c))
}

/// The owner's settings for the provider.
pub async fn find_provider_settings(
    conn: &mut Conn,
    owner: Owner,
    provider: Provider,
) -> Result<Option<ProviderSettingsRow>, DbError> {
    optional(on!(conn, c => provider_settings::table
        .filter(of_owner!(provider_settings, owner))
        .filter(provider_settings::provider.eq(provider.as_str()))
        .select(ProviderSettingsRow::as_select())
        .first(c)))
}

/// Inserts settings.
pub async fn insert_provider_settings(
    conn: &mut Conn,
    row: ProviderSettingsRow,
) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(provider_settings::table).values(&row).execute(c))
        .map(|_| ())
}

/// Replaces settings.
pub async fn update_provider_settings(
    conn: &mut Conn,
    owner: Owner,
    id: ProviderSettingsId,
    settings: Value,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    on!(conn, c => diesel::update(provider_settings::table)
        .filter(of_owner!(provider_settings, owner))
        .filter(provider_settings::id.eq(id))
        .set((
            provider_settings::settings.eq(settings.clone()),
            provider_settings::updated_at.eq(now),
        ))
        .execute(c))
    .map(|_| ())
}

/// Deletes settings, so that the defaults apply.
pub async fn delete_provider_settings(
    conn: &mut Conn,
    owner: Owner,
    id: ProviderSettingsId,
) -> Result<(), DbError> {
    on!(conn, c => diesel::delete(provider_settings::table)
        .filter(of_owner!(provider_settings, owner))
        .filter(provider_settings::id.eq(id))
        .execute(c))
    .map(|_| ())
}

/// Deletes all settings of a workspace. Returns their number.
pub async fn delete_workspace_provider_settings(
    conn: &mut Conn,
    scope: WorkspaceScope,
) -> Result<usize, DbError> {
    on!(conn, c => diesel::delete(provider_settings::table)
        .filter(of_workspace!(provider_settings, scope))
        .execute(c))
}
