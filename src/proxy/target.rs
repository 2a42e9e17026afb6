//! The upstreams that a request may be sent to, in the order in which they are tried, and what the
//! request becomes for each: the caller's body is kept, and every target has its own edits of it.

use std::borrow::Cow;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use smallvec::SmallVec;

use super::DataPlane;
use super::candidates::{Candidate, Candidates, FormatChoice};
use super::conversion::{Conversions, Converted};
use super::error::ProxyError;
use super::guard::GuardedBody;
use super::headers::{add_content_encoding, upstream_headers};
use super::path_segment::path_segment;
use super::read::CallerBody;
use super::route::{ProxyRoute, climbs};
use super::unmetered::endpoint_for;
use crate::accounting::target_facts::TargetFacts;
use crate::directory::upstream_entry::{UpstreamEntry, UpstreamModel};
use crate::domain::model_configuration::StreamUsage;
use crate::domain::provider::{UpstreamApi, UpstreamId};
use crate::json::object::{BodyEdits, BodyError, BodyPieces};
use crate::llm::convert::answer_conversion::Conversion;
use crate::llm::convert::{AnswerContext, BEDROCK_MESSAGES, ToolNames};
use crate::llm::format::{Format, Operation};
use crate::llm::gemini::with_model;
use crate::llm::limits::{Bound, Metering};
use crate::providers::native::bedrock_betas;
use crate::providers::quirks;
use crate::upstream::{BaseUrl, RequestBody, UpstreamRequest, UpstreamTimeouts};

/// Which messages a body on Vertex holds, where the header of Anthropic's own API is not read.
const VERTEX_MESSAGES: &str = "vertex-2023-10-16";

/// Makes a stream of Gemini's server-sent events in place of one array.
const EVENTS_QUERY: &str = "alt=sse";

/// One upstream that the request may be sent to.
pub struct Target<'r> {
    pub upstream: &'r Arc<UpstreamEntry>,
    /// The model that it is asked for.
    pub model: &'r Arc<UpstreamModel>,
    /// The most that the request can use there.
    pub bound: Bound,
    /// The gateway asks for usage and the caller did not, so the usage event is not the caller's.
    pub withhold_usage: bool,
    /// The caller asked for a stream.
    pub is_stream_expected: bool,
    /// What it is asked, which is the caller's operation in its own words.
    pub operation: Operation,
    /// How its answer becomes the caller's, if it is not as it comes.
    pub conversion: Option<Arc<Conversion>>,
    /// The caller's fields that it does not get, for a header.
    pub dropped: Option<&'r HeaderValue>,
    /// None for operations without a body.
    edits: Option<BodyEdits<'r>>,
}

/// The targets of these candidates, in their order. One that can't take the request is left out, unless no
/// other is left. `region` is that of a path on Vertex.
pub fn targets<'r>(
    plane: &DataPlane,
    (operation, headers, region): (&Operation, &HeaderMap, Option<&str>),
    candidates: &'r Candidates,
    body: &'r GuardedBody,
    conversions: &'r Conversions,
) -> Result<SmallVec<[Target<'r>; 1]>, ProxyError> {
    let mut targets = SmallVec::new();
    let mut obstacle = None;
    for (candidate, converted) in candidates.list.iter().zip(conversions) {
        let target = match converted {
            Err(error) => Err(error.clone()),
            Ok(None) => {
                let asked = (operation, headers, region);
                Target::new(plane, asked, candidate, candidates, body.get())
            }
            Ok(Some(converted)) => {
                let Converted { body, operation, conversion, dropped } = &**converted;
                let asked = (operation, headers, region);
                Target::new(plane, asked, candidate, candidates, Some(body)).map(|target| Target {
                    dropped: dropped.as_ref(),
                    // A converter leaves out what the caller did not ask for.
                    withhold_usage: target.withhold_usage && conversion.is_none(),
                    conversion: conversion.clone().or(target.conversion),
                    ..target
                })
            }
        };
        match target {
            Ok(target) => targets.push(target),
            Err(error) => {
                obstacle.get_or_insert(error);
            }
        }
    }
    match obstacle {
        Some(error) if targets.is_empty() => Err(error),
        _ => Ok(targets),
    }
}

