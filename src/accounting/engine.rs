//! Admits requests that an upstream may bill, and records them, whichever plane sends them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use smallvec::SmallVec;

use super::Accounting;
use super::account::RequestAccount;
use super::record::{AttemptEnd, AttemptOutcome, AttemptStart};
use super::sent_body::SentBody;
use super::target_facts::TargetFacts;
use crate::directory::upstream_entry::{UpstreamEntry, UpstreamModel};
use crate::domain::ids::PolicyId;
use crate::domain::policy::Subject;
use crate::llm::format::Format;
use crate::llm::limits::{BodyFacts, Bound, ModelLimits, TargetLimits};
use crate::policy::admission::{AdmissionRequest, Denied, PolicyReport, Reason};
use crate::policy::limits::Amounts;
use crate::policy::set::{MatchedPolicy, PolicySet, Target, allows_model};
use crate::providers::quirks;
use crate::telemetry::request_record::RequestRecord;

/// A request that asks to be admitted.
pub struct RequestFacts<'r> {
    pub record: &'r RequestRecord,
    pub subject: Subject<'r>,
    /// The organization's, by which it is admitted.
    pub policies: &'r PolicySet,
    /// Where it may be sent, in the order in which that is tried. Not empty.
    pub targets: &'r [TargetFacts<'r>],
    /// The provider answers before it has done the work, and so without usage.
    pub is_background: bool,
}

impl Accounting {
    /// The maximum that a body of so many bytes can use as it is sent.
    pub fn bound(
        &self,
        format: Format,
        upstream: &UpstreamEntry,
        model: &UpstreamModel,
        body_bytes: usize,
        facts: &BodyFacts,
    ) -> Bound {
        let quirks = quirks(&upstream.provider_name);
        let target = TargetLimits {
            format,
            ignored_limits: quirks.ignored_limits,
            image_tokens: quirks.image_tokens(&model.name),
            model: ModelLimits {
                context_window: model.context_window,
                max_output_tokens: model.max_output_tokens,
            },
            assumed: self.assumed_limits,
        };
        Bound::of_request(facts, body_bytes, &target)
    }

