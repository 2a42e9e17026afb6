//! `/workspaces/{workspace_id}/model-configurations`: named upstreams.

mod change_permissions;
mod check;
mod store;
mod validate;

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Management;
use super::access::{
    InWorkspace, ModelConfigurationsConnect, ModelConfigurationsRead, ModelConfigurationsWrite,
};
use super::body::{Editable, Json, MergePatch};
use super::error::{ApiError, FieldError};
use super::field_errors::add;
use super::page::{PageQuery, Paged};
use super::query::Query;
use super::routes::Routes;
use super::shared::{Audited, Conflicts, check_workspace, created, record};
use crate::auth::{Principal, Scope};
use crate::db::model_configurations::{
    ModelConfigurationRow, delete_model_configuration as delete_row, find_model_configuration,
    insert_model_configuration, list_model_configurations as list_rows,
    update_model_configuration as update_row,
};
use crate::db::{ChangeScope, Conn};
use crate::domain::ids::ConfigurationId;
use crate::domain::model_configuration::{Placement, StreamUsage, Timeouts};
use crate::domain::names::{ConfigurationName, SecretName};
use crate::domain::oauth::OauthClient;
use crate::domain::pricing::Price;
use crate::domain::provider::Provider;
use crate::domain::scope::WorkspaceScope;
use crate::upstream::EgressRefusal;
use change_permissions::{
    apply_patch, check_organizations_secrets, check_price_permission, price_change,
};
use store::{check_name_is_free, columns, new_row, usable_secrets, use_secrets};
use validate::{Checked, Inspected};

const WHAT: &str = "model configuration";

/// The fields of a model configuration that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "fast model", "base_url": "https://api.openai.com/v1", "model": "gpt-4o-mini",
    "api_key_name": "OPENAI_KEY",
}))]
pub(super) struct ModelConfigurationFields {
    /// Unique in the workspace; requests go to `/providers/{name}`. 1 to 128 characters without
    /// control characters, not `.` or `..`.
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: ConfigurationName,
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub(super) description: Option<String>,
    /// Which API the upstream speaks, and so in which formats the configuration is called.
    #[serde(default)]
    pub(super) provider: Provider,
    /// The URL of the upstream's API with its version. The part of a request's path after `/v1` is
    /// appended to it.
    #[schema(max_length = 2048)]
    pub(super) base_url: String,
    /// The model that is used, whatever a request names; null where callers choose it.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub(super) model: Option<String>,
    /// The secret that holds the upstream's key; null for an upstream without keys.
    #[serde(default)]
    pub(super) api_key_name: Option<SecretName>,
    /// The OAuth client with whose tokens the upstream is called. With it, `api_key_name` is only for
    /// its `fall_back_to_api_key`.
    #[serde(default)]
    pub(super) oauth: Option<OauthClient>,
    /// How the key or the token is sent: `bearer`, or the name of a header such as `api-key`. If null or
    /// not given, `bearer` for tokens, and for keys the usual way of the provider's API: `bearer`, for
    /// Anthropic's `x-api-key`.
    #[serde(default)]
    pub(super) auth: Option<Placement>,
    /// Headers to set, at most 32. A value may name secrets as `{{secret:NAME}}`.
    #[serde(default)]
    pub(super) extra_headers: BTreeMap<String, String>,
    /// Further headers of the caller to pass on, at most 32.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub(super) forward_headers: Vec<String>,
    /// Parameters for requests that lack them, up to 16 KiB; not `model`, `stream` or
    /// `stream_options`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(super) default_parameters: Map<String, Value>,
    /// Whether the gateway asks streams for their usage.
    #[serde(default)]
    pub(super) stream_usage: StreamUsage,
    /// Whether a request that has to be converted for the upstream is refused if that leaves fields out.
    #[serde(default)]
    pub(super) strict_conversion: bool,
    /// Timeouts in place of the gateway's.
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    /// The largest number of concurrent requests on one replica; unlimited unless set.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100_000)]
    pub(super) max_concurrent_requests: Option<u32>,
    #[serde(default = "enabled")]
    pub(super) enabled: bool,
    /// The price, in place of the organization's prices and the catalogue; that of every model if callers
    /// choose it. Only a key of the organization with `organization:manage` can set it, because spend caps
    /// depend on it.
    #[serde(default)]
    pub(super) price: Option<Price>,
    /// The largest number of tokens of prompt and answer together, in place of the catalogue's. Set by
    /// the same keys as `price`.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub(super) context_window: Option<u64>,
    /// The largest number of tokens of an answer, in place of the catalogue's. Set by the same keys as
    /// `price`.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub(super) max_output_tokens: Option<u64>,
}

