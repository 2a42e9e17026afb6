//! Plans of varied calls. The number of a call determines its request, what the upstream does with it
//! and when its caller disconnects, so caller, upstream and reconciliation agree without communicating.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    http::Request,
    openai::{self, Usage},
    random::Random,
    script::{Marker, Script, data},
    upstream::RecordedRequest,
};

/// The header that carries a call's number to the ledger (as the metadata `request_number`).
pub(crate) const NUMBER_HEADER: &str = "x-gateway-request-number";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Chat,
    ChatStream,
    Response,
    ResponseStream,
    Models,
}

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// A complete answer with usage.
    Complete,
    /// The same after a delay.
    Slow,
    /// Every chunk has the usage so far; the last has all of it.
    CumulativeUsage,
    /// A complete answer without usage.
    NoUsage,
    /// The first attempt is reset before an answer; the second gets a complete answer.
    ResetBeforeHead,
    /// The connection is reset in the body, between events if it has events.
    ResetInBody,
    /// The connection is reset inside an event.
    ResetInEvent,
    /// The connection is closed after the usage, before the end.
    CloseAfterUsage,
    /// The provider answers with this error.
    Error(u16),
    /// There is no answer; the caller disconnects.
    CallerLeavesBeforeHead,
    /// The caller disconnects in the body.
    CallerLeavesInBody,
    /// The caller disconnects after the event with the usage, before the end.
    CallerLeavesAfterUsage,
}

#[derive(Clone, Debug)]
pub(crate) struct CallPlan {
    pub(crate) number: u64,
    pub(crate) configuration: &'static str,
    pub(crate) kind: CallKind,
    /// What happens to the call.
    pub(crate) scenario: Scenario,
    /// What the provider reports, if it reports usage.
    pub(crate) usage: Usage,
    /// Whether the caller asks for usage in a chat stream.
    asks_usage: bool,
    parts: Vec<String>,
}

/// What the upstream does with one request.
pub(crate) struct PlannedReply {
    pub(crate) script: Script,
    /// The usage that the script reports, if any.
    pub(crate) reports: Option<Usage>,
    /// Set when the usage has been sent.
    pub(crate) sent: Marker,
}

impl CallPlan {
    /// The plan of a number for a workspace with these configurations.
    pub(crate) fn of(seed: u64, number: u64, configurations: &[&'static str]) -> Self {
        use CallKind::{Chat, ChatStream, Models, Response, ResponseStream};
        use Scenario::*;

        let mut random = Random::of(seed, number);
        let kind = random.one_of(&[
            Chat,
            Chat,
            ChatStream,
            ChatStream,
            ChatStream,
            Response,
            ResponseStream,
        ]);
        let kind = if random.percent(3) { Models } else { kind };
        let error = random.one_of(&[400, 429, 500, 503]);
        let scenarios: &[Scenario] = match kind {
            Models => &[Complete, Error(error)],
            Chat | Response => &[
                Complete,
                Complete,
                Slow,
                NoUsage,
                ResetBeforeHead,
                ResetInBody,
                Error(error),
                CallerLeavesBeforeHead,
                CallerLeavesInBody,
            ],
            ChatStream | ResponseStream => &[
                Complete,
                Complete,
                Slow,
                NoUsage,
                ResetBeforeHead,
                ResetInBody,
                ResetInEvent,
                CloseAfterUsage,
                Error(error),
                CallerLeavesBeforeHead,
                CallerLeavesInBody,
                CallerLeavesAfterUsage,
            ],
        };
        let scenario = random.one_of(scenarios);
        let scenario = match (kind, scenario) {
            (ChatStream, Complete) if random.percent(40) => CumulativeUsage,
            _ => scenario,
        };
        let (prompt, completion) = (1 + random.below(40_000), 1 + random.below(3_000));
        let cached = if random.percent(50) { random.below(prompt + 1) } else { 0 };
        let reasoning = if random.percent(50) { random.below(completion + 1) } else { 0 };
        let words = 3 + random.below(8);
        Self {
            number,
            configuration: random.one_of(configurations),
            kind,
            scenario,
            usage: Usage { prompt, completion, cached, reasoning },
            asks_usage: scenario == CallerLeavesAfterUsage || random.percent(50),
            parts: (0..words).map(|word| format!(" word {word} of {number}")).collect(),
        }
    }

    pub(crate) fn request(&self) -> Request {
        let number = self.number.to_string();
        let question = format!("What is number {number} like?");
        let route = |rest: &str| format!("/providers/{}/v1/{rest}", self.configuration);
        let streamed = self.is_stream();
        let request = match self.kind {
            CallKind::Models => Request::get(&route(&format!("models?user={number}"))),
            CallKind::Response | CallKind::ResponseStream => {
                let body = json!({
                    "input": question, "user": number, "stream": streamed, "max_output_tokens": 64,
                });
                Request::post_json(&route("responses"), &body)
            }
            CallKind::Chat | CallKind::ChatStream => {
                let mut body = json!({
                    "messages": [{"role": "user", "content": question}],
                    "user": number, "stream": streamed, "max_completion_tokens": 64,
                });
                if streamed && self.asks_usage {
                    body["stream_options"] = json!({"include_usage": true});
                }
                Request::post_json(&route("chat/completions"), &body)
            }
        };
        request.header(NUMBER_HEADER, &number)
    }

    /// Whether the upstream reports no usage because nobody asks for it.
    pub(crate) fn withholds_usage(&self) -> bool {
        self.kind == CallKind::ChatStream && !self.asks_usage
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.kind, CallKind::ChatStream | CallKind::ResponseStream)
    }

