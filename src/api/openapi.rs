//! The OpenAPI document: collected from the handlers themselves, with the data plane's routes
//! beside them, since `proxy` matches raw paths and has no handlers to collect from.

mod data_plane;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpResponse, get};
use bytes::Bytes;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::schema::{Object, Schema};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa::{Modify, OpenApi as _};
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

/// What the document says besides its operations.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tollgate",
        description = "A multi-tenant LLM gateway. Admins store provider keys once and say by name \
            where requests may go; applications hold one Tollgate key and never see a provider \
            key.\n\nEvery operation names the permission it needs as `x-permission`: `none` for \
            public ones, `authenticated` where any key will do.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        data_plane::create_chat_completion,
        data_plane::create_response,
        data_plane::list_models,
        data_plane::get_model,
    ),
    tags(
        (name = "gateway", description = "Calls to models, for applications"),
        (name = "me", description = "Who the caller is"),
        (name = "organizations", description = "Tenants"),
        (name = "workspaces", description = "Teams inside an organization"),
        (name = "users", description = "People in an organization"),
        (name = "api-keys", description = "What callers present"),
        (name = "secrets", description = "Provider credentials, which go in and never come out"),
        (name = "model-configurations", description = "Named upstreams"),
        (name = "model-prices", description = "What models cost an organization, over the catalogue"),
        (name = "usage", description = "What was used and what it cost"),
        (name = "requests", description = "Attempts and blocked requests, one by one"),
        (name = "gateway-policies", description = "Who may spend what, how fast, and on which models"),
        (name = "audit-log", description = "Who changed what"),
        (name = "operations", description = "For balancers and operators"),
    ),
    components(schemas(data_plane::GatewayError, data_plane::GatewayErrorBody)),
    modifiers(&SecuritySchemes),
)]
struct Base;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("tg_...")
            .description(Some("An API key as a bearer token"))
            .build();
        components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
        let header =
            ApiKeyValue::with_description("X-Api-Key", "An API key in a header of its own");
        components.add_security_scheme("x_api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}

/// The document as JSON, made once.
static JSON: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(document().to_pretty_json().unwrap_or_default()));

/// Path templates, segment by segment, with their methods.
static METHODS: LazyLock<Vec<(Vec<String>, Vec<&'static str>)>> = LazyLock::new(|| {
    let document = document();
    let segments = |path: &str| path.split('/').map(str::to_owned).collect();
    document.paths.paths.iter().map(|(path, item)| (segments(path), methods_of(item))).collect()
});

/// The document.
pub fn document() -> OpenApi {
    let (_, mut document) = App::new()
        .into_utoipa_app()
        .openapi(Base::openapi())
        .configure(super::documented)
        .split_for_parts();
    if let Some(components) = &mut document.components {
        merge_flattened(&mut components.schemas);
    }
    tell_mounts_apart(&mut document);
    document
}

/// Gives the operations of a resource that is served at several places an id for each place.
fn tell_mounts_apart(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let suffix = match path.as_str() {
            path if path.starts_with("/api/v1/platform/") => "_platform",
            path if path.starts_with("/v1/platform/") => "_compat",
            _ => continue,
        };
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for id in operations.into_iter().flatten().filter_map(|one| one.operation_id.as_mut()) {
            id.push_str(suffix);
        }
    }
}

/// Makes one object of each schema that is all of several. A flattened request type refuses unknown
/// fields, and as one part of a whole would refuse the other parts.
fn merge_flattened(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    let merged: Vec<(String, Object)> = schemas
        .iter()
        .filter_map(|(name, schema)| {
            let RefOr::T(Schema::AllOf(all)) = schema else { return None };
            let mut whole = Object::builder().description(all.description.clone()).build();
            for part in &all.items {
                let part = match part {
                    RefOr::Ref(to) => schemas.get(to.ref_location.rsplit('/').next()?)?,
                    RefOr::T(_) => part,
                };
                let RefOr::T(Schema::Object(part)) = part else { return None };
                // An answer shows every field, also one that a request may leave out.
                whole.required.extend(part.properties.keys().cloned());
                whole.properties.extend(part.properties.clone());
            }
            Some((name.clone(), whole))
        })
        .collect();
    schemas.extend(merged.into_iter().map(|(name, whole)| (name, whole.into())));
}

