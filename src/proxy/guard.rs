//! The guard of a request: what must not leave is replaced or blocks it, before anything is sent.
//!
//! [`GuardedBody`] can only be made here, and targets take no other, so that every attempt starts from
//! what the guard let pass.

mod conversation;
mod entities;
pub mod record;

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::DataPlane;
use super::candidates::{Candidate, Candidates};
use super::context::RequestContext;
use super::error::ProxyError;
use super::headers::upstream_headers;
use super::off_worker::off_worker;
use super::read::CallerBody;
use super::restore::{AnswerRestorer, has_text};
use super::shared_account::names_stored_prompt;
use super::unmetered::endpoint_for;
use crate::accounting::budget::Share;
use crate::accounting::engine::RequestFacts;
use crate::accounting::target_facts::TargetFacts;
use crate::domain::content_finding::{ContentFinding, FindingAction, FindingPlace};
use crate::domain::ids::PolicyId;
use crate::domain::policy::Subject;
use crate::domain::provider::UpstreamId;
use crate::llm::format::{Format, Operation};
use crate::llm::limits::{BodyFacts, Bound};
use crate::policy::admission::Reason;
use crate::policy::guard::answer::{AnswerScan, SentValues};
use crate::policy::guard::category::Category;
use crate::policy::guard::entities::Entities;
use crate::policy::guard::placeholder::Placeholders;
use crate::policy::guard::policy::{Action, Guard, StoredAction, TimeoutAction};
use crate::policy::guard::redact::{Guarded, Report, STORED_STATE, ScanError};
use crate::policy::guard::restore::AnswerEdits;
use crate::policy::set::MatchedGuard;
use crate::upstream::UpstreamClient;
use conversation::Conversation;

/// The body that targets are made of: none for operations without one.
#[derive(Default)]
pub struct GuardedBody {
    body: Option<Box<CallerBody>>,
    /// Where the conversation that it goes on with lies, if it does so only since it is guarded there.
    only_at: Option<Vec<UpstreamId>>,
    /// What the provider stores must not be referred to.
    blocks_stored: bool,
}

impl GuardedBody {
    /// `None` for requests without a body.
    pub fn get(&self) -> Option<&CallerBody> {
        self.body.as_deref()
    }

    /// Whether this candidate may get it.
    pub fn may_go_to(&self, candidate: &Candidate) -> bool {
        let is_there = |only: &Vec<UpstreamId>| only.contains(&candidate.upstream.id);
        self.only_at.as_ref().is_none_or(is_there)
            && !(self.blocks_stored && names_stored_prompt(candidate))
    }
}

impl From<Option<Box<CallerBody>>> for GuardedBody {
    fn from(body: Option<Box<CallerBody>>) -> Self {
        Self { body, ..Self::default() }
    }
}

/// A request on its way through the guard.
pub struct GuardStage<'r> {
    pub plane: &'r DataPlane,
    pub client: &'r UpstreamClient,
    pub caller: &'r HttpRequest,
    pub operation: &'r Operation,
    pub subject: Subject<'r>,
    pub candidates: &'r Candidates,
}

