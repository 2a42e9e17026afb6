//! Amazon Bedrock under its own name: its credentials, and models called in their own formats.

use std::fmt::Write as _;

use ring::{digest, hmac};
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    event_stream::{invoked, message},
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::last_row,
    policies::{self, spend_cap},
    script::Script,
    secrets,
    upstream::{RecordedRequest, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        an_access_key_signs_each_request,
        a_key_for_bedrock_wins_over_the_access_key,
        what_is_missing_is_named,
        a_refused_key_is_named,
        claude_is_invoked_in_its_own_format,
        a_stream_of_claude_is_charged_however_it_is_cut,
        other_models_tell_their_usage_beside_the_answer,
        an_exception_is_no_success,
        caps_see_the_limits_of_claude_and_refuse_what_is_unknown,
        configurations_have_invoke,
        bedrock_is_a_target_of_chains,
        errors_tell_their_kind_in_a_header,
    ]
}

pub(crate) const ID: &str = "AKIDOFTHETESTS000001";
pub(crate) const SECRET: &str = "secret/access+key-of-the-tests-0123456789";
pub(crate) const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
pub(crate) const NOVA: &str = "amazon.nova-micro-v1:0";

pub(crate) async fn start(database: &Database) -> (TestApp, Fixture) {
    start_before(database, ScriptedUpstream::start().await).await
}

pub(crate) async fn start_before(
    database: &Database,
    upstream: ScriptedUpstream,
) -> (TestApp, Fixture) {
    let origin = upstream.origin();
    let origins = format!("bedrock={origin}");
    let app = TestApp::with_stopped_clock(database, &["--provider-origin", &origins]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    (app, team)
}

/// The same with an access key, and prices for both models.
pub(crate) async fn start_with_key(database: &Database) -> (TestApp, Fixture) {
    let (app, team) = start(database).await;
    put_key(&team).await;
    for model in [CLAUDE, NOVA] {
        let price = json!({"provider": "bedrock", "model": model,
            "price": {"input": 1, "cached_input": 0.1, "output": 2}});
        app.admin().post_json("/api/v1/model-prices", &price).await.expect(201);
    }
    (app, team)
}

pub(crate) async fn put_key(team: &Fixture) {
    secrets::register(SECRET);
    team.put_secret("AWS_ACCESS_KEY_ID", ID).await;
    team.put_secret("AWS_SECRET_ACCESS_KEY", SECRET).await;
}

pub(crate) fn path(model: &str, method: &str) -> String {
    format!("/bedrock/model/{}/{method}", model.replace(':', "%3A"))
}

pub(crate) fn question() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "Hello"}]}],
        "inferenceConfig": {"maxTokens": 100}})
}

pub(crate) fn message_to_claude() -> Value {
    json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}]})
}

