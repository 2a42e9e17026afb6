//! The cached state of one upstream: a model configuration or a built-in provider. Its secrets stay sealed
//! until a request needs them.

mod data_keys;
mod provider;
mod provider_level;
mod token_source;

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use quick_cache::sync::Cache;
use smallvec::SmallVec;

use crate::crypto::{KeyringHandle, SecretBytes, SecretContext, open};
use crate::db::model_configurations::{
    ModelConfigurationRow, find_model_configuration, find_model_configuration_named,
};
use crate::db::model_prices::list_model_prices_for;
use crate::db::secrets::{SecretRow, list_secrets_of_configuration};
use crate::db::{Conn, DbError};
use crate::domain::ids::{ConfigurationId, OrganizationId};
use crate::domain::model_configuration::{
    HeaderTemplate, Placement, StreamUsage, TemplatePart, Timeouts,
};
use crate::domain::names::SecretName;
use crate::domain::pricing::catalogue::Catalogue;
use crate::domain::pricing::resolve::{
    ConfigurationPrice, OrganizationPrice, PriceList, Resolution, ResolvedPrice, price_of_used,
    resolve,
};
use crate::domain::provider::{Provider, UpstreamApi, UpstreamId};
use crate::domain::provider_settings::UnmeteredEndpoint;
use crate::domain::scope::WorkspaceScope;
use crate::providers::cloud::VERTEX_REGION;
use crate::upstream::BaseUrl;

use data_keys::DataKeys;
pub use provider::CloudAccess;
pub(super) use provider::load_provider;
pub use provider_level::{ProviderLevel, find_provider_level, parse_settings};
pub use token_source::TokenSource;

/// The models whose prices an upstream without a model of its own remembers.
const REMEMBERED_MODELS: usize = 256;

/// An upstream from one database snapshot.
pub struct UpstreamEntry {
    pub id: UpstreamId,
    /// The configuration's name, or the provider's.
    pub name: Arc<str>,
    pub scope: WorkspaceScope,
    pub enabled: bool,
    pub address: Address,
    /// The model of all requests; none where callers choose it.
    pub model: Option<Arc<UpstreamModel>>,
    /// Headers of the caller that are forwarded in addition to the usual ones.
    pub forward_headers: Vec<HeaderName>,
    /// Parameters that are added to bodies which lack them, each with its value as JSON.
    pub default_parameters: Vec<(String, String)>,
    pub stream_usage: StreamUsage,
    /// No field may be left out of a request that is converted for it.
    pub strict_conversion: bool,
    pub timeouts: Timeouts,
    /// For each replica.
    pub max_concurrent_requests: Option<u32>,
    /// The catalogue's name for the host, or the configuration's `provider` for hosts that the
    /// catalogue does not know.
    pub provider_name: String,
    /// The configuration's `provider`.
    pub provider: Provider,
    /// The organization's prices for the provider. A change of them invalidates the entry.
    organization_prices: PriceList,
    /// What a configuration says of its price and limits.
    own_price: Option<ConfigurationPrice>,
    /// Which models names refer to that say nothing of them.
    model_names: BTreeMap<String, String>,
    /// Those that callers chose.
    chosen_models: Cache<Box<str>, Arc<UpstreamModel>>,
    headers: Vec<(HeaderName, HeaderTemplate)>,
    /// Where the tokens come from that the upstream takes.
    pub token_source: Option<TokenSource>,
    /// The key that is sent while there is no token.
    fallback_key: Option<(HeaderName, HeaderTemplate)>,
    secrets: SealedSecrets,
    /// Whether a credential is the organization's: other workspaces use the same account there.
    pub is_inherited: bool,
    /// What is passed through although nothing is metered there.
    pub unmetered_endpoints: Vec<UnmeteredEndpoint>,
    /// Whether callers may use a subscription of their own.
    pub subscription_pass_through: bool,
}

/// Where an upstream is.
#[derive(Debug)]
pub enum Address {
    /// The URL of its API, with the version.
    Fixed(BaseUrl),
    /// Follows from the connection, the secrets and the request.
    Cloud(Box<CloudAccess>),
}

/// The secrets of an upstream, and what opens them.
#[derive(Default)]
struct SealedSecrets {
    rows: Vec<SecretRow>,
    data_keys: DataKeys,
}

impl SealedSecrets {
    /// Loads what opens these secrets of one organization and its workspaces.
    async fn load(
        conn: &mut Conn,
        organization_id: OrganizationId,
        rows: Vec<SecretRow>,
    ) -> Result<Self, DbError> {
        let data_keys = DataKeys::load(conn, organization_id, &rows).await?;
        Ok(Self { rows, data_keys })
    }
}

