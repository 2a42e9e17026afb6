//! The question that costs money: one token, where the upstream lists no models. It is admitted and
//! accounted for as any request of the same key.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::Upstream;
use crate::accounting::Accounting;
use crate::accounting::engine::{RequestFacts, denied_status};
use crate::accounting::request::AccountedRequest;
use crate::accounting::sent_body::SentBody;
use crate::accounting::target_facts::TargetFacts;
use crate::directory::upstream_entry::UpstreamEntry;
use crate::domain::policy::Subject;
use crate::domain::principal::Principal;
use crate::domain::provider::UpstreamApi;
use crate::llm::answer::PlainAnswer;
use crate::llm::format::{Format, Operation};
use crate::llm::limits::BodyFacts;
use crate::policy::set::PolicySet;
use crate::providers::quirks;
use crate::telemetry::request_ids::RequestIds;
use crate::telemetry::request_record::RequestOutcome;
use crate::upstream::UpstreamError;

/// What the ledger calls it.
const OPERATION: &str = "check";
/// How much of the answer is read: one token, and what some upstreams say of themselves.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// The names that upstreams know the bound on an answer's length by: older ones the first, newer
/// models the second alone.
const LENGTH_BOUNDS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Who asks, as policies and the ledger see it.
pub(super) struct CheckRequest<'r> {
    pub(super) accounting: &'r Arc<Accounting>,
    pub(super) principal: Principal,
    pub(super) subject: Subject<'r>,
    /// The organization's.
    pub(super) policies: &'r PolicySet,
    pub(super) ids: RequestIds,
}

/// What came of it.
pub(super) enum Token {
    /// The upstream answered with this status.
    Answered(StatusCode),
    /// The upstream answered with this status, a success, but with an error or nothing as its answer.
    Failed(StatusCode),
    /// It was not asked, for this reason.
    NotAsked(String),
}

/// Asks for one token. An upstream that does not know one name of the bound is asked with the other:
/// a request of its own, with an id of its own.
pub(super) async fn ask(
    upstream: &Upstream<'_>,
    mut asker: CheckRequest<'_>,
) -> Result<Token, UpstreamError> {
    let ignored = quirks(&upstream.entry.provider_name).ignored_limits;
    let Some(format) = format_of(upstream.entry) else {
        let reason = "The check asks for no token in this upstream's API; call the model instead.";
        return Ok(Token::NotAsked(reason.to_owned()));
    };
    let bounds: &[&str] = match format {
        Format::Messages => &["max_tokens"],
        _ => &LENGTH_BOUNDS,
    };
    let mut answer = Token::Answered(StatusCode::BAD_REQUEST);
    for bound in bounds.iter().filter(|bound| !ignored.contains(bound)) {
        answer = ask_within(upstream, format, &asker, bound).await?;
        if !matches!(answer, Token::Answered(StatusCode::BAD_REQUEST)) {
            break;
        }
        asker.ids.request_id = asker.accounting.clock.new_id();
    }
    Ok(answer)
}

/// The format that the upstream is asked in, if it is.
fn format_of(entry: &UpstreamEntry) -> Option<Format> {
    match entry.provider.api() {
        UpstreamApi::OpenAi => Some(Format::Chat),
        UpstreamApi::Anthropic => Some(Format::Messages),
        UpstreamApi::Gemini | UpstreamApi::Converse | UpstreamApi::Vertex | UpstreamApi::Azure => {
            None
        }
    }
}

async fn ask_within(
    upstream: &Upstream<'_>,
    format: Format,
    asker: &CheckRequest<'_>,
    bound: &str,
) -> Result<Token, UpstreamError> {
    let CheckRequest { accounting, principal, subject, policies, ids } = asker;
    let model = upstream.model;
    let fields = json!({
        "model": model.name,
        "messages": [{"role": "user", "content": "Hi"}],
        bound: 1,
    });
    let body = Bytes::from(fields.to_string());
    let facts = BodyFacts::parse(body.clone()).map(|(_, facts)| facts).unwrap_or_default();

    let mut request = AccountedRequest::new(&accounting.reporter, ids.clone(), None);
    let record = request.record();
    record.operation = OPERATION;
    record.principal = Some(*principal);
    record.upstream = Some((upstream.entry.id, upstream.entry.name.clone()));
    let target = TargetFacts {
        upstream: upstream.entry,
        model,
        bound: accounting.bound(format, upstream.entry, model, body.len(), &facts),
    };
    let targets = &[target];
    let subject = *subject;
    let facts = RequestFacts { record, subject, policies, targets, is_background: false };
    match accounting.admit(facts).await {
        Ok((account, _)) => request.admitted(account),
        Err(denied) => {
            let record = request.record();
            record.status = Some(denied_status(denied.reason));
            record.code = Some(denied.reason.code());
            record.cause = denied.cause;
            record.violated = denied.violated;
            request.finish(RequestOutcome::Refused);
            return Ok(Token::NotAsked(denied.message));
        }
    }
    if let Err(full) = request.begin_attempt(&target, SentBody::Whole(body.clone().into(), None)) {
        request.finish(RequestOutcome::Refused);
        return Ok(Token::NotAsked(full.to_string()));
    }
    let answer = send(upstream, format, body, &mut request).await;
    let outcome = match &answer {
        Ok(_) => RequestOutcome::Completed,
        Err(error) => {
            request.attempt_failed(error.reason(), error.to_string());
            match request.record().first_byte {
                Some(_) => RequestOutcome::UpstreamBroke,
                None => RequestOutcome::Refused,
            }
        }
    };
    request.finish(outcome);
    answer
}

/// Sends the question, and reads what the answer says of usage.
async fn send(
    upstream: &Upstream<'_>,
    format: Format,
    body: Bytes,
    request: &mut AccountedRequest,
) -> Result<Token, UpstreamError> {
    let response =
        upstream.send(Method::POST, &Operation::Generate(format).path_after_v1(), body).await?;
    request.answered(response.status.as_u16());
    if !response.status.is_success() {
        return Ok(Token::Answered(response.status));
    }
    let mut bytes = BytesMut::new();
    let read = upstream.read(response.body, &mut bytes, MAX_ANSWER_BYTES).await;
    let mut answer = PlainAnswer::new(format);
    answer.push(&bytes);
    let observed = answer.observed();
    let max_output_tokens = request.max_output_tokens();
    request.answer.usage = observed.usage.map(|usage| usage.tokens(max_output_tokens));
    request.answer.text = Some(answer.take_text());
    request.answer.content = Some(observed.content);
    request.record().model_used = observed.model;
    read.map(|()| match observed.content.failure_code() {
        Some(_) => Token::Failed(response.status),
        None => Token::Answered(response.status),
    })
}
