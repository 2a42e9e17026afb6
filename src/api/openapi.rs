//! The OpenAPI document: collected from the registered handlers, with the data plane's operations
//! beside them, since `proxy` matches raw paths and registers no handlers.

mod complete;
mod data_plane;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use bytes::Bytes;
use serde_json::Value;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use super::access::Anyone;
use super::error::Problem;
use super::routes::Routes;
use complete::complete;

/// The document without its operations.
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
    components(schemas(Problem, data_plane::GatewayError)),
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

/// The document as it is served, made once.
static JSON: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(format!("{:#}", document())));

/// The document.
pub fn document() -> Value {
    let mut base = Base::openapi();
    let mut operations = data_plane::operations();
    for routes in [super::public_routes(), super::api_routes(), super::compatible_routes()] {
        let (more, schemas) = routes.into_description();
        operations.extend(more);
        base.components.get_or_insert_default().schemas.extend(schemas);
    }
    let mut document = serde_json::to_value(base).unwrap_or_default();
    for operation in &operations {
        document["paths"][&operation.path][operation.method_field()] = complete(operation);
    }
    complete::components(&mut document);
    complete::merge_flattened(&mut document);
    document
}

/// Adds the document, at two paths.
pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("operations")
        .add(__path_get_openapi, get_openapi)
        .add(__path_get_openapi_of_version, get_openapi_of_version);
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    responses((status = 200, description = "The OpenAPI document", body = Object)),
)]
async fn get_openapi(_: Anyone) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(JSON.clone())
}

/// This document, under the prefix of the API that it describes
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    responses((status = 200, description = "The OpenAPI document", body = Object)),
)]
async fn get_openapi_of_version(caller: Anyone) -> HttpResponse {
    get_openapi(caller).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_same_every_time_and_complete() {
        let document = document();
        let json = document.to_string();
        assert_eq!(json, super::document().to_string());
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
        for reference in json.split("#/components/").skip(1) {
            let path = format!("/components/{}", reference.split('"').next().unwrap());
            assert!(document.pointer(&path).is_some(), "{path} is referred to and not there");
        }
        assert!(!json.contains("allOf"), "a flattened schema refuses what its other parts hold");
    }

    #[test]
    fn what_is_shown_can_be_sent_back_whole() {
        let document = document();
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
}
