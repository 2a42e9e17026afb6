//! `GET /v1/models` and `/v1/models/{id}`: what the caller may use, from all configurations, fallback
//! chains and built-in providers of the workspace. The gateway's own answer: what it asks of providers
//! for it costs nothing and is not in the ledger.

pub mod cache;
pub mod entry;
pub mod fetch;
pub mod shape;

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::join_all;

use super::DataPlane;
use super::admit::{admit_listing, metadata_of};
use super::candidates::{scope_of, unavailable};
use super::context::RequestContext;
use super::error::ProxyError;
use super::guard::record::RecordGuard;
use super::headers::{asks_for_websocket, credential_in_query};
use super::route::decode_model_id;
use crate::auth::Principal;
use crate::directory::upstream_entry::UpstreamEntry;
use crate::directory::workspace_configurations::ListedConfiguration;
use crate::domain::policy::Subject;
use crate::domain::policy::fallback::{Candidate, Step};
use crate::domain::provider::Provider;
use crate::domain::scope::WorkspaceScope;
use crate::llm::format::Operation;
use crate::policy::set::{MatchedPolicy, PolicySet, Target, allows_model};
use crate::providers::built_in::{BuiltInProvider, provider_of_segment};
use crate::upstream::UpstreamClient;
use cache::ProviderModels;
use entry::{CONFIGURATION_PREFIX, ModelEntry};
use shape::Shape;

/// Names the providers whose lists could not be read.
const UNAVAILABLE: HeaderName = HeaderName::from_static("x-tollgate-models-unavailable");

/// Where the list is.
pub const PATH: &str = "/v1/models";

/// Whether the path is that of the list or of a model in it.
pub fn is_at(raw_path: &str) -> bool {
    raw_path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The operation at a path of the list; its id is percent-decoded and may hold slashes.
fn operation(method: &Method, raw_path: &str) -> Result<Operation, ProxyError> {
    if *method != Method::GET {
        return Err(ProxyError::NotServed);
    }
    match raw_path.strip_prefix(PATH).unwrap_or_default().trim_start_matches('/') {
        "" => Ok(Operation::ListModels),
        id => Ok(Operation::GetModel { id: decode_model_id(id).ok_or(ProxyError::BadModelId)? }),
    }
}

/// Answers a request for the list, or for one model of it.
pub async fn answer(
    request: &HttpRequest,
    plane: &DataPlane,
    client: &UpstreamClient,
    (principal, scope): (Principal, WorkspaceScope),
    context: &mut RequestContext,
) -> Result<HttpResponse, ProxyError> {
    if asks_for_websocket(request.headers()) {
        return Err(ProxyError::NotServed);
    }
    let operation = operation(request.method(), request.uri().path())?;
    context.request.record().operation = operation.label();
    if let Some(name) = credential_in_query(request.query_string()) {
        return Err(ProxyError::CredentialInQuery { name });
    }
    let metadata = metadata_of(request.headers())?;
    let subject = Subject {
        organization_id: scope.organization_id,
        workspace_id: scope.workspace_id,
        user_id: principal.user_id,
        api_key_id: principal.api_key_id(),
        metadata: &metadata,
    };
    context.permit = Some(plane.requests.take(1).ok_or(ProxyError::Overloaded)?);
    let policies = plane.directory.find_policies(scope.organization_id).await;
    let policies = policies.map_err(|error| unavailable(context, &error))?;
    RecordGuard::of(&policies, &subject, context)?;
    admit_listing(plane, subject, &policies, context).await?;

    let wanted = if let Operation::GetModel { id } = &operation { Some(id.as_str()) } else { None };
    let (entries, failed) = collect(plane, client, &subject, &policies, wanted, context).await?;
    let failed: Vec<&str> = failed.into_iter().map(Provider::as_str).collect();
    let shape = Shape::of(request);
    let body = match wanted {
        None => shape.list(&entries, &failed),
        Some(id) => match (entries.iter().find(|entry| entry.id == id), failed.first()) {
            (Some(entry), _) => shape.one(entry),
            (None, Some(provider)) => {
                return Err(ProxyError::ModelsUnavailable { provider: (*provider).to_owned() });
            }
            (None, None) => return Err(ProxyError::UnknownModel { id: id.to_owned() }),
        },
    };
    let mut response = HttpResponse::Ok().json(body);
    if let Ok(names) = HeaderValue::try_from(failed.join(", "))
        && !names.is_empty()
    {
        response.headers_mut().insert(UNAVAILABLE, names);
    }
    Ok(response)
}

/// The models that the caller may use, at least those among which `wanted` is, and the providers whose
/// lists could not be read.
async fn collect(
    plane: &DataPlane,
    client: &UpstreamClient,
    subject: &Subject<'_>,
    policies: &PolicySet,
    wanted: Option<&str>,
    context: &mut RequestContext,
) -> Result<(Vec<ModelEntry>, Vec<Provider>), ProxyError> {
    let scope = scope_of(subject);
    let matched = policies.matching(subject);
    let configurations = plane.directory.find_workspace_configurations(scope).await;
    let configurations = configurations.map_err(|error| unavailable(context, &error))?;
    let configurations: Vec<&ListedConfiguration> =
        configurations.iter().filter(|one| allows_configuration(&matched, one)).collect();

    let upstreams = usable_providers(plane, subject, context).await?;
    let allows = |provider: &BuiltInProvider, model: &str| {
        let names = [provider.provider_name.as_str(), provider.provider.as_str()];
        let target = Target { configuration: None, providers: &names, model: Some(model) };
        allows_model(&matched, &target)
    };

    let mut entries: Vec<ModelEntry> =
        configurations.iter().map(|one| ModelEntry::of_configuration(one)).collect();
    for (alias, chain) in policies.aliases(subject) {
        let mut members = chain.steps.iter().flat_map(Step::members);
        let usable = members.find_map(|(_, candidate)| match candidate {
            Candidate::Configuration(id) => {
                let found = configurations.iter().find(|one| one.id == *id)?;
                // An alias is no model that a configuration without one could be asked for.
                found.model.is_some().then(|| found.provider.api())
            }
            Candidate::Model { provider, model } => {
                let mut usable = upstreams.iter();
                let (found, _) = usable.find(|(found, _)| found.provider == *provider)?;
                allows(found, model).then(|| provider.api())
            }
        });
        entries.extend(usable.and_then(|api| ModelEntry::of_alias(alias, api)));
    }

    let asked = upstreams.iter().filter(|(provider, _)| {
        provider.provider.lists_models() && wanted.is_none_or(|id| is_of(id, provider.provider))
    });
    let lists = asked.map(async |(provider, entry)| {
        let fetch = async || fetch::fetch(plane, client, entry).await;
        (provider, plane.model_lists.find_or_fetch(entry, fetch).await)
    });
    let mut failed = Vec::new();
    for (provider, ProviderModels { models, is_unavailable }) in join_all(lists).await {
        let allowed = models.iter().filter(|model| allows(provider, &model.id));
        entries.extend(allowed.map(|model| ModelEntry::of_provider(provider.provider, model)));
        if is_unavailable {
            failed.push(provider.provider);
        }
    }
    Ok((entries, failed))
}

/// The built-in providers that the workspace has a secret for and has not disabled.
pub async fn usable_providers<'p>(
    plane: &'p DataPlane,
    subject: &Subject<'_>,
    context: &mut RequestContext,
) -> Result<Vec<(&'p Arc<BuiltInProvider>, Arc<UpstreamEntry>)>, ProxyError> {
    let mut usable = Vec::new();
    for provider in plane.built_in.all() {
        let found = plane.directory.find_provider(scope_of(subject), provider).await;
        let found = found.map_err(|error| unavailable(context, &error))?;
        let found = found.filter(|entry| entry.enabled && entry.missing_secret().is_none());
        usable.extend(found.map(|entry| (provider, entry)));
    }
    Ok(usable)
}