    /// The call number of a request that the upstream received.
    pub(crate) fn number_of(request: &RecordedRequest) -> Option<u64> {
        let body = request.json();
        let query = request.query().and_then(|query| query.strip_prefix("user="));
        body["user"].as_str().or(query)?.parse().ok()
    }

    /// What the upstream does with the request after `before` earlier ones for the same call.
    pub(crate) fn serve(&self, request: &RecordedRequest, before: usize) -> PlannedReply {
        let sent = Marker::default();
        let silent = matches!(self.scenario, Scenario::NoUsage) || self.kind == CallKind::Models;
        let (script, reports) = match self.scenario {
            Scenario::ResetBeforeHead if before == 0 => (Script::new().reset(), false),
            Scenario::CallerLeavesBeforeHead => (Script::new().keep_open(), false),
            Scenario::Error(status) => {
                (openai::error(status, "scripted", "scripted", "As the plan says."), false)
            }
            _ if self.is_stream() => self.stream(request, &sent),
            _ => (
                self.plain(&sent),
                !matches!(self.scenario, Scenario::ResetInBody | Scenario::CallerLeavesInBody),
            ),
        };
        let reports = (reports && !silent).then_some(self.usage);
        let pause = Duration::from_millis(if self.scenario == Scenario::Slow { 80 } else { 0 });
        PlannedReply { script: Script::new().delay(pause).and(script), reports, sent }
    }

    fn plain(&self, sent: &Marker) -> Script {
        let mut body = match self.kind {
            CallKind::Models => json!({"object": "list", "data": []}),
            CallKind::Response | CallKind::ResponseStream => {
                openai::response_object("completed", Some(&self.parts.concat()), Some(self.usage))
            }
            CallKind::Chat | CallKind::ChatStream => {
                openai::chat_object(&self.parts.concat(), self.usage)
            }
        };
        if self.scenario == Scenario::NoUsage {
            // Unknown, which is not zero.
            body["usage"] = Value::Null;
        }
        let body = body.to_string();
        let json = &[("content-type", "application/json")];
        let half = body[..body.len() / 2].to_owned();
        match self.scenario {
            Scenario::ResetInBody => {
                Script::new().sized_head(200, json, body.len()).raw(half).close()
            }
            Scenario::CallerLeavesInBody => {
                Script::new().sized_head(200, json, body.len()).raw(half).keep_open()
            }
            _ => Script::new().sized(200, json, body).note(sent),
        }
    }

    /// The script of a stream, and whether it reports usage.
    fn stream(&self, request: &RecordedRequest, sent: &Marker) -> (Script, bool) {
        let events = self.events(request);
        let of_usage = events.iter().position(|event| event.contains("_tokens\""));
        let of_usage = match self.scenario {
            // Every chunk has usage; the last has all of it.
            Scenario::CumulativeUsage => {
                events.iter().rposition(|event| event.contains("_tokens\""))
            }
            _ => of_usage,
        };
        let (middle, to) =
            (events.len() / 2, |end: usize| Script::sse_head().chunks(events[..end].to_vec()));
        match self.scenario {
            Scenario::ResetInBody => (to(middle).reset(), false),
            Scenario::ResetInEvent => {
                let next = &events[middle];
                (to(middle).chunk(next[..next.len() / 2].to_owned()).reset(), false)
            }
            Scenario::CallerLeavesInBody => (to(middle).keep_open(), false),
            Scenario::CloseAfterUsage | Scenario::CallerLeavesAfterUsage => {
                let Some(at) = of_usage else {
                    // Nobody asked for usage: the stream stops where it would come.
                    let most = to(events.len() - 1);
                    return match self.scenario {
                        Scenario::CallerLeavesAfterUsage => (most.keep_open(), false),
                        _ => (most.close(), false),
                    };
                };
                let script = to(at + 1).note(sent);
                match self.scenario {
                    Scenario::CallerLeavesAfterUsage => (script.keep_open(), true),
                    // A close, not a reset, so that everything sent is read.
                    _ => (script.close(), true),
                }
            }
            _ => match of_usage {
                Some(at) => {
                    let rest = events[at + 1..].to_vec();
                    (to(at + 1).note(sent).chunks(rest).end(), true)
                }
                None => (to(events.len()).end(), false),
            },
        }
    }

    fn events(&self, request: &RecordedRequest) -> Vec<String> {
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        let asks_usage = request.json()["stream_options"]["include_usage"] == true;
        match (self.kind, self.scenario) {
            (CallKind::ResponseStream, Scenario::NoUsage) => {
                openai::response_events_without_usage(&parts)
            }
            (CallKind::ResponseStream, _) => openai::response_events(&parts, self.usage),
            (_, Scenario::NoUsage) => openai::chat_events(&parts, self.usage, false),
            (_, Scenario::CumulativeUsage) if asks_usage => {
                let events = openai::chat_events(&parts, self.usage, true);
                let last = events.len() as u64;
                let grown = |(at, event): (usize, String)| {
                    let Some(text) = event.strip_prefix("data: {") else { return event };
                    let mut event: Value = serde_json::from_str(&format!("{{{text}")).unwrap();
                    if event["usage"].is_null() {
                        let completion = self.usage.completion * at as u64 / last;
                        let reasoning = self.usage.reasoning.min(completion);
                        event["usage"] = Usage { completion, reasoning, ..self.usage }.chat();
                    }
                    data(event)
                };
                events.into_iter().enumerate().map(grown).collect()
            }
            _ => openai::chat_events(&parts, self.usage, asks_usage),
        }
    }
}