impl ModelConfigurationFields {
    /// How the key or the token is sent.
    fn placement(&self) -> Placement {
        self.auth.clone().unwrap_or_else(|| match self.oauth {
            Some(_) => Placement::Bearer,
            None => self.provider.default_placement(),
        })
    }
}

impl Editable for ModelConfigurationFields {
    type Shown = ModelConfiguration;
}

/// Has a name because utoipa's macros do not take a generic type here.
type ModelConfigurationPatch = MergePatch<ModelConfigurationFields>;

fn enabled() -> bool {
    true
}

/// A model configuration.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ModelConfiguration {
    pub(super) id: ConfigurationId,
    #[serde(flatten)]
    pub(super) fields: ModelConfigurationFields,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

impl Audited for ModelConfiguration {
    const TYPE: &'static str = "model_configuration";

    fn audit_id(&self) -> String {
        self.id.to_string()
    }
}

impl ModelConfiguration {
    fn of(row: ModelConfigurationRow) -> Result<Self, ApiError> {
        let ModelConfigurationRow { id, columns: row, created_at, .. } = row;
        Ok(Self {
            id,
            created_at: created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
            fields: ModelConfigurationFields {
                provider: read(Value::String(row.provider))?,
                auth: Some(Placement::from(row.auth)),
                extra_headers: read(row.extra_headers)?,
                forward_headers: read(row.forward_headers)?,
                default_parameters: read(row.default_parameters)?,
                stream_usage: read(Value::String(row.stream_usage))?,
                timeouts: read(row.timeouts)?,
                max_concurrent_requests: row
                    .max_concurrent_requests
                    .map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
                name: row.name,
                description: row.description,
                base_url: row.base_url,
                model: row.model.0,
                api_key_name: row.api_key_name,
                oauth: row.oauth.map(read).transpose()?,
                strict_conversion: row.strict_conversion,
                enabled: row.enabled,
                price: row.price.map(read).transpose()?,
                context_window: row.context_window.and_then(|max| u64::try_from(max).ok()),
                max_output_tokens: row.max_output_tokens.and_then(|max| u64::try_from(max).ok()),
            },
        })
    }
}

/// Reads the value of a column. The gateway wrote it, so an error is a defect.
fn read<T: serde::de::DeserializeOwned>(stored: Value) -> Result<T, ApiError> {
    serde_json::from_value(stored)
        .map_err(|error| ApiError::Internal(format!("a stored model configuration: {error}")))
}

/// Adds this resource's operations.
pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("model-configurations")
        .add(__path_list_model_configurations, list_model_configurations)
        .add(__path_create_model_configuration, create_model_configuration)
        .add(__path_get_model_configuration, get_model_configuration)
        .add(__path_update_model_configuration, update_model_configuration)
        .add(__path_delete_model_configuration, delete_model_configuration)
        .add(check::__path_check_model_configuration, check::check_model_configuration);
}

/// List the workspace's model configurations
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/model-configurations",
    params(PageQuery),
    responses((status = 200, description = "A page of model configurations, oldest first", body = Paged<ModelConfiguration>)),
)]
async fn list_model_configurations(
    caller: InWorkspace<ModelConfigurationsRead>,
    plane: web::Data<Management>,
    query: Query<PageQuery>,
) -> Result<web::Json<Paged<ModelConfiguration>>, ApiError> {
    let page = query.check(|query| query.page::<ConfigurationId>())?;
    let scope = caller.scope;
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| {
            check_workspace(conn, scope).await?;
            Ok::<_, ApiError>(list_rows(conn, scope, page).await?)
        })
        .await?;
    let Paged { data, next_cursor } =
        Paged::of(rows, page, |row| row.id.uuid(), ModelConfiguration::of);
    let data = data.into_iter().collect::<Result<_, _>>()?;
    Ok(web::Json(Paged { data, next_cursor }))
}

