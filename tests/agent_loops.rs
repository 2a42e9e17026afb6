//! Conversations with tools and reasoning over every pair of a caller's and a provider's format, with
//! providers that refuse what real ones refuse; and those in which the provider changes in the middle.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{
    app::TestApp,
    callers::{Called, Caller, Format, Heard},
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    ledger_rows::rows_at_least,
    strict::{
        ChatRules, Family, HOSTS, Host, Keeps, Said, Speaks, Step, StrictProvider, Tokens,
        UserTurn, plan,
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        chats_that_keep_reasoning,
        chats_that_drop_reasoning,
        chats_that_keep_last_pieces,
        messages_keep_their_blocks,
        responses_keep_their_items,
        chats_change_their_provider,
        messages_change_their_provider,
        responses_change_their_provider,
    ]
}

/// A gateway whose built-in providers are the strict ones.
async fn start(database: &Database) -> (TestApp, Fixture, StrictProvider) {
    let (strict, upstream) = StrictProvider::start().await;
    let origin = upstream.origin();
    let mut names: Vec<&str> = HOSTS.iter().map(|host| host.name).collect();
    names.sort_unstable();
    names.dedup();
    let origins: Vec<String> =
        names.iter().map(|name| format!("{name}={origin}/at-{name}")).collect();
    let app =
        TestApp::with_stopped_clock(database, &["--provider-origin", &origins.join(",")]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    for name in [
        "MISTRAL_API_KEY",
        "DEEPSEEK_API_KEY",
        "OPENROUTER_API_KEY",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GOOGLE_API_KEY",
        "AWS_BEARER_TOKEN_BEDROCK",
    ] {
        team.put_secret(name, &format!("key-{}-of-the-team", name.to_lowercase())).await;
    }
    (app, team, strict)
}

/// The plan as far as the caller's format can say it.
fn plan_for(format: Format) -> Vec<Step> {
    let mut steps = plan();
    for step in &mut steps {
        let UserTurn::Results(outcomes, _) = &mut step.asks else { continue };
        for outcome in outcomes {
            outcome.is_error &= format == Format::Messages;
            outcome.image = outcome.image.filter(|_| format != Format::Chat);
        }
    }
    steps
}

/// What the caller has to hear of a step.
fn expected(step: &Step, number: usize, host: Host, caller: &Caller) -> Heard {
    let (mut heard, names) = (Heard::default(), caller.tools());
    for said in step.said_by(host) {
        match said {
            Said::Thought(text) if host.shows_thoughts() => heard.thoughts.push_str(text),
            Said::Thought(_) | Said::Hidden(_) => {}
            Said::Text(text) => heard.text.push_str(text),
            Said::Call { tool, arguments } => heard.calls.push(Called {
                id: String::new(),
                name: names[tool].clone(),
                arguments: serde_json::from_str(arguments).unwrap(),
            }),
        }
    }
    heard.stop = match (caller.format, heard.calls.is_empty()) {
        (Format::Chat, true) => "stop",
        (Format::Chat, false) => "tool_calls",
        (Format::Messages, true) => "end_turn",
        (Format::Messages, false) => "tool_use",
        (Format::Responses, _) => "completed",
    }
    .to_owned();
    let Tokens { input, cached, output, .. } = Tokens::of(number);
    let excluded = if caller.format == Format::Messages { cached } else { 0 };
    heard.tokens = [input - excluded, cached, output];
    heard
}

/// A provider that is asked in the caller's format: its answers are its own affair.
fn is_native(host: Host, format: Format) -> bool {
    match format {
        Format::Chat => matches!(host.speaks, Speaks::Chat(_)),
        Format::Messages => matches!(host.speaks, Speaks::Messages | Speaks::Invoke),
        Format::Responses => host.speaks == Speaks::Responses,
    }
}

/// What went wrong in conversations, and what their rows have to say.
#[derive(Default)]
struct Run {
    failures: Vec<String>,
    rows: Vec<(String, [Option<u64>; 3])>,
}

impl Run {
    /// Holds a conversation in which each host answers one step.
    async fn hold(
        &mut self,
        team: &Fixture,
        strict: &StrictProvider,
        mut caller: Caller,
        hosts: [Host; 4],
    ) {
        let steps = plan_for(caller.format);
        strict.begin(steps.clone(), caller.keeps);
        let models = hosts.map(|host| host.model).join(", ");
        let what = format!(
            "{:?} {:?}{} with {models}",
            caller.format,
            caller.keeps,
            if caller.is_stream { " streamed" } else { "" },
        );
        for (number, (step, host)) in steps.iter().zip(hosts).enumerate() {
            caller.say(&step.asks);
            let answer = team.caller().send(caller.request(host.model)).await;
            let broken = strict.violations();
            if answer.status != 200 || !broken.is_empty() {
                let told = format!("{} {}", answer.status, answer.text());
                return self.failures.push(format!("{what}: step {number}: {broken:?} {told}"));
            }
            let Tokens { input, cached, output, .. } = Tokens::of(number);
            self.rows.push((host.name.to_owned(), [input, cached, output].map(Some)));
            let heard = catch_unwind(AssertUnwindSafe(|| caller.hear(&answer)));
            let Ok(mut heard) = heard else {
                return self.failures.push(format!("{what}: step {number}: {}", answer.text()));
            };
            let mut expected = expected(step, number, host, &caller);
            expected.model.clone_from(&heard.model);
            if is_native(host, caller.format) || caller.keeps == Keeps::LastPieces {
                expected.thoughts.clone_from(&heard.thoughts);
            } else if heard.model != host.model {
                self.failures.push(format!("{what}: step {number}: model {}", heard.model));
            }
            heard.calls.iter_mut().for_each(|call| call.id.clear());
            if heard != expected {
                self.failures
                    .push(format!("{what}: step {number}: {heard:?}\n  expected {expected:?}"));
            }
        }
    }

    /// Fails the test if anything went wrong.
    async fn end(mut self, app: &TestApp) {
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n\n"));
        let rows = rows_at_least(app.database(), self.rows.len()).await;
        let mut counted: Vec<_> = rows
            .into_iter()
            .map(|row| {
                (row.configuration, [row.input_tokens, row.cached_input_tokens, row.output_tokens])
            })
            .collect();
        counted.sort();
        self.rows.sort();
        assert_eq!(counted, self.rows);
    }
}

/// Conversations with each of the hosts alone.
async fn with_each(database: Database, format: Format, keeps: Keeps, modes: &[bool]) {
    let (app, team, strict) = start(&database).await;
    let mut run = Run::default();
    // What a client makes of a provider's own stream is not the gateway's affair, and of several thoughts
    // without a text nothing tells that they are not all there.
    let is_asked = |host: &Host| {
        let is_left_out = is_native(*host, format) || host.shows_no_text();
        is_served(*host, format) && !(keeps == Keeps::LastPieces && is_left_out)
    };
    for host in HOSTS.into_iter().filter(is_asked) {
        for is_stream in modes {
            run.hold(&team, &strict, Caller::new(format, keeps, *is_stream), [host; 4]).await;
        }
    }
    run.end(&app).await;
}

/// OpenAI is asked for chats in chats alone, and OpenRouter speaks responses itself, which it does not here.
fn is_served(host: Host, format: Format) -> bool {
    match format {
        Format::Chat => host.speaks != Speaks::Responses,
        Format::Messages => host.speaks != Speaks::Chat(ChatRules::OpenAi),
        Format::Responses => {
            !matches!(host.speaks, Speaks::Chat(ChatRules::OpenAi | ChatRules::OpenRouter))
        }
    }
}

async fn chats_that_keep_reasoning(database: Database) {
    with_each(database, Format::Chat, Keeps::All, &[false, true]).await;
}

async fn chats_that_drop_reasoning(database: Database) {
    with_each(database, Format::Chat, Keeps::Nothing, &[false, true]).await;
}

async fn chats_that_keep_last_pieces(database: Database) {
    with_each(database, Format::Chat, Keeps::LastPieces, &[true]).await;
}

async fn messages_keep_their_blocks(database: Database) {
    with_each(database, Format::Messages, Keeps::All, &[false, true]).await;
}

async fn responses_keep_their_items(database: Database) {
    with_each(database, Format::Responses, Keeps::All, &[false, true]).await;
}

/// Conversations that change between two hosts: once, in the middle of a turn, and at every step.
async fn with_each_change(database: Database, format: Format) {
    let (app, team, strict) = start(&database).await;
    let mut run = Run::default();
    let hosts = || HOSTS.into_iter().filter(|host| is_served(*host, format));
    for (first, second) in hosts().flat_map(|one| hosts().map(move |other| (one, other))) {
        if first.family() == second.family() && first.family() != Family::Anthropic {
            continue;
        }
        for is_stream in [false, true] {
            for hosts in [[first, first, second, second], [first, second, first, second]] {
                let caller = Caller::new(format, Keeps::All, is_stream);
                run.hold(&team, &strict, caller, hosts).await;
            }
        }
    }
    run.end(&app).await;
}

async fn chats_change_their_provider(database: Database) {
    with_each_change(database, Format::Chat).await;
}

async fn messages_change_their_provider(database: Database) {
    with_each_change(database, Format::Messages).await;
}

async fn responses_change_their_provider(database: Database) {
    with_each_change(database, Format::Responses).await;
}
