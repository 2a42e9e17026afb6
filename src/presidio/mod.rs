//! The client of Presidio's analyzer, which recognizes names, places and organizations
//! (`POST /analyze` of its REST interface). The operator sets its address.
//!
//! - [`find_entities`](Presidio::find_entities) asks about the texts of a request in as few calls as fit
//!   (`pieces`), some of them at a time, until a deadline.
//! - The `breaker` stops calls after several failures.
//! - Errors have neither texts nor answers.

mod breaker;
mod pieces;
mod shares;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::PolicySettings;
use crate::policy::guard::category::Categories;
use crate::policy::guard::entities::Entities;
use crate::policy::guard::policy::Guard;
use crate::telemetry::Metrics;
use crate::upstream::{
    BaseUrl, UpstreamClient, UpstreamError, UpstreamRequest, UpstreamResponse, UpstreamTimeouts,
};
use breaker::Breaker;
pub use breaker::BreakerState;
use pieces::{Call, FoundPlaces};
use shares::Shares;

/// The most calls of this process at a time; further ones wait, within their deadlines.
const MAX_CALLS: usize = 32;
/// The most calls of one request at a time.
const MAX_CALLS_OF_REQUEST: usize = 4;
/// The largest answer that is read, in bytes. An entity takes about 130.
const MAX_ANSWER: usize = 4 << 20;
/// A call that ran out of time is a failure if it had so much; policies may allow much less.
const FAIR_TIME: Duration = Duration::from_secs(1);
/// The same for each KiB of its texts. Small models on one core read about 15 KiB a second.
const FAIR_TIME_OF_KIB: Duration = Duration::from_millis(100);
/// Longer than the time-out of any policy; the deadline ends a call.
const LONGEST: Duration = Duration::from_secs(60);

/// Presidio's analyzer, for all workers. Clones share the breaker.
#[derive(Clone)]
pub struct Presidio {
    shared: Arc<Shared>,
}

struct Shared {
    url: BaseUrl,
    language: String,
    breaker: Breaker,
    calls: Semaphore,
    shares: Shares,
    metrics: Metrics,
}

/// Why nothing is known about the entities of a text.
#[derive(Debug, thiserror::Error)]
pub enum PresidioError {
    /// The operator has not set its address.
    #[error("it is not set up (--presidio-url)")]
    NotSetUp,
    /// Several calls have failed; the next one is tried in some seconds.
    #[error("it has failed several times, so that it is not called now")]
    BreakerOpen,
    #[error("it took longer than the policy's timeout_seconds")]
    Late,
    /// It did not answer.
    #[error("{0}")]
    NoAnswer(#[from] UpstreamError),
    #[error("its answer has the status {0}")]
    Status(u16),
    #[error("its answer is larger than {} MiB", MAX_ANSWER >> 20)]
    TooLarge,
    /// Its answer is not what it documents.
    #[error("its answer {0}")]
    NotUnderstood(&'static str),
}

impl PresidioError {
    /// For metrics.
    fn outcome(&self) -> &'static str {
        match self {
            Self::NotSetUp | Self::BreakerOpen => "not_called",
            Self::Late => "late",
            Self::NoAnswer(_) | Self::Status(_) | Self::TooLarge | Self::NotUnderstood(_) => {
                "failed"
            }
        }
    }
}

impl Presidio {
    /// The one that the settings name, if they do.
    pub fn new(settings: &PolicySettings, clock: Clock, metrics: Metrics) -> Option<Self> {
        let shared = Arc::new(Shared {
            url: settings.presidio_url.clone()?,
            language: settings.presidio_language.clone(),
            breaker: Breaker::new(clock),
            calls: Semaphore::new(MAX_CALLS),
            shares: Shares::default(),
            metrics: metrics.clone(),
        });
        let watched = Arc::clone(&shared);
        metrics.watch_gauge(
            "presidio_breaker_open",
            "1 while Presidio is not called since it has failed several times, else 0",
            move || f64::from(u8::from(watched.breaker.state() != BreakerState::Closed)),
        );
        Some(Self { shared })
    }