/// A model of an upstream.
#[derive(Debug)]
pub struct UpstreamModel {
    /// By which access, price and limits are found.
    pub name: String,
    /// What the upstream calls it, if that is another name: a deployment, or an ARN.
    own_name: Option<String>,
    pub price: Option<ResolvedPrice>,
    /// The most tokens of prompt and answer together, if known.
    pub context_window: Option<u64>,
    /// The most tokens of an answer, if known.
    pub max_output_tokens: Option<u64>,
}

/// An upstream's credentials in plaintext. Made for one request and dropped with it.
pub struct Credentials {
    /// To be set on the upstream request.
    pub headers: SmallVec<[(HeaderName, HeaderValue); 2]>,
    /// The secrets in `headers`, which must not reach the caller.
    pub secrets: Vec<SecretBytes>,
}

/// A secret that a configuration needs cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("secret {name}: {cause}")]
pub struct SecretUnavailable {
    /// The secret, or the header that cannot be made.
    pub name: String,
    /// For the log.
    pub cause: String,
}

impl UpstreamEntry {
    /// Opens the secrets, except the OAuth client's and the key that is used in place of a token. Takes about
    /// a microsecond for each, once the data key is unwrapped.
    pub fn open(&self, keyring: &KeyringHandle) -> Result<Credentials, SecretUnavailable> {
        let mut headers = SmallVec::new();
        let mut secrets = Vec::new();
        for (name, template) in &self.headers {
            let value = self.open_template(name, template, keyring, &mut secrets)?;
            headers.push((name.clone(), value));
        }
        Ok(Credentials { headers, secrets })
    }

    /// The value of a header. Adds the secrets in it to `secrets`.
    fn open_template(
        &self,
        name: &HeaderName,
        template: &HeaderTemplate,
        keyring: &KeyringHandle,
        secrets: &mut Vec<SecretBytes>,
    ) -> Result<HeaderValue, SecretUnavailable> {
        let mut value: Vec<u8> = Vec::new();
        let mut last = None;
        for part in template.parts() {
            match part {
                TemplatePart::Text(text) => value.extend_from_slice(text.as_bytes()),
                TemplatePart::Secret(secret) => {
                    let opened = self.open_secret(secret.as_str(), keyring)?;
                    value.extend_from_slice(opened.expose());
                    secrets.push(opened);
                    last = Some(secret);
                }
            }
        }
        let mut value =
            HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).map_err(|_| {
                SecretUnavailable {
                    name: last.map_or_else(|| name.to_string(), ToString::to_string),
                    cause: "its value is not a valid header value".to_owned(),
                }
            })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The first secret that the credentials need and the workspace does not have.
    pub fn missing_secret(&self) -> Option<&str> {
        if let Address::Cloud(access) = &self.address {
            return access.missing_secret();
        }
        let needed = self.keys().flat_map(|(_, template)| template.secrets());
        needed.map(SecretName::as_str).find(|name| !self.has_secret(name))
    }

    /// The secret that holds the credential; the first, if there are several.
    pub fn secret_name(&self) -> Option<&str> {
        if let Address::Cloud(access) = &self.address {
            return access.secret_name();
        }
        self.keys().flat_map(|(_, template)| template.secrets()).map(SecretName::as_str).next()
    }

    /// The headers that secrets are sent in.
    fn keys(&self) -> impl Iterator<Item = &(HeaderName, HeaderTemplate)> {
        self.fallback_key.iter().chain(&self.headers)
    }

    /// The model of a request for which its caller chose this one.
    pub fn chosen_model(&self, name: &str) -> Arc<UpstreamModel> {
        if let Some(model) = self.chosen_models.get(name) {
            return model;
        }
        let meant = self.model_meant(name);
        let mut model = self.model_named(meant);
        model.own_name = (meant != name).then(|| name.to_owned());
        let model = Arc::new(model);
        self.chosen_models.insert(name.into(), Arc::clone(&model));
        model
    }

    /// Whether it is Vertex elsewhere than at the global endpoint, where a model may cost more. `region` is
    /// the path's.
    pub fn is_regional(&self, region: Option<&str>) -> bool {
        self.provider.api() == UpstreamApi::Vertex
            && match &self.address {
                Address::Cloud(access) => {
                    let region = access.connection.region.as_deref().or(region);
                    region.is_some_and(|region| region != VERTEX_REGION)
                }
                Address::Fixed(base_url) => !base_url.as_str().contains("/locations/global"),
            }
    }

    /// The model that a name refers to: the one of this name, unless settings say otherwise.
    pub fn model_meant<'n>(&'n self, name: &'n str) -> &'n str {
        self.model_names.get(name).map_or(name, String::as_str)
    }

