//! Vertex by locations: what they cost, and whose they are.

use serde_json::{Value, json};

use crate::bedrock::{NOVA, conversed};
use crate::support::{
    case::{Case, cases},
    database::Database,
    ledger_rows::last_row,
    policies::{self, POLICIES, spend_cap},
    script::Script,
};
use crate::vertex::{Setup, generated, google_error, message, question};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        claude_costs_more_outside_the_global_endpoint,
        a_location_in_a_path_is_not_bedrocks,
        a_path_names_no_other_account_than_the_settings,
    ]
}

async fn claude_costs_more_outside_the_global_endpoint(database: Database) {
    let setup = Setup::start(&database).await;
    let model = "publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict";
    let in_location = |location: &str| {
        format!("/vertex/v1/projects/project-of-tests/locations/{location}/{model}")
    };
    let answer = json!({"type": "message", "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": "Hi"}],
        "usage": {"input_tokens": 10, "output_tokens": 7}});
    // The catalogue has 3 and 15 dollars a million.
    let global = 10 * 3_000 + 7 * 15_000;
    let costs = async |path: &str, count: usize, cost: i64| {
        setup.team.upstream.push(Script::json(200, &answer));
        setup.team.caller().post_json(path, &message()).await.expect(200);
        let row = last_row(&setup.app, count).await;
        assert_eq!(row.cost, Some(cost), "{path}: {row:?}");
    };
    let unnamed = format!("/vertex/v1/{model}");
    let regional = global + global / 10;
    costs(&unnamed, 1, global).await;
    costs(&in_location("global"), 2, global).await;
    costs(&in_location("us-east5"), 3, regional).await;
    costs(&in_location("eu"), 4, regional).await;
    // Gemini's prices are known for the global endpoint only.
    setup.ask().await.expect(200);
    let gemini = last_row(&setup.app, 5).await.cost;
    setup.team.upstream.push(generated());
    let path = "/vertex/v1/projects/project-of-tests/locations/us-central1/publishers/google/models/gemini-2.5-flash:generateContent";
    setup.team.caller().post_json(path, &question()).await.expect(200);
    assert_eq!(last_row(&setup.app, 6).await.cost, gemini);
    // The reservation has it too: 100 tokens of output and what is read.
    let workspace = [("workspace_id", setup.team.workspace_id.as_str())];
    let cap = spend_cap(&setup.app.admin(), "cap", &workspace, ("monthly", 10_000_000)).await;
    let refused = setup.team.caller().post_json(&in_location("us-east5"), &large()).await;
    assert_eq!(refused.status, 402, "{}", refused.text());
    setup.team.upstream.push(Script::json(200, &answer));
    setup.team.caller().post_json(&unnamed, &large()).await.expect(200);
    // The location of settings counts as the path's does.
    let path = format!("{POLICIES}/{}", cap["id"].as_str().unwrap());
    setup.app.admin().delete(&path).await.expect(204);
    let settings = json!({"connection": {"region": "europe-west1"}});
    let path = setup.team.path("provider-settings/vertex");
    setup.app.admin().put(&path, &settings).await.expect(200);
    costs(&unnamed, 9, regional).await;
    let sent = setup.team.upstream.last_request();
    assert!(sent.path().contains("/locations/europe-west1/"), "{}", sent.path());
}

/// A request that costs between 9.1 and 10 million nano-dollars at most.
fn large() -> Value {
    let mut body = message();
    body["max_tokens"] = 570.into();
    body
}

async fn a_location_in_a_path_is_not_bedrocks(database: Database) {
    let setup = Setup::start(&database).await;
    setup.team.put_secret("AWS_BEARER_TOKEN_BEDROCK", "bedrock-key-of-the-team").await;
    let settings = json!({"connection": {"region": "eu-west-1"}});
    let path = setup.team.path("provider-settings/bedrock");
    setup.app.admin().put(&path, &settings).await.expect(200);
    let target = |provider: &str, model: &str| json!({"type": "provider_model", "provider": provider, "model": model});
    let chain = json!({"strategy": "priority_fallback", "triggers": {},
        "chain": {"selector": target("vertex", "meta/llama"),
            "candidates": [target("bedrock", NOVA)]}});
    let workspace = [("workspace_id", setup.team.workspace_id.as_str())];
    policies::make(&setup.app.admin(), ("model_fallback", "chain"), &workspace, chain).await;
    setup.team.upstream.push(Script::json(503, &json!({})));
    setup.team.upstream.push(conversed());
    let path = "/vertex/v1/projects/project-of-tests/locations/us-east5/endpoints/openapi/chat/completions";
    let chat = json!({"model": "meta/llama", "messages": [{"role": "user", "content": "Hello"}]});
    let answer = setup.team.caller().post_json(path, &chat).await.expect(200);
    let served = format!("bedrock/{NOVA}");
    assert_eq!(answer.header("x-tollgate-served-by"), Some(served.as_str()));
}

async fn a_path_names_no_other_account_than_the_settings(database: Database) {
    let setup = Setup::start(&database).await;
    let settings = setup.team.path("provider-settings/vertex");
    let connection = json!({"connection": {"region": "europe-west1", "project": "other-project"}});
    setup.app.admin().put(&settings, &connection).await.expect(200);
    let path = |project: &str, region: &str| {
        format!(
            "/v1/projects/{project}/locations/{region}/publishers/google/models/gemini-2.5-flash:generateContent"
        )
    };
    let ask = async |path: String| {
        setup.team.caller().post_json(&format!("/vertex{path}"), &question()).await
    };
    let other = ask(path("project-of-tests", "europe-west1")).await;
    google_error(&other, 400, "project_mismatch");
    let other = ask(path("other-project", "us-central1")).await;
    google_error(&other, 400, "region_invalid");
    assert_eq!(setup.team.upstream.seen().requests.len(), 0);
    setup.team.upstream.push(generated());
    let own = path("other-project", "europe-west1");
    ask(own.clone()).await.expect(200);
    assert_eq!(setup.team.upstream.last_request().path(), own);
    for (field, value) in
        [("region", "a.b"), ("region", "US"), ("region", "x/y"), ("project", "a b")]
    {
        let wrong = json!({"connection": {field: value}});
        setup.app.admin().put(&settings, &wrong).await.expect(422);
    }
}