impl<'r> Target<'r> {
    /// Applies a target to the caller's body: the model, unless it is the one that the caller named, and
    /// a configuration's default parameters where the caller sent none.
    fn new(
        plane: &DataPlane,
        (operation, headers, region): (&Operation, &HeaderMap, Option<&str>),
        candidate: &'r Candidate,
        candidates: &Candidates,
        body: Option<&'r CallerBody>,
    ) -> Result<Self, ProxyError> {
        let Candidate { upstream, model } = candidate;
        let is_subscribed = candidates.subscription.is_some();
        let (Some(format), Some(CallerBody { json, facts, .. })) = (operation.format(), body)
        else {
            let bound = match operation {
                Operation::Unmetered { method, path } => {
                    Bound::unmetered(endpoint_for(upstream, *method, path)?.despite_policies)
                }
                _ => Bound::FREE,
            };
            return Ok(Self {
                upstream,
                model,
                bound,
                withhold_usage: false,
                is_stream_expected: false,
                operation: operation.clone(),
                conversion: None,
                dropped: None,
                edits: None,
            });
        };
        let quirks = quirks(&upstream.provider_name);
        if let Some(field) = quirks.model_override(json, facts) {
            return Err(ProxyError::ModelOverride { field });
        }
        if upstream.model.is_none() && quirks.asks_for_more_than_a_model(&model.name) {
            return Err(ProxyError::ModelOverride { field: "model".to_owned() });
        }
        if operation.clone().in_format_of(&model.name).format() != Some(format) {
            return Err(ProxyError::ModelMismatch);
        }
        let mut edits = json.edit();
        let is_replaced = upstream.model.is_some() || candidates.formats != FormatChoice::Callers;
        let encoded = || path_segment(model.sent_name()).to_string();
        let is_stream_expected = operation.asks_for_stream(edits.get("stream"));
        let api = upstream.provider.api();
        let mut own_operation = operation.at(api, encoded, is_stream_expected);
        if operation.has_model_in_path() {
            if is_replaced && facts.names_other_model(model.sent_name()).is_some() {
                // Google's API wants it repeated in some bodies. It was the path's there.
                for (field, raw) in with_model(|field| json.get(field), model.sent_name()) {
                    edits.set(field, raw);
                }
            }
            // The path is signed in Bedrock's own encoding.
            if is_replaced || api == UpstreamApi::Converse {
                own_operation = own_operation.for_model(encoded());
            }
        }
        // What the caller names in a body may end in a path, too.
        if own_operation.model_in_path().is_some_and(climbs) {
            return Err(ProxyError::BadModelId);
        }
        fit_body(&mut edits, (operation, &own_operation), (model, is_replaced), headers);
        let allowed = operation.parameters();
        for (name, value) in &upstream.default_parameters {
            if allowed.is_none_or(|allowed| allowed.contains(&name.as_str())) {
                edits.set_if_absent(name, value).map_err(ProxyError::Body)?;
            }
        }
        if operation.counts_tokens() {
            return Ok(Self {
                upstream,
                model,
                bound: Bound::FREE,
                withhold_usage: false,
                is_stream_expected: false,
                operation: own_operation,
                conversion: None,
                dropped: None,
                edits: Some(edits),
            });
        }
        let is_stream_expected = own_operation.asks_for_stream(edits.get("stream"));
        let withhold_usage = format == Format::Chat
            && is_stream_expected
            && upstream.stream_usage == StreamUsage::Inject
            && !quirks.refuses_stream_options
            && edits.ask_for_usage().map_err(ProxyError::Body)?;
        let mut facts = Cow::Borrowed(facts);
        edits.added().for_each(|(key, raw)| facts.to_mut().add_field(key, raw));
        if let Some(key) = facts.two_spellings() {
            return Err(ProxyError::Body(BodyError::TwoSpellings { key: key.to_owned() }));
        }
        if !operation.bounds_answers() {
            facts.to_mut().ignore_answer_limits();
        }
        let mut bound = plane.accounting.bound(format, upstream, model, edits.length(), &facts);
        bound.extras.is_regional = upstream.is_regional(region);
        if is_subscribed {
            bound.metering = Metering::Subscription;
        }
        Ok(Self {
            upstream,
            model,
            bound,
            withhold_usage,
            is_stream_expected,
            conversion: reframing(operation, &own_operation, is_stream_expected),
            dropped: None,
            operation: own_operation,
            edits: Some(edits),
        })
    }

    /// What the caller is told of it: the configuration's name, or the provider's with the model; percent-
    /// encoded where it is no text for a header.
    pub fn served_by(&self) -> String {
        const VISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
        let name = utf8_percent_encode(&self.upstream.name, VISIBLE);
        match self.upstream.id {
            UpstreamId::Configuration(_) => format!("custom/{name}"),
            UpstreamId::Provider(_) => {
                format!("{name}/{}", utf8_percent_encode(self.model.sent_name(), VISIBLE))
            }
        }
    }