    /// A model at its price.
    fn model_named(&self, name: &str) -> UpstreamModel {
        let own = self.own_price.as_ref();
        let resolution = resolve(&self.provider_name, name, own, &self.organization_prices);
        UpstreamModel::new(name, self.provider.api(), resolution)
    }

    /// The price of the model that answered, if its own price applies: see [`price_of_used`].
    pub fn price_of_used(&self, asked: &UpstreamModel, used: &str) -> Option<ResolvedPrice> {
        let (provider, prices) = (&self.provider_name, &self.organization_prices);
        let found = price_of_used(provider, &asked.name, used, asked.price.as_ref(), prices);
        found.map(|price| price_in(self.provider.api(), used, price))
    }

    /// Opens the secret of this name.
    pub fn open_secret(
        &self,
        name: &str,
        keyring: &KeyringHandle,
    ) -> Result<SecretBytes, SecretUnavailable> {
        let unavailable = |cause: String| SecretUnavailable { name: name.to_owned(), cause };
        let row = self
            .secrets
            .rows
            .iter()
            .find(|row| row.name.as_str() == name)
            .ok_or_else(|| unavailable("there is no such secret".to_owned()))?;
        let data_key =
            self.secrets.data_keys.open(row.data_key_id, keyring).map_err(unavailable)?;
        let context = SecretContext {
            owner_id: row.owner().uuid(),
            secret_id: row.id.uuid(),
            version: row.version,
        };
        open(data_key, &context, &row.sealed).map_err(|error| unavailable(error.to_string()))
    }
}

impl UpstreamModel {
    fn new(name: &str, api: UpstreamApi, resolution: Resolution) -> Self {
        Self {
            name: name.to_owned(),
            own_name: None,
            price: resolution.price.map(|price| price_in(api, name, price)),
            context_window: resolution.context_window,
            max_output_tokens: resolution.max_output_tokens,
        }
    }

    /// The name that is sent to the provider.
    pub fn sent_name(&self) -> &str {
        self.own_name.as_deref().unwrap_or(&self.name)
    }
}

/// Loads the configuration of that name with its secrets, from one snapshot.
pub(super) async fn load_configuration_named(
    conn: &mut Conn,
    scope: WorkspaceScope,
    name: String,
) -> Result<Option<UpstreamEntry>, DbError> {
    let row = find_model_configuration_named(conn, scope, name).await?;
    of_row(conn, row).await
}

/// The same for the configuration with this id.
pub(super) async fn load_configuration(
    conn: &mut Conn,
    scope: WorkspaceScope,
    id: ConfigurationId,
) -> Result<Option<UpstreamEntry>, DbError> {
    let row = find_model_configuration(conn, scope, id).await?;
    of_row(conn, row).await
}

async fn of_row(
    conn: &mut Conn,
    row: Option<ModelConfigurationRow>,
) -> Result<Option<UpstreamEntry>, DbError> {
    let Some(row) = row else { return Ok(None) };
    let mut entry = parse(&row)?;
    add_price(conn, &row, &mut entry).await?;
    let rows = list_secrets_of_configuration(conn, entry.scope, row.id).await?;
    entry.is_inherited = rows.iter().any(|row| row.workspace_id.is_none());
    entry.secrets = SealedSecrets::load(conn, row.organization_id, rows).await?;
    Ok(Some(entry))
}

/// The header that carries the credential in this secret.
fn credential(
    placement: &Placement,
    secret: &str,
) -> Result<(HeaderName, HeaderTemplate), Box<dyn std::error::Error + Send + Sync>> {
    let (name, template) = match placement {
        Placement::Bearer => (AUTHORIZATION, format!("Bearer {{{{secret:{secret}}}}}")),
        Placement::Header(name) => {
            (HeaderName::from_bytes(name.as_bytes())?, format!("{{{{secret:{secret}}}}}"))
        }
    };
    Ok((name, HeaderTemplate::parse(&template)?))
}

/// The catalogue's name for the provider at the URL, or `fallback` for unknown hosts.
pub fn provider_name(base_url: &BaseUrl, fallback: &str) -> String {
    Catalogue::shipped().provider_at(&base_url.host()).unwrap_or(fallback).to_owned()
}

/// Adds the configuration's price and limits from the same snapshot.
async fn add_price(
    conn: &mut Conn,
    row: &ModelConfigurationRow,
    entry: &mut UpstreamEntry,
) -> Result<(), DbError> {
    let columns = &row.columns;
    let invalid = |error: serde_json::Error| {
        DbError::Internal(format!("model configuration {}: price: {error}", row.id))
    };
    let tokens = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok());
    let own = ConfigurationPrice {
        id: row.id,
        updated_at: columns.updated_at.and_utc(),
        price: columns.price.clone().map(serde_json::from_value).transpose().map_err(invalid)?,
        context_window: tokens(columns.context_window),
        max_output_tokens: tokens(columns.max_output_tokens),
    };
    entry.organization_prices = price_list(conn, row.organization_id, &entry.provider_name).await?;
    entry.own_price = Some(own);
    entry.model = columns.model.0.as_deref().map(|name| Arc::new(entry.model_named(name)));
    Ok(())
}

