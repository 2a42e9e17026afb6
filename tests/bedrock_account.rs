//! Bedrock beside its models' answers: names of secrets, keys, regions and signatures, endpoints that are not metered, the list of models.

use serde_json::{Value, json};

use crate::bedrock::{
    CLAUDE, ID, NOVA, SECRET, conversed, is_error, is_signed, path, put_key, question, start,
    start_before, start_with_key,
};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    ledger_rows::{self, last_row},
    script::{Pause, Script},
    secrets,
    upstream::{RecordedRequest, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        secrets_can_have_other_names,
        an_endpoint_that_is_not_metered_is_signed_too,
        its_models_are_listed,
        each_attempt_is_signed_anew,
        a_rotated_key_takes_effect_at_once,
        requests_are_signed_for_the_region_of_settings,
        a_connection_needs_a_secret_of_the_same_owner,
    ]
}

async fn secrets_can_have_other_names(database: Database) {
    let (app, team) = start(&database).await;
    secrets::register(SECRET);
    team.put_secret("TEAM_AWS_ID", ID).await;
    team.put_secret("AWS_SECRET_ACCESS_KEY", SECRET).await;
    let settings = team.path("provider-settings/bedrock");
    let names = json!({"secret_names": {"AWS_ACCESS_KEY_ID": "TEAM_AWS_ID",
        "AWS_SESSION_TOKEN": "TEAM_AWS_SESSION"}});
    app.admin().put(&settings, &names).await.expect(200);
    for token in [None, Some("the-session-of-the-team")] {
        if let Some(token) = token {
            team.put_secret("TEAM_AWS_SESSION", token).await;
        }
        team.upstream.push(conversed());
        team.caller().post_json(&path(NOVA, "converse"), &question()).await.expect(200);
        let sent = team.upstream.last_request();
        is_signed(&sent, SECRET);
        assert_eq!(sent.header("x-amz-security-token"), token);
    }
    app.admin().delete(&team.path("secrets/TEAM_AWS_ID")).await.success();
    let answer = team.caller().post_json(&path(NOVA, "converse"), &question()).await;
    let message = is_error(&answer, 400, "provider_secret_missing");
    assert!(message.contains("'TEAM_AWS_ID'"), "{message}");
    let wrong = json!({"secret_names": {"OPENAI_API_KEY": "OTHER"}});
    app.admin().put(&settings, &wrong).await.expect(422);
}

async fn an_endpoint_that_is_not_metered_is_signed_too(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let counting = "/bedrock/model/nova/count-tokens";
    let answer = team.caller().post_json(counting, &question()).await;
    is_error(&answer, 501, "unmetered_not_allowed");
    let endpoints = json!({"unmetered_endpoints": [
        {"method": "POST", "path": "/model/*/count-tokens"}, {"method": "GET", "path": "/async-invoke"}]});
    app.admin().put("/api/v1/provider-settings/bedrock", &endpoints).await.expect(200);
    team.upstream.push(Script::json(200, &json!({"inputTokens": 3})));
    let answer = team.caller().post_json(counting, &question()).await.expect(200);
    assert_eq!(answer.json(), json!({"inputTokens": 3}));
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.json()), ("/model/nova/count-tokens", question()));
    is_signed(&sent, SECRET);
    team.upstream.push(Script::json(200, &json!({"asyncInvokeSummaries": []})));
    team.caller().get("/bedrock/async-invoke").await.expect(200);
    is_signed(&team.upstream.last_request(), SECRET);
    assert_eq!(last_row(&app, 2).await.cost, None);
}

async fn its_models_are_listed(database: Database) {
    let answers = |request: &RecordedRequest| match request.path() {
        "/foundation-models" => Script::json(
            200,
            &json!({"modelSummaries": [
                {"modelId": NOVA, "modelName": "Nova Micro", "inferenceTypesSupported": ["ON_DEMAND"]},
                {"modelId": "anthropic.claude-sonnet-4-5-20250929-v1:0",
                    "inferenceTypesSupported": ["INFERENCE_PROFILE"]}]}),
        ),
        "/inference-profiles" if request.query() == Some("maxResults=1000") => Script::json(
            200,
            &json!({"inferenceProfileSummaries": [{"inferenceProfileId": CLAUDE,
                "inferenceProfileName": "US Claude Sonnet 4.5"}], "nextToken": "t"}),
        ),
        "/inference-profiles" => Script::json(200, &json!({"inferenceProfileSummaries": []})),
        _ => Script::json(404, &json!({"message": "no"})),
    };
    let (app, team) = start_before(&database, ScriptedUpstream::with(answers).await).await;
    put_key(&team).await;
    let listed = team.caller().get("/v1/models").await.expect(200).json();
    let shown: Vec<Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|model| model["id"].as_str().unwrap().starts_with("bedrock/"))
        .map(|model| json!([model["id"], model["tollgate"]]))
        .collect();
    let place = |model: &str| json!({"path": "/bedrock", "model": model});
    assert_eq!(
        shown,
        [
            json!([format!("bedrock/{NOVA}"), place(NOVA)]),
            json!([format!("bedrock/{CLAUDE}"), place(CLAUDE)]),
        ]
    );
    for sent in &team.upstream.seen().requests {
        assert!(sent.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 "));
    }
    assert_eq!(team.upstream.last_request().query(), Some("maxResults=1000&nextToken=t"));
    assert_eq!(ledger_rows::rows(app.database()).await.len(), 0);
}

