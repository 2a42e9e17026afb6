//! OAuth client credentials: how tokens are requested, how long they are used, and what happens without
//! one. What can be saved is in `oauth_settings`.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use serde_json::{Value, json};
use url::form_urlencoded;
use uuid::Uuid;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::{self, Row},
    openai,
    policies::POLICIES,
    script::{Pause, Script},
    token_endpoint::{granted, token_endpoint},
    upstream::{RecordedRequest, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_client_authenticates_in_a_header,
        the_client_authenticates_in_the_form,
        tokens_are_replaced_before_they_end,
        a_valid_token_is_used_while_no_other_can_be_had,
        a_new_secret_and_a_changed_configuration_take_effect_at_once,
        concurrent_requests_share_a_token_request,
        a_caller_who_leaves_hands_the_token_request_on,
        without_a_token_the_answer_is_503,
        egress_rules_apply_to_the_token_endpoint,
        the_key_is_sent_only_where_the_configuration_says_so,
        a_refused_token_is_replaced_once,
        a_chain_passes_over_a_target_without_a_token,
        tokens_do_not_leak,
        a_check_tells_what_is_wrong_with_the_token,
    ]
}

const SECRET: &str = "CLIENT_SECRET";
const CLIENT_ID: &str = "client:id/1 +";

/// A workspace whose configuration takes tokens, and their endpoint.
struct Setup {
    app: TestApp,
    team: Fixture,
    endpoint: ScriptedUpstream,
    secret: String,
    /// What all tokens begin with; the first ends in `-0`.
    tokens: String,
}

impl Setup {
    async fn start(database: &Database, more: Value) -> Self {
        let app = TestApp::with_stopped_clock(database, &[]).await;
        let team = app.workspace().await;
        let (endpoint, tokens) = token_endpoint(json!(3600)).await;
        let secret = format!("p@ss/wo+rd: &=% {}", Uuid::now_v7().simple());
        team.put_secret(SECRET, &secret).await;
        let setup = Self { app, team, endpoint, secret, tokens };
        setup.change(json!({"api_key_name": null, "oauth": setup.oauth(more)})).await;
        setup
    }

    fn oauth(&self, more: Value) -> Value {
        let mut oauth = json!({"token_url": format!("http://{}/token", self.endpoint.address()),
            "client_id": CLIENT_ID, "client_secret": SECRET});
        for (field, value) in more.as_object().into_iter().flatten() {
            oauth[field] = value.clone();
        }
        oauth
    }

    /// Changes the configuration at a new time.
    async fn change(&self, patch: Value) {
        self.app.advance(Duration::from_millis(1));
        self.app.admin().patch(&self.team.configuration_path(), &patch).await.expect(200);
    }

    async fn ask(&self) -> Answer {
        self.team.caller().send(Fixture::chat()).await
    }

    async fn ask_in_vain(&self, status: u16, code: &str) -> Answer {
        let answer = self.ask().await.expect(status);
        assert_eq!(answer.json()["error"]["code"], code, "{}", answer.text());
        answer
    }

    /// Asks, and fails the test unless the upstream gets the token with this number.
    async fn ask_with(&self, number: usize) {
        self.ask_with_token(&format!("{}-{number}", self.tokens)).await;
    }

    async fn ask_with_token(&self, token: &str) {
        self.ask().await.expect(200);
        let sent = self.team.upstream.last_request();
        assert_eq!(sent.header("authorization"), Some(format!("Bearer {token}").as_str()));
    }

    fn token_requests(&self) -> usize {
        self.endpoint.seen().requests.len()
    }

    async fn rows(&self, count: usize) -> Vec<Row> {
        ledger_rows::rows_exactly(&self.app, count).await
    }

    async fn check(&self) -> Value {
        let path = format!("{}/check", self.team.configuration_path());
        self.app.admin().send(Request::new("POST", &path)).await.expect(200).json()
    }
}

