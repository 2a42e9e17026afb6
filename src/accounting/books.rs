//! The books: whatever an upstream may bill is let through or refused here first, and recorded either
//! way, from whichever plane it is sent.

use std::time::Instant;

use actix_web::http::header::{HeaderName, HeaderValue};
use chrono::{DateTime, Utc};

use super::account::{Account, millis};
use crate::accounting::estimate::Estimator;
use crate::accounting::ledger::Ledger;
use crate::accounting::record::{AttemptEnd, AttemptOutcome, AttemptStart, UsageSource};
use crate::clock::Clock;
use crate::directory::configuration::ConfigurationEntry;
use crate::domain::money::NanoUsd;
use crate::domain::policy::Subject;
use crate::domain::tokens::TokenUsage;
use crate::json::object::RawField;
use crate::llm::limits::{Api, AssumedLimits, Bound, ModelLimits, unheeded};
use crate::policy::admission::{Admission, AdmissionRequest, Denied};
use crate::policy::set::Target;
use crate::telemetry::Metrics;
use crate::telemetry::requests::RequestIds;

/// What accounts are kept with. One for all workers.
#[derive(Clone)]
pub struct Books {
    /// Asks the policies.
    pub admission: Admission,
    /// Where attempts are recorded.
    pub ledger: Ledger,
    /// Counts tokens where the provider does not.
    pub estimator: Estimator,
    /// Where money is counted for people to watch.
    pub metrics: Metrics,
    /// Tells attempts' ids.
    pub clock: Clock,
    /// What is assumed of models of which nothing is known.
    pub assumed_limits: AssumedLimits,
}

/// What is asked for, and by whom.
pub struct Asked<'r> {
    /// Who asks.
    pub subject: Subject<'r>,
    /// Of which upstream.
    pub configuration: &'r ConfigurationEntry,
    /// What for, by the name that the ledger has for it.
    pub route: &'static str,
    /// The model that the caller named.
    pub model_asked: Option<String>,
    /// The request's ids.
    pub ids: RequestIds,
    /// When it arrived.
    pub began: Instant,
    /// The most that it can use.
    pub bound: Bound,
    /// Whether the provider answers before it has done the work, and so without usage.
    pub is_background: bool,
}

/// An account that was opened.
pub struct Opened {
    /// The account.
    pub account: Account,
    /// What the answer tells of the policies.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Books {
    /// The most that a body of so many bytes can use, as it goes up, with these top-level fields.
    pub fn bound<'b>(
        &self,
        api: Api,
        configuration: &ConfigurationEntry,
        body_bytes: usize,
        fields: impl Iterator<Item = RawField<'b>>,
    ) -> Bound {
        let limits = ModelLimits {
            context_window: configuration.context_window,
            max_output_tokens: configuration.max_output_tokens,
        };
        let unheeded = unheeded(&configuration.provider_name);
        Bound::of_body(api, unheeded, body_bytes, fields, limits, self.assumed_limits)
    }

    /// Asks the policies, and opens the request's account if they let it through. A request that they
    /// forbid is recorded, too.
    pub async fn open(&self, asked: Asked<'_>) -> Result<Opened, Denied> {
        let at = self.clock.now();
        let configuration = asked.configuration;
        let providers = [configuration.provider_name.as_str(), configuration.provider.as_str()];
        let verdict = self.admission.admit(AdmissionRequest {
            subject: asked.subject,
            target: Target {
                configuration: &configuration.name,
                providers: &providers,
                model: &configuration.model,
            },
            price: configuration.price.as_deref(),
            bound: asked.bound,
            request_id: asked.ids.request_id,
            at,
        });
        let verdict = verdict.await;
        let Asked { began, bound, is_background, .. } = asked;
        let price = configuration.price.clone();
        let mut attempt = attempt_of(asked, at);
        match verdict {
            Ok(admitted) => {
                attempt.policies = admitted.policies;
                attempt.reserved = admitted.reserved;
                let reservation = admitted.reservation;
                let account =
                    Account::open(self, attempt, reservation, price, bound, is_background);
                Ok(Opened { account, headers: admitted.headers })
            }
            Err(denied) => {
                self.record_blocked(attempt, &denied, began);
                Err(denied)
            }
        }
    }

    fn record_blocked(&self, mut attempt: AttemptStart, denied: &Denied, began: Instant) {
        attempt.id = self.clock.new_id();
        attempt.policies.clone_from(&denied.matched);
        let end = AttemptEnd {
            id: attempt.id,
            outcome: AttemptOutcome::Blocked,
            status: Some(denied.reason.status().as_u16()),
            code: Some(denied.reason.code().to_owned()),
            model_used: None,
            usage: TokenUsage::default(),
            usage_source: UsageSource::None,
            cost: Some(NanoUsd::ZERO),
            first_byte_ms: None,
            duration_ms: Some(millis(began.elapsed())),
            violated: denied.violated.clone(),
        };
        // Full, the journal keeps its room for what costs money; the refusal stands either way.
        if let Err(full) = self.ledger.blocked(&attempt, &end) {
            let request_id = attempt.request_id;
            tracing::warn!(error = %full, %request_id, "a refusal is not recorded");
        }
    }
}

fn attempt_of(asked: Asked<'_>, at: DateTime<Utc>) -> AttemptStart {
    let Asked { subject, configuration, route, model_asked, ids, .. } = asked;
    let metadata = subject.metadata.iter();
    AttemptStart {
        id: uuid::Uuid::nil().into(),
        request_id: ids.request_id,
        attempt: 0,
        admitted_at: at,
        organization_id: subject.organization_id,
        workspace_id: subject.workspace_id,
        api_key_id: subject.api_key_id,
        user_id: subject.user_id,
        configuration_id: configuration.id,
        configuration: configuration.name.clone(),
        route: route.to_owned(),
        model_asked,
        model: configuration.model.clone(),
        client_request_id: ids.client_request_id,
        policies: Vec::new(),
        metadata: metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        reserved: None,
        price_version: configuration.price.as_ref().map(|price| price.version.clone()),
    }
}
