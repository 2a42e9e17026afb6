//! The one error type of the management plane, as RFC 9457 problem documents.
//!
//! Which one to use: [`ApiError::NotFound`] for what the caller may not see, [`ApiError::Forbidden`]
//! for what they may see and not do; [`ApiError::Invalid`] for wrong fields, which it names;
//! [`ApiError::Conflict`] for what the present state does not allow. What a caller can't correct is
//! [`ApiError::Internal`], whose cause is logged by the middleware and never shown.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_ENCODING, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, ResponseError};
use actix_web_httpauth::headers::www_authenticate::bearer::Bearer;
use serde::Serialize;

use crate::auth::AuthError;
use crate::db::DbError;
use crate::directory::Unavailable;
use crate::domain::permissions::Permission;

/// A wrong field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The field's path in the body or the query, such as `timeouts.connect_ms`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Why a management request failed.
#[derive(Debug)]
pub enum ApiError {
    /// The body or query can't be read at all.
    Malformed(String),
    /// The caller is not authenticated.
    Unauthenticated(AuthError),
    /// The principal's role lacks the permission.
    MissingPermission(Permission),
    /// The principal may not do this for another reason.
    Forbidden {
        /// Stable and specific.
        code: &'static str,
        /// For people.
        detail: String,
    },
    /// It does not exist, or the principal may not see it.
    NotFound(&'static str),
    /// The path has no operation of the request's method; the methods that it has.
    MethodNotAllowed(Vec<String>),
    /// The present state does not allow it.
    Conflict {
        /// Stable and specific.
        code: &'static str,
        /// For people.
        detail: String,
    },
    /// The body is too large; the limit in bytes.
    TooLarge(usize),
    /// The body is not JSON by its content type.
    UnsupportedMediaType,
    /// The body has a `Content-Encoding`, which is named.
    UnsupportedContentEncoding(String),
    /// Some fields are wrong; all of them are named.
    Invalid(Vec<FieldError>),
    /// The database or the directory can't be reached.
    Unavailable(String),
    /// A defect. The cause is logged and not shown.
    Internal(String),
}

impl ApiError {
    /// One wrong field.
    pub fn field(field: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::Invalid(vec![FieldError { field: field.into(), message: message.to_string() }])
    }

    /// Status, stable code and title: one table.
    fn class(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed(_) => {
                (StatusCode::BAD_REQUEST, "malformed_request", "The request can't be read")
            }
            Self::Unauthenticated(error) => match error {
                AuthError::OrganizationSuspended => (
                    StatusCode::FORBIDDEN,
                    "organization_suspended",
                    "The organization is suspended",
                ),
                AuthError::Limited => {
                    (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", "Too many failed attempts")
                }
                AuthError::Unavailable(_) => {
                    (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Try again shortly")
                }
                AuthError::Missing => {
                    (StatusCode::UNAUTHORIZED, "missing_api_key", "An API key is needed")
                }
                AuthError::Malformed(_) | AuthError::Unknown => {
                    (StatusCode::UNAUTHORIZED, "invalid_api_key", "The API key is not valid")
                }
                AuthError::Expired => {
                    (StatusCode::UNAUTHORIZED, "expired_api_key", "The API key has expired")
                }
                AuthError::Revoked => {
                    (StatusCode::UNAUTHORIZED, "revoked_api_key", "The API key was revoked")
                }
                AuthError::Disabled => {
                    (StatusCode::UNAUTHORIZED, "disabled_api_key", "The API key is disabled")
                }
                AuthError::UserDeactivated => {
                    (StatusCode::UNAUTHORIZED, "user_deactivated", "The key's user is deactivated")
                }
            },
            Self::MissingPermission(_) => {
                (StatusCode::FORBIDDEN, "permission_denied", "The key's role does not allow this")
            }
            Self::Forbidden { code, .. } => (StatusCode::FORBIDDEN, code, "Not allowed"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
            }
            Self::Conflict { code, .. } => (StatusCode::CONFLICT, code, "Conflict"),
            Self::TooLarge(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large")
            }
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be JSON",
            ),
            Self::UnsupportedContentEncoding(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_content_encoding",
                "The body must not be compressed",
            ),
            Self::Invalid(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields", "Some fields are not valid")
            }
            Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Try again shortly")
            }
            Self::Internal(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "The server failed")
            }
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Malformed(detail)
            | Self::Forbidden { detail, .. }
            | Self::Conflict { detail, .. } => detail.clone(),
            Self::Unauthenticated(error) => match error {
                AuthError::Missing => "Send an API key as 'Authorization: Bearer tg_...' or \
                                       'X-Api-Key: tg_...'."
                    .to_owned(),
                AuthError::OrganizationSuspended => {
                    "The organization of this API key is suspended; ask the operator of this \
                     installation."
                        .to_owned()
                }
                AuthError::Unavailable(_) => {
                    "The key can't be checked at the moment because the database can't be reached."
                        .to_owned()
                }
                other => format!("{other}."),
            },
            Self::MissingPermission(permission) => {
                format!("This needs the permission {permission}, which the key's role lacks.")
            }
            Self::NotFound(what) => format!("There is no such {what}."),
            Self::MethodNotAllowed(allowed) => {
                format!("This path supports {}.", allowed.join(", "))
            }
            Self::TooLarge(limit) => format!("The largest body is {limit} bytes."),
            Self::UnsupportedMediaType => "Send 'Content-Type: application/json'.".to_owned(),
            Self::UnsupportedContentEncoding(named) => format!(
                "The header Content-Encoding has {named:?}, which is not supported here; send the \
                 body as it is, without the header."
            ),
            Self::Invalid(errors) => errors
                .iter()
                .map(|error| format!("{}: {}", error.field, error.message))
                .collect::<Vec<_>>()
                .join("; "),
            Self::Unavailable(_) => "The database can't be reached at the moment.".to_owned(),
            Self::Internal(_) => {
                "The server failed. Its log has the cause under the request_id.".to_owned()
            }
        }
    }

    /// The problem document.
    pub fn problem(&self, request_id: Option<String>) -> Problem {
        let (status, code, title) = self.class();
        Problem {
            r#type: format!("urn:tollgate:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: self.detail(),
            errors: match self {
                Self::Invalid(errors) => errors.clone(),
                _ => Vec::new(),
            },
            request_id,
        }
    }
}

