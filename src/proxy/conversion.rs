//! The conversion of a request for the targets that speak another format than the caller.
//!
//! It comes after the guard, and every target has its own, made of what the guard let pass.

use std::sync::Arc;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::web::block;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use smallvec::SmallVec;

use super::DataPlane;
use super::candidates::{Candidate, Candidates, FormatChoice};
use super::context::RequestContext;
use super::error::ProxyError;
use super::guard::GuardedBody;
use super::path_segment::path_segment;
use super::read::CallerBody;
use crate::accounting::budget::Share;
use crate::directory::upstream_entry::UpstreamEntry;
use crate::domain::provider::{Provider, UpstreamApi};
use crate::llm::convert::answer_conversion::Conversion;
use crate::llm::convert::error::Dropped;
use crate::llm::convert::{
    AnswerContext, ChatReasoning, ConvertedRequest, FamilyRules, IdRule, RequestOptions, Target,
    TokenCounter, ToolNames, convert_count, convert_request, may_hold_foreign, without_foreign,
    wrap_invocation,
};
use crate::llm::format::{Format, Operation};
use crate::llm::gemini::GeminiMethod;
use crate::llm::limits::BodyFacts;
use crate::providers::native::{bedrock_betas, chat_reasoning, takes_cache_breakpoints};

/// The caller wants an error for a field that would be left out.
const STRICT: HeaderName = HeaderName::from_static("x-tollgate-strict");

/// A longer body is converted on a thread of its own, in bytes.
const MAX_INLINE: usize = 256 * 1024;

/// The most tokens of an answer where the target's format needs a number and neither the caller, nor the
/// configuration, nor the catalogue has one: Anthropic's current models all take it.
const USUAL_MAX_TOKENS: u64 = 8192;
/// The same for an answer that is not streamed. Anthropic's SDKs refuse to wait longer than ten minutes,
/// which they expect beyond this.
const PLAIN_MAX_TOKENS: u64 = 21_333;

/// The most bytes in the header that names the fields that were left out.
const MAX_DROPPED: usize = 1024;

/// A request as its target takes it.
pub struct Converted {
    pub body: CallerBody,
    /// What is asked, in that format.
    pub operation: Operation,
    /// None where the caller's format is the target's, and only what other models left was taken out.
    pub conversion: Option<Arc<Conversion>>,
    /// The caller's fields that were left out, for a header.
    pub dropped: Option<HeaderValue>,
}

/// One for each candidate: nothing where the caller's body is the target's as it is, an error where it
/// can't be converted.
pub type Conversions = SmallVec<[Result<Option<Box<Converted>>, ProxyError>; 1]>;

/// Converts the request for the candidates that need it. Their bodies are taken from the memory that
/// `share` is of.
pub async fn conversions(
    plane: &DataPlane,
    (operation, headers): (&Operation, &HeaderMap),
    candidates: &Candidates,
    body: &GuardedBody,
    share: &mut Option<Share>,
    context: &mut RequestContext,
) -> Result<Conversions, ProxyError> {
    let mut all = Conversions::new();
    for candidate in &candidates.list {
        let to = candidates.formats.format_for(operation, candidate);
        let (Some(from), Some(to), Some(body)) = (operation.format(), to, body.get()) else {
            all.push(Ok(None));
            continue;
        };
        let counter = match operation {
            Operation::CountTokens => match counter_of(&candidate.upstream, to) {
                Ok(counter) => counter,
                Err(error) => {
                    all.push(Err(error));
                    continue;
                }
            },
            _ => None,
        };
        let is_native = from == to && counter.is_none();
        // Below a provider's name, members of chats are the caller's own affair.
        let is_untouched = candidates.formats == FormatChoice::Callers && to == Format::Chat;
        if is_native
            && (is_untouched
                || !may_hold_foreign(body.json.text(), to, family_rules(&candidate.upstream, to)))
        {
            all.push(Ok(None));
            continue;
        }
        let job = Job::new(plane, (from, to), candidate, headers, body, context);
        let asked = operation.clone();
        let betas = counter.and_then(|_| bedrock_betas(headers));
        let run = move || match counter {
            Some(counter) => job.run_count(counter, betas.as_deref()).map(Some),
            None if is_native => job.run_native(asked),
            None => job.run().map(Some),
        };
        let converted = if body.json.text().len() > MAX_INLINE {
            block(run).await.map_err(|_| ProxyError::Internal)?
        } else {
            run()
        };
        if !is_native {
            let result = if converted.is_ok() { "converted" } else { "refused" };
            context.request.metrics().conversion(from.label(), to.label(), result);
        }
        if let Ok(Some(converted)) = &converted
            && let Some(share) = share
            && !share.grow(converted.body.json.text().len())
        {
            return Err(ProxyError::Overloaded);
        }
        all.push(converted.map(|converted| converted.map(Box::new)));
    }
    Ok(all)
}