    /// The one that a guard needs. `None` if it needs none: it does not detect entities, or not by name.
    pub fn for_guard<'p>(
        presidio: Option<&'p Self>,
        guard: &Guard,
    ) -> Result<Option<&'p Self>, PresidioError> {
        match presidio.filter(|_| !guard.entities().is_empty()) {
            None if presidio.is_none() && guard.requires_recognizer() => {
                Err(PresidioError::NotSetUp)
            }
            presidio => Ok(presidio),
        }
    }

    /// Whether it is called, for readiness.
    pub fn state(&self) -> BreakerState {
        self.shared.breaker.state()
    }

    /// What was found in the texts, by the deadline; an error if that is not known for all of them. Each tenant
    /// has its share of the calls.
    pub async fn find_entities(
        &self,
        client: &UpstreamClient,
        tenant: Uuid,
        (wanted, texts): (Categories, Vec<Vec<u8>>),
        deadline: Instant,
    ) -> Result<Entities, PresidioError> {
        let calls = pieces::calls(&texts, wanted, &self.shared.language);
        let share = self.shared.shares.of(tenant);
        let calls = stream::iter(&calls).map(|call| self.call(client, call, (&share, deadline)));
        let answers = calls.buffer_unordered(MAX_CALLS_OF_REQUEST).try_collect::<Vec<_>>().await?;
        Ok(pieces::join(texts, answers.into_iter().flatten()))
    }

    async fn call(
        &self,
        client: &UpstreamClient,
        call: &Call<'_>,
        (share, deadline): (&Semaphore, Instant),
    ) -> Result<FoundPlaces, PresidioError> {
        let Shared { breaker, calls, metrics, .. } = &*self.shared;
        // Held until the call has ended. The tenant's comes first, so that who waits for it keeps nobody
        // else from being served.
        let turn = async { (share.acquire().await, calls.acquire().await) };
        let turn = timeout_at(deadline, turn).await;
        let permit = match &turn {
            Ok(_) => breaker.admit().ok_or(PresidioError::BreakerOpen),
            Err(_) => Err(PresidioError::Late),
        };
        let permit = permit.inspect_err(|error| metrics.presidio_call(error.outcome()))?;
        let began = Instant::now();
        let outcome = match timeout_at(deadline, self.send(client, call)).await {
            Ok(answer) => answer
                .and_then(|answer| call.read_answer(&answer).map_err(PresidioError::NotUnderstood)),
            Err(_) => Err(PresidioError::Late),
        };
        let time = began.elapsed();
        match &outcome {
            Ok(_) => permit.answered(),
            Err(PresidioError::Late) if time < fair_time(call) => permit.undecided(),
            Err(error) => {
                if permit.failed() {
                    tracing::warn!(
                        %error,
                        "Presidio failed several times; requests are blocked or not searched for \
                         names, as their policies say, until a call succeeds"
                    );
                }
            }
        }
        metrics.presidio_call(outcome.as_ref().err().map_or("answered", PresidioError::outcome));
        metrics.presidio_duration(time);
        outcome
    }

    async fn send(&self, client: &UpstreamClient, call: &Call<'_>) -> Result<Bytes, PresidioError> {
        let request = UpstreamRequest {
            method: Method::POST,
            target: self.shared.url.join("/analyze", None),
            headers: headers(),
            body: Bytes::from(call.body()).into(),
            timeouts: UpstreamTimeouts { connect: LONGEST, first_byte: LONGEST, idle: LONGEST },
        };
        let UpstreamResponse { status, mut body, .. } = client.send_with_retry(request).await?;
        if status.as_u16() != 200 {
            return Err(PresidioError::Status(status.as_u16()));
        }
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.next().await {
            answer.extend_from_slice(&chunk?);
            if answer.len() > MAX_ANSWER {
                return Err(PresidioError::TooLarge);
            }
        }
        Ok(answer.freeze())
    }
}

/// The time after which a call that got no answer is a failure.
fn fair_time(call: &Call<'_>) -> Duration {
    let kib = u32::try_from(call.text_bytes() / 1024).unwrap_or(u32::MAX);
    FAIR_TIME + FAIR_TIME_OF_KIB.saturating_mul(kib)
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (ACCEPT, "application/json"),
        (ACCEPT_ENCODING, "identity"),
        (CONTENT_TYPE, "application/json"),
        (USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION"))),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}
