//! The question that costs money: one token, where the upstream lists no models. It is admitted and
//! accounted for as any request of the same key.

use std::time::{Duration, Instant};

use actix_web::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::Upstream;
use crate::accounting::account::{Account, Ending};
use crate::accounting::books::{Asked, Books};
use crate::accounting::record::AttemptOutcome;
use crate::domain::policy::Subject;
use crate::json::object::RawField;
use crate::llm::limits::{Api, unheeded};
use crate::llm::sample::{Collector, Sample};
use crate::llm::usage::Answer;
use crate::telemetry::Metrics;
use crate::telemetry::requests::RequestIds;
use crate::upstream::UpstreamError;

/// What the ledger calls it.
const ROUTE: &str = "check";
/// How much of the answer is read: one token, and what some upstreams say of themselves.
const MOST_ANSWER: usize = 256 * 1024;
/// The names that upstreams know the bound on an answer's length by: older ones the first, newer
/// models the second alone.
const LENGTH_BOUNDS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Who asks, as policies and the ledger see it.
pub(super) struct Asker<'r> {
    pub(super) books: &'r Books,
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
    let unheeded = unheeded(&upstream.entry.provider_name);
    let mut told = Token::Answered(StatusCode::BAD_REQUEST);
    for bound in LENGTH_BOUNDS.into_iter().filter(|bound| !unheeded.contains(bound)) {
        told = ask_within(upstream, &asker, bound).await?;
        if !matches!(told, Token::Answered(StatusCode::BAD_REQUEST)) {
            break;
        }
        asker.ids.request_id = asker.books.clock.new_id();
    }
    Ok(told)
}

async fn ask_within(
    upstream: &Upstream<'_>,
    asker: &Asker<'_>,
    bound: &str,
) -> Result<Token, UpstreamError> {
    let Asker { books, subject, ids } = asker;
    let began = Instant::now();
    let fields = json!({
        "model": upstream.entry.model,
        "messages": [{"role": "user", "content": "Hi"}],
        bound: 1,
    });
    let body = Bytes::from(fields.to_string());
    let raw = fields.as_object().into_iter().flatten();
    let raw: Vec<_> = raw.map(|(key, value)| (key.as_str(), value.to_string())).collect();
    let raw = raw.iter().map(|(key, value)| RawField::new(key, value));
    let opened = books.open(Asked {
        subject: *subject,
        configuration: upstream.entry,
        route: ROUTE,
        model_asked: None,
        ids: ids.clone(),
        began,
        bound: books.bound(Api::ChatCompletions, upstream.entry, body.len(), raw),
        is_background: false,
    });
    let account = match opened.await {
        Ok(opened) => opened.account,
        Err(denied) => {
            if let Some(cause) = denied.cause {
                tracing::warn!(cause, "limits of a check can't be checked");
            }
            return Ok(Token::NotAsked(denied.message));
        }
    };
    let mut attempt = Attempt {
        account: Some(account),
        metrics: &books.metrics,
        body: body.clone(),
        began,
        head: None,
        answer: BytesMut::new(),
    };
    if let Some(Err(full)) = attempt.account.as_mut().map(Account::begin_attempt) {
        return Ok(Token::NotAsked(full.to_string()));
    }
    let told = attempt.make(upstream).await;
    match &told {
        Ok(_) => attempt.settle(AttemptOutcome::Completed, None),
        Err(error) => {
            books.metrics.upstream_error(error.reason());
            let outcome = match attempt.head {
                Some(_) => AttemptOutcome::UpstreamBroke,
                None => AttemptOutcome::Failed,
            };
            attempt.settle(outcome, Some(error.reason()));
        }
    }
    told.map(Token::Answered)
}

/// An attempt under way. Dropping it settles it: whoever waits for the check may leave.
struct Attempt<'r> {
    account: Option<Account>,
    metrics: &'r Metrics,
    body: Bytes,
    began: Instant,
    /// The answer's status, and when it came.
    head: Option<(StatusCode, Duration)>,
    answer: BytesMut,
}

impl Attempt<'_> {
    /// Sends it, and reads what is said of usage.
    async fn make(&mut self, upstream: &Upstream<'_>) -> Result<StatusCode, UpstreamError> {
        let sent = upstream.send(Method::POST, "/chat/completions", self.body.clone()).await?;
        self.head = Some((sent.status, self.began.elapsed()));
        if sent.status.is_success() {
            upstream.read(sent.body, &mut self.answer, MOST_ANSWER).await?;
        }
        Ok(sent.status)
    }

    fn settle(&mut self, outcome: AttemptOutcome, code: Option<&'static str>) {
        let Some(account) = self.account.take() else { return };
        let answer = Answer::parse(&self.answer);
        let report = answer.as_ref().and_then(Answer::usage);
        let usage = report.map(|report| report.tokens(account.most_output()));
        self.metrics.usage_tokens(&usage.unwrap_or_default());
        let mut relayed = Collector::default();
        relayed.take(&self.answer);
        let ending = Ending {
            outcome,
            status: self.head.map(|(status, _)| status.as_u16()),
            code,
            model_used: answer.as_ref().and_then(Answer::model),
            usage,
            relayed: Some(relayed.body()),
            is_sealed: false,
            first_byte: self.head.map(|(_, after)| after),
            duration: self.began.elapsed(),
        };
        account.settle(ending, || Sample::of_body(&self.body, 0));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.settle(AttemptOutcome::CallerLeft, None);
    }
}