fn form(request: &RecordedRequest) -> Vec<(String, String)> {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn the_client_authenticates_in_a_header(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let url = format!("http://{}/o/token/?tenant=1", setup.endpoint.address());
    let more = json!({
        "token_url": url, "scope": "read https://example.com/.default",
        "parameters": {"audience": "https://api/ä", "resource": ["one", "two & three"]},
        "headers": {"X-Tenant": "acme  1", "Accept": "*/*"},
    });
    setup.change(json!({"oauth": more})).await;
    setup.ask_with(0).await;
    let sent = setup.endpoint.last_request();
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/o/token/?tenant=1"));
    let pair = format!("{}:{}", encoded(CLIENT_ID), encoded(&setup.secret));
    let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
    for (name, value) in [
        ("authorization", basic.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-tenant", "acme  1"),
        ("accept", "*/*"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(sent.header(name), Some(value), "{name}");
    }
    let expected = [
        ("grant_type", "client_credentials"),
        ("scope", "read https://example.com/.default"),
        ("audience", "https://api/ä"),
        ("resource", "one"),
        ("resource", "two & three"),
    ];
    assert_eq!(form(&sent), pairs(&expected));
    // Every further request uses the same token.
    setup.ask_with(0).await;
    setup.ask_with(0).await;
    assert_eq!(setup.token_requests(), 1);
}

async fn the_client_authenticates_in_the_form(database: Database) {
    let setup = Setup::start(&database, json!({"auth_method": "post"})).await;
    setup.change(json!({"auth": "api-key"})).await;
    setup.ask().await.expect(200);
    let sent = setup.endpoint.last_request();
    assert_eq!(sent.header("authorization"), None);
    assert_eq!(sent.header("accept"), Some("application/json"));
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT_ID),
        ("client_secret", setup.secret.as_str()),
    ];
    assert_eq!(form(&sent), pairs(&expected));
    let asked = setup.team.upstream.last_request();
    assert_eq!(asked.header("api-key"), Some(format!("{}-0", setup.tokens).as_str()));
    assert_eq!(asked.header("authorization"), None);
}

async fn tokens_are_replaced_before_they_end(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    // The last valid second with the old token, for each form of a token's life.
    for (expires_in, last) in
        [(json!(3600), 3539), (json!("120"), 59), (json!(10.9), 4), (Value::Null, 239)]
    {
        let (endpoint, tokens) = token_endpoint(expires_in).await;
        let url = format!("http://{}/token", endpoint.address());
        setup.change(json!({"oauth": {"token_url": url}})).await;
        setup.ask_with_token(&format!("{tokens}-0")).await;
        setup.app.advance(Duration::from_secs(last));
        setup.ask_with_token(&format!("{tokens}-0")).await;
        setup.app.advance(Duration::from_secs(1));
        setup.ask_with_token(&format!("{tokens}-1")).await;
        assert_eq!(endpoint.seen().requests.len(), 2, "{last}");
    }
}

async fn a_valid_token_is_used_while_no_other_can_be_had(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    setup.ask_with(0).await;
    setup.app.advance(Duration::from_secs(3540));
    setup.endpoint.push(Script::json(500, &json!({})));
    setup.ask_with(0).await;
    assert_eq!(setup.token_requests(), 2);
    // The failure is remembered for a second.
    setup.ask_with(0).await;
    assert_eq!(setup.token_requests(), 2);
    setup.app.advance(Duration::from_secs(60));
    setup.endpoint.push(Script::json(500, &json!({})));
    setup.ask_in_vain(503, "token_unavailable").await;
    setup.app.advance(Duration::from_secs(1));
    setup.ask_with(1).await;
}

async fn a_new_secret_and_a_changed_configuration_take_effect_at_once(database: Database) {
    let setup = Setup::start(&database, json!({"auth_method": "post"})).await;
    setup.ask_with(0).await;
    let value = format!("rotated-{}", Uuid::now_v7().simple());
    setup.team.put_secret(SECRET, &value).await;
    setup.ask_with(1).await;
    let sent = form(&setup.endpoint.last_request());
    assert_eq!(sent.last(), Some(&("client_secret".to_owned(), value)));
    setup.change(json!({"oauth": {"scope": "more"}})).await;
    setup.ask_with(2).await;
    assert!(form(&setup.endpoint.last_request()).contains(&("scope".into(), "more".into())));
    // Without the client, the key is used again.
    setup.change(json!({"oauth": null, "api_key_name": Fixture::SECRET})).await;
    setup.ask().await.expect(200);
    let key = format!("Bearer {}", setup.team.provider_key);
    assert_eq!(setup.team.upstream.last_request().header("authorization"), Some(key.as_str()));
    assert_eq!(setup.token_requests(), 3);
}

async fn concurrent_requests_share_a_token_request(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let pause = Pause::new();
    let token = format!("{}-shared", setup.tokens);
    setup.endpoint.push(Script::new().wait(&pause).and(granted(&token, &json!(3600))));
    let caller = setup.team.caller();
    let requests = join_all((0..50).map(|_| caller.send(Fixture::chat())));
    let release = async {
        setup.endpoint.request(0).await;
        pause.release();
    };
    let (answers, ()) = tokio::join!(requests, release);
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let seen = setup.team.upstream.seen().requests;
    let expected = format!("Bearer {token}");
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|sent| sent.header("authorization") == Some(expected.as_str())));
    assert_eq!(setup.token_requests(), 1);

    // A failure is shared as well.
    setup.change(json!({"oauth": {"scope": "other"}})).await;
    let pause = Pause::new();
    setup.endpoint.push(Script::new().wait(&pause).and(Script::json(500, &json!({}))));
    let requests = join_all((0..20).map(|_| caller.send(Fixture::chat())));
    let release = async {
        setup.endpoint.request(1).await;
        pause.release();
    };
    let (answers, ()) = tokio::join!(requests, release);
    assert!(answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    assert_eq!(setup.token_requests(), 2);
}