/// Create a model configuration
#[utoipa::path(
    post,
    path = "/workspaces/{workspace_id}/model-configurations",
    responses((status = 201, description = "The model configuration", body = ModelConfiguration), Conflicts),
)]
async fn create_model_configuration(
    caller: InWorkspace<ModelConfigurationsConnect>,
    plane: web::Data<Management>,
    body: Json<ModelConfigurationFields>,
) -> Result<HttpResponse, ApiError> {
    let InWorkspace { scope, actor, principal, .. } = caller;
    plane.database.read(async move |conn: &mut Conn| check_workspace(conn, scope).await).await?;
    let found = Inspected::of(body.into_parsed())?;
    let permission = check_price_permission(price_change(None, &found.fields), &principal);
    let checked =
        check_all(&plane, scope, &principal, found.if_permitted(permission)?, None).await?;
    let keyring = plane.keyring.clone();
    let configuration = plane
        .database
        .write(ChangeScope::Organization(scope.organization_id), async move |conn: &mut Conn| {
            check_workspace(conn, scope).await?;
            let Checked { fields, secrets, .. } = checked;
            check_name_is_free(conn, scope, &fields.name, None).await?;
            let row = new_row(scope, fields, &actor)?;
            insert_model_configuration(conn, row.clone()).await?;
            use_secrets(conn, &keyring, scope, &principal, row.id, &secrets).await?;
            let configuration = ModelConfiguration::of(row)?;
            let scope = Scope::Workspace(scope);
            record(conn, &actor, scope, "create_model_configuration", None, Some(&configuration))
                .await?;
            Ok::<_, ApiError>(configuration)
        })
        .await?;
    let location = format!(
        "/api/v1/workspaces/{}/model-configurations/{}",
        scope.workspace_id, configuration.id
    );
    Ok(created(location, configuration))
}

/// Read a model configuration
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/model-configurations/{configuration_id}",
    responses((status = 200, description = "The model configuration", body = ModelConfiguration)),
)]
async fn get_model_configuration(
    caller: InWorkspace<ModelConfigurationsRead>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<ModelConfiguration>, ApiError> {
    let scope = caller.scope;
    let id = path.into_inner().1;
    let row =
        plane.database.read(async move |conn: &mut Conn| current(conn, scope, &id).await).await?;
    ModelConfiguration::of(row).map(web::Json)
}

/// Change a model configuration
///
/// A JSON merge patch (RFC 7396). Changing `name`, `provider`, `base_url`, `api_key_name`, `oauth`,
/// `auth`, `extra_headers` or `forward_headers` needs `model-configurations:connect` as well; repeating
/// their present values does not. If the configuration uses a secret of the organization, it needs a key
/// of the organization, and so do new `default_parameters` that refer to what the provider stores. Changing
/// `price`, `context_window` or `max_output_tokens` needs a key of the organization with
/// `organization:manage`, and so do new `default_parameters` that may choose another model, and changing
/// `provider`, `base_url` or `model` where one of those three is set.
#[utoipa::path(
    patch,
    path = "/workspaces/{workspace_id}/model-configurations/{configuration_id}",
    responses((status = 200, description = "The updated model configuration", body = ModelConfiguration), Conflicts),
)]
async fn update_model_configuration(
    caller: InWorkspace<ModelConfigurationsWrite>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
    patch: Json<ModelConfigurationPatch>,
) -> Result<HttpResponse, ApiError> {
    let InWorkspace { scope, actor, principal, .. } = caller;
    let id = path.into_inner().1;
    let patch = patch.valid()?;
    // Read before the transaction, too: the check of a new base URL resolves its name, which takes
    // time and is done only for callers who may change it.
    let looked_up = id.clone();
    let before = plane
        .database
        .read(async move |conn: &mut Conn| current(conn, scope, &looked_up).await)
        .await?;
    let before = ModelConfiguration::of(before)?;
    let found = apply_patch(&patch, &before.fields, &principal)?;
    let Checked { base_url, token_url, .. } =
        check_all(&plane, scope, &principal, found, Some(before)).await?;
    let keyring = plane.keyring.clone();
    let changed = plane
        .database
        .write(ChangeScope::Organization(scope.organization_id), async move |conn: &mut Conn| {
            let before = ModelConfiguration::of(current(conn, scope, &id).await?)?;
            let now = apply_patch(&patch, &before.fields, &principal)?.valid()?;
            check_organizations_secrets(conn, scope, &principal, &before, &now.fields).await?;
            check_unchanged("base_url", &now.base_url, &base_url)?;
            check_unchanged("oauth.token_url", &now.token_url, &token_url)?;
            let Checked { fields, secrets, .. } = now;
            check_name_is_free(conn, scope, &fields.name, Some(before.id)).await?;
            let row = update_row(conn, scope, before.id, columns(fields, &actor)?).await?;
            use_secrets(conn, &keyring, scope, &principal, before.id, &secrets).await?;
            let after = ModelConfiguration::of(row)?;
            let (scope, operation) = (Scope::Workspace(scope), "update_model_configuration");
            record(conn, &actor, scope, operation, Some(&before), Some(&after)).await?;
            Ok::<_, ApiError>(after)
        })
        .await?;
    Ok(HttpResponse::Ok().json(changed))
}

