//! The errors that the gateway itself makes on the data plane, and how each is reported to the caller.
//!
//! [`ProxyError`] is the one table: each variant has its message, and [`ProxyError::row`] gives its status,
//! type and code. Causes from the inside (addresses, database errors) are for the log and are never part of
//! a variant. What an upstream answers is no error of ours and passes through as it came.

mod messages;
mod row;
mod table;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, HeaderName, RETRY_AFTER};
use actix_web::{HttpResponse, HttpResponseBuilder};
use actix_web_httpauth::headers::www_authenticate::WwwAuthenticate;
use actix_web_httpauth::headers::www_authenticate::bearer::Bearer;

use crate::credentials::CredentialError;
use crate::credentials::cloud::OtherConnection;
use crate::domain::ids::RequestId;
use crate::llm::error::GatewayError;
use crate::llm::format::Format;
use crate::policy::admission::{Denied, Reason};
use crate::routing::health::Cooling;
use crate::upstream::{BodyBroke, UpstreamError};

pub use row::{Retry, Row};
pub use table::{ProxyError, RefusedCredential};

/// Marks an answer as the gateway's own.
pub const GATEWAY_HEADER: HeaderName = HeaderName::from_static("x-tollgate-error");

/// Tells SDKs whether to try again, whatever the status says to them.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The codings of a body that `content_coding` reads, as `Accept-Encoding` lists them.
const SUPPORTED_CODINGS: &str = "gzip, deflate, br, zstd";

impl ProxyError {
    /// The field that is wrong, where there is one.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Body(error) => error.param(),
            // The body as a whole is no field.
            Self::NotConvertible { error, .. } => {
                Some(error.field()).filter(|field| !field.is_empty())
            }
            Self::ModelOverride { field } => Some(field),
            Self::SharedAccountState { field } => Some(field),
            Self::ModelMissing
            | Self::ModelMismatch
            | Self::UnknownModel { .. }
            | Self::AmbiguousModel { .. } => Some("model"),
            Self::PriceUnknown { field, .. } => *field,
            _ => None,
        }
    }

    /// Whether this is reported before the caller's body was read to its end: what is left of it must
    /// not be taken for the next request, nor be waited for, so the connection can't be used again.
    fn leaves_body_unread(&self) -> bool {
        matches!(
            self,
            Self::NotServed
                | Self::FormatNotServed { .. }
                | Self::DoubledVersion { .. }
                | Self::RegionInvalid
                | Self::ProviderSecretMissing { .. }
                | Self::ProviderDisabled { .. }
                | Self::BodyTooLarge { .. }
                | Self::BodyTooSlow
                | Self::IncompleteBody
                | Self::UnsupportedContentEncoding { .. }
                | Self::Overloaded
        )
    }

    /// Calls `render` with the error as the caller of this request gets it.
    pub fn render<T>(
        &self,
        request_id: RequestId,
        render: impl FnOnce(GatewayError<'_>) -> T,
    ) -> T {
        let Row { kind, code, status, .. } = self.row();
        let (message, param, status) = (self.to_string(), self.param(), status.as_u16());
        render(GatewayError { message: &message, kind, code, param, status, request_id })
    }

    /// The answer to a request, in the form that callers of this format expect.
    pub fn response(&self, format: Format, request_id: RequestId) -> HttpResponse {
        let Row { status, retry, .. } = self.row();
        let mut response = HttpResponseBuilder::new(status);
        if let Some(header) = format.error_header(status.as_u16()) {
            response.insert_header(header);
        }
        response.insert_header((GATEWAY_HEADER, "gateway"));
        match retry {
            Retry::Never => {
                response.insert_header((SHOULD_RETRY, "false"));
            }
            Retry::May => {}
            Retry::After(seconds) => {
                response.insert_header((RETRY_AFTER, seconds.to_string()));
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header(WwwAuthenticate(Bearer::build().realm("tollgate").finish()));
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            response.insert_header((ACCEPT_ENCODING, SUPPORTED_CODINGS));
        }
        if self.leaves_body_unread() {
            response.force_close();
        }
        let body = self.render(request_id, |error| format.error_body(&error));
        response.content_type("application/json").body(body)
    }
}

impl From<&Denied> for ProxyError {
    fn from(denied: &Denied) -> Self {
        let message = denied.message.clone();
        match denied.reason {
            Reason::ModelAccess => Self::ModelForbidden { message },
            Reason::Content => Self::ContentBlocked { message },
            Reason::NotScanned => Self::ContentNotScanned { message },
            Reason::PriceUnknown => Self::PriceUnknown { message, field: denied.field },
            Reason::Spend => Self::SpendCapExceeded { message },
            Reason::Rate => Self::RateLimited { message, retry_after: denied.retry_after },
            Reason::Unavailable => Self::LimitsUnavailable,
        }
    }
}

impl From<Cooling> for ProxyError {
    fn from(cooling: Cooling) -> Self {
        Self::TargetsCoolDown { retry_after: cooling.seconds_left(), is_rate: cooling.is_rate() }
    }
}

impl From<&UpstreamError> for ProxyError {
    /// What the caller gets to know of a failure upstream.
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Refused(_) => Self::EgressRefused,
            UpstreamError::Resolve(_) => Self::UpstreamUnresolved,
            UpstreamError::Connect(_) => Self::UpstreamUnreachable,
            UpstreamError::ConnectTimeout => Self::ConnectTimeout,
            UpstreamError::Tls(_) => Self::UpstreamTls,
            UpstreamError::FirstByteTimeout => Self::FirstByteTimeout,
            UpstreamError::IdleTimeout => Self::IdleTimeout,
            UpstreamError::Closed => Self::UpstreamDied,
            UpstreamError::Protocol(_) => Self::UpstreamInvalid,
            UpstreamError::Body(BodyBroke::TooLarge { limit }) => {
                Self::BodyTooLarge { limit: usize::try_from(*limit).unwrap_or(usize::MAX) }
            }
            UpstreamError::Body(BodyBroke::TooSlow) => Self::BodyTooSlow,
            UpstreamError::Body(BodyBroke::Incomplete) => Self::IncompleteBody,
            UpstreamError::Body(BodyBroke::Spent) | UpstreamError::InvalidRequest(_) => {
                Self::Internal
            }
        }
    }
}

impl From<CredentialError> for ProxyError {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Secret(error) => Self::SecretUnavailable { name: error.name },
            CredentialError::Token { secret, failure } => {
                Self::TokenUnavailable { host: failure.host, secret }
            }
            CredentialError::Connection(OtherConnection::Project) => Self::ProjectMismatch,
            CredentialError::Connection(OtherConnection::Region) => Self::RegionInvalid,
        }
    }
}

#[cfg(test)]
mod tests;