async fn a_caller_who_leaves_hands_the_token_request_on(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    setup.endpoint.push(Script::new().keep_open());
    let first = setup.team.caller().open(Fixture::chat()).await.unwrap();
    setup.endpoint.request(0).await;
    let (answer, ()) = tokio::join!(setup.ask(), async { drop(first) });
    answer.expect(200);
    assert_eq!(setup.token_requests(), 2);
}

async fn without_a_token_the_answer_is_503(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let json_head = [("content-type", "application/json")];
    let moved = format!("http://{}/elsewhere", setup.endpoint.address());
    let token = |token: Value| Script::json(200, &json!({"access_token": token, "leaky": true}));
    let scripts = [
        // On a new connection: on one from the pool the request would be sent again.
        ("closed", Script::new().close()),
        ("500", Script::json(500, &json!({"error": "leaky"}))),
        ("401", Script::json(401, &json!({"error": "invalid_client", "leaky": true}))),
        ("redirect", Script::new().sized(307, &[("location", moved.as_str())], "leaky")),
        ("not JSON", Script::new().sized(200, &json_head, "leaky")),
        ("a list", Script::json(200, &json!(["leaky"]))),
        ("no token", Script::json(200, &json!({"leaky": true}))),
        ("an empty token", token(json!(""))),
        ("no text", token(json!(7))),
        ("two lines", token(json!("oauth-token\nleaky"))),
        ("too large", token(json!("x".repeat(70_000)))),
        ("cut short", Script::new().sized_head(200, &json_head, 100).raw("{\"leaky").close()),
    ];
    let count = scripts.len();
    for (what, script) in scripts {
        let before = setup.token_requests();
        setup.endpoint.push(script);
        for _ in 0..2 {
            let answer = setup.ask_in_vain(503, "token_unavailable").await;
            assert_eq!(answer.header("retry-after"), Some("5"), "{what}");
            assert_eq!(answer.header("x-tollgate-error"), Some("gateway"), "{what}");
            let text = answer.text();
            assert!(text.contains("127.0.0.1") && !text.contains("leaky"), "{what}: {text}");
        }
        assert_eq!(setup.token_requests(), before + 1, "{what}");
        setup.app.advance(Duration::from_secs(2));
    }
    assert_eq!(setup.team.upstream.seen().requests.len(), 0);
    let paths: Vec<_> = setup.endpoint.seen().requests.iter().map(|r| r.target.clone()).collect();
    assert!(paths.iter().all(|path| path == "/token"), "{paths:?}");
    setup.ask_with(0).await;
    let settled = setup.team.settled(&setup.team.configuration_id, 2 * count + 1).await;
    settled[0].says(&[("status", "503"), ("code", "token_unavailable"), ("attempts", "0")]);

    let Setup { app, team, endpoint, .. } = setup;
    app.advance(Duration::from_secs(3600));
    endpoint.stop().await;
    let answer = team.caller().send(Fixture::chat()).await.expect(503);
    assert_eq!(answer.json()["error"]["code"], "token_unavailable");
}

