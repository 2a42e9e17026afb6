//! Swagger UI at `/docs/`. All of its files are in the binary.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Serves the pages. Not part of the OpenAPI document.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    let settings = Config::from("/openapi.json")
        // The default asks a validator on the internet about every document.
        .validator_url("none")
        .persist_authorization(false);
    config
        .route("/docs", web::get().to(redirect))
        .service(SwaggerUi::new("/docs/{_:.*}").config(settings));
}

async fn redirect() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "/docs/")).finish()
}
