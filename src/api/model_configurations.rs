//! `/workspaces/{workspace_id}/model-configurations`: named upstreams.

mod check;
mod permitted;
mod store;
mod validate;

use std::collections::BTreeMap;

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use check::ModelConfigurationCheck;

use super::Management;
use super::access::{
    InWorkspace, ModelConfigurationsConnect, ModelConfigurationsRead, ModelConfigurationsWrite,
};
use super::body::{Editable, Json, MergePatch};
use super::error::ApiError;
use super::page::{PageQuery, Paged};
use super::query::Query;
use super::routes::Routes;
use super::shared::{Conflicts, as_json, live_workspace};
use crate::audit::record;
use crate::db::model_configurations::{
    ModelConfigurationRow, delete_model_configuration as delete_row, find_model_configuration,
    insert_model_configuration, list_model_configurations as list_rows,
    update_model_configuration as update_row,
};
use crate::db::{Concerns, Conn};
use crate::domain::ids::ConfigurationId;
use crate::domain::model_configuration::{Placement, Provider, StreamUsage, Timeouts};
use crate::domain::names::{ConfigurationName, SecretName};
use crate::domain::pricing::Price;
use crate::domain::scope::WorkspaceScope;
use crate::upstream::{BaseUrl, EgressRules};
use permitted::{may_price, patched, priced_change};
use store::{changes, event, free_name, new_row, use_secrets};
use validate::{Checked, check};

const WHAT: &str = "model configuration";

/// What people set of a model configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfigurationFields {
    /// Unique in the workspace; requests go to `/providers/{name}`. 1 to 128 characters without
    /// control characters, not `.` or `..`.
    #[schema(min_length = 1, max_length = 128)]
    pub name: ConfigurationName,
    /// What people noted about it.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: Option<String>,
    /// Which API the upstream speaks.
    #[serde(default)]
    pub provider: Provider,
    /// Where the upstream's API begins, with its version: what stands after `/v1` in a request's
    /// path is put behind it.
    #[schema(example = "https://api.openai.com/v1", max_length = 2048)]
    pub base_url: String,
    /// The model that requests are for, whatever they ask for.
    #[schema(min_length = 1, max_length = 256, example = "gpt-4o-mini")]
    pub model: String,
    /// The secret that holds the upstream's key; null for an upstream without keys.
    #[serde(default)]
    pub api_key_name: Option<SecretName>,
    /// Where the key goes: `bearer`, or the name of a header such as `api-key`.
    #[serde(default)]
    pub auth: Placement,
    /// Headers to set, at most 32. A value may name secrets as `{{secret:NAME}}`.
    #[serde(default)]
    pub extra_headers: BTreeMap<String, String>,
    /// More of the caller's headers to pass on, at most 32.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub forward_headers: Vec<String>,
    /// Parameters for requests that lack them, up to 16 KiB; not `model`, `stream` or
    /// `stream_options`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub default_parameters: Map<String, Value>,
    /// Who asks streams for usage.
    #[serde(default)]
    pub stream_usage: StreamUsage,
    /// Time limits of its own.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How many requests may be under way at once on one replica; unlimited unless set.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_concurrent_requests: Option<u32>,
    /// Whether it serves requests.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// What it costs, over the organization's prices and the catalogue. Set with an organization's
    /// key and `organization:manage` alone, since spend caps go by it.
    #[serde(default)]
    pub price: Option<Price>,
    /// The most tokens that prompt and answer may have together, over the catalogue. Set by whoever
    /// may set `price`.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub context_window: Option<u64>,
    /// The most tokens that an answer may have, over the catalogue. Set by whoever may set `price`.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub max_output_tokens: Option<u64>,
}

impl Editable for ModelConfigurationFields {
    const READ_ONLY: &'static [&'static str] = &["id", "created_at", "updated_at"];
}

/// Named because the documentation takes no generic of our own.
type ModelConfigurationPatch = MergePatch<ModelConfigurationFields>;

fn enabled() -> bool {
    true
}

/// A model configuration.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ModelConfiguration {
    /// Its id.
    pub id: ConfigurationId,
    /// What people set.
    #[serde(flatten)]
    pub fields: ModelConfigurationFields,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl ModelConfiguration {
    fn of(row: ModelConfigurationRow) -> Result<Self, ApiError> {
        Ok(Self {
            id: row.id,
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
            fields: ModelConfigurationFields {
                provider: read(Value::String(row.provider))?,
                auth: Placement::from(row.auth),
                extra_headers: read(row.extra_headers)?,
                forward_headers: read(row.forward_headers)?,
                default_parameters: read(row.default_parameters)?,
                stream_usage: read(Value::String(row.stream_usage))?,
                timeouts: read(row.timeouts)?,
                max_concurrent_requests: row
                    .max_concurrent_requests
                    .map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
                name: row.name,
                description: row.description,
                base_url: row.base_url,
                model: row.model,
                api_key_name: row.api_key_name,
                enabled: row.enabled,
                price: row.price.map(read).transpose()?,
                context_window: row.context_window.and_then(|most| u64::try_from(most).ok()),
                max_output_tokens: row.max_output_tokens.and_then(|most| u64::try_from(most).ok()),
            },
        })
    }
}