/// The price as it applies to requests of this API for this model: Anthropic charges more for what is
/// written to its cache, whoever serves its models.
fn price_in(api: UpstreamApi, model: &str, price: ResolvedPrice) -> ResolvedPrice {
    let is_anthropic = match api {
        UpstreamApi::OpenAi | UpstreamApi::Gemini => false,
        UpstreamApi::Anthropic => true,
        UpstreamApi::Converse | UpstreamApi::Vertex => model.contains("claude"),
        // The name of a deployment says nothing.
        UpstreamApi::Azure => true,
    };
    match is_anthropic {
        true => ResolvedPrice { price: price.price.with_cache_write_rates(), ..price },
        false => price,
    }
}

/// The organization's prices for this provider and for all providers.
pub async fn price_list(
    conn: &mut Conn,
    organization_id: OrganizationId,
    provider: &str,
) -> Result<PriceList, DbError> {
    let rows = list_model_prices_for(conn, organization_id, provider.to_owned()).await?;
    let read = rows.into_iter().map(|row| {
        let price = serde_json::from_value(row.price)
            .map_err(|error| DbError::Internal(format!("model price {}: {error}", row.id)))?;
        Ok(OrganizationPrice {
            id: row.id,
            version: row.version,
            provider: row.provider,
            model: row.model,
            price,
        })
    });
    read.collect::<Result<_, DbError>>().map(PriceList)
}

/// Parses the row. Its fields were checked when they were saved, so an error here means that the
/// database was edited by hand.
fn parse(row: &ModelConfigurationRow) -> Result<UpstreamEntry, DbError> {
    let &ModelConfigurationRow { id, organization_id, workspace_id, ref columns, .. } = row;
    let invalid = |field: &str, error: &dyn std::fmt::Display| {
        DbError::Internal(format!("model configuration {id}: {field}: {error}"))
    };
    let header = |field: &str, name: &str| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(field, &error))
    };
    let mut key = None;
    if let Some(secret) = &columns.api_key_name {
        let placement = Placement::from(columns.auth.clone());
        let made = credential(&placement, secret.as_str());
        key = Some(made.map_err(|error| invalid("auth", &error))?);
    }
    let token_source = TokenSource::parse(row).map_err(|error| invalid("oauth", &error))?;
    let (key, fallback_key) = if token_source.is_some() { (None, key) } else { (key, None) };
    let mut headers: Vec<_> = key.into_iter().collect();
    for (name, value) in columns.extra_headers.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let template =
            HeaderTemplate::parse(text).map_err(|error| invalid("extra_headers", &error))?;
        headers.push((header("extra_headers", name)?, template));
    }
    let forward_headers = columns
        .forward_headers
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_str)
        .map(|name| header("forward_headers", name))
        .collect::<Result<_, _>>()?;
    let default_parameters = columns
        .default_parameters
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.to_string()))
        .collect();
    let provider = Provider::parse(&columns.provider)
        .ok_or_else(|| invalid("provider", &format!("{} is none", columns.provider)))?;
    let base_url =
        BaseUrl::parse(&columns.base_url).map_err(|error| invalid("base_url", &error))?;
    Ok(UpstreamEntry {
        id: id.into(),
        name: columns.name.as_str().into(),
        scope: WorkspaceScope { organization_id, workspace_id },
        enabled: columns.enabled,
        provider_name: provider_name(&base_url, provider.catalogue_name()),
        provider,
        address: Address::Fixed(base_url),
        model: None,
        forward_headers,
        default_parameters,
        strict_conversion: columns.strict_conversion,
        stream_usage: match columns.stream_usage == StreamUsage::Leave.as_str() {
            true => StreamUsage::Leave,
            false => StreamUsage::Inject,
        },
        timeouts: serde_json::from_value(columns.timeouts.clone())
            .map_err(|error| invalid("timeouts", &error))?,
        max_concurrent_requests: columns
            .max_concurrent_requests
            .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        organization_prices: PriceList::default(),
        own_price: None,
        model_names: BTreeMap::new(),
        chosen_models: Cache::new(REMEMBERED_MODELS),
        headers,
        token_source,
        fallback_key,
        secrets: SealedSecrets::default(),
        is_inherited: false,
        unmetered_endpoints: Vec::new(),
        subscription_pass_through: false,
    })
}