/// One conversion, which may be done on another thread.
struct Job {
    text: bytes::Bytes,
    from: Format,
    to: Format,
    /// The target's name for the model.
    model: String,
    default_max_tokens: u64,
    takes_call_ids: bool,
    reasoning: ChatReasoning,
    takes_cache_breakpoints: bool,
    options: RequestOptions,
    context: AnswerContext,
    is_stream: bool,
    api: UpstreamApi,
}

impl Job {
    fn new(
        plane: &DataPlane,
        (from, to): (Format, Format),
        candidate: &Candidate,
        headers: &HeaderMap,
        body: &CallerBody,
        context: &mut RequestContext,
    ) -> Self {
        let Candidate { upstream, model } = candidate;
        let record = context.request.record();
        let own = family_rules(upstream, to);
        let is_stream = body.json.get("stream") == Some("true");
        let longest = if is_stream { u64::MAX } else { PLAIN_MAX_TOKENS };
        let known = model.max_output_tokens.map(|most| most.min(longest));
        let configured = configured_max_tokens(upstream);
        let default_max_tokens = configured.or(known).unwrap_or(USUAL_MAX_TOKENS);
        if to == Format::Messages && from != to {
            let source = match (configured, known) {
                (Some(_), _) => "configuration",
                (None, Some(_)) => "catalogue",
                (None, None) => "usual",
            };
            tracing::debug!(
                max_tokens = default_max_tokens,
                source,
                "default length of the answer"
            );
        }
        let asked = record.model_asked.clone();
        let seed = record.ids.request_id.uuid().simple().to_string();
        Self {
            text: body.json.bytes(),
            from,
            to,
            model: model.name.clone(),
            default_max_tokens,
            takes_call_ids: upstream.provider == Provider::Gemini,
            reasoning: own.reasoning,
            takes_cache_breakpoints: takes_cache_breakpoints(&upstream.provider_name, &model.name),
            options: RequestOptions {
                ids: own.ids,
                is_strict: is_strict(headers) || upstream.strict_conversion,
            },
            context: AnswerContext {
                model: asked.unwrap_or_else(|| model.name.clone()),
                created: u64::try_from(plane.clock.now().timestamp()).unwrap_or(0),
                // The time of the request is in its beginning.
                seed: seed.get(8..).unwrap_or_default().to_owned(),
                ..AnswerContext::default()
            },
            is_stream,
            api: upstream.provider.api(),
        }
    }

    /// Takes what other models left out of a body that stays in the caller's format. Nothing if there is
    /// nothing of the kind.
    fn run_native(self, operation: Operation) -> Result<Option<Converted>, ProxyError> {
        let text = std::str::from_utf8(&self.text).map_err(|_| ProxyError::Internal)?;
        let rules = FamilyRules { reasoning: self.reasoning, ids: self.options.ids };
        let mut dropped = Dropped::new(self.options.is_strict);
        let own = without_foreign(text, self.to, rules, &mut dropped)
            .map_err(|error| ProxyError::NotConvertible { model: self.model.clone(), error })?;
        let Some(own) = own else { return Ok(None) };
        let (json, facts) = BodyFacts::parse_in(self.to, own.into()).map_err(ProxyError::Body)?;
        Ok(Some(Converted {
            body: CallerBody { json, facts },
            operation,
            conversion: None,
            dropped: dropped_header(dropped.fields()),
        }))
    }

    /// Makes the request for a count of tokens.
    fn run_count(self, counter: Counter, betas: Option<&str>) -> Result<Converted, ProxyError> {
        let text = std::str::from_utf8(&self.text).map_err(|_| ProxyError::Internal)?;
        let model = &self.model;
        let encoded = || path_segment(model).to_string();
        let refused = |error| ProxyError::NotConvertible { model: model.clone(), error };
        let (json, dropped, operation, format) = match counter {
            Counter::By(counter) => {
                let target = self.target();
                let converted = convert_count(text, counter, &target, self.options);
                let ConvertedRequest { json, dropped, .. } = converted.map_err(refused)?;
                let operation = match counter {
                    TokenCounter::Responses => Operation::CountInputTokens,
                    TokenCounter::Gemini | TokenCounter::Vertex => {
                        let method = GeminiMethod::CountTokens;
                        Operation::Gemini { model: encoded(), method }
                    }
                };
                (json, dropped, operation, self.to)
            }
            Counter::Bedrock => {
                let rules = FamilyRules { reasoning: self.reasoning, ids: self.options.ids };
                let mut dropped = Dropped::new(self.options.is_strict);
                let own = without_foreign(text, self.to, rules, &mut dropped).map_err(refused)?;
                let own = own.as_deref().unwrap_or(text);
                let json = wrap_invocation(own, betas).map_err(refused)?;
                let operation = Operation::CountInvokeTokens { model: encoded() };
                (json, dropped.fields().to_vec(), operation, Format::Invoke)
            }
        };
        let (json, facts) = BodyFacts::parse_in(format, json.into()).map_err(ProxyError::Body)?;
        let conversion = Conversion {
            from: self.to,
            to: self.from,
            binary: None,
            names: ToolNames::default(),
            context: self.context,
            is_count: true,
        };
        Ok(Converted {
            body: CallerBody { json, facts },
            operation,
            conversion: Some(Arc::new(conversion)),
            dropped: dropped_header(&dropped),
        })
    }

