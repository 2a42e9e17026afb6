//! What an attempt costs where another model answers than the configured one: the price of the model that
//! answered, if there is one.

use serde_json::{Value, json};
use tollgate::domain::{pricing::Price, tokens::TokenUsage};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    http::{Client, Request},
    ledger_rows::{nanos, rows_at_least},
    openai::{self, PARTS, Usage},
    policies::{has_spent, spend_cap},
    script::Script,
    two_tenants::text,
    upstream::{RecordedRequest, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        another_model_that_answers_is_charged_at_its_own_price,
        a_configurations_own_price_applies_whatever_answers,
        a_price_without_an_extra_that_was_asked_for_is_not_used,
    ]
}

/// The configured model. The organization has prices for it and for the other one.
const PINNED: &str = "gpt-4o-mini";
const OTHER: &str = "gpt-4o";

/// What a faster tier costs, which the other model's price lacks.
const PRIORITY: i128 = 2;

/// Answers as the model that the request's field `user` names.
fn answer(request: &RecordedRequest) -> Script {
    let body = request.json();
    let model = text(&body, "user");
    if body["stream"] == true {
        let events = openai::chat_events(&PARTS, Usage::USUAL, true);
        return Script::sse(events.iter().map(|event| event.replace("gpt-test-2025", &model)));
    }
    let mut answer = openai::chat_object("Good morning", Usage::USUAL);
    answer["model"] = model.into();
    Script::json(200, &answer)
}

const PRICES: &str = "/api/v1/model-prices";

async fn team(app: &TestApp) -> Fixture {
    for (model, input, priority) in [(PINNED, 0.15, Some(PRIORITY)), (OTHER, 2.5, None)] {
        let price = json!({"input": input, "cached_input": 0.1, "output": 10,
            "priority_factor": priority});
        let body = json!({"provider": "openai_compatible", "model": model, "price": price});
        app.admin().post_json(PRICES, &body).await.expect(201);
    }
    let upstream = ScriptedUpstream::with(answer).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    let change = json!({"model": PINNED});
    app.admin().patch(&team.configuration_path(), &change).await.expect(200);
    team
}

/// Sends a request that this model answers, and returns its row, which is the ledger's `count`th.
async fn row(app: &TestApp, team: &Fixture, model: &str, stream: bool, count: usize) -> Value {
    let mut body = question(stream);
    body["user"] = model.into();
    body["max_tokens"] = 100.into();
    row_of(app, team, &body, count).await
}

/// Sends a request, and returns its row.
async fn row_of(app: &TestApp, team: &Fixture, body: &Value, count: usize) -> Value {
    let request = Request::post_json(&Fixture::route("chat/completions"), body);
    team.caller().send(request).await.expect(200);
    rows_at_least(app.database(), count).await;
    let rows = app.admin().get(&team.path("requests")).await.expect(200).json();
    rows["data"][0].clone()
}

/// The version of the price that applies to a model, and what the usual answer costs at it.
async fn price(admin: &Client, model: &str) -> (Value, i128) {
    let path = format!("{PRICES}/resolve?provider=openai_compatible&model={model}");
    let found = admin.get(&path).await.expect(200).json();
    let price: Price = serde_json::from_value(found["price"].clone()).unwrap();
    let Usage { prompt, completion, cached, reasoning } = Usage::USUAL;
    let cost = price.cost(&TokenUsage {
        input: Some(prompt),
        output: Some(completion),
        cached_input: Some(cached),
        reasoning: Some(reasoning),
        ..TokenUsage::default()
    });
    (found["version"].clone(), cost.nanos().into())
}

async fn another_model_that_answers_is_charged_at_its_own_price(database: Database) {
    let app = TestApp::start(&database).await;
    let (admin, team) = (app.admin(), team(&app).await);
    let matchers = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&admin, "the cap", &matchers, ("monthly", 1_000_000_000)).await;
    let (pinned, other) = (price(&admin, PINNED).await, price(&admin, OTHER).await);
    assert!(pinned.0 != other.0 && pinned.1 != other.1, "{pinned:?} {other:?}");
    let mut spent = 0;
    let mut count = 0;
    let mut check = async |model: &str, (version, cost): &(Value, i128)| {
        for stream in [false, true] {
            count += 1;
            let row = row(&app, &team, model, stream, count).await;
            assert_eq!((&row["model"], &row["model_used"]), (&json!(PINNED), &json!(model)));
            assert_eq!(&row["price_version"], version, "{row}");
            assert_eq!(nanos(&row["cost_usd"]), *cost, "{row}");
            spent += cost;
            has_spent(&admin, &cap, spent).await;
        }
    };
    check("gpt-4o-mini-2024-07-18", &pinned).await;
    check(OTHER, &other).await;
    check("gpt-4o-2024-08-06", &other).await;
    check("a-model-of-nobody", &pinned).await;
    // A changed price applies to the next request.
    let list = admin.get(&format!("{PRICES}?provider=openai_compatible&model={OTHER}")).await;
    let path = format!("{PRICES}/{}", text(&list.expect(200).json()["data"][0], "id"));
    admin.patch(&path, &json!({"price": {"input": 7}})).await.expect(200);
    let changed = price(&admin, OTHER).await;
    assert!(changed.0 != other.0 && changed.1 != other.1, "{changed:?} {other:?}");
    check(OTHER, &changed).await;
}

async fn a_configurations_own_price_applies_whatever_answers(database: Database) {
    let app = TestApp::start(&database).await;
    let team = team(&app).await;
    let price = json!({"price": {"input": 0, "output": 0, "request": 0.5}});
    app.admin().patch(&team.configuration_path(), &price).await.expect(200);
    let row = row(&app, &team, OTHER, false, 1).await;
    assert_eq!(row["model_used"], OTHER);
    assert!(text(&row, "price_version").starts_with("configuration:"), "{row}");
    assert_eq!(nanos(&row["cost_usd"]), 500_000_000);
}

async fn a_price_without_an_extra_that_was_asked_for_is_not_used(database: Database) {
    let app = TestApp::start(&database).await;
    let (admin, team) = (app.admin(), team(&app).await);
    let matchers = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&admin, "the cap", &matchers, ("monthly", 1_000_000_000)).await;
    let (version, cost) = price(&admin, PINNED).await;
    let mut body = question(false);
    body["user"] = OTHER.into();
    body["max_tokens"] = 100.into();
    body["service_tier"] = "priority".into();
    let row = row_of(&app, &team, &body, 1).await;
    assert_eq!((&row["model_used"], &row["price_version"]), (&json!(OTHER), &version), "{row}");
    assert_eq!(nanos(&row["cost_usd"]), PRIORITY * cost, "{row}");
    has_spent(&admin, &cap, PRIORITY * cost).await;
}