pub(crate) fn conversed() -> Script {
    let answer = json!({"output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17}});
    Script::json(200, &answer)
}

pub(crate) fn stream(bytes: &[u8], size: usize) -> Script {
    let binary = [("content-type", "application/vnd.amazon.eventstream")];
    Script::new().chunked_head(200, &binary).chunks(bytes.chunks(size).map(<[u8]>::to_vec))
}

#[track_caller]
pub(crate) fn is_error(answer: &Answer, status: u16, code: &str) -> String {
    let body = answer.json();
    assert_eq!((answer.status, &body["reason"]), (status, &json!(code)), "{body}");
    body["message"].as_str().unwrap().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Recomputes the signature from what has arrived, as AWS does.
#[track_caller]
pub(crate) fn is_signed(sent: &RecordedRequest, secret: &str) {
    let time = sent.header("x-amz-date").unwrap();
    let authorization = sent.header("authorization").unwrap();
    let listed = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        sent.method,
        sent.path().replace('%', "%25"),
        sent.query().unwrap_or_default()
    );
    for name in listed.split(';') {
        canonical += &format!("{name}:{}\n", sent.header(name).unwrap());
    }
    let hash = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    canonical += &format!("\n{listed}\n{}", hash(&sent.body));
    let (day, scope) = (&time[..8], format!("{}/us-east-1/bedrock/aws4_request", &time[..8]));
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(canonical.as_bytes()));
    let mac = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let mut key = mac(format!("AWS4{secret}").as_bytes(), day);
    for part in ["us-east-1", "bedrock", "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &to_sign));
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential={ID}/{scope}, SignedHeaders={listed}, Signature={signature}"
    );
    assert_eq!(authorization, expected, "{canonical}");
}

async fn an_access_key_signs_each_request(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let mut times = Vec::new();
    for (token, query) in [(None, ""), (None, "?b=2&a=1%2F"), (Some("a/session+token=="), "")] {
        if let Some(token) = token {
            team.put_secret("AWS_SESSION_TOKEN", token).await;
        }
        app.advance(std::time::Duration::from_secs(1));
        team.upstream.push(conversed());
        let asked = Request::post_json(&(path(NOVA, "converse") + query), &question())
            .header("x-amz-date", "20200101T000000Z")
            .header("x-amz-security-token", "the-callers");
        team.caller().send(asked).await.expect(200);
        let sent = team.upstream.last_request();
        assert_eq!(sent.path(), "/model/amazon.nova-micro-v1%3A0/converse");
        assert_eq!(sent.header("x-amz-security-token"), token);
        times.push(sent.header("x-amz-date").unwrap().to_owned());
        if query.is_empty() {
            is_signed(&sent, SECRET);
        } else {
            assert_eq!(sent.query(), Some("b=2&a=1%2F"));
        }
    }
    times.dedup();
    assert_eq!(times.len(), 3, "each is signed anew: {times:?}");
    // A colon that a caller does not encode is encoded for the signature.
    team.upstream.push(conversed());
    let plain = format!("/bedrock/model/{NOVA}/converse/");
    team.caller().post_json(&plain, &question()).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/model/amazon.nova-micro-v1%3A0/converse");
    is_signed(&sent, SECRET);
    let row = last_row(&app, 4).await;
    assert_eq!(row.cost, Some(10 * 1_000 + 7 * 2_000), "{row:?}");
    assert_eq!((row.configuration.as_str(), row.outcome.as_str()), ("bedrock", "completed"));
}

async fn a_key_for_bedrock_wins_over_the_access_key(database: Database) {
    let (app, team) = start_with_key(&database).await;
    team.put_secret("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-of-the-team").await;
    team.upstream.push(conversed());
    // As boto3 sends it, with the gateway's key where its own would be.
    let asked = Request::post_json(&path(NOVA, "converse"), &question())
        .header("authorization", &format!("Bearer {}", team.caller_key));
    app.anonymous().send(asked).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.header("authorization"), Some("Bearer bedrock-api-key-of-the-team"));
    assert_eq!((sent.header("x-amz-date"), sent.header("x-amz-security-token")), (None, None));
    app.admin().delete(&team.path("secrets/AWS_BEARER_TOKEN_BEDROCK")).await.success();
    team.upstream.push(conversed());
    team.caller().post_json(&path(NOVA, "converse"), &question()).await.expect(200);
    is_signed(&team.upstream.last_request(), SECRET);
}

async fn what_is_missing_is_named(database: Database) {
    let (_app, team) = start(&database).await;
    let ask = async || team.caller().post_json(&path(NOVA, "converse"), &question()).await;
    let message = is_error(&ask().await, 400, "provider_secret_missing");
    assert!(message.contains("'AWS_BEARER_TOKEN_BEDROCK'"), "{message}");
    team.put_secret("AWS_ACCESS_KEY_ID", ID).await;
    let message = is_error(&ask().await, 400, "provider_secret_missing");
    assert!(message.contains("'AWS_SECRET_ACCESS_KEY'"), "{message}");
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn a_refused_key_is_named(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let refused = |kind| {
        let headers = [("x-amzn-errortype", kind), ("content-type", "application/json")];
        Script::new().sized(403, &headers, r#"{"message":"no"}"#)
    };
    team.upstream.push(refused("UnrecognizedClientException:http://internal.amazon.com/"));
    let answer = team.caller().post_json(&path(NOVA, "converse"), &question()).await;
    let message = is_error(&answer, 502, "provider_credential_refused");
    assert!(message.contains("'AWS_ACCESS_KEY_ID'"), "{message}");
    // What the key may not do is the caller's to know.
    team.upstream.push(refused("AccessDeniedException"));
    let answer = team.caller().post_json(&path(NOVA, "converse"), &question()).await;
    assert_eq!((answer.status, answer.json()["message"].as_str()), (403, Some("no")));
    last_row(&app, 2).await;
}

async fn claude_is_invoked_in_its_own_format(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5-20250929", "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": 8, "output_tokens": 7}});
    team.upstream.push(Script::json(200, &answer));
    let relayed = team.caller().post_json(&path(CLAUDE, "invoke"), &message_to_claude()).await;
    assert_eq!(relayed.expect(200).json(), answer);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke");
    assert_eq!(sent.body, message_to_claude().to_string());
    is_signed(&sent, SECRET);
    let row = last_row(&app, 1).await;
    let tokens = (row.input_tokens, row.cached_input_tokens, row.output_tokens);
    assert_eq!(tokens, (Some(58), Some(40), Some(7)), "{row:?}");
    // What is written to the cache costs a quarter more than other input.
    assert_eq!(row.cost, Some(10 * 1_000 + 40 * 100 + 8 * 1_250 + 7 * 2_000), "{row:?}");
    let mut other = message_to_claude();
    other["model"] = "anthropic.claude-opus-4-v1:0".into();
    let answer = team.caller().post_json(&path(CLAUDE, "invoke"), &other).await;
    is_error(&answer, 400, "model_mismatch");
}

pub(crate) fn events_of_claude() -> Vec<Value> {
    vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
            "role": "assistant", "model": "claude-sonnet-4-5-20250929", "content": [],
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 40, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": "Good morning."}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop", "amazon-bedrock-invocationMetrics":
            {"inputTokenCount": 10, "outputTokenCount": 7, "invocationLatency": 300}}),
    ]
}

