//! One row of the table of the gateway's own errors.

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
}

/// A row; the type follows from the status.
pub(super) fn row(status: StatusCode, code: &'static str, retry: Retry) -> Row {
    let kind = match status {
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => "upstream_error",
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => "server_error",
        _ => "invalid_request_error",
    };
    Row { status, kind, code, retry }
}

/// The row of a request that policies deny.
pub(super) fn denied(reason: Reason, retry: Retry) -> Row {
    let status = match reason {
        Reason::ModelAccess | Reason::Content | Reason::NotScanned => StatusCode::FORBIDDEN,
        Reason::PriceUnknown | Reason::Spend => StatusCode::PAYMENT_REQUIRED,
        Reason::Rate => StatusCode::TOO_MANY_REQUESTS,
        Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    row(status, reason.code(), retry)
}
