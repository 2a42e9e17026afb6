//! Secrets of an organization as a whole: workspaces inherit them for built-in providers, whose hosts are
//! fixed, and in configurations that a key of the organization made. No workspace can send one elsewhere.

use serde_json::{Value, json};

use crate::master_key_rotation::rotate;
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    http::{Answer, Request},
    openai::{self, Usage},
    problems::{problem, wrong_fields},
    script::Script,
    secrets,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        workspaces_inherit_a_secret_for_built_in_providers,
        a_workspaces_own_secret_comes_first,
        a_workspace_cannot_name_an_inherited_secret,
        a_configuration_of_the_organization_uses_its_secret,
        only_the_organization_says_where_its_secret_goes,
        a_secret_in_use_is_not_deleted,
        state_at_the_provider_is_not_shared,
        no_provider_shares_what_it_stores,
        other_organizations_do_not_inherit,
        rotation_of_the_master_key_keeps_them,
    ]
}

const NAME: &str = "OPENAI_API_KEY";
const SHARED: &str = "sk-shared-by-all-workspaces";
const CHAT: &str = "/openai/v1/chat/completions";

/// A gateway whose provider `openai` is the test's upstream, an organization with a secret of its own,
/// and a workspace of it.
async fn start(database: &Database) -> (TestApp, Fixture) {
    secrets::register(SHARED);
    let (app, team) = TestApp::in_place_of(database, &["openai"]).await;
    app.admin().put(&path(NAME), &json!({"value": SHARED})).await.expect(201);
    (app, team)
}

fn path(name: &str) -> String {
    format!("/api/v1/secrets/{name}")
}

fn asks(path: &str) -> Request {
    let mut body = question(false);
    body["model"] = "gpt-4o-mini".into();
    body["max_tokens"] = 10.into();
    Request::post_json(path, &body)
}

