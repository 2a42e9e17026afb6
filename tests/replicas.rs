//! Several replicas over one database: a change takes effect on the replica that made it before it
//! answers, and on others within two seconds, with or without notifications.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::{Database, Kind},
    fault_proxy::FaultProxy,
    fixture::Fixture,
    http::{Answer, Client, Request},
    secrets,
    upstream::RecordedRequest,
    wait::eventually_within,
};

/// How long a change may take to reach another replica.
const ELSEWHERE: Duration = Duration::from_secs(2);

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_revoked_key_gets_401_everywhere,
        a_disabled_key_gets_401_until_it_is_enabled,
        a_rotated_key_gets_401_and_the_new_one_works_at_once,
        a_changed_configuration_takes_effect,
        a_deleted_configuration_gets_404,
        a_new_secret_value_is_used,
        a_deleted_secret_is_no_longer_sent,
        a_suspended_organization_gets_403_until_it_is_active,
        keys_of_a_deactivated_user_get_401,
        keys_of_a_deleted_workspace_get_401,
        postgres changes_arrive_without_notifications,
        known_callers_cause_no_database_queries,
        guessing_one_key_does_not_reach_the_database,
    ]
}

/// Two replicas that have both served the caller.
struct Pair {
    app: TestApp,
    other: TestApp,
    team: Fixture,
}

impl Pair {
    async fn start(database: &Database) -> Self {
        let app = TestApp::start(database).await;
        let other = app.replica().await;
        Self::of(app, other).await
    }

    async fn of(app: TestApp, other: TestApp) -> Self {
        let team = app.workspace().await;
        let pair = Self { app, other, team };
        pair.both(&pair.team.caller_key, |answer| answer.status == 200).await;
        pair
    }

    fn admin(&self) -> Client {
        self.app.admin()
    }

    async fn call(&self, app: &TestApp, key: &str) -> Answer {
        app.as_key(key).send(Fixture::chat()).await
    }

    /// Checks that the replica that made the change applies it at once, and the other in time.
    async fn both(&self, key: &str, is_so: impl Fn(&Answer) -> bool) {
        let here = self.call(&self.app, key).await;
        assert!(
            is_so(&here),
            "the replica that wrote does not know: {} {}",
            here.status,
            here.text()
        );
        eventually_within(ELSEWHERE, "the other replica knows", async || {
            is_so(&self.call(&self.other, key).await)
        })
        .await;
    }

    async fn caller_is(&self, status: u16) {
        self.both(&self.team.caller_key, |answer| answer.status == status).await;
    }

    async fn change_key(&self, fields: Value) {
        let path = self.team.path(&format!("api-keys/{}", self.team.caller_key_id));
        self.admin().patch(&path, &fields).await.expect(200);
    }

    async fn change_configuration(&self, fields: Value) {
        let path = self.team.configuration_path();
        self.admin().patch(&path, &fields).await.expect(200);
    }

    /// Checks the upstream request of both replicas.
    async fn upstream_sees(&self, is_so: impl Fn(&RecordedRequest) -> bool) {
        self.both(&self.team.caller_key, |answer| {
            answer.status == 200 && is_so(&self.team.upstream.last_request())
        })
        .await;
    }
}

async fn a_revoked_key_gets_401_everywhere(database: Database) {
    revoke(&Pair::start(&database).await).await;
}

async fn revoke(pair: &Pair) {
    let path = pair.team.path(&format!("api-keys/{}", pair.team.caller_key_id));
    pair.admin().delete(&path).await.success();
    pair.caller_is(401).await;
}

async fn a_disabled_key_gets_401_until_it_is_enabled(database: Database) {
    disable(&Pair::start(&database).await).await;
}

async fn disable(pair: &Pair) {
    pair.change_key(json!({"disabled": true})).await;
    pair.caller_is(401).await;
    pair.change_key(json!({"disabled": false})).await;
    pair.caller_is(200).await;
}

async fn a_rotated_key_gets_401_and_the_new_one_works_at_once(database: Database) {
    let pair = Pair::start(&database).await;
    let path = pair.team.path(&format!("api-keys/{}/rotate", pair.team.caller_key_id));
    let rotated = pair.admin().post_json(&path, &json!({"grace_seconds": 0})).await.success();
    let new = rotated.json()["key"].as_str().expect("the new key").to_owned();
    // No replica can have cached that the new key is unknown.
    pair.call(&pair.app, &new).await.expect(200);
    pair.call(&pair.other, &new).await.expect(200);
    pair.caller_is(401).await;
}

async fn a_changed_configuration_takes_effect(database: Database) {
    change(&Pair::start(&database).await).await;
}

async fn change(pair: &Pair) {
    pair.change_configuration(json!({"model": "another-model"})).await;
    pair.upstream_sees(|request| request.json()["model"] == "another-model").await;
    pair.change_configuration(json!({"enabled": false})).await;
    pair.caller_is(404).await;
    pair.change_configuration(json!({"enabled": true})).await;
    pair.caller_is(200).await;
}

