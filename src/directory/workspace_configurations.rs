//! The cached list of a workspace's model configurations.

use super::upstream_entry::provider_name;
use crate::db::model_configurations::{ModelConfigurationRow, list_model_configurations};
use crate::db::{Conn, DbError, Page};
use crate::domain::ids::{ConfigurationId, OrganizationId};
use crate::domain::provider::Provider;
use crate::domain::scope::WorkspaceScope;
use crate::upstream::BaseUrl;

/// The most configurations that are listed, the oldest first.
const MOST: u16 = 1_000;

/// A workspace's enabled configurations from one database snapshot.
pub(super) struct WorkspaceConfigurations {
    pub(super) organization_id: OrganizationId,
    pub(super) list: std::sync::Arc<[ListedConfiguration]>,
}

/// A configuration as lists show it.
#[derive(Clone, Debug)]
pub struct ListedConfiguration {
    pub id: ConfigurationId,
    pub name: String,
    pub provider: Provider,
    /// The catalogue's name for the host, or the configuration's `provider`.
    pub provider_name: String,
    /// None where callers choose it.
    pub model: Option<String>,
}

/// Loads the workspace's configurations.
pub(super) async fn load(
    conn: &mut Conn,
    scope: WorkspaceScope,
) -> Result<Option<WorkspaceConfigurations>, DbError> {
    let page = Page { after: None, limit: MOST };
    let rows = list_model_configurations(conn, scope, page).await?;
    let enabled = rows.iter().take(usize::from(MOST)).filter(|row| row.columns.enabled);
    let list = enabled.map(listed).collect::<Result<_, _>>()?;
    Ok(Some(WorkspaceConfigurations { organization_id: scope.organization_id, list }))
}

fn listed(row: &ModelConfigurationRow) -> Result<ListedConfiguration, DbError> {
    let invalid = |field| DbError::Internal(format!("model configuration {}: {field}", row.id));
    let provider = Provider::parse(&row.columns.provider).ok_or_else(|| invalid("provider"))?;
    let base_url = BaseUrl::parse(&row.columns.base_url).map_err(|_| invalid("base_url"))?;
    Ok(ListedConfiguration {
        id: row.id,
        name: row.columns.name.as_str().to_owned(),
        provider,
        provider_name: provider_name(&base_url, provider.catalogue_name()),
        model: row.columns.model.0.clone(),
    })
}