pub(crate) const STREAM: &str = "invoke-with-response-stream";

async fn a_stream_of_claude_is_charged_however_it_is_cut(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let whole = invoked(&events_of_claude());
    for (number, size) in [whole.len(), 7, 300].into_iter().enumerate() {
        team.upstream.push(stream(&whole, size).end());
        let asked = Request::post_json(&path(CLAUDE, STREAM), &message_to_claude());
        let (_, mut answer) = team.caller().stream(asked).await;
        let (pieces, end) = answer.rest().await;
        assert!(matches!(end, BodyEnd::Complete), "{end:?}");
        let relayed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        assert_eq!(relayed, whole);
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.input_tokens, row.output_tokens), (Some(50), Some(7)), "{row:?}");
        let cost = 10 * 1_000 + 40 * 100 + 7 * 2_000;
        assert_eq!((row.outcome.as_str(), row.cost), ("completed", Some(cost)), "{row:?}");
    }
    let cut = invoked(&events_of_claude()[..3]);
    let mut damaged = whole.clone();
    let at = whole.len() - 20;
    damaged[at] ^= 1;
    for (number, script) in
        [stream(&cut, 100).end(), stream(&damaged, 100).end()].into_iter().enumerate()
    {
        team.upstream.push(script);
        let asked = Request::post_json(&path(CLAUDE, STREAM), &message_to_claude());
        let (_, mut answer) = team.caller().stream(asked).await;
        let (_, end) = answer.rest().await;
        assert!(!matches!(end, BodyEnd::Complete), "{end:?}");
        assert_eq!(last_row(&app, number + 4).await.outcome, "upstream_broke");
    }
}

async fn other_models_tell_their_usage_beside_the_answer(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let body = r#"{"output":{"message":{"content":[{"text":"Hi"}]}},"stopReason":"end_turn"}"#;
    let headers = [
        ("content-type", "application/json"),
        ("x-amzn-bedrock-input-token-count", "28"),
        ("x-amzn-bedrock-cache-read-input-token-count", "100"),
        ("x-amzn-bedrock-cache-write-input-token-count", "0"),
        ("x-amzn-bedrock-output-token-count", "51"),
    ];
    team.upstream.push(Script::new().sized(200, &headers, body));
    let answer = team.caller().post_json(&path(NOVA, "invoke"), &question()).await.expect(200);
    assert_eq!(answer.text(), body);
    let row = last_row(&app, 1).await;
    let tokens = (row.input_tokens, row.cached_input_tokens, row.output_tokens);
    assert_eq!(tokens, (Some(128), Some(100), Some(51)), "{row:?}");
    assert_eq!(row.cost, Some(28 * 1_000 + 100 * 100 + 51 * 2_000), "{row:?}");
    assert_eq!((row.usage_source.as_str(), row.outcome.as_str()), ("provider", "completed"));

    let whole = invoked(&[
        json!({"contentBlockDelta": {"delta": {"text": "Good "}, "contentBlockIndex": 0}}),
        json!({"messageStop": {"stopReason": "end_turn"}}),
        json!({"metadata": {"usage": {"inputTokens": 9, "outputTokens": 4}},
            "amazon-bedrock-invocationMetrics": {"inputTokenCount": 9, "outputTokenCount": 4,
                "cacheReadInputTokenCount": 5}}),
    ]);
    team.upstream.push(stream(&whole, 50).end());
    let answer = team.caller().post_json(&path(NOVA, STREAM), &question()).await.expect(200);
    assert_eq!(answer.body, whole);
    let row = last_row(&app, 2).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(14), Some(4)), "{row:?}");
    assert_eq!((row.usage_source.as_str(), row.outcome.as_str()), ("provider", "completed"));
}