fn answer() -> Script {
    Script::json(
        200,
        &json!({"id": "c", "object": "chat.completion", "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}}),
    )
}

#[track_caller]
fn code(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.json()["error"]["code"].as_str().unwrap().to_owned()
}

fn bearer(team: &Fixture) -> String {
    team.upstream.last_request().header("authorization").unwrap().to_owned()
}

async fn workspaces_inherit_a_secret_for_built_in_providers(database: Database) {
    let (app, team) = start(&database).await;
    let (_, key) = team.key("WORKSPACE_ADMIN").await;
    let workspace = app.as_key(&key);
    team.upstream.push(answer());
    team.caller().send(asks(CHAT)).await.expect(200);
    assert_eq!(bearer(&team), format!("Bearer {SHARED}"));
    // Its value changes for all at once.
    let second = "sk-the-second-value-for-all";
    secrets::register(second);
    app.admin().put(&path(NAME), &json!({"value": second})).await.expect(200);
    team.upstream.push(answer());
    team.caller().send(asks(CHAT)).await.expect(200);
    assert_eq!(bearer(&team), format!("Bearer {second}"));
    let listed = app.admin().get("/api/v1/secrets").await.expect(200).json();
    assert_eq!(
        (&listed["data"][0]["name"], &listed["data"][0]["version"]),
        (&json!(NAME), &json!(2))
    );
    assert!(listed["data"][0].get("value").is_none());
    // Keys of workspaces see and change none of it.
    problem(&workspace.get("/api/v1/secrets").await, 403, "organization_key_needed");
    let put = workspace.put(&path("OTHER"), &json!({"value": "x"})).await;
    problem(&put, 403, "organization_key_needed");
    problem(&workspace.delete(&path(NAME)).await, 403, "organization_key_needed");
    let own = workspace.get(&team.path("secrets")).await.expect(200).json();
    let names: Vec<&Value> =
        own["data"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&json!(Fixture::SECRET)]);
    app.admin().delete(&path(NAME)).await.expect(204);
    assert_eq!(code(&team.caller().send(asks(CHAT)).await, 400), "provider_secret_missing");
    let log = app.admin().get("/api/v1/audit-log?operation=put_secret").await.expect(200).json();
    let shared =
        log["data"].as_array().unwrap().iter().filter(|event| event["workspace_id"].is_null());
    assert_eq!(shared.count(), 2, "{log}");
}

async fn a_workspaces_own_secret_comes_first(database: Database) {
    let (app, team) = start(&database).await;
    team.put_secret(NAME, "sk-of-this-workspace").await;
    team.upstream.push(answer());
    team.caller().send(asks(CHAT)).await.expect(200);
    assert_eq!(bearer(&team), "Bearer sk-of-this-workspace");
    app.admin().delete(&team.path(&format!("secrets/{NAME}"))).await.expect(204);
    team.upstream.push(answer());
    team.caller().send(asks(CHAT)).await.expect(200);
    assert_eq!(bearer(&team), format!("Bearer {SHARED}"));
}

async fn a_workspace_cannot_name_an_inherited_secret(database: Database) {
    let (app, team) = start(&database).await;
    let (_, key) = team.key("WORKSPACE_ADMIN").await;
    let workspace = app.as_key(&key);
    let configurations = team.path("model-configurations");
    for (more, field) in [
        (json!({"api_key_name": NAME}), "api_key_name"),
        (
            json!({"extra_headers": {"x-key": format!("{{{{secret:{NAME}}}}}")}}),
            "extra_headers.x-key",
        ),
        (
            json!({"oauth": {"token_url": team.upstream.base_url(), "client_id": "c", "client_secret": NAME}}),
            "oauth.client_secret",
        ),
    ] {
        let mut body = json!({"name": "mine", "base_url": team.upstream.base_url(), "model": "m"});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let refused = workspace.post_json(&configurations, &body).await;
        assert_eq!(wrong_fields(&refused), [field]);
        assert!(refused.text().contains("a secret of the organization"), "{}", refused.text());
    }
    let patch = json!({"api_key_name": NAME});
    let refused = workspace.patch(&team.configuration_path(), &patch).await;
    assert_eq!(wrong_fields(&refused), ["api_key_name"]);
    let settings = json!({"secret_name": NAME});
    workspace.put(&team.path("provider-settings/openai"), &settings).await.expect(200);
    // The settings name a secret of the workspace, which has none of the name.
    assert_eq!(code(&team.caller().send(asks(CHAT)).await, 400), "provider_secret_missing");
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn a_configuration_of_the_organization_uses_its_secret(database: Database) {
    let (app, team) = start(&database).await;
    team.configure("shared", json!({"api_key_name": NAME})).await;
    team.upstream.push(answer());
    team.caller().send(asks("/providers/shared/v1/chat/completions")).await.expect(200);
    assert_eq!(bearer(&team), format!("Bearer {SHARED}"));
    // A secret of the workspace that gets the name later does not take its place.
    team.put_secret(NAME, "sk-of-this-workspace").await;
    team.upstream.push(answer());
    team.caller().send(asks("/providers/shared/v1/chat/completions")).await.expect(200);
    assert_eq!(bearer(&team), format!("Bearer {SHARED}"));
    let shown = app.admin().get(&path(NAME)).await.expect(200).json();
    let used = &shown["used_by"][0];
    assert_eq!(
        (&used["name"], &used["workspace_id"]),
        (&json!("shared"), &json!(team.workspace_id)),
        "{shown}"
    );
}

async fn only_the_organization_says_where_its_secret_goes(database: Database) {
    let (app, team) = start(&database).await;
    let id = team.configure("shared", json!({"api_key_name": NAME})).await;
    let one = team.path(&format!("model-configurations/{id}"));
    let (_, key) = team.key("WORKSPACE_ADMIN").await;
    let workspace = app.as_key(&key);
    let elsewhere = format!("{}/elsewhere", team.upstream.base_url());
    for patch in [
        json!({"base_url": elsewhere}),
        json!({"extra_headers": {"x-team": "1"}}),
        json!({"auth": "x-leak"}),
        json!({"forward_headers": ["x-team"]}),
        json!({"provider": "groq"}),
        json!({"name": "another"}),
        json!({"default_parameters": {"previous_response_id": "resp_1"}}),
        json!({"default_parameters": {"conversation": {"id": "conv_1"}}}),
        json!({"default_parameters": {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}}),
    ] {
        problem(&workspace.patch(&one, &patch).await, 403, "organization_key_needed");
    }
    let harmless = json!({"description": "ours", "enabled": true,
        "default_parameters": {"temperature": 0.2}});
    workspace.patch(&one, &harmless).await.expect(200);
    let own = json!({"base_url": elsewhere, "default_parameters": {"prompt": {"id": "pmpt_1"}}});
    app.admin().patch(&one, &own).await.expect(200);
    // What the organization has set stays as it is.
    let more = json!({"description": "still ours", "default_parameters": {"temperature": 0.3}});
    workspace.patch(&one, &more).await.expect(200);
    app.admin().patch(&one, &json!({"default_parameters": {}})).await.expect(200);
    team.upstream.push(answer());
    team.caller().send(asks("/providers/shared/v1/chat/completions")).await.expect(200);
    assert_eq!(team.upstream.last_request().path(), "/v1/elsewhere/chat/completions");
    workspace.delete(&one).await.expect(204);
}

async fn a_secret_in_use_is_not_deleted(database: Database) {
    let (app, team) = start(&database).await;
    let id = team.configure("shared", json!({"api_key_name": NAME})).await;
    let refused = problem(&app.admin().delete(&path(NAME)).await, 409, "secret_in_use");
    assert!(refused["detail"].as_str().unwrap().contains("'shared'"), "{refused}");
    let broken = app.admin().put(&path(NAME), &json!({"value": "two\nlines"})).await;
    assert_eq!(wrong_fields(&broken), ["value"]);
    app.admin().delete(&team.path(&format!("model-configurations/{id}"))).await.expect(204);
    app.admin().delete(&path(NAME)).await.expect(204);
}

async fn state_at_the_provider_is_not_shared(database: Database) {
    let (_app, team) = start(&database).await;
    for (body, field) in [
        (
            json!({"model": "gpt-4o-mini", "input": "Hi", "previous_response_id": "resp_1"}),
            "previous_response_id",
        ),
        (
            json!({"model": "gpt-4o-mini", "input": "Hi", "conversation": {"id": "conv_1"}}),
            "conversation",
        ),
        (
            json!({"model": "gpt-4o-mini", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}),
            "file_id",
        ),
    ] {
        let refused = team.caller().post_json("/openai/v1/responses", &body).await;
        assert_eq!(code(&refused, 400), "shared_account_state", "{body}");
        assert_eq!(refused.json()["error"]["param"], field);
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
    // With a secret of its own, all of it is the workspace's.
    team.put_secret(NAME, "sk-of-this-workspace").await;
    team.upstream.push(Script::json(
        200,
        &json!({"id": "resp_2", "object": "response", "status": "completed", "model": "gpt-4o-mini", "output": [],
            "usage": {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}}),
    ));
    let body = json!({"model": "gpt-4o-mini", "input": "Hi", "previous_response_id": "resp_1"});
    team.caller().post_json("/openai/v1/responses", &body).await.expect(200);
}

const STORED_PROMPT: &str = "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ";

fn item(item: &Value) -> Value {
    json!({"model": "gpt-4o-mini", "input": [{"role": "user", "content": "Again"}, item]})
}

/// Requests that refer to what is stored, and the field that does.
fn references() -> Vec<(String, Value, &'static str)> {
    let gemini = "/gemini/v1beta/models/gemini-2.5-flash:generateContent";
    let with_tool = |body: Value, tool: Value| {
        let mut body = body;
        body["tools"] = json!([tool]);
        body
    };
    let contents = json!({"contents": [{"parts": [{"text": "Hi"}]}]});
    let messages =
        json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    let input = json!({"model": "m", "input": "Hi"});
    let with_container = |container: Value| {
        let mut body = messages.clone();
        body["container"] = container;
        body
    };
    let mut azure = messages.clone();
    azure["data_sources"] = json!([{"type": "azure_search", "parameters": {"index_name": "i"}}]);
    let file_search = json!({"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/1"]}});
    let snake_case = json!({"file_search": {"file_search_store_names": ["fileSearchStores/1"]}});
    let index = json!({"retrieval": {"vertexAiSearch": {"datastore": "projects/p"}}});
    let corpus = json!({"retrieval": {"vertexRagStore": {"ragResources": [{"ragCorpus": "c"}]}}});
    let audio = json!({"model": "gpt-audio", "messages": [{"role": "user", "content": "Hi"},
        {"role": "assistant", "audio": {"id": "audio_1"}}]});
    let library = json!({"type": "document_library", "library_ids": ["l"]});
    let collection = json!({"type": "collections_search", "collection_ids": ["c"]});
    let skills = json!({"skills": [{"type": "custom", "skill_id": "s", "version": "latest"}]});
    let configured = "/providers/shared/v1beta/models/m:generateContent".to_owned();
    let prompt = STORED_PROMPT.replace(':', "%3A").replace('/', "%2F");
    let prompt = format!("/bedrock/model/{prompt}/converse");
    let mut references = vec![
        (
            gemini.to_owned(),
            with_tool(contents.clone(), file_search.clone()),
            "fileSearchStoreNames",
        ),
        (gemini.to_owned(), with_tool(contents.clone(), snake_case), "file_search_store_names"),
        (gemini.to_owned(), with_tool(contents.clone(), index), "vertexAiSearch"),
        (gemini.to_owned(), with_tool(contents.clone(), corpus), "vertexRagStore"),
        (configured, with_tool(contents, file_search), "fileSearchStoreNames"),
        ("/openai/v1/chat/completions".to_owned(), audio, "audio"),
        (
            "/mistral/v1/chat/completions".to_owned(),
            with_tool(messages.clone(), library),
            "library_ids",
        ),
        ("/xai/v1/responses".to_owned(), with_tool(input, collection), "collection_ids"),
        ("/azure/openai/v1/chat/completions".to_owned(), azure, "data_sources"),
        ("/anthropic/v1/messages".to_owned(), with_container(skills), "skill_id"),
        ("/anthropic/v1/messages".to_owned(), with_container(json!({"id": "c"})), "container"),
        (prompt, json!({"promptVariables": {}}), "model"),
        ("/providers/prompt/model/m/converse".to_owned(), json!({"promptVariables": {}}), "model"),
        (
            "/v1/chat/completions".to_owned(),
            json!({"model": format!("bedrock/{STORED_PROMPT}"), "max_tokens": 5,
                "messages": [{"role": "user", "content": "Hi"}]}),
            "model",
        ),
    ];
    for kind in ["message", "function_call", "image_generation_call", "mcp_call", "web_search_call"]
    {
        let body = item(&json!({"type": kind, "id": "item_1", "status": "completed"}));
        references.push(("/openai/v1/responses".to_owned(), body, "item_reference"));
    }
    references
}

async fn no_provider_shares_what_it_stores(database: Database) {
    secrets::register(SHARED);
    let providers = ["openai", "anthropic", "gemini", "mistral", "xai", "azure", "bedrock"];
    let (app, team) = TestApp::in_place_of(&database, &providers).await;
    for (name, value) in [
        (NAME, SHARED),
        ("ANTHROPIC_API_KEY", SHARED),
        ("GOOGLE_API_KEY", SHARED),
        ("MISTRAL_API_KEY", SHARED),
        ("XAI_API_KEY", SHARED),
        ("AZURE_FOUNDRY_API_KEY", SHARED),
        ("AZURE_FOUNDRY_RESOURCE_NAME", "shared-by-all-9d41c7"),
        ("AWS_BEARER_TOKEN_BEDROCK", SHARED),
    ] {
        app.admin().put(&path(name), &json!({"value": value})).await.expect(201);
    }
    let shared = json!({"provider": "gemini", "model": "m", "api_key_name": "GOOGLE_API_KEY"});
    team.configure("shared", shared).await;
    let prompt = json!({"provider": "bedrock", "model": STORED_PROMPT,
        "api_key_name": "AWS_BEARER_TOKEN_BEDROCK"});
    team.configure("prompt", prompt).await;
    let references = references();
    for (path, body, field) in &references {
        let refused = team.caller().post_json(path, body).await;
        assert_eq!(refused.status, 400, "{path} {body}: {}", refused.text());
        let expected = format!("'{field}' refers to what the provider stores");
        assert!(refused.text().contains(&expected), "{path} {body}: {}", refused.text());
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
    // A conversation that is sent back whole, with the ids that its items had.
    for whole in [
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]}),
        json!({"type": "reasoning", "summary": [], "encrypted_content": "e"}),
        json!({"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}),
        json!({"type": "image_generation_call", "result": "iVBORw0KGgo="}),
        json!({"type": "web_search_call", "action": {"type": "search", "query": "q"}}),
    ] {
        let mut body = item(&whole);
        body["input"][1]["id"] = "item_1".into();
        team.upstream.push(openai::response("Fine.", Usage::USUAL));
        let answer = team.caller().post_json("/openai/v1/responses", &body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    }
    // A skill of Anthropic's own.
    let skills = json!([{"type": "anthropic", "skill_id": "pptx", "version": "latest"}]);
    let body = json!({"model": "m", "max_tokens": 5, "container": {"skills": skills},
        "messages": [{"role": "user", "content": "Hi"}]});
    team.upstream.push(Script::json(
        200,
        &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Hi."}], "usage": {"input_tokens": 5, "output_tokens": 1}}),
    ));
    team.caller().post_json("/anthropic/v1/messages", &body).await.expect(200);
    // With a secret of its own, all of it is the workspace's.
    team.put_secret(NAME, "sk-of-this-workspace").await;
    let body = item(&json!({"type": "image_generation_call", "id": "ig_1"}));
    team.upstream.push(openai::response("Fine.", Usage::USUAL));
    team.caller().post_json("/openai/v1/responses", &body).await.expect(200);
}

async fn other_organizations_do_not_inherit(database: Database) {
    let (app, team) = start(&database).await;
    let made =
        app.platform().post_json("/api/v1/organizations", &json!({"name": "Strangers"})).await;
    let stranger = app.as_key(made.expect(201).json()["admin_key"].as_str().unwrap());
    problem(&stranger.get(&path(NAME)).await, 404, "not_found");
    problem(&stranger.delete(&path(NAME)).await, 404, "not_found");
    let theirs = Fixture::create(&stranger, app.address()).await;
    assert_eq!(code(&theirs.caller().send(asks(CHAT)).await, 400), "provider_secret_missing");
    let body = json!({"name": "x", "base_url": team.upstream.base_url(), "model": "m", "api_key_name": NAME});
    let refused = stranger.post_json(&theirs.path("model-configurations"), &body).await;
    assert_eq!(wrong_fields(&refused), ["api_key_name"]);
    assert!(refused.text().contains("there is no secret"), "{}", refused.text());
    stranger.put(&path(NAME), &json!({"value": "sk-of-the-strangers"})).await.expect(201);
    team.upstream.push(answer());
    theirs.caller().send(asks(CHAT)).await.expect(200);
    assert_eq!(bearer(&team), "Bearer sk-of-the-strangers");
}

async fn rotation_of_the_master_key_keeps_them(database: Database) {
    let (app, team) = start(&database).await;
    let rotated = rotate(&database).await;
    // The workspace's and the organization's.
    assert_eq!(rotated["rewrapped_data_keys"], 2, "{rotated}");
    let app = app.restart().await;
    team.upstream.push(answer());
    team.caller_at(app.address()).send(asks(CHAT)).await.expect(200);
    assert_eq!(bearer(&team), format!("Bearer {SHARED}"));
}
