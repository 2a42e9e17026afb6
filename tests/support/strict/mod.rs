//! A provider that refuses what the real ones refuse: one scripted upstream that speaks every format, each
//! by its own rules. It checks every request against the format and against the conversation that was
//! planned, and answers a violation with 400. Violations are kept, so that the test fails with the reason.
//!
//! What the models sign is signed with a key of their family, and checked when it comes back.

mod chat;
mod chat_answer;
mod converse;
mod gemini;
mod messages;
mod messages_answer;
mod plan;
mod prompt;
mod responses;
mod responses_answer;
mod shape;
mod verify;

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{script::Script, upstream::RecordedRequest, upstream::ScriptedUpstream};
pub(crate) use plan::{Family, Outcome, SCHEMAS, SYSTEM, Said, Step, Tokens, UserTurn, plan};
use prompt::Prefix;
use verify::verify;

/// Who is asked, and in which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The first segment of its paths, without `at-`; the catalogue's name of the provider.
    pub(crate) name: &'static str,
    /// The model as callers name it.
    pub(crate) model: &'static str,
    pub(crate) speaks: Speaks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Chat(ChatRules),
    Responses,
    Messages,
    /// Messages within Bedrock's invocation of a model.
    Invoke,
    Gemini,
    Converse,
}

/// How hosts of chats differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChatRules {
    /// No reasoning.
    OpenAi,
    /// Ids of nine letters and digits, and no reasoning.
    Mistral,
    /// Ids in a form of its own, and reasoning that has to come back as text.
    DeepSeek,
    /// Reasoning of any family in `reasoning_details`; the model is one of Anthropic's.
    OpenRouter,
}

/// All of them.
pub(crate) const HOSTS: [Host; 10] = [
    Host { name: "openai", model: "openai/gpt-4.1", speaks: Speaks::Chat(ChatRules::OpenAi) },
    Host {
        name: "mistral",
        model: "mistral/magistral-medium",
        speaks: Speaks::Chat(ChatRules::Mistral),
    },
    Host {
        name: "deepseek",
        model: "deepseek/deepseek-v4",
        speaks: Speaks::Chat(ChatRules::DeepSeek),
    },
    Host {
        name: "openrouter",
        model: "openrouter/anthropic/claude-sonnet-4.5",
        speaks: Speaks::Chat(ChatRules::OpenRouter),
    },
    Host { name: "openai", model: "openai/gpt-5", speaks: Speaks::Responses },
    Host { name: "anthropic", model: "anthropic/claude-sonnet-4-5", speaks: Speaks::Messages },
    Host { name: "anthropic", model: "anthropic/claude-opus-4-8", speaks: Speaks::Messages },
    Host { name: "gemini", model: "gemini/gemini-3-pro-preview", speaks: Speaks::Gemini },
    Host { name: "bedrock", model: "bedrock/us.amazon.nova-2-lite-v1:0", speaks: Speaks::Converse },
    Host {
        name: "bedrock",
        model: "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        speaks: Speaks::Invoke,
    },
];

impl Host {
    /// It thinks before the first call of a turn alone, as Claude does within a budget.
    fn thinks_once(self) -> bool {
        matches!(self.speaks, Speaks::Messages | Speaks::Invoke) && self.model.contains("4-5")
    }

    /// It signs thoughts whose text it leaves out, as Claude does from Opus 4.7 on.
    pub(crate) fn shows_no_text(self) -> bool {
        self.model.contains("opus")
    }

    /// Whose signatures its models can read.
    pub(crate) fn family(self) -> Family {
        match self.speaks {
            Speaks::Chat(ChatRules::OpenAi | ChatRules::Mistral) => Family::Unsigned,
            Speaks::Chat(ChatRules::DeepSeek) => Family::DeepSeek,
            Speaks::Chat(ChatRules::OpenRouter) | Speaks::Messages | Speaks::Invoke => {
                Family::Anthropic
            }
            Speaks::Responses => Family::OpenAi,
            Speaks::Gemini => Family::Google,
            Speaks::Converse => Family::Nova,
        }
    }
}

/// What a caller sends back of what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    All,
    /// Signatures of calls and texts, but not those of thoughts: of a member that its client does not know
    /// it keeps the last piece of a stream alone.
    LastPieces,
    Nothing,
}

/// What a conversation is checked against.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) steps: Vec<Step>,
    pub(crate) keeps: Keeps,
    /// Who answered each step so far.
    answered: Vec<Host>,
    before: Option<(Host, Prefix)>,
    violations: Vec<String>,
}

/// The upstream's side, which the test shares.
#[derive(Clone)]
pub(crate) struct StrictProvider(Arc<Mutex<Option<Conversation>>>);

impl StrictProvider {
    pub(crate) async fn start() -> (Self, ScriptedUpstream) {
        let state = Arc::new(Mutex::new(None));
        let own = Self(Arc::clone(&state));
        let provider = own.clone();
        let upstream = ScriptedUpstream::with(move |request| provider.answer(request)).await;
        (own, upstream)
    }

    pub(crate) fn begin(&self, steps: Vec<Step>, keeps: Keeps) {
        let (answered, violations) = (Vec::new(), Vec::new());
        let conversation = Conversation { steps, keeps, answered, before: None, violations };
        *self.0.lock().unwrap() = Some(conversation);
    }