async fn egress_rules_apply_to_the_token_endpoint(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let strict = setup.app.replica_with(&["--egress-allow", "127.0.0.1/32"]).await;
    let url = format!("http://127.0.0.2:{}/token", setup.endpoint.address().port());
    setup.change(json!({"oauth": {"token_url": url}})).await;
    strict.caught_up().await;
    let answer = setup.team.caller_at(strict.address()).send(Fixture::chat()).await.expect(503);
    let text = answer.text();
    assert!(text.contains("token_unavailable") && text.contains("127.0.0.2"), "{text}");
    let path = format!("{}/check", setup.team.configuration_path());
    let checked = strict.admin().send(Request::new("POST", &path)).await.expect(200).json();
    assert!(checked.to_string().contains("--egress-allow"), "{checked}");
    let refused = json!({"oauth": {"token_url": format!("{url}?again")}});
    let answer = strict.admin().patch(&setup.team.configuration_path(), &refused).await.expect(422);
    assert!(answer.text().contains("egress rule loopback"), "{}", answer.text());
    // What is not changed is not asked again.
    let described = json!({"description": "saved under other rules"});
    strict.admin().patch(&setup.team.configuration_path(), &described).await.expect(200);
    assert_eq!(setup.token_requests(), 0);
}

async fn the_key_is_sent_only_where_the_configuration_says_so(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let fall_back =
        json!({"api_key_name": Fixture::SECRET, "oauth": {"fall_back_to_api_key": true}});
    setup.change(fall_back).await;
    setup.ask_with(0).await;
    setup.change(json!({"description": "new"})).await;
    setup.endpoint.push(Script::json(500, &json!({})));
    setup.ask().await.expect(200);
    let key = format!("Bearer {}", setup.team.provider_key);
    assert_eq!(setup.team.upstream.last_request().header("authorization"), Some(key.as_str()));
    // A 401 to the key is the key's.
    setup.team.upstream.push(openai::error(401, "auth", "bad", "No."));
    let answer = setup.ask_in_vain(502, "provider_credential_refused").await;
    assert!(answer.text().contains(Fixture::SECRET), "{}", answer.text());
    assert_eq!(setup.token_requests(), 2);
    setup.app.advance(Duration::from_secs(1));
    setup.ask_with(1).await;
    setup.change(json!({"api_key_name": null, "oauth": {"fall_back_to_api_key": false}})).await;
    setup.endpoint.push(Script::json(500, &json!({})));
    setup.ask_in_vain(503, "token_unavailable").await;
}

async fn a_refused_token_is_replaced_once(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let refused = || openai::error(401, "auth", "expired", "The token has expired.");
    setup.ask_with(0).await;
    setup.team.upstream.push(refused());
    setup.ask_with(1).await;
    let rows = setup.rows(3).await;
    let attempts = |rows: &[Row]| -> Vec<(i64, String)> {
        rows.iter().map(|row| (row.attempt, row.outcome.clone())).collect()
    };
    let expected = [(1, "completed"), (1, "failed"), (2, "completed")];
    assert_eq!(attempts(&rows), expected.map(|(number, outcome)| (number, outcome.to_owned())));
    assert_eq!(rows[1].request_id, rows[2].request_id);
    // A second 401 is final.
    setup.team.upstream.push(refused());
    setup.team.upstream.push(refused());
    let answer = setup.ask_in_vain(502, "provider_credential_refused").await;
    assert!(answer.text().contains("127.0.0.1"), "{}", answer.text());
    let rows = setup.rows(5).await;
    assert_eq!(attempts(&rows[3..]), [(1, "failed".to_owned()), (2, "failed".to_owned())]);
    assert_eq!(setup.token_requests(), 3);
    // Without another token, the refusal is the answer.
    setup.team.upstream.push(refused());
    setup.endpoint.push(Script::json(500, &json!({})));
    setup.ask_in_vain(502, "provider_credential_refused").await;
    assert_eq!((setup.token_requests(), setup.rows(6).await.len()), (4, 6));
    setup.app.advance(Duration::from_secs(1));
    setup.ask().await.expect(200);
}