impl GuardStage<'_> {
    /// Lets the request pass, with placeholders where they are needed. If no guard policy matches, this
    /// costs a look at the policies.
    pub async fn pass(
        &self,
        body: Option<Box<CallerBody>>,
        share: &mut Option<Share>,
        context: &mut RequestContext,
    ) -> Result<GuardedBody, ProxyError> {
        let matched = self.candidates.policies.guard(&self.subject).map_err(|invalid| {
            context.request.record().cause =
                Some(format!("guard: {} {}", invalid.field, invalid.message));
            ProxyError::Internal
        })?;
        match matched {
            None => Ok(body.into()),
            // Boxed, since most requests have no guard.
            Some(matched) => Box::pin(self.apply(&matched, body, share, context)).await,
        }
    }

    async fn apply(
        &self,
        matched: &MatchedGuard<'_>,
        body: Option<Box<CallerBody>>,
        share: &mut Option<Share>,
        context: &mut RequestContext,
    ) -> Result<GuardedBody, ProxyError> {
        if let Operation::Unmetered { method, path } = self.operation {
            for candidate in &self.candidates.list {
                if !endpoint_for(&candidate.upstream, *method, path)?.despite_policies {
                    return Err(self.refuse_unscanned(matched, context));
                }
            }
            return Ok(body.into());
        }
        // One deadline for all that is scanned, and for the service that recognizes names.
        let deadline = Instant::now() + matched.guard.timeout();
        self.mask_record(&matched.guard, &Entities::default(), context);
        let fixed = self.fixed_texts();
        let texts = (&*fixed, body.as_deref());
        let entities = self.find_entities(matched, texts, deadline, share, context).await?;
        self.mask_record(&matched.guard, &entities, context);
        let entities = Arc::new(entities);
        self.check_texts(matched, fixed, (&entities, deadline), context).await?;
        let (Some(format), Some(body)) = (self.operation.format(), body) else {
            return Ok(GuardedBody::default());
        };
        let blocks_stored = matched.guard.scan().stored == Some(StoredAction::Block);
        if blocks_stored && self.candidates.list.iter().all(names_stored_prompt) {
            let blocking = [STORED_STATE.to_owned()].into();
            let report = Report { blocking, ..Report::default() };
            return Err(self.refuse_content(matched, &report, context));
        }
        let text = body.json.bytes();
        let length = text.len();
        if share.as_mut().is_some_and(|share| !share.grow(length)) {
            return Err(ProxyError::Overloaded);
        }
        let Conversation { key, only_at } = self.conversation(format, &body, context).await?;
        let id = key.id();
        let guard = Arc::clone(&matched.guard);
        // Dropped with the request, so that nothing is scanned for a caller that has left.
        let waiting = Arc::new(());
        let waiter = Arc::downgrade(&waiting);
        let keep_going = move || Instant::now() < deadline && waiter.strong_count() > 0;
        let scan = move || guard.redact(format, &text, &key, &entities, &keep_going);
        let scanned = off_worker(length, scan).await?;
        drop(waiting);
        let scan = |sent| {
            let is_scanned = matched.guard.scan().answers && has_text(self.operation);
            is_scanned.then(|| AnswerScan::new(Arc::clone(&matched.guard), sent))
        };
        let (new, edits, report) = match scanned {
            Ok(Guarded::Passed { body, placeholders, sent, has_stored, report }) => {
                context.guarded = (!has_stored).then_some(id);
                (body, AnswerEdits::new(placeholders, scan(sent)), report)
            }
            Ok(Guarded::Blocked(report)) => {
                note(&matched.guard, &report, context);
                return Err(self.refuse_content(matched, &report, context));
            }
            Err(error) => {
                self.scan_failed(matched, error, context)?;
                let scan = scan(SentValues::default());
                (None, AnswerEdits::new(Placeholders::default(), scan), Report::default())
            }
        };
        note(&matched.guard, &report, context);
        if !edits.are_none() {
            let is_stream = self.operation.asks_for_stream(None);
            if format == Format::Invoke && is_stream {
                let what = "its answer would be a stream of a format that the gateway does not read: \
                            ask for no stream";
                let reason = (Reason::Content, what.to_owned());
                return Err(self.refuse(matched.ids(), reason, context));
            }
            let memory = self.plane.body_memory.take(0).ok_or(ProxyError::Overloaded)?;
            let restorer = AnswerRestorer::new(self.operation, format, edits, matched, memory);
            let mut restorer = Box::new(restorer);
            context.name_search = self.name_search(matched, &mut restorer);
            context.restorer = Some(restorer);
        }
        let only_at = only_at.filter(|_| blocks_stored);
        let Some(new) = new else {
            return Ok(GuardedBody { body: Some(body), only_at, blocks_stored });
        };
        if let Some(share) = share {
            let held = 2 * length;
            if new.len() > held && !share.grow(new.len() - held) {
                return Err(ProxyError::Overloaded);
            }
            share.shrink(held.saturating_sub(new.len()));
        }
        let (json, facts) = BodyFacts::parse_in(format, new.into()).map_err(ProxyError::Body)?;
        let body = Some(Box::new(CallerBody { json, facts }));
        Ok(GuardedBody { body, only_at, blocks_stored })
    }

    /// What cannot be changed: the path that is sent, the query, and the values of headers that are sent.
    fn fixed_texts(&self) -> Vec<Vec<u8>> {
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let query = self.caller.query_string().replace('+', " ");
        let mut texts = vec![decoded(&self.operation.path_after_v1()), decoded(&query)];
        for candidate in &self.candidates.list {
            let upstream = &candidate.upstream;
            let api = self.operation.family().unwrap_or(upstream.provider.api());
            let headers = upstream_headers(self.caller.headers(), &upstream.forward_headers, api);
            let values = headers.iter().filter(|(name, value)| !is_trace_parent(name, value));
            let values = values.map(|(_, value)| value.as_bytes().to_vec());
            let new: Vec<Vec<u8>> = values.filter(|value| !texts.contains(value)).collect();
            texts.extend(new);
        }
        texts.retain(|text| !text.is_empty());
        texts
    }

    /// Scans what cannot be changed.
    async fn check_texts(
        &self,
        matched: &MatchedGuard<'_>,
        texts: Vec<Vec<u8>>,
        (entities, deadline): (&Arc<Entities>, Instant),
        context: &mut RequestContext,
    ) -> Result<(), ProxyError> {
        let (guard, entities) = (Arc::clone(&matched.guard), Arc::clone(entities));
        let length = texts.iter().map(Vec::len).sum();
        let check = move || {
            let keep_going = || Instant::now() < deadline;
            let checks = texts.iter().map(|text| guard.check_text(text, &entities, &keep_going));
            checks.collect::<Vec<_>>()
        };
        for checked in off_worker(length, check).await? {
            match checked {
                Ok(report) => {
                    note(&matched.guard, &report, context);
                    if !report.blocking.is_empty() {
                        return Err(self.refuse_content(matched, &report, context));
                    }
                }
                Err(error) => self.scan_failed(matched, error, context)?,
            }
        }
        Ok(())
    }

    /// A scan did not come to its end. An error if the request must not be sent then.
    fn scan_failed(
        &self,
        matched: &MatchedGuard<'_>,
        error: ScanError,
        context: &mut RequestContext,
    ) -> Result<(), ProxyError> {
        context.request.record().cause = Some(format!("guard: {error}"));
        if matched.guard.timeout_action() == TimeoutAction::Allow {
            return Ok(());
        }
        let message = format!("its content could not be scanned: {error}");
        Err(self.refuse(matched.ids(), (Reason::Content, message), context))
    }

    fn refuse_content(
        &self,
        matched: &MatchedGuard<'_>,
        report: &Report,
        context: &mut RequestContext,
    ) -> ProxyError {
        let names: Vec<&str> = report.blocking.iter().map(String::as_str).collect();
        let detecting = matched.policies.iter();
        let detecting =
            detecting.filter(|(_, config)| names.iter().any(|name| config.detects(name)));
        let violated = detecting.map(|(policy, _)| policy.id).collect();
        let mut message = format!("found in its content: {}", names.join(", "));
        if names.contains(&STORED_STATE) {
            message += " (it refers to what the provider stores and the gateway cannot scan; \
                        'scan.stored' of the policy lets that pass)";
        }
        self.refuse(violated, (Reason::Content, message), context)
    }

    fn refuse_unscanned(
        &self,
        matched: &MatchedGuard<'_>,
        context: &mut RequestContext,
    ) -> ProxyError {
        let message = "the content of this endpoint is not scanned: set 'despite_policies' of the \
                       endpoint in /api/v1/provider-settings to let it through";
        self.refuse(matched.ids(), (Reason::NotScanned, message.to_owned()), context)
    }

    /// Refuses and records the request; names the policies.
    fn refuse(
        &self,
        violated: Vec<PolicyId>,
        (reason, why): (Reason, String),
        context: &mut RequestContext,
    ) -> ProxyError {
        let policies = self.candidates.policies.matching(&self.subject);
        let named = policies.iter().filter(|one| violated.contains(&one.policy.id));
        let names: Vec<&str> = named.map(|one| &*one.policy.name).collect();
        let message = format!("request blocked by gateway policies: {}; {why}", names.join(", "));
        let targets: SmallVec<[TargetFacts<'_>; 1]> = self
            .candidates
            .list
            .iter()
            .map(|one| TargetFacts {
                upstream: &one.upstream,
                model: &one.model,
                bound: Bound::FREE,
            })
            .collect();
        let facts = RequestFacts {
            record: context.request.record(),
            subject: self.subject,
            policies: &self.candidates.policies,
            targets: &targets,
            is_background: false,
        };
        let denied = self.plane.accounting.deny_content(facts, (reason, message), violated);
        let error = ProxyError::from(&denied);
        context.policy_report = Some(denied.report);
        context.request.record().violated = denied.violated;
        error
    }
}