    /// What was wrong with the requests of this conversation.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.0.lock().unwrap().as_ref().map(|one| one.violations.clone()).unwrap_or_default()
    }

    fn answer(&self, request: &RecordedRequest) -> Script {
        let mut state = self.0.lock().unwrap();
        let Some(conversation) = state.as_mut() else {
            return Script::json(400, &json!({"error": {"message": "no conversation was begun"}}));
        };
        match conversation.answer(request) {
            Ok(script) => script,
            Err(problem) => {
                let sent = String::from_utf8_lossy(&request.body);
                let told = format!("{}: {problem}\n  sent: {sent}", request.target);
                conversation.violations.push(told);
                Script::json(
                    400,
                    &json!({"type": "error", "message": problem,
                    "error": {"type": "invalid_request_error", "message": problem, "code": 400}}),
                )
            }
        }
    }
}

impl Conversation {
    fn answer(&mut self, request: &RecordedRequest) -> Result<Script, String> {
        let (host, is_stream) = host_of(request)?;
        let text = std::str::from_utf8(&request.body).map_err(|_| "the body is not UTF-8")?;
        if text.contains("tollgate.1.") {
            return Err("a container of another family's data reached the provider".to_owned());
        }
        let body = request.json();
        let prompt = match host.speaks {
            Speaks::Chat(rules) => chat::read(&body, rules)?,
            Speaks::Responses => responses::read(&body)?,
            Speaks::Messages | Speaks::Invoke => {
                messages::read(&body, request, host.speaks == Speaks::Invoke)?
            }
            Speaks::Gemini => gemini::read(&body)?,
            Speaks::Converse => converse::read(&body)?,
        };
        let is_stream = is_stream.unwrap_or(prompt.is_stream);
        let prefix = Prefix::of(text, host.speaks)?;
        if let Some((before, old)) = &self.before
            && *before == host
        {
            let is_own = self.keeps == Keeps::All
                && self.answered.iter().all(|by| by.family() == host.family());
            prefix.continues(old, is_own)?;
        }
        let tools: Vec<String> = prompt.tools.iter().map(|tool| tool.name.clone()).collect();
        verify(self, host, prompt)?;
        self.before = Some((host, prefix));
        let number = self.answered.len();
        let step = self.steps.get(number).ok_or("nothing is left to be said")?;
        let says = step.said_by(host);
        self.answered.push(host);
        let answer = Answer { number, says: &says, tools: &tools, host, is_stream };
        Ok(match host.speaks {
            Speaks::Chat(rules) => {
                chat_answer::answer(answer, rules, body["stream_options"]["include_usage"] == true)
            }
            Speaks::Responses => responses_answer::answer(answer),
            Speaks::Messages | Speaks::Invoke => messages_answer::answer(answer),
            Speaks::Gemini => gemini::answer(answer),
            Speaks::Converse => converse::answer(answer),
        })
    }
}

/// An answer that is to be written.
#[derive(Clone, Copy)]
struct Answer<'a> {
    /// From 0.
    number: usize,
    says: &'a [Said],
    /// The names of the tools as the provider was told.
    tools: &'a [String],
    host: Host,
    is_stream: bool,
}

impl Answer<'_> {
    fn tokens(&self) -> Tokens {
        Tokens::of(self.number)
    }

    fn has_calls(&self) -> bool {
        self.says.iter().any(|said| matches!(said, Said::Call { .. }))
    }
}

/// Who is asked, and whether for a stream where the path says so.
fn host_of(request: &RecordedRequest) -> Result<(Host, Option<bool>), String> {
    let path = request.path();
    let (name, rest) =
        path.strip_prefix("/at-").and_then(|path| path.split_once('/')).unwrap_or_default();
    let body = request.json();
    let model = body["model"].as_str();
    let named = |host: &&Host| host.name == name;
    let of_model = |host: &&Host| {
        named(host) && model.is_some_and(|model| host.model[name.len() + 1..] == *model)
    };
    let unknown = || format!("{} {path} is not served", request.method);
    let hosts = || HOSTS.iter();
    let found = match (request.method.as_str(), rest) {
        ("POST", "v1/chat/completions" | "api/v1/chat/completions") => hosts()
            .filter(|host| matches!(host.speaks, Speaks::Chat(_)))
            .find(of_model)
            .map(|one| (one, None)),
        ("POST", "v1/responses") => hosts()
            .filter(|host| host.speaks == Speaks::Responses)
            .find(of_model)
            .map(|one| (one, None)),
        ("POST", "v1/messages") => hosts()
            .filter(|host| host.speaks == Speaks::Messages)
            .find(of_model)
            .map(|one| (one, None)),
        ("POST", _) => {
            let (_, last) = rest.rsplit_once(['/', ':']).unwrap_or_default();
            let (speaks, is_stream) = match last {
                "generateContent" => (Speaks::Gemini, false),
                "streamGenerateContent" if request.query() == Some("alt=sse") => {
                    (Speaks::Gemini, true)
                }
                "converse" => (Speaks::Converse, false),
                "converse-stream" => (Speaks::Converse, true),
                "invoke" => (Speaks::Invoke, false),
                "invoke-with-response-stream" => (Speaks::Invoke, true),
                _ => return Err(unknown()),
            };
            hosts()
                .filter(named)
                .find(|host| host.speaks == speaks)
                .map(|host| (host, Some(is_stream)))
        }
        _ => None,
    };
    found.map(|(host, is_stream)| (*host, is_stream)).ok_or_else(unknown)
}