    /// Whether the policies of model access among these allow the upstream's model.
    pub fn allows(
        &self,
        matched: &[MatchedPolicy<'_>],
        upstream: &UpstreamEntry,
        model: &UpstreamModel,
    ) -> bool {
        let providers = providers_of(upstream);
        allows_model(matched, &target_of(upstream, model, &providers))
    }

    /// Asks the policies and opens the request's account if they admit it. A request that they deny
    /// is recorded, too.
    pub async fn admit(
        self: &Arc<Self>,
        facts: RequestFacts<'_>,
    ) -> Result<(Box<RequestAccount>, Box<PolicyReport>), Denied> {
        let at = self.clock.now();
        // What is reserved covers each of them.
        let costliest = facts.targets.iter().max_by_key(|target| target.max_cost());
        let (Some(first), Some(costliest)) = (facts.targets.first(), costliest) else {
            return Err(Denied::unavailable(Box::default(), "no target".to_owned()));
        };
        let providers: SmallVec<[[&str; 2]; 1]> =
            facts.targets.iter().map(|target| providers_of(target.upstream)).collect();
        let targets = facts.targets.iter().zip(&providers);
        let targets: SmallVec<[Target<'_>; 1]> = targets
            .map(|(target, providers)| target_of(target.upstream, target.model, providers))
            .collect();
        let request = AdmissionRequest {
            subject: facts.subject,
            targets: &targets,
            price: costliest.bounding_price(),
            bound: costliest.bound,
            request_id: facts.record.ids.request_id,
            at,
        };
        let admitted = self.admission.admit(request, facts.policies).await;
        let mut start = start_of(&facts, first, at);
        match admitted {
            Ok(admitted) => {
                start.policies = admitted.report.policy_ids().collect();
                start.reserved = admitted.reserved;
                let account = Box::new(RequestAccount {
                    accounting: Arc::clone(self),
                    start: start.into(),
                    is_open: false,
                    reservation: admitted.reservation,
                    more: Vec::new(),
                    used: Amounts::default(),
                    upstream: Arc::clone(first.upstream),
                    model: Arc::clone(first.model),
                    bound: first.bound,
                    is_background: facts.is_background,
                    sent: SentBody::default(),
                });
                Ok((account, admitted.report))
            }
            Err(denied) => {
                self.record_blocked(start, &denied, facts.record);
                Err(denied)
            }
        }
    }

    /// Denies and records a request for its content. `targets` has those that it may be sent to.
    pub fn deny_content(
        &self,
        facts: RequestFacts<'_>,
        reason: (Reason, String),
        violated: Vec<PolicyId>,
    ) -> Denied {
        let at = self.clock.now();
        let request = AdmissionRequest {
            subject: facts.subject,
            targets: &[],
            price: None,
            bound: Bound::FREE,
            request_id: facts.record.ids.request_id,
            at,
        };
        let denied = self.admission.deny_content(&request, facts.policies, reason, violated);
        if let Some(first) = facts.targets.first() {
            self.record_blocked(start_of(&facts, first, at), &denied, facts.record);
        }
        denied
    }

    fn record_blocked(&self, mut start: AttemptStart, denied: &Denied, record: &RequestRecord) {
        start.id = self.clock.new_id();
        start.policies = denied.report.policy_ids().collect();
        let duration = record.received_at.elapsed();
        let end = AttemptEnd {
            status: Some(denied_status(denied.reason)),
            code: Some(denied.reason.code().to_owned()),
            duration_ms: u64::try_from(duration.as_millis()).ok(),
            violated: denied.violated.clone(),
            findings: record.findings.clone(),
            ..AttemptEnd::without_usage(start.id, AttemptOutcome::Blocked)
        };
        // When the journal is full its room is kept for what costs money; the request is denied all the same.
        let request_id = start.request_id;
        if let Err(full) = self.ledger.blocked(start, end) {
            tracing::warn!(error = %full, %request_id, "a denied request is not in the ledger");
        }
    }
}

/// The status that a denied request is recorded with: the one that the data plane answers with.
pub fn denied_status(reason: Reason) -> u16 {
    match reason {
        Reason::ModelAccess | Reason::Content | Reason::NotScanned => 403,
        Reason::PriceUnknown | Reason::Spend => 402,
        Reason::Rate => 429,
        Reason::Unavailable => 503,
    }
}

fn providers_of(upstream: &UpstreamEntry) -> [&str; 2] {
    [upstream.provider_name.as_str(), upstream.provider.as_str()]
}

/// The target as policies see it.
fn target_of<'r>(
    upstream: &'r UpstreamEntry,
    model: &'r UpstreamModel,
    providers: &'r [&'r str; 2],
) -> Target<'r> {
    Target {
        configuration: upstream.id.configuration_id().map(|_| &*upstream.name),
        providers,
        model: Some(model.name.as_str()).filter(|name| !name.is_empty()),
    }
}

fn start_of(facts: &RequestFacts<'_>, target: &TargetFacts<'_>, at: DateTime<Utc>) -> AttemptStart {
    let RequestFacts { record, subject, policies, .. } = facts;
    let metadata = subject.metadata.iter();
    let shown = |text: &str| record.shown(text).to_owned();
    AttemptStart {
        id: uuid::Uuid::nil().into(),
        request_id: record.ids.request_id,
        attempt: 0,
        admitted_at: at,
        organization_id: subject.organization_id,
        workspace_id: subject.workspace_id,
        api_key_id: subject.api_key_id,
        user_id: subject.user_id,
        upstream: target.upstream.id,
        configuration: target.upstream.name.to_string(),
        route: record.operation.to_owned(),
        model_asked: record.model_asked.as_deref().map(shown),
        model: shown(&target.model.name),
        client_request_id: record.ids.client_request_id.as_deref().map(shown),
        policies: Vec::new(),
        metadata: metadata
            .map(|(key, value)| match policies.counts_by(key) {
                // Otherwise caps would forget what was spent.
                true => (key.to_owned(), value.to_owned()),
                false => (key.to_owned(), shown(value)),
            })
            .collect(),
        reserved: None,
        price_version: target.price_version(),
    }
}