/// An RFC 9457 problem document.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// A URN that ends with the code.
    #[schema(example = "urn:tollgate:problem:not_found")]
    pub r#type: String,
    /// The same for every problem of a type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs.
    #[schema(example = "not_found")]
    pub code: String,
    /// What happened and what to do next.
    pub detail: String,
    /// The wrong fields of `invalid_fields`.
    pub errors: Vec<FieldError>,
    /// The `x-request-id` of the answer.
    pub request_id: Option<String>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal(cause) | Self::Unavailable(cause) => f.write_str(cause),
            other => f.write_str(&other.detail()),
        }
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.class().0
    }

    /// Without the request's id, which the middleware adds.
    fn error_response(&self) -> HttpResponse {
        respond(self, &self.problem(None))
    }
}

/// The response to an error: its problem document and the headers that belong to its status.
pub(super) fn respond(error: &ApiError, problem: &Problem) -> HttpResponse {
    let mut response = HttpResponse::build(error.status_code());
    match error {
        ApiError::Unauthenticated(AuthError::Limited | AuthError::Unavailable(_))
        | ApiError::Unavailable(_) => {
            response.insert_header((RETRY_AFTER, HeaderValue::from_static("1")));
        }
        ApiError::Unauthenticated(_) if error.status_code() == StatusCode::UNAUTHORIZED => {
            response.insert_header((WWW_AUTHENTICATE, Bearer::build().realm("tollgate").finish()));
        }
        ApiError::UnsupportedContentEncoding(_) => {
            response.insert_header((ACCEPT_ENCODING, HeaderValue::from_static("identity")));
        }
        ApiError::MethodNotAllowed(allowed) => {
            response.insert_header((HeaderName::from_static("allow"), allowed.join(", ")));
        }
        _ => {}
    }
    response
        .content_type("application/problem+json")
        .body(serde_json::to_vec(problem).unwrap_or_default())
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        Self::Unauthenticated(error)
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<DbError> for ApiError {
    /// For errors that no handler maps itself.
    fn from(error: DbError) -> Self {
        match error {
            DbError::NotFound => Self::NotFound("resource"),
            DbError::UniqueViolation => Self::Conflict {
                code: "already_exists",
                detail: "Another one with the same name exists.".to_owned(),
            },
            DbError::ForeignKeyViolation => {
                Self::Conflict { code: "in_use", detail: "Something else refers to it.".to_owned() }
            }
            DbError::Unavailable(cause) => Self::Unavailable(cause),
            DbError::InvalidValue(cause) | DbError::Internal(cause) => Self::Internal(cause),
        }
    }
}