async fn an_exception_is_no_success(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let exception = message(
        &[
            (":exception-type", "throttlingException"),
            (":content-type", "application/json"),
            (":message-type", "exception"),
        ],
        r#"{"message":"Too many tokens"}"#,
    );
    for (number, model) in [CLAUDE, NOVA].into_iter().enumerate() {
        team.upstream.push(stream(&exception, 10).end());
        let body = if model == CLAUDE { message_to_claude() } else { question() };
        let answer = team.caller().post_json(&path(model, STREAM), &body).await;
        assert_eq!(answer.body, exception);
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.outcome.as_str(), row.cost), ("failed", Some(0)), "{row:?}");
    }
}

async fn caps_see_the_limits_of_claude_and_refuse_what_is_unknown(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    // 100 tokens of output and about 110 of input.
    let cap = spend_cap(&app.admin(), "small", &workspace, ("monthly", 400_000)).await;
    let caller = team.caller();
    let mut large = message_to_claude();
    large["max_tokens"] = 200.into();
    let answer = caller.post_json(&path(CLAUDE, "invoke"), &large).await;
    is_error(&answer, 402, "spend_cap_exceeded");
    assert_eq!(answer.header("x-amzn-errortype"), Some("AccessDeniedException"));
    let answer = caller.post_json(&path(NOVA, "invoke"), &question()).await;
    let message = is_error(&answer, 402, "price_unknown");
    assert!(message.contains("its format is not read"), "{message}");
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc";
    let arn = format!("/bedrock/model/{}/converse", arn.replace(':', "%3A").replace('/', "%2F"));
    is_error(&caller.post_json(&arn, &question()).await, 402, "price_unknown");
    team.upstream.push(conversed());
    caller.post_json(&path(NOVA, "converse"), &question()).await.expect(200);
    policies::has_spent(&app.admin(), &cap, 24_000).await;
    assert_eq!(team.upstream.seen().requests.len(), 1);
}

async fn configurations_have_invoke(database: Database) {
    let (app, team) = start(&database).await;
    let base = team.upstream.origin();
    let more = json!({"provider": "bedrock", "base_url": base, "model": CLAUDE});
    team.configure("claude", more).await;
    let answer = json!({"type": "message", "content": [{"type": "text", "text": "Hi"}],
        "usage": {"input_tokens": 10, "output_tokens": 7}});
    team.upstream.push(Script::json(200, &answer));
    let asked = "/providers/claude/model/any/invoke";
    team.caller().post_json(asked, &message_to_claude()).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke");
    let bearer = format!("Bearer {}", team.provider_key);
    assert_eq!(sent.header("authorization"), Some(bearer.as_str()));
    let row = last_row(&app, 1).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(10), Some(7)), "{row:?}");
}

async fn bedrock_is_a_target_of_chains(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let target = |model| json!({"type": "provider_model", "provider": "bedrock", "model": model});
    let chain = json!({"strategy": "priority_fallback", "triggers": {},
        "chain": {"selector": target(CLAUDE), "candidates": [target(NOVA)]}});
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    policies::make(&app.admin(), ("model_fallback", "chain"), &workspace, chain).await;
    team.upstream.push(Script::json(503, &json!({"message": "busy"})));
    team.upstream.push(conversed());
    let answer = team.caller().post_json(&path(CLAUDE, "converse"), &question()).await.expect(200);
    let served = format!("bedrock/{NOVA}");
    assert_eq!(answer.header("x-tollgate-served-by"), Some(served.as_str()));
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/model/amazon.nova-micro-v1%3A0/converse");
    is_signed(&sent, SECRET);
}

async fn errors_tell_their_kind_in_a_header(database: Database) {
    let (app, team) = start(&database).await;
    for (answer, status, kind) in [
        (
            app.anonymous().post_json(&path(NOVA, "converse"), &question()).await,
            401,
            "AccessDeniedException",
        ),
        (
            team.caller().post_json(&path(NOVA, "invoke"), &question()).await,
            400,
            "ValidationException",
        ),
        (
            team.caller().post_json("/bedrock/model/m/count-tokens", &json!({})).await,
            501,
            "ValidationException",
        ),
        (
            team.caller().post_json("/bedrock/model/..%2Fx/invoke", &json!({})).await,
            400,
            "ValidationException",
        ),
    ] {
        assert_eq!((answer.status, answer.header("x-amzn-errortype")), (status, Some(kind)));
        assert_eq!(answer.json()["__type"], kind);
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
}
