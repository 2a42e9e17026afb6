//! The question that costs money: one token, where the upstream lists no models. It is admitted and
//! accounted for as any request of the same key.

use actix_web::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::Upstream;
use crate::accounting::engine::{Accounting, RequestFacts, denied_status};
use crate::accounting::request::AccountedRequest;
use crate::accounting::sent_body::SentBody;
use crate::domain::policy::Subject;
use crate::domain::principal::Principal;
use crate::llm::limits::{Api, BodyFacts};
use crate::llm::sample::Collector;
use crate::llm::usage::Answer;
use crate::providers::quirks;
use crate::telemetry::request_record::RequestOutcome;
use crate::telemetry::requests::RequestIds;
use crate::upstream::UpstreamError;

/// What the ledger calls it.
const OPERATION: &str = "check";
/// How much of the answer is read: one token, and what some upstreams say of themselves.
const MOST_ANSWER: usize = 256 * 1024;
/// The names that upstreams know the bound on an answer's length by: older ones the first, newer
/// models the second alone.
const LENGTH_BOUNDS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Who asks, as policies and the ledger see it.
pub(super) struct Asker<'r> {
    pub(super) accounting: &'r Accounting,
    pub(super) principal: Principal,
    pub(super) subject: Subject<'r>,
    pub(super) ids: RequestIds,
}

/// What came of it.
pub(super) enum Token {
    /// The upstream answered with this status.
    Answered(StatusCode),
    /// It was not asked, for this reason.
    NotAsked(String),
}

/// Asks for one token. An upstream that does not know one name of the bound is asked with the other:
/// a request of its own, with an id of its own.
pub(super) async fn ask(
    upstream: &Upstream<'_>,
    mut asker: Asker<'_>,
) -> Result<Token, UpstreamError> {
    let ignored = quirks(&upstream.entry.provider_name).ignored_limits;
    let mut told = Token::Answered(StatusCode::BAD_REQUEST);
    for bound in LENGTH_BOUNDS.into_iter().filter(|bound| !ignored.contains(bound)) {
        told = ask_within(upstream, &asker, bound).await?;
        if !matches!(told, Token::Answered(StatusCode::BAD_REQUEST)) {
            break;
        }
        asker.ids.request_id = asker.accounting.clock.new_id();
    }
    Ok(told)
}

async fn ask_within(
    upstream: &Upstream<'_>,
    asker: &Asker<'_>,
    bound: &str,
) -> Result<Token, UpstreamError> {
    let Asker { accounting, principal, subject, ids } = asker;
    let fields = json!({
        "model": upstream.entry.model,
        "messages": [{"role": "user", "content": "Hi"}],
        bound: 1,
    });
    let body = Bytes::from(fields.to_string());
    let facts = BodyFacts::parse(body.clone()).map(|(_, facts)| facts).unwrap_or_default();

    let mut request = AccountedRequest::new(&accounting.reporter, ids.clone(), None);
    let record = request.record();
    record.operation = OPERATION;
    record.principal = Some(*principal);
    record.configuration = Some((upstream.entry.id, upstream.entry.name.clone()));
    let admitted = accounting.admit(RequestFacts {
        record,
        subject: *subject,
        configuration: upstream.entry,
        bound: accounting.bound(Api::ChatCompletions, upstream.entry, body.len(), &facts),
        is_background: false,
        body: SentBody::Whole(body.clone(), None),
    });
    match admitted.await {
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
    if let Err(full) = request.begin_attempt() {
        request.finish(RequestOutcome::Refused);
        return Ok(Token::NotAsked(full.to_string()));
    }
    let status = send(upstream, body, &mut request).await;
    let outcome = match &status {
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
    status.map(Token::Answered)
}

/// Sends the question, and reads what the answer says of usage.
async fn send(
    upstream: &Upstream<'_>,
    body: Bytes,
    request: &mut AccountedRequest,
) -> Result<StatusCode, UpstreamError> {
    let response = upstream.send(Method::POST, "/chat/completions", body).await?;
    request.answered(response.status.as_u16());
    if !response.status.is_success() {
        return Ok(response.status);
    }
    let mut bytes = BytesMut::new();
    let read = upstream.read(response.body, &mut bytes, MOST_ANSWER).await;
    if let Some(answer) = Answer::parse(&bytes) {
        let max_output_tokens = request.max_output_tokens();
        request.answer.usage = answer.usage().map(|report| report.tokens(max_output_tokens));
        request.record().model_used = answer.model();
    }
    let mut text = Collector::default();
    text.take(&bytes);
    request.answer.text = Some(text.body());
    read.map(|()| response.status)
}
