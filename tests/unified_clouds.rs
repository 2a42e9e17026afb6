//! Models of Azure and of Vertex AI by their ids, for callers of every format.

use serde_json::json;

use crate::azure::{self, question};
use crate::conversion::claude;
use crate::support::{
    case::{Case, cases},
    database::Database,
    openai::{self, Usage},
    script::Script,
};
use crate::vertex;

pub(crate) fn cases() -> Vec<Case> {
    cases![azures_models_take_all_formats, vertex_models_take_all_formats]
}

async fn azures_models_take_all_formats(database: Database) {
    let setup = azure::Setup::start_with_key(&database).await;
    setup.team.upstream.push(openai::chat_completion("Hi", Usage::USUAL));
    setup.ask("/v1/chat/completions", &question("azure/my-gpt")).await.expect(200);
    assert_eq!(setup.team.upstream.last_request().path(), "/openai/v1/chat/completions");
    setup.team.upstream.push(openai::response("Hi", Usage::USUAL));
    let body = setup.ask("/v1/messages", &question("azure/my-gpt")).await.expect(200).json();
    assert_eq!(body["content"][0]["text"], "Hi", "{body}");
    assert_eq!(setup.team.upstream.last_request().path(), "/openai/v1/responses");
    setup.team.upstream.push(Script::json(200, &claude("Hi")));
    let asked = question("azure/claude-sonnet-4-5");
    let body = setup.ask("/v1/chat/completions", &asked).await.expect(200).json();
    assert_eq!(body["choices"][0]["message"]["content"], "Hi", "{body}");
    assert_eq!(setup.team.upstream.last_request().path(), "/anthropic/v1/messages");
    let answer = setup.ask("/v1/messages/count_tokens", &question("azure/my-gpt")).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (501, &json!("format_not_served"))
    );
}

async fn vertex_models_take_all_formats(database: Database) {
    let setup = vertex::Setup::start(&database).await;
    let caller = setup.team.caller();
    setup.team.upstream.push(vertex::generated());
    let gemini = question("vertex/gemini-2.5-flash");
    let body = caller.post_json("/v1/messages", &gemini).await.expect(200).json();
    assert_eq!(body["content"][0]["text"], "Hi", "{body}");
    let ends_with = |end: &str| {
        let sent = setup.team.upstream.last_request();
        assert!(sent.path().ends_with(end), "{}", sent.path());
    };
    ends_with("/publishers/google/models/gemini-2.5-flash:generateContent");
    setup.team.upstream.push(Script::json(200, &claude("Hi")));
    let claude = question("vertex/claude-sonnet-4-5@20250929");
    let body = caller.post_json("/v1/chat/completions", &claude).await.expect(200).json();
    assert_eq!(body["choices"][0]["message"]["content"], "Hi", "{body}");
    ends_with("/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict");
    setup.team.upstream.push(Script::json(200, &json!({"totalTokens": 8})));
    let answer = caller.post_json("/v1/messages/count_tokens", &gemini).await.expect(200);
    assert_eq!(answer.json(), json!({"input_tokens": 8}));
    ends_with("/publishers/google/models/gemini-2.5-flash:countTokens");
    let contents = json!([{"role": "user", "parts": [{"text": "Hello"}]}]);
    assert_eq!(setup.team.upstream.last_request().json(), json!({"contents": contents}));
}