async fn a_chain_passes_over_a_target_without_a_token(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let second = ScriptedUpstream::start().await;
    let more = json!({"base_url": second.base_url()});
    let other = setup.team.configure("second", more).await;
    let target = |id: &str| json!({"type": "model_config", "model_config_id": id});
    let policy = json!({"name": "chain", "policy_type": "model_fallback",
        "subject_matchers": [{"key": "workspace_id", "value": setup.team.workspace_id}],
        "config": {"strategy": "priority_fallback", "chain": {
            "selector": target(&setup.team.configuration_id), "candidates": [target(&other)]}}});
    setup.app.admin().post_json(POLICIES, &policy).await.expect(201);
    setup.endpoint.push(Script::json(500, &json!({})));
    let answer = setup.ask().await.expect(200);
    assert_eq!(answer.header("x-tollgate-served-by"), Some("custom/second"));
    assert_eq!(answer.header("x-tollgate-attempts"), Some("1"));
    setup.app.advance(Duration::from_secs(60));
    // A token that the upstream refuses is replaced before the next target is tried.
    setup.team.upstream.push(openai::error(401, "auth", "expired", "No."));
    let answer = setup.ask().await.expect(200);
    assert_eq!(answer.header("x-tollgate-served-by"), Some("custom/main"));
    assert_eq!(answer.header("x-tollgate-attempts"), Some("2"));
    // That happens once in a request, whatever its number of targets.
    let path = setup.team.path(&format!("model-configurations/{other}"));
    let client = json!({"api_key_name": null, "oauth": setup.oauth(json!({}))});
    setup.app.admin().patch(&path, &client).await.expect(200);
    for upstream in [&setup.team.upstream, &setup.team.upstream, &second] {
        upstream.push(openai::error(401, "auth", "expired", "No."));
    }
    setup.ask_in_vain(502, "provider_credential_refused").await;
    assert_eq!(second.seen().requests.len(), 2);
    assert_eq!(setup.rows(6).await.last().map(|row| row.attempt), Some(3));
}

async fn tokens_do_not_leak(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let token = format!("{}-0", setup.tokens);
    let told = json!({"error": {"message": format!("What is {token}?")}}).to_string();
    let headers = [("content-type", "application/json"), ("x-echo", token.as_str())];
    setup.team.upstream.push(Script::new().sized(400, &headers, told));
    let answer = setup.ask().await.expect(400);
    assert_eq!(answer.json()["error"]["message"], "What is [redacted]?");
    assert_eq!(answer.header("x-echo"), None);
    let admin = setup.app.admin();
    for path in [
        setup.team.configuration_path(),
        setup.team.path(&format!("secrets/{SECRET}")),
        "/api/v1/audit-log".to_owned(),
    ] {
        let shown = admin.get(&path).await.expect(200).text();
        assert!(!shown.contains(&setup.secret) && !shown.contains(&setup.tokens), "{shown}");
    }
}

async fn a_check_tells_what_is_wrong_with_the_token(database: Database) {
    let setup = Setup::start(&database, json!({})).await;
    let checked = setup.check().await;
    assert_eq!((&checked["ok"], &checked["status"]), (&json!(true), &json!(200)), "{checked}");
    let sent = setup.team.upstream.last_request();
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {}-0", setup.tokens).as_str()));
    for (script, advice) in [
        (Script::json(401, &json!({"error": "leaky"})), "oauth.client_id"),
        (Script::new().sized(302, &[("location", "/leaky")], ""), "Redirects are never followed"),
        (Script::json(404, &json!({})), "Check oauth.token_url."),
        (Script::new().sized(200, &[], "<html>leaky"), "that of a token endpoint"),
        (Script::json(500, &json!({})), "Try again later"),
    ] {
        setup.change(json!({"description": null})).await;
        setup.endpoint.push(script);
        let checked = setup.check().await;
        let message = checked["message"].as_str().unwrap();
        assert!(message.contains(advice) && message.contains("127.0.0.1"), "{message}");
        assert!(!message.contains("leaky") && checked["ok"] == false, "{checked}");
    }
    // The upstream refuses the token, so the next one is new.
    setup.change(json!({"description": null})).await;
    setup.team.upstream.push(openai::error(401, "auth", "bad", "No."));
    let message = setup.check().await["message"].clone();
    assert!(message.as_str().unwrap().contains("does not accept the token"), "{message}");
    setup.ask_with(2).await;
    // Where the key stands in, the message says so.
    let fall_back =
        json!({"api_key_name": Fixture::SECRET, "oauth": {"fall_back_to_api_key": true}});
    setup.change(fall_back).await;
    setup.endpoint.push(Script::json(500, &json!({})));
    let checked = setup.check().await;
    let message = checked["message"].as_str().unwrap();
    assert!(message.contains("The key of api_key_name was sent instead."), "{message}");
    assert_eq!(checked["ok"], true, "{checked}");
}