async fn a_deleted_configuration_gets_404(database: Database) {
    let pair = Pair::start(&database).await;
    let path = pair.team.configuration_path();
    pair.admin().delete(&path).await.success();
    pair.caller_is(404).await;
    // The name can be used again, for the new configuration.
    pair.team.configure(Fixture::CONFIGURATION, json!({"model": "the-second"})).await;
    pair.upstream_sees(|request| request.json()["model"] == "the-second").await;
}

async fn a_new_secret_value_is_used(database: Database) {
    replace_secret(&Pair::start(&database).await).await;
}

async fn replace_secret(pair: &Pair) {
    let value = "sk-test-the-second-value-of-the-key";
    secrets::register(value);
    pair.team.put_secret(Fixture::SECRET, value).await;
    let credential = format!("Bearer {value}");
    pair.upstream_sees(|request| request.header("authorization") == Some(&credential)).await;
}

async fn a_deleted_secret_is_no_longer_sent(database: Database) {
    free_secret(&Pair::start(&database).await).await;
}

async fn free_secret(pair: &Pair) {
    let path = pair.team.path(&format!("secrets/{}", Fixture::SECRET));
    pair.admin().delete(&path).await.expect(409);
    pair.change_configuration(json!({"api_key_name": null})).await;
    pair.admin().delete(&path).await.success();
    pair.upstream_sees(|request| request.header("authorization").is_none()).await;
}

async fn a_suspended_organization_gets_403_until_it_is_active(database: Database) {
    suspend(&Pair::start(&database).await).await;
}

async fn suspend(pair: &Pair) {
    let path = format!("/api/v1/organizations/{}", pair.app.keys().organization_id);
    pair.app.platform().patch(&path, &json!({"status": "suspended"})).await.expect(200);
    pair.caller_is(403).await;
    pair.app.admin().get("/api/v1/workspaces").await.expect(403);
    eventually_within(ELSEWHERE, "the other replica refuses the admin too", async || {
        pair.other.admin().get("/api/v1/workspaces").await.status == 403
    })
    .await;
    pair.app.platform().patch(&path, &json!({"status": "active"})).await.expect(200);
    pair.caller_is(200).await;
}

async fn keys_of_a_deactivated_user_get_401(database: Database) {
    deactivate(&Pair::start(&database).await).await;
}

async fn deactivate(pair: &Pair) {
    let person = json!({"name": "Ada", "email": "ada@example.com"});
    let user = pair.admin().post_json("/api/v1/users", &person).await.success().json();
    let id = user["id"].as_str().expect("an id");
    let key = json!({"name": "hers", "role": "GATEWAY_CALLER", "user_id": id});
    let key = pair.admin().post_json(&pair.team.path("api-keys"), &key).await.success().json();
    let key = key["key"].as_str().expect("a key");
    pair.both(key, |answer| answer.status == 200).await;
    pair.admin().delete(&format!("/api/v1/users/{id}")).await.success();
    pair.both(key, |answer| answer.status == 401).await;
    // Other keys keep working.
    pair.caller_is(200).await;
}

async fn keys_of_a_deleted_workspace_get_401(database: Database) {
    let pair = Pair::start(&database).await;
    let path = format!("/api/v1/workspaces/{}?force=true", pair.team.workspace_id);
    pair.admin().delete(&path).await.success();
    pair.caller_is(401).await;
}

async fn changes_arrive_without_notifications(database: Database) {
    let (proxy, proxied) = FaultProxy::to(&database).await;
    proxy.drop_notifications();
    let app = TestApp::start(&database).await;
    let other = app.replica_over(&proxied).await;
    let pair = Pair::of(app, other).await;
    disable(&pair).await;
    change(&pair).await;
    replace_secret(&pair).await;
    free_secret(&pair).await;
    suspend(&pair).await;
    deactivate(&pair).await;
    revoke(&pair).await;
}

async fn known_callers_cause_no_database_queries(database: Database) {
    const QUERIES: &str = "tollgate_database_request_transactions_total";
    let (app, team) = TestApp::start_with_workspace(&database).await;
    for request in [Fixture::chat(), Fixture::chat_stream()] {
        team.caller().send(request).await.expect(200);
    }
    let listing = Request::get(&Fixture::route("models"));
    team.caller().send(listing.clone()).await.expect(200);
    let before = app.counter(QUERIES).await;
    assert!(before > 0, "making all this took transactions");
    for _ in 0..50 {
        for request in [Fixture::chat(), Fixture::chat_stream(), listing.clone()] {
            team.caller().send(request).await.expect(200);
        }
    }
    assert_eq!(app.counter(QUERIES).await, before);
}

async fn guessing_one_key_does_not_reach_the_database(database: Database) {
    const QUERIES: &str = "tollgate_database_request_transactions_total";
    let (app, team) = TestApp::start_with_workspace(&database).await;
    // A well-formed key of another installation.
    let elsewhere = Database::create(Kind::Sqlite).expect("another");
    let stranger = TestApp::start(&elsewhere).await.keys().admin.clone();
    let before = app.counter(QUERIES).await;
    for _ in 0..60 {
        app.as_key(&stranger).send(Fixture::chat()).await.expect(401);
    }
    let queries = app.counter(QUERIES).await - before;
    assert!((1..30).contains(&queries), "60 guesses made {queries} transactions");
    team.caller().send(Fixture::chat()).await.expect(200);
}