/// Whether it is the id of a trace, whose hexadecimal digits say nothing (W3C, "Trace Context").
fn is_trace_parent(name: &HeaderName, value: &HeaderValue) -> bool {
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    name == "traceparent" && value.as_bytes().iter().all(is_hex)
}

/// Counts what was found in a request, by category; never a value.
fn note(guard: &Guard, report: &Report, context: &mut RequestContext) {
    count(guard, report, FindingPlace::Request, context);
}

/// The same for its answer.
pub fn note_answer(restorer: &AnswerRestorer, context: &mut RequestContext) {
    if let Some(scan) = restorer.scan() {
        count(scan.guard(), scan.report(), FindingPlace::Answer, context);
    }
}

fn count(guard: &Guard, report: &Report, place: FindingPlace, context: &mut RequestContext) {
    for (name, count) in &report.found {
        let action = match guard.action_of(name) {
            _ if report.blocking.contains(name) => FindingAction::Block,
            Action::Report => FindingAction::Report,
            Action::Redact | Action::Block if place == FindingPlace::Answer => FindingAction::Mask,
            Action::Redact | Action::Block => FindingAction::Redact,
        };
        let (category, count) = (Category::parse(name).unwrap_or(Category::Custom), *count as u64);
        context.request.metrics().guard_findings(category.as_str(), action.as_str(), count);
        let finding = ContentFinding { place, category: name.clone(), action, count };
        context.request.record().findings.add(finding);
    }
}