    /// Whether its answer is a response that the provider stores.
    pub fn stores_response(&self) -> bool {
        let store = self.edits.as_ref().and_then(|edits| edits.get("store"));
        self.operation == Operation::Generate(Format::Responses) && store != Some("false")
    }

    /// What admission and the ledger need to know of it.
    pub fn facts(&self) -> TargetFacts<'_> {
        TargetFacts { upstream: self.upstream, model: self.model, bound: self.bound }
    }

    /// The body that this target gets.
    pub fn body(&self) -> BodyPieces {
        self.edits.as_ref().map(BodyEdits::to_pieces).unwrap_or_default()
    }

    /// The request that this target gets.
    pub fn request(
        &self,
        caller: &HttpRequest,
        (route, base_url): (&ProxyRoute, &BaseUrl),
        credentials: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: RequestBody,
        defaults: UpstreamTimeouts,
    ) -> UpstreamRequest {
        let upstream = self.upstream;
        let family = self.operation.family().unwrap_or(upstream.provider.api());
        let mut headers = upstream_headers(caller.headers(), &upstream.forward_headers, family);
        if matches!(self.operation, Operation::Unmetered { .. }) {
            add_content_encoding(caller.headers(), &mut headers);
        }
        for (name, value) in credentials {
            headers.insert(name, value);
        }
        // The parameters of one API mean nothing to another.
        let is_same_api = self.conversion.is_none()
            && discriminant(&route.operation) == discriminant(&self.operation);
        let own = Some(caller.query_string()).filter(|query| is_same_api && !query.is_empty());
        let streams_events =
            self.conversion.is_some() && self.operation.streams_events_on_request();
        let query = own.or(streams_events.then_some(EVENTS_QUERY));
        let limits = upstream.timeouts;
        let or = |own: Option<u32>, default| {
            own.map_or(default, |millis| Duration::from_millis(u64::from(millis)))
        };
        let path = self.operation.path_after_v1();
        UpstreamRequest {
            method: caller.method().clone(),
            target: base_url.join(&path, query),
            headers,
            body,
            timeouts: UpstreamTimeouts {
                connect: or(limits.connect_ms, defaults.connect),
                first_byte: or(limits.first_byte_ms, defaults.first_byte),
                idle: or(limits.idle_ms, defaults.idle),
            },
        }
    }
}

/// The conversion of a stream that is in the caller's format, but in frames of the provider's own.
fn reframing(asked: &Operation, own: &Operation, is_stream: bool) -> Option<Arc<Conversion>> {
    let binary = own.binary_events().filter(|_| is_stream && asked.binary_events().is_none())?;
    let format = asked.format()?;
    Some(Arc::new(Conversion {
        from: format,
        to: format,
        binary: Some(binary),
        names: ToolNames::default(),
        context: AnswerContext::default(),
        is_count: false,
    }))
}

/// Puts the model where the target's operation has it, and makes up for what else differs between the
/// caller's operation and the target's.
fn fit_body(
    edits: &mut BodyEdits<'_>,
    (asked, own): (&Operation, &Operation),
    (model, is_replaced): (&UpstreamModel, bool),
    headers: &HeaderMap,
) {
    match (asked, own) {
        (Operation::Generate(_), Operation::Invoke { .. }) => {
            edits.remove("model");
            edits.remove("stream");
            edits.set_str("anthropic_version", BEDROCK_MESSAGES);
            if let Some(betas) =
                bedrock_betas(headers).filter(|_| edits.get("anthropic_beta").is_none())
            {
                edits.set("anthropic_beta", betas);
            }
        }
        (Operation::Generate(_), Operation::RawPredict { .. }) => {
            edits.remove("model");
            edits.set_str("anthropic_version", VERTEX_MESSAGES);
        }
        (Operation::CountTokens, Operation::RawPredict { .. }) => {
            if is_replaced {
                edits.set_str("model", model.sent_name());
            }
            if edits.get("anthropic_version").is_none() {
                edits.set_str("anthropic_version", VERTEX_MESSAGES);
            }
        }
        (Operation::RawPredict { is_stream, .. }, Operation::Generate(_)) => {
            edits.set_str("model", model.sent_name());
            edits.remove("anthropic_version");
            if *is_stream {
                edits.set("stream", "true");
            }
        }
        (Operation::Deployment { .. }, Operation::Generate(_)) => {
            edits.set_str("model", model.sent_name());
        }
        // It may be there, too.
        (Operation::Deployment { .. }, _) if edits.get("model").is_none() => {}
        (Operation::Deployment { .. }, _) => edits.set_str("model", model.sent_name()),
        _ if is_replaced && !asked.has_model_in_path() => edits.set_str("model", model.sent_name()),
        _ => {}
    }
}
