//! `/provider-settings` and `/workspaces/{workspace_id}/provider-settings`: what an organization and its
//! workspaces set for built-in providers. All have defaults: a stored secret is enough.

mod validate;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Management;
use super::access::{ForOwner, ModelConfigurationsConnect, ModelConfigurationsRead};
use super::body::{Editable, Json, WholeResource};
use super::error::ApiError;
use super::routes::Routes;
use super::shared::{Audited, as_json, check_owner, record};
use crate::auth::{Principal, Scope};
use crate::db::provider_settings::{
    ProviderSettingsRow, delete_provider_settings as delete_row, find_provider_settings,
    insert_provider_settings, list_provider_settings as list_rows,
    update_provider_settings as update_row,
};
use crate::db::secrets::list_secrets_named;
use crate::db::{ChangeScope, Conn};
use crate::directory::upstream_entry::{find_provider_level, parse_settings};
use crate::domain::names::SecretName;
use crate::domain::permissions::{Permission, ScopeKind};
use crate::domain::provider::Provider;
use crate::domain::provider_settings::ProviderSettings;
use crate::domain::scope::Owner;
use crate::providers::built_in::{BuiltInProvider, BuiltInProviders, provider_of_segment};
use validate::check;

impl Editable for ProviderSettings {
    type Shown = OwnersProviderSettings;
}

/// Has a name because utoipa's macros do not take a generic type here.
type ProviderSettingsBody = WholeResource<ProviderSettings>;

/// What an owner sets for a provider, and what applies.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct OwnersProviderSettings {
    /// The built-in provider, as in the path of calls to it.
    pub(super) provider: Provider,
    #[serde(flatten)]
    pub(super) settings: ProviderSettings,
    /// When they were set; null for the defaults.
    pub(super) updated_at: Option<DateTime<Utc>>,
    pub(super) credential: ProviderCredential,
}

/// The credential that requests to a provider have now.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ProviderCredential {
    /// The name of the secret.
    pub(super) secret_name: SecretName,
    /// Whose secret it is; null if there is none of that name.
    pub(super) owner: Option<ScopeKind>,
}

impl Audited for OwnersProviderSettings {
    const TYPE: &'static str = "provider_settings";

    fn audit_id(&self) -> String {
        self.provider.as_str().to_owned()
    }
}

/// Adds the operations, for organizations and for workspaces.
pub(super) fn configure(routes: &mut Routes) {
    operations(routes);
    let rename = |id: &str| id.replace("provider_settings", "workspace_provider_settings");
    routes.repeat("/workspaces/{workspace_id}", rename, operations);
}

fn operations(routes: &mut Routes) {
    routes
        .tag("provider-settings")
        .add(__path_list_provider_settings, list_provider_settings)
        .add(__path_get_provider_settings, get_provider_settings)
        .add(__path_put_provider_settings, put_provider_settings)
        .add(__path_delete_provider_settings, delete_provider_settings);
}

/// List the settings for all built-in providers
///
/// Those that were not set are shown with their defaults.
#[utoipa::path(
    get,
    path = "/provider-settings",
    responses((status = 200, description = "One for each provider, by name", body = Vec<OwnersProviderSettings>)),
)]
async fn list_provider_settings(
    caller: ForOwner<ModelConfigurationsRead>,
    plane: web::Data<Management>,
) -> Result<web::Json<Vec<OwnersProviderSettings>>, ApiError> {
    let (owner, built_in) = (caller.scope, plane.built_in.clone());
    let shown = plane
        .database
        .read(async move |conn: &mut Conn| {
            check_owner(conn, owner).await?;
            let rows = list_rows(conn, owner).await?;
            let mut shown = Vec::new();
            for one in built_in.all() {
                let row = rows.iter().find(|row| row.provider == one.provider.as_str());
                shown.push(show(conn, owner, one, row).await?);
            }
            Ok::<_, ApiError>(shown)
        })
        .await?;
    Ok(web::Json(shown))
}

/// Read the settings for a built-in provider
#[utoipa::path(
    get,
    path = "/provider-settings/{provider}",
    responses((status = 200, description = "The settings, or the defaults", body = OwnersProviderSettings)),
)]
async fn get_provider_settings(
    caller: ForOwner<ModelConfigurationsRead>,
    plane: web::Data<Management>,
    request: HttpRequest,
) -> Result<web::Json<OwnersProviderSettings>, ApiError> {
    let (owner, built_in) = (caller.scope, plane.built_in.clone());
    let provider = provider_of(&request)?;
    let shown = plane
        .database
        .read(async move |conn: &mut Conn| {
            check_owner(conn, owner).await?;
            current(conn, owner, &built_in, provider).await.map(|(_, shown)| shown)
        })
        .await?;
    Ok(web::Json(shown))
}

