//! Which models a caller may use: the most specific matching tier decides, and several policies of one
//! tier allow what all of them allow.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    http::{Answer, Client, Request},
    ledger_rows,
    policies::{POLICIES, make, refused},
    two_tenants::text,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        without_a_policy_everything_is_allowed,
        the_most_specific_tier_decides,
        several_policies_of_one_tier_are_intersected,
        a_header_belongs_to_the_organization_tier,
        providers_and_models_can_be_listed,
        a_forbidden_request_is_recorded_but_not_sent,
    ]
}

/// A workspace with the configurations `main`, `second` and `third`.
struct Team {
    app: TestApp,
    team: Fixture,
}

impl Team {
    async fn start(database: &Database) -> Self {
        let (app, team) = TestApp::start_with_workspace(database).await;
        for name in ["second", "third"] {
            team.configure(name, json!({"model": format!("model-of-{name}")})).await;
        }
        Self { app, team }
    }

    /// Creates a policy that allows these configurations.
    async fn allow(&self, name: &str, matchers: &[(&str, &str)], configurations: Value) -> Value {
        let config = json!({
            "providers": [{"provider": "model_configuration", "models": configurations}],
        });
        make(&self.app.admin(), ("model_access", name), matchers, config).await
    }

    async fn call(&self, caller: &Client, configuration: &str) -> Answer {
        let route = format!("/providers/{configuration}/v1/chat/completions");
        caller.send(Request::post_json(&route, &question(false))).await
    }

    /// Fails the test unless the caller may use exactly these.
    async fn may_use(&self, caller: &Client, allowed: &[&str], forbidden_by: &str) {
        for configuration in ["main", "second", "third"] {
            let answer = self.call(caller, configuration).await;
            match allowed.contains(&configuration) {
                true => drop(answer.expect(200)),
                false => refused(&answer, 403, "model_access_denied", forbidden_by),
            }
        }
    }

    fn organization(&self) -> (&str, &str) {
        ("organization_id", &self.app.keys().organization_id)
    }
}

async fn without_a_policy_everything_is_allowed(database: Database) {
    let team = Team::start(&database).await;
    team.may_use(&team.team.caller(), &["main", "second", "third"], "").await;
    // A policy for others does not matter.
    let (_, other) = ("", team.team.key("GATEWAY_CALLER").await);
    team.allow("others", &[("api_key_id", &other.0)], json!(["third"])).await;
    team.may_use(&team.team.caller(), &["main", "second", "third"], "").await;
    team.may_use(&team.app.as_key(&other.1), &["third"], "others").await;
}

async fn the_most_specific_tier_decides(database: Database) {
    let team = Team::start(&database).await;
    let (caller, admin) = (team.team.caller(), team.app.admin());
    let person = json!({"name": "Ada", "email": "ada@example.com"});
    let user = text(&admin.post_json("/api/v1/users", &person).await.success().json(), "id");
    let key = json!({"name": "hers", "role": "GATEWAY_CALLER", "user_id": user});
    let key = admin.post_json(&team.team.path("api-keys"), &key).await.success().json();
    let hers = team.app.as_key(&text(&key, "key"));
    let workspace = ("workspace_id", team.team.workspace_id.as_str());

    team.allow("organization's", &[team.organization()], json!(["main"])).await;
    team.may_use(&caller, &["main"], "organization's").await;
    team.allow("workspace's", &[workspace], json!(["second"])).await;
    team.may_use(&caller, &["second"], "workspace's").await;
    let of_user = [("user_id", user.as_str())];
    team.allow("user's", &of_user, json!(["main", "third"])).await;
    team.may_use(&hers, &["main", "third"], "user's").await;
    team.may_use(&caller, &["second"], "workspace's").await;
    let of_key = [("api_key_id", text(&key, "id"))];
    let of_key = [(of_key[0].0, of_key[0].1.as_str())];
    let of_key = team.allow("key's", &of_key, json!("all")).await;
    team.may_use(&hers, &["main", "second", "third"], "").await;

    // When a policy is deleted, the next tier decides.
    admin.delete(&format!("{POLICIES}/{}", text(&of_key, "id"))).await.success();
    team.may_use(&hers, &["main", "third"], "user's").await;
}

async fn several_policies_of_one_tier_are_intersected(database: Database) {
    let team = Team::start(&database).await;
    let key = ("api_key_id", team.team.caller_key_id.as_str());
    let workspace = ("workspace_id", team.team.workspace_id.as_str());
    team.allow("first two", &[key], json!(["main", "second"])).await;
    // The most specific matcher determines the tier.
    team.allow("last two", &[key, workspace], json!(["second", "third"])).await;
    team.may_use(&team.team.caller(), &["second"], "two").await;
    team.allow("none of them", &[key, team.organization()], json!([])).await;
    team.may_use(&team.team.caller(), &[], "none of them").await;
}

async fn a_header_belongs_to_the_organization_tier(database: Database) {
    let team = Team::start(&database).await;
    team.allow("by header", &[("app", "batch")], json!(["third"])).await;
    team.allow("organization's", &[team.organization()], json!(["third", "main"])).await;
    let batch = team.team.caller().with_header("X-Gateway-App", "batch");
    team.may_use(&batch, &["third"], "by header").await;
    team.may_use(&team.team.caller(), &["main", "third"], "organization's").await;
    let other = team.team.caller().with_header("X-Gateway-App", "Batch");
    team.may_use(&other, &["main", "third"], "organization's").await;
    let workspace = ("workspace_id", team.team.workspace_id.as_str());
    team.allow("workspace's", &[workspace], json!(["second"])).await;
    team.may_use(&batch, &["second"], "workspace's").await;
}

async fn providers_and_models_can_be_listed(database: Database) {
    let team = Team::start(&database).await;
    let config = json!({"providers": [
        {"provider": "openai_compatible", "models": ["model-of-second"]},
        {"provider": "model_configuration", "models": ["third"]},
    ]});
    let subject = [team.organization()];
    make(&team.app.admin(), ("model_access", "named"), &subject, config).await;
    team.may_use(&team.team.caller(), &["second", "third"], "named").await;
}

async fn a_forbidden_request_is_recorded_but_not_sent(database: Database) {
    let team = Team::start(&database).await;
    team.allow("nothing", &[team.organization()], json!([])).await;
    let answer = team.call(&team.team.caller(), "main").await;
    refused(&answer, 403, "model_access_denied", "nothing");
    assert_eq!(team.team.upstream.seen().requests.len(), 0);
    let rows = ledger_rows::rows_at_least(&database, 1).await;
    assert_eq!((rows[0].outcome.as_str(), rows[0].attempt), ("blocked", 0), "{rows:?}");
    assert_eq!(Some(rows[0].request_id.as_str()), answer.header("x-request-id"));
}
