//! One row of the table of the gateway's own errors.

use std::borrow::Cow;

use actix_web::http::StatusCode;

use crate::policy::admission::Reason;

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before somebody changes something.
    Never,
    /// It may; nothing is known of when.
    May,
    /// After this many seconds.
    After(u32),
}

/// How one error is reported to the caller.
#[derive(Debug)]
pub struct Row {
    /// The answer's status.
    pub status: StatusCode,
    /// The envelope's `type`, in the API's own terms.
    pub kind: &'static str,
    /// The envelope's `code`; stable, and a label for metrics.
    pub code: &'static str,
    /// Whether trying again can help.
    pub retry: Retry,
    /// What happened, and what to do next.
    pub message: Cow<'static, str>,
}

/// A row; the type follows from the status.
pub(super) fn row(
    status: StatusCode,
    code: &'static str,
    retry: Retry,
    message: impl Into<Cow<'static, str>>,
) -> Row {
    let kind = match status {
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => "upstream_error",
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => "server_error",
        _ => "invalid_request_error",
    };
    Row { status, kind, code, retry, message: message.into() }
}

/// The row of a request that policies deny.
pub(super) fn denied(reason: Reason, retry: Retry, message: impl Into<Cow<'static, str>>) -> Row {
    let status = match reason {
        Reason::ModelAccess | Reason::Content | Reason::NotScanned => StatusCode::FORBIDDEN,
        Reason::PriceUnknown | Reason::Spend => StatusCode::PAYMENT_REQUIRED,
        Reason::Rate => StatusCode::TOO_MANY_REQUESTS,
        Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    row(status, reason.code(), retry, message)
}

/// What to do about a field that could choose another model.
pub(super) fn model_override(field: &str) -> Cow<'static, str> {
    if field == "model" {
        return "A suffix or preset in the model's name could choose another model, provider or price. Leave it out, or ask an administrator for a model configuration with this model.".into();
    }
    format!("The field '{field}' could choose another model, provider or price than the request's model. Leave it out, or ask an administrator for a model configuration with it in the default_parameters.").into()
}