/// Set what applies to a built-in provider
///
/// Replaces the settings as a whole; requests that begin after the answer follow them. Secrets are never
/// mixed: a workspace that sets `secret_name`, `extra_headers` or `connection` uses a secret of its own,
/// and those of its organization apply to the organization's secret only. `enabled: false` of an
/// organization holds for all of its workspaces. `unmetered_endpoints` and `subscription_pass_through` are
/// for organizations, and changing `models` needs a key of the organization with `organization:manage`.
#[utoipa::path(
    put,
    path = "/provider-settings/{provider}",
    responses((status = 200, description = "The settings", body = OwnersProviderSettings)),
)]
async fn put_provider_settings(
    caller: ForOwner<ModelConfigurationsConnect>,
    plane: web::Data<Management>,
    request: HttpRequest,
    body: Json<ProviderSettingsBody>,
) -> Result<web::Json<OwnersProviderSettings>, ApiError> {
    let ForOwner { scope: owner, principal, actor, .. } = caller;
    let provider = provider_of(&request)?;
    let settings = body.check(|WholeResource(settings)| check(owner, provider, settings))?;
    let built_in = plane.built_in.clone();
    let shown = plane
        .database
        .write(ChangeScope::Organization(owner.organization_id()), async move |conn: &mut Conn| {
            check_owner(conn, owner).await?;
            let (row, before) = current(conn, owner, &built_in, provider).await?;
            check_models_permission(&before.settings, &settings, &principal)?;
            let (settings, now) = (as_json(&settings)?, actor.now.naive_utc());
            match row {
                Some(row) => update_row(conn, owner, row.id, settings, now).await?,
                None => {
                    let row = ProviderSettingsRow {
                        id: actor.clock.new_id(),
                        organization_id: owner.organization_id(),
                        workspace_id: owner.workspace_id(),
                        provider: provider.as_str().to_owned(),
                        settings,
                        created_at: now,
                        updated_at: now,
                    };
                    insert_provider_settings(conn, row).await?;
                }
            }
            let (_, after) = current(conn, owner, &built_in, provider).await?;
            let operation = "put_provider_settings";
            record(conn, &actor, owner.into(), operation, Some(&before), Some(&after)).await?;
            Ok::<_, ApiError>(after)
        })
        .await?;
    Ok(web::Json(shown))
}

/// Reset the settings for a built-in provider to their defaults
#[utoipa::path(
    delete,
    path = "/provider-settings/{provider}",
    responses((status = 204, description = "The defaults apply")),
)]
async fn delete_provider_settings(
    caller: ForOwner<ModelConfigurationsConnect>,
    plane: web::Data<Management>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let ForOwner { scope: owner, principal, actor, .. } = caller;
    let provider = provider_of(&request)?;
    let built_in = plane.built_in.clone();
    plane
        .database
        .write(ChangeScope::Organization(owner.organization_id()), async move |conn: &mut Conn| {
            check_owner(conn, owner).await?;
            let (Some(row), before) = current(conn, owner, &built_in, provider).await? else {
                return Ok(());
            };
            let defaults = ProviderSettings::default();
            check_models_permission(&before.settings, &defaults, &principal)?;
            delete_row(conn, owner, row.id).await?;
            let operation = "delete_provider_settings";
            record(conn, &actor, owner.into(), operation, Some(&before), None).await
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Spend caps and model access depend on what a name refers to: without this check, a workspace's
/// administrator could pass a model off as a cheaper one.
fn check_models_permission(
    before: &ProviderSettings,
    after: &ProviderSettings,
    principal: &Principal,
) -> Result<(), ApiError> {
    let is_organization_key = matches!(principal.scope, Scope::Organization(_));
    if before.models == after.models
        || (is_organization_key && principal.may(Permission::OrganizationManage))
    {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        code: "permission_denied",
        detail: format!(
            "Changing models needs a key of the organization with the permission {}, because \
             spend caps and model access depend on it.",
            Permission::OrganizationManage
        ),
    })
}

/// The provider of the path.
fn provider_of(request: &HttpRequest) -> Result<Provider, ApiError> {
    let name = request.match_info().get("provider").unwrap_or_default();
    provider_of_segment(name).ok_or(ApiError::NotFound("built-in provider"))
}

async fn current(
    conn: &mut Conn,
    owner: Owner,
    built_in: &BuiltInProviders,
    provider: Provider,
) -> Result<(Option<ProviderSettingsRow>, OwnersProviderSettings), ApiError> {
    let one = built_in.find(provider).ok_or(ApiError::NotFound("built-in provider"))?;
    let row = find_provider_settings(conn, owner, provider).await?;
    let shown = show(conn, owner, one, row.as_ref()).await?;
    Ok((row, shown))
}

async fn show(
    conn: &mut Conn,
    owner: Owner,
    built_in: &BuiltInProvider,
    row: Option<&ProviderSettingsRow>,
) -> Result<OwnersProviderSettings, ApiError> {
    let settings = row.map(parse_settings).transpose()?.unwrap_or_default();
    let credential = match owner {
        Owner::Workspace(scope) => {
            let level = find_provider_level(conn, scope, built_in).await?;
            let owner = match level.owner {
                Owner::Organization(_) => ScopeKind::Organization,
                Owner::Workspace(_) => ScopeKind::Workspace,
            };
            let owner = (!level.secrets.is_empty()).then_some(owner);
            ProviderCredential { secret_name: level.secret_name, owner }
        }
        Owner::Organization(_) => {
            let names = built_in
                .secret_names(&settings)
                .map_err(|error| ApiError::Internal(error.to_string()))?;
            let found = list_secrets_named(conn, owner, &names).await?;
            let owner = (!found.is_empty()).then_some(ScopeKind::Organization);
            let secret_name = names.into_iter().next();
            let secret_name = secret_name
                .ok_or_else(|| ApiError::Internal("a provider without a secret".to_owned()))?;
            ProviderCredential { secret_name, owner }
        }
    };
    Ok(OwnersProviderSettings {
        provider: built_in.provider,
        settings,
        updated_at: row.map(|row| row.updated_at.and_utc()),
        credential,
    })
}