/// The methods that the document knows for a path; none if it does not know the path.
pub(super) fn methods(path: &str) -> Vec<&'static str> {
    let parts: Vec<&str> = path.split('/').collect();
    let matches = |template: &[String]| {
        template.len() == parts.len()
            && template.iter().zip(&parts).all(|(template, part)| {
                if template.starts_with('{') { !part.is_empty() } else { template == part }
            })
    };
    let mut found: BTreeMap<&str, ()> = BTreeMap::new();
    for (_, methods) in METHODS.iter().filter(|(template, _)| matches(template)) {
        found.extend(methods.iter().map(|method| (*method, ())));
    }
    found.into_keys().collect()
}

fn methods_of(item: &PathItem) -> Vec<&'static str> {
    [
        ("GET", item.get.is_some()),
        ("PUT", item.put.is_some()),
        ("POST", item.post.is_some()),
        ("PATCH", item.patch.is_some()),
        ("DELETE", item.delete.is_some()),
    ]
    .into_iter()
    .filter_map(|(method, there)| there.then_some(method))
    .collect()
}

/// Adds the document, at two paths.
pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(get_openapi).service(get_openapi_of_version);
}

/// This document
#[utoipa::path(
    tag = "operations",
    operation_id = "get_openapi",
    responses((status = 200, description = "The OpenAPI document", body = Object)),
    security(()),
    extensions(("x-permission" = json!("none"))),
)]
#[get("/openapi.json")]
async fn get_openapi() -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(JSON.clone())
}

/// This document, beside what it describes
#[utoipa::path(
    tag = "operations",
    operation_id = "get_openapi_of_version",
    responses((status = 200, description = "The OpenAPI document", body = Object)),
    security(()),
    extensions(("x-permission" = json!("none"))),
)]
#[get("/api/v1/openapi.json")]
async fn get_openapi_of_version() -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(JSON.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_same_every_time_and_complete() {
        let json = document().to_pretty_json().unwrap();
        assert_eq!(json, document().to_pretty_json().unwrap());
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mut ids = std::collections::HashSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let place = format!("{method} {path}");
                assert!(operation["x-permission"].is_string(), "{place} names no permission");
                assert!(operation["security"].is_array(), "{place} says nothing of keys");
                assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{place}");
                assert!(ids.insert(operation["operationId"].to_string()), "{place}");
            }
        }
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let shown = &schemas["ModelConfiguration"]["properties"];
        assert!(shown["id"].is_object() && shown["base_url"].is_object(), "{shown}");
        for reference in json.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name} is referred to and not there");
        }
    }

    #[test]
    fn what_is_shown_can_be_sent_back_whole() {
        let document = serde_json::to_value(document()).unwrap();
        let properties = |content: &serde_json::Value| -> Vec<String> {
            let (_, content) = content.as_object().unwrap().iter().next().unwrap();
            let name = content["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
            let schema = &document["components"]["schemas"][name];
            let mut names: Vec<_> =
                schema["properties"].as_object().unwrap().keys().cloned().collect();
            names.sort_unstable();
            names
        };
        let mut seen = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            let shown = &item["get"]["responses"]["200"]["content"];
            if item["patch"].is_object() {
                let taken = &item["patch"]["requestBody"]["content"];
                assert_eq!(properties(taken), properties(shown), "PATCH {path}");
                seen += 1;
            }
            if path.ends_with("/gateway-policies/{policy_id}") {
                let list = path.trim_end_matches("/{policy_id}");
                let taken = &document["paths"][list]["post"]["requestBody"]["content"];
                assert_eq!(properties(taken), properties(shown), "POST {list}");
            }
        }
        assert!(seen >= 9, "{seen}");
    }

    #[test]
    fn methods_are_told_by_path() {
        assert_eq!(methods("/healthz"), ["GET"]);
        assert_eq!(methods("/api/v1/workspaces/x/secrets/y"), ["DELETE", "GET", "PUT"]);
        assert!(methods("/api/v1/workspaces/x/secrets/").is_empty());
        assert!(methods("/nothing").is_empty());
    }
}