async fn each_attempt_is_signed_anew(database: Database) {
    let upstream = ScriptedUpstream::start().await;
    let origin = upstream.origin();
    let origins = format!("bedrock={origin}");
    // One worker has one pool, so that the second request reuses the first connection.
    let options = ["--workers", "1", "--provider-origin", &origins];
    let app = TestApp::with_stopped_clock(&database, &options).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    put_key(&team).await;
    let (caller, path, question) = (team.caller(), path(NOVA, "converse"), question());
    team.upstream.push(conversed());
    caller.post_json(&path, &question).await.expect(200);
    let pause = Pause::new();
    team.upstream.push(Script::new().wait(&pause).close());
    team.upstream.push(conversed());
    let later = async {
        team.upstream.request(1).await;
        app.advance(std::time::Duration::from_secs(1));
        pause.release();
    };
    let (answer, ()) = tokio::join!(caller.post_json(&path, &question), later);
    answer.expect(200);
    let seen = team.upstream.seen();
    let [_, first, second] = seen.requests.as_slice() else { panic!("{seen:?}") };
    is_signed(first, SECRET);
    is_signed(second, SECRET);
    assert_ne!(first.header("x-amz-date"), second.header("x-amz-date"));
}

async fn a_rotated_key_takes_effect_at_once(database: Database) {
    let (_app, team) = start_with_key(&database).await;
    let rotated = "rotated/access+key-of-the-tests-0123456789";
    secrets::register(rotated);
    for secret in [SECRET, rotated] {
        team.put_secret("AWS_SECRET_ACCESS_KEY", secret).await;
        team.upstream.push(conversed());
        team.caller().post_json(&path(NOVA, "converse"), &question()).await.expect(200);
        is_signed(&team.upstream.last_request(), secret);
    }
}

async fn requests_are_signed_for_the_region_of_settings(database: Database) {
    let (app, team) = start_with_key(&database).await;
    let settings = team.path("provider-settings/bedrock");
    let region = |region: &str| json!({"connection": {"region": region}});
    app.admin().put(&settings, &region("eu-west-1")).await.expect(200);
    team.upstream.push(conversed());
    team.caller().post_json(&path(NOVA, "converse"), &question()).await.expect(200);
    let sent = team.upstream.last_request();
    let authorization = sent.header("authorization").unwrap();
    assert!(authorization.contains("/eu-west-1/bedrock/aws4_request,"), "{authorization}");
    for wrong in ["a.b", "EU", "evil.example/x", "a@b", "-a"] {
        app.admin().put(&settings, &region(wrong)).await.expect(422);
    }
    for wrong in ["evil.example/", "a@b", "A"] {
        let resource = json!({"connection": {"resource": wrong}});
        app.admin().put(&team.path("provider-settings/azure"), &resource).await.expect(422);
    }
}

async fn a_connection_needs_a_secret_of_the_same_owner(database: Database) {
    let (app, team) = start(&database).await;
    secrets::register(SECRET);
    for (name, value) in [("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", SECRET)] {
        let secret = json!({"value": value});
        app.admin().put(&format!("/api/v1/secrets/{name}"), &secret).await.expect(201);
    }
    let ask = async || {
        team.upstream.push(conversed());
        team.caller().post_json(&path(NOVA, "converse"), &question()).await
    };
    ask().await.expect(200);
    is_signed(&team.upstream.last_request(), SECRET);
    // Where the workspace says where requests go, the organization's key does not go there.
    let settings = json!({"connection": {"region": "eu-west-1"}});
    app.admin().put(&team.path("provider-settings/bedrock"), &settings).await.expect(200);
    is_error(&ask().await, 400, "provider_secret_missing");
    assert_eq!(team.upstream.seen().requests.len(), 1);
    put_key(&team).await;
    ask().await.expect(200);
}