/// Whether an id is of a model of this provider, by what comes before its first slash.
fn is_of(id: &str, provider: Provider) -> bool {
    let (first, _) = id.split_once('/').unwrap_or_default();
    !id.starts_with(CONFIGURATION_PREFIX) && provider_of_segment(first) == Some(provider)
}

fn allows_configuration(matched: &[MatchedPolicy<'_>], listed: &ListedConfiguration) -> bool {
    let names = [listed.provider_name.as_str(), listed.provider.as_str()];
    let target = Target {
        configuration: Some(&listed.name),
        providers: &names,
        model: listed.model.as_deref(),
    };
    allows_model(matched, &target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_and_its_models_have_paths() {
        for (path, is_list) in [
            ("/v1/models", true),
            ("/v1/models/", true),
            ("/v1/models/openai/gpt-4o", true),
            ("/v1/models_", false),
            ("/v1/platform/gateway-policies", false),
            ("/models/v1/models", false),
        ] {
            assert_eq!(is_at(path), is_list, "{path}");
        }
        let get = |path| operation(&Method::GET, path);
        let model = |id: &str| Ok(Operation::GetModel { id: id.to_owned() });
        assert_eq!(get("/v1/models/"), Ok(Operation::ListModels));
        assert_eq!(
            get("/v1/models/fireworks/accounts/a/models/m"),
            model("fireworks/accounts/a/models/m")
        );
        assert_eq!(get("/v1/models/custom%2Fa%20%2Fb"), model("custom/a /b"));
        assert_eq!(get("/v1/models/%FF"), Err(ProxyError::BadModelId));
        assert_eq!(operation(&Method::POST, "/v1/models"), Err(ProxyError::NotServed));
    }
}
