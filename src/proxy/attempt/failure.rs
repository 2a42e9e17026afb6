//! Why an attempt brought no answer that is relayed, and what leads to the next target.

use crate::domain::policy::fallback::Triggers;
use crate::llm::provider_error::ErrorCause;
use crate::proxy::answer::Answer;
use crate::proxy::error::ProxyError;
use crate::upstream::UpstreamError;

/// Why an attempt brought no answer that is relayed.
pub(super) struct FailedAttempt {
    pub(super) error: ProxyError,
    /// The upstream's, if it has answered.
    pub(super) status: Option<u16>,
    /// Whether the upstream may have worked on the request, and bill it.
    pub(super) may_be_billed: bool,
    /// The upstream had just closed the connection.
    pub(super) is_stale: bool,
}

impl FailedAttempt {
    /// Nothing was sent.
    pub(super) fn unsent(error: ProxyError) -> Self {
        Self { error, status: None, may_be_billed: false, is_stale: false }
    }
}

/// What the last attempt brought.
pub(super) enum LastResult {
    /// An answer, which is relayed unless there is a better one, and why it leads to the next target.
    Answer(Box<Answer>, Reason),
    Failed(FailedAttempt),
}

impl LastResult {
    /// The upstream's status, if it has answered.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(answer, _) => Some(answer.response.status.as_u16()),
            Self::Failed(failed) => failed.status,
        }
    }

    /// Whether the upstream may bill what it did: it does not bill what it refused with an error's status.
    pub(super) fn may_be_billed(&self) -> bool {
        match self {
            Self::Answer(_, reason) => matches!(reason, Reason::ReportedWithSuccess(_)),
            Self::Failed(failed) => failed.may_be_billed,
        }
    }

    /// Why the next target is tried: a word of a fixed set.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Answer(_, reason) => reason.code(),
            Self::Failed(failed) => failed.error.row().code,
        }
    }
}

/// Why an answer leads to the next target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The prompt is too long for the model, and only one with a larger window may take it.
    ContextOverflow,
    CredentialRefused,
    ModelNotFound,
    Timeout,
    RateLimited,
    ServerError,
    /// The chain lists the status.
    ListedStatus,
    /// A failure that was reported with a success status, by its stable code.
    ReportedWithSuccess(&'static str),
}

impl Reason {
    /// Why an error with this status and cause leads to the next target; none if the answer is the
    /// caller's.
    pub(super) fn of(triggers: &Triggers, status: u16, cause: ErrorCause) -> Option<Self> {
        if triggers.include(status) {
            return Some(match status {
                401 | 402 => Self::CredentialRefused,
                404 => Self::ModelNotFound,
                408 => Self::Timeout,
                429 => Self::RateLimited,
                500..=599 => Self::ServerError,
                _ => Self::ListedStatus,
            });
        }
        match cause {
            ErrorCause::ContextOverflow => Some(Self::ContextOverflow),
            ErrorCause::Credential | ErrorCause::Account => Some(Self::CredentialRefused),
            ErrorCause::Other => None,
        }
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::ContextOverflow => "context_overflow",
            Self::CredentialRefused => "credential_refused",
            Self::ModelNotFound => "model_not_found",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::ListedStatus => "listed_status",
            Self::ReportedWithSuccess(code) => code,
        }
    }
}

/// What becomes of a failure to get an answer.
pub(super) fn failed(error: &UpstreamError) -> FailedAttempt {
    let may_be_billed = error.is_after_sending();
    FailedAttempt { error: error.into(), status: None, may_be_billed, is_stale: false }
}