/// Reads what a column holds. It was written by us, so an error is a defect.
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
    responses((status = 200, description = "A page of them, oldest first", body = Paged<ModelConfiguration>)),
)]
async fn list_model_configurations(
    caller: InWorkspace<ModelConfigurationsRead>,
    plane: web::Data<Management>,
    query: Query<PageQuery>,
) -> Result<web::Json<Paged<ModelConfiguration>>, ApiError> {
    let page = query.0.page::<ConfigurationId>()?;
    let scope = caller.scope;
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| {
            live_workspace(conn, scope).await?;
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
    responses((status = 201, description = "It was made", body = ModelConfiguration), Conflicts),
)]
async fn create_model_configuration(
    caller: InWorkspace<ModelConfigurationsConnect>,
    plane: web::Data<Management>,
    body: Json<ModelConfigurationFields>,
) -> Result<HttpResponse, ApiError> {
    let InWorkspace { scope, actor, principal, .. } = caller;
    plane.database.read(async move |conn: &mut Conn| live_workspace(conn, scope).await).await?;
    let checked = check(body.0)?;
    may_price(priced_change(None, &checked.fields), &principal)?;
    // Resolves a name, so it can't be done inside the transaction.
    check_egress(&checked.base_url, &plane.egress).await?;
    let keyring = plane.keyring.clone();
    let made = plane
        .database
        .write(Concerns::Organization(scope.organization_id), async move |conn: &mut Conn| {
            live_workspace(conn, scope).await?;
            let Checked { fields, secrets, .. } = checked;
            free_name(conn, scope, &fields.name, None).await?;
            let row = new_row(scope, fields, &actor)?;
            insert_model_configuration(conn, row.clone()).await?;
            use_secrets(conn, &keyring, scope, row.id, &secrets).await?;
            let made = ModelConfiguration::of(row)?;
            let after = Some(as_json(&made)?);
            record(conn, &actor, event("create_model_configuration", scope, &made, None, after))
                .await?;
            Ok::<_, ApiError>(made)
        })
        .await?;
    let location =
        format!("/api/v1/workspaces/{}/model-configurations/{}", scope.workspace_id, made.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(made))
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
/// A JSON merge patch (RFC 7396). Changing `provider`, `base_url`, `api_key_name`, `auth`,
/// `extra_headers` or `forward_headers` needs `model-configurations:connect` as well; repeating
/// their present values does not. Changing `price`, `context_window` or `max_output_tokens` takes a
/// key of the organization with `organization:manage`, and so does changing `provider`, `base_url` or
/// `model` where one of them is set.
#[utoipa::path(
    patch,
    path = "/workspaces/{workspace_id}/model-configurations/{configuration_id}",
    responses((status = 200, description = "As it is now", body = ModelConfiguration), Conflicts),
)]
async fn update_model_configuration(
    caller: InWorkspace<ModelConfigurationsWrite>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
    patch: Json<ModelConfigurationPatch>,
) -> Result<HttpResponse, ApiError> {
    let InWorkspace { scope, actor, principal, .. } = caller;
    let id = path.into_inner().1;
    // Looked at before the transaction as well: whether a new base URL is let out takes resolving
    // its name, which is done for those alone who may change it.
    let looked_up = id.clone();
    let before = plane
        .database
        .read(async move |conn: &mut Conn| current(conn, scope, &looked_up).await)
        .await?;
    let before = ModelConfiguration::of(before)?.fields;
    let Checked { base_url, .. } = patched(&patch.0, &before, &principal)?;
    if base_url.as_str() != before.base_url {
        check_egress(&base_url, &plane.egress).await?;
    }
    let keyring = plane.keyring.clone();
    let changed = plane
        .database
        .write(Concerns::Organization(scope.organization_id), async move |conn: &mut Conn| {
            let before = ModelConfiguration::of(current(conn, scope, &id).await?)?;
            let Checked { fields, secrets, base_url: now_base_url } =
                patched(&patch.0, &before.fields, &principal)?;
            if now_base_url != base_url {
                return Err(ApiError::Conflict {
                    code: "changed_meanwhile",
                    detail: "Somebody else changed base_url at the same time; read it and try \
                             again."
                        .to_owned(),
                });
            }
            free_name(conn, scope, &fields.name, Some(before.id)).await?;
            let row = update_row(conn, scope, before.id, changes(fields, &actor)?).await?;
            use_secrets(conn, &keyring, scope, before.id, &secrets).await?;
            let after = ModelConfiguration::of(row)?;
            let (was, is) = (Some(as_json(&before)?), Some(as_json(&after)?));
            record(conn, &actor, event("update_model_configuration", scope, &after, was, is))
                .await?;
            Ok::<_, ApiError>(after)
        })
        .await?;
    Ok(HttpResponse::Ok().json(changed))
}

/// Delete a model configuration
///
/// Its name is free again, and so are the secrets that it used.
#[utoipa::path(
    delete,
    path = "/workspaces/{workspace_id}/model-configurations/{configuration_id}",
    responses((status = 204, description = "It is gone")),
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
        .write(Concerns::Organization(scope.organization_id), async move |conn: &mut Conn| {
            let gone = ModelConfiguration::of(current(conn, scope, &id).await?)?;
            delete_row(conn, scope, gone.id, actor.now.naive_utc()).await?;
            let before = Some(as_json(&gone)?);
            record(conn, &actor, event("delete_model_configuration", scope, &gone, before, None))
                .await?;
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn current(
    conn: &mut Conn,
    scope: WorkspaceScope,
    id: &str,
) -> Result<ModelConfigurationRow, ApiError> {
    live_workspace(conn, scope).await?;
    let id = id.parse::<ConfigurationId>().map_err(|_| ApiError::NotFound(WHAT))?;
    find_model_configuration(conn, scope, id).await?.ok_or(ApiError::NotFound(WHAT))
}

async fn check_egress(base_url: &BaseUrl, rules: &EgressRules) -> Result<(), ApiError> {
    base_url.check_egress(rules).await.map_err(|refusal| {
        ApiError::field(
            "base_url",
            format!("is refused by the egress rule {}: {refusal}", refusal.rule()),
        )
    })
}
