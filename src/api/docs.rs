//! Swagger UI at `/docs/`. All of its files are in the binary.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, Resource, web};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::error::ApiError;
use super::middleware::error_response;

/// The pages.
const PAGES: &str = "/docs/{_:.*}";

/// Serves the pages. Not part of the OpenAPI document.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    let settings = Config::from("/openapi.json")
        // The default asks a validator on the internet about every document.
        .validator_url("none")
        .persist_authorization(false);
    config
        .service(only_read("/docs").route(web::get().to(redirect)))
        .service(SwaggerUi::new(PAGES).config(settings))
        // Where the pages' own resource ends: it takes no other method.
        .service(only_read(PAGES));
}

/// A path that answers 405 to all methods but `GET`.
fn only_read(path: &str) -> Resource {
    web::resource(path).default_service(web::to(refuse))
}

async fn refuse(request: HttpRequest) -> HttpResponse {
    error_response(&request, &ApiError::MethodNotAllowed(vec!["GET".to_owned()]))
}

async fn redirect() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "/docs/")).finish()
}
