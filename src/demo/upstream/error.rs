//! The errors of the built-in upstream, in OpenAI's format.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use serde_json::json;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum UpstreamError {
    NoKey,
    WrongKey,
    NotJson,
    Missing(&'static str),
    UnknownModel(String),
    UnknownUrl(String),
}

impl UpstreamError {
    /// Status, `code` and `param`.
    fn class(&self) -> (StatusCode, Option<&'static str>, Option<&'static str>) {
        match self {
            Self::NoKey => (StatusCode::UNAUTHORIZED, None, None),
            Self::WrongKey => (StatusCode::UNAUTHORIZED, Some("invalid_api_key"), None),
            Self::NotJson => (StatusCode::BAD_REQUEST, None, None),
            Self::Missing(field) => {
                (StatusCode::BAD_REQUEST, Some("missing_required_parameter"), Some(field))
            }
            Self::UnknownModel(_) => {
                (StatusCode::NOT_FOUND, Some("model_not_found"), Some("model"))
            }
            Self::UnknownUrl(_) => (StatusCode::NOT_FOUND, Some("unknown_url"), None),
        }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => f.write_str(
                "You didn't provide an API key. The built-in upstream expects its key as \
                 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'.",
            ),
            Self::WrongKey => f.write_str(
                "Incorrect API key provided. It is not the key of the built-in upstream.",
            ),
            Self::NotJson => f.write_str("The body of your request is not valid JSON."),
            Self::Missing(field) => write!(f, "Missing required parameter: '{field}'."),
            Self::UnknownModel(model) => write!(
                f,
                "The model '{model}' does not exist. The built-in upstream has only '{}'.",
                super::MODEL
            ),
            Self::UnknownUrl(request) => write!(f, "Invalid URL ({request})"),
        }
    }
}

impl std::error::Error for UpstreamError {}

impl ResponseError for UpstreamError {
    fn status_code(&self) -> StatusCode {
        self.class().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code, param) = self.class();
        HttpResponse::build(status).json(json!({"error": {
            "message": self.to_string(),
            "type": "invalid_request_error",
            "param": param,
            "code": code,
        }}))
    }
}

impl Responder for UpstreamError {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        self.error_response()
    }
}