/// Delete a model configuration
///
/// Its name can be used again, and the secrets that it used can be deleted.
#[utoipa::path(
    delete,
    path = "/workspaces/{workspace_id}/model-configurations/{configuration_id}",
    responses((status = 204, description = "The model configuration is deleted")),
)]
async fn delete_model_configuration(
    caller: InWorkspace<ModelConfigurationsConnect>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let InWorkspace { scope, actor, .. } = caller;
    let id = path.into_inner().1;
    plane
        .database
        .write(ChangeScope::Organization(scope.organization_id), async move |conn: &mut Conn| {
            let before = ModelConfiguration::of(current(conn, scope, &id).await?)?;
            delete_row(conn, scope, before.id, actor.now.naive_utc()).await?;
            let scope = Scope::Workspace(scope);
            record(conn, &actor, scope, "delete_model_configuration", Some(&before), None).await
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn current(
    conn: &mut Conn,
    scope: WorkspaceScope,
    id: &str,
) -> Result<ModelConfigurationRow, ApiError> {
    check_workspace(conn, scope).await?;
    let id = id.parse::<ConfigurationId>().map_err(|_| ApiError::NotFound(WHAT))?;
    find_model_configuration(conn, scope, id).await?.ok_or(ApiError::NotFound(WHAT))
}

/// Checks, besides the mistakes that were found, what the network and the database know: where new URLs
/// lead, and the secrets. So one answer names all mistakes. Resolves names, which must not take place inside
/// a transaction.
async fn check_all(
    plane: &Management,
    scope: WorkspaceScope,
    principal: &Principal,
    mut found: Inspected,
    before: Option<ModelConfiguration>,
) -> Result<Checked, ApiError> {
    let was = before.as_ref().map(|before| &before.fields);
    if let Some(base_url) = &found.base_url
        && was.is_none_or(|was| was.base_url != base_url.as_str())
    {
        let refused = egress_error("base_url", base_url.check_egress(&plane.egress)).await;
        refused.into_iter().for_each(|error| add(&mut found.errors, error));
    }
    let token_url_before = was.and_then(|was| was.oauth.as_ref()).map(|was| was.token_url.as_str());
    if let Some(token_url) = &found.token_url
        && token_url_before != Some(token_url.as_str())
    {
        let refused = egress_error("oauth.token_url", token_url.check_egress(&plane.egress)).await;
        refused.into_iter().for_each(|error| add(&mut found.errors, error));
    }
    let (keyring, principal) = (plane.keyring.clone(), *principal);
    let found = plane
        .database
        .read(async move |conn: &mut Conn| {
            if let Some(before) = &before {
                let permission =
                    check_organizations_secrets(conn, scope, &principal, before, &found.fields)
                        .await;
                found = found.if_permitted(permission)?;
            }
            let id = before.map(|before| before.id);
            let usable =
                usable_secrets(conn, &keyring, scope, &principal, id, &found.secrets).await?;
            usable.errors.into_iter().for_each(|error| add(&mut found.errors, error));
            Ok::<_, ApiError>(found)
        })
        .await?;
    found.valid()
}

/// The error of the field whose URL the egress rules refuse.
async fn egress_error(
    field: &str,
    check: impl Future<Output = Result<(), EgressRefusal>>,
) -> Option<FieldError> {
    let refusal = check.await.err()?;
    let message = format!("is refused by the egress rule {}: {refusal}", refusal.rule());
    Some(FieldError { field: field.to_owned(), message })
}

/// Checks that the URL that will be stored is the one that the egress rules were asked about.
fn check_unchanged<T: PartialEq>(field: &str, stored: &T, asked: &T) -> Result<(), ApiError> {
    if stored == asked {
        return Ok(());
    }
    Err(ApiError::Conflict {
        code: "changed_meanwhile",
        detail: format!(
            "{field} was changed by another request at the same time; read the configuration and \
             try again."
        ),
    })
}