    fn target(&self) -> Target<'_> {
        Target {
            model: &self.model,
            default_max_tokens: self.default_max_tokens,
            takes_call_ids: self.takes_call_ids,
            reasoning: self.reasoning,
            takes_cache_breakpoints: self.takes_cache_breakpoints,
        }
    }

    fn run(self) -> Result<Converted, ProxyError> {
        // A body is UTF-8 once it is read as JSON.
        let text = std::str::from_utf8(&self.text).map_err(|_| ProxyError::Internal)?;
        let converted = convert_request(text, self.from, self.to, &self.target(), self.options);
        let Self { from, to, model, is_stream, api, mut context, .. } = self;
        let converted = converted
            .map_err(|error| ProxyError::NotConvertible { model: model.clone(), error })?;
        let ConvertedRequest { json, names, dropped, include_usage, echo } = converted;
        // A token has about four bytes.
        context.estimated_input = json.len() as u64 / 4;
        context.include_usage = include_usage;
        context.echo = echo;
        let encoded = || path_segment(&model).to_string();
        let operation = match to {
            Format::Gemini if is_stream => {
                Operation::Gemini { model: encoded(), method: GeminiMethod::StreamGenerateContent }
            }
            Format::Gemini => {
                Operation::Gemini { model: encoded(), method: GeminiMethod::GenerateContent }
            }
            Format::Converse => Operation::Converse { model: encoded(), is_stream },
            other => Operation::Generate(other),
        };
        let (json, facts) = BodyFacts::parse_in(to, json.into()).map_err(ProxyError::Body)?;
        let binary = operation.at(api, encoded, is_stream).binary_events();
        let conversion = Conversion { from: to, to: from, binary, names, context, is_count: false };
        let conversion = Some(Arc::new(conversion));
        let body = CallerBody { json, facts };
        let dropped = dropped_header(&dropped);
        Ok(Converted { body, operation, conversion, dropped })
    }
}

/// What counts the tokens of a message there; none for what does it as Anthropic's API does.
fn counter_of(upstream: &UpstreamEntry, to: Format) -> Result<Option<Counter>, ProxyError> {
    let api = upstream.provider.api();
    Ok(match to {
        Format::Messages if api == UpstreamApi::Converse => Some(Counter::Bedrock),
        Format::Messages => None,
        Format::Gemini if api == UpstreamApi::Vertex => Some(Counter::By(TokenCounter::Vertex)),
        Format::Gemini => Some(Counter::By(TokenCounter::Gemini)),
        // Azure does not document this endpoint.
        Format::Responses if upstream.provider_name == Provider::Openai.catalogue_name() => {
            Some(Counter::By(TokenCounter::Responses))
        }
        _ => {
            let configuration = upstream.id.configuration_id().map(|_| upstream.name.to_string());
            return Err(ProxyError::FormatNotServed { configuration, provider: upstream.provider });
        }
    })
}

/// What counts tokens in another way than Anthropic's API.
#[derive(Debug, Clone, Copy)]
enum Counter {
    By(TokenCounter),
    /// Bedrock, for Claude.
    Bedrock,
}

/// What the target takes of what other models left in a conversation.
fn family_rules(upstream: &UpstreamEntry, to: Format) -> FamilyRules {
    let is_mistral = upstream.provider_name == Provider::Mistral.catalogue_name();
    let ids = if is_mistral && to == Format::Chat { IdRule::MISTRAL } else { IdRule::of(to) };
    FamilyRules { reasoning: chat_reasoning(&upstream.provider_name), ids }
}

fn is_strict(headers: &HeaderMap) -> bool {
    let value = headers.get(STRICT).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| matches!(value.trim(), "true" | "1" | "on"))
}

/// The configuration's default for the length of answers.
fn configured_max_tokens(upstream: &UpstreamEntry) -> Option<u64> {
    let mut defaults = upstream.default_parameters.iter();
    let (_, value) = defaults.find(|(name, _)| name == "max_tokens")?;
    value.parse().ok()
}

/// The names of the fields, which are the caller's words, as far as they have room.
fn dropped_header(fields: &[String]) -> Option<HeaderValue> {
    const VISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',');
    let mut value = String::new();
    for (place, field) in fields.iter().enumerate() {
        let name = utf8_percent_encode(field, VISIBLE).to_string();
        if value.len() + name.len() > MAX_DROPPED {
            value.push_str(&format!(
                "{}and {} more",
                if place == 0 { "" } else { ", " },
                fields.len() - place
            ));
            break;
        }
        if place > 0 {
            value.push(',');
        }
        value.push_str(&name);
    }
    HeaderValue::try_from(value).ok().filter(|value| !value.is_empty())
}
