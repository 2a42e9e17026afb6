//! Reading the ledger: newest first, filtered, and one request with all its attempts.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    database::{Database, Kind},
    ledger_seed::{Row, id_at, insert_with_others},
    sql::{execute, plan},
    two_tenants::{TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        requests_are_filtered_and_paged,
        a_request_has_all_its_attempts,
        requests_of_other_places_are_hidden,
        a_search_continues_at_its_cursor,
        queries_use_indexes,
    ]
}

const POLICY: &str = "019aaf9d-2801-7000-8000-0000000000aa";

/// Sixty rows, one per second, oldest first.
fn rows(tenants: &TwoTenants) -> Vec<Row> {
    let beginning: DateTime<Utc> = "2026-10-01T00:00:00Z".parse().unwrap();
    let mut rows = Vec::new();
    for at in 0..60_usize {
        let seconds = i64::try_from(at).unwrap();
        let mut row = Row::of(&tenants.home).at(beginning + TimeDelta::seconds(seconds));
        row.api_key_id = tenants.home.keys[at % 3].id.clone();
        row.user_id = (at % 4 == 0).then(|| tenants.home.user_id.clone());
        (row.outcome, row.status) = [
            ("completed", Some(200)),
            ("completed", Some(404)),
            ("blocked", Some(402)),
            ("caller_left", None),
            ("failed", Some(502)),
        ][at % 5];
        row.attempt = i64::from(row.outcome != "blocked");
        if row.outcome == "blocked" {
            row.violated = vec![POLICY.to_owned()];
        }
        row.client_request_id = (at % 7 == 0).then(|| format!("Own-{at}"));
        rows.push(row);
    }
    rows
}

async fn ids(tenants: &TwoTenants, query: &str) -> Vec<String> {
    let path = tenants.home.team.path(&format!("requests?limit=200&{query}"));
    let page = tenants.admin().get(&path).await.expect(200).json();
    assert_eq!(page["next_cursor"], Value::Null, "{query}");
    page["data"].as_array().unwrap().iter().map(|one| text(one, "id")).collect()
}

async fn requests_are_filtered_and_paged(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let rows = rows(&tenants);
    insert_with_others(&database, &rows, &[]).await;
    let expected = |holds: &dyn Fn(&Row) -> bool| -> Vec<String> {
        rows.iter().rev().filter(|row| holds(row)).map(|row| row.id.clone()).collect()
    };
    let all = ids(&tenants, "").await;
    assert_eq!(all, expected(&|_| true));

    let instant = |at: usize| rows[at].admitted_at.format("%FT%T%.6fZ").to_string();
    let key = tenants.home.keys[1].id.clone();
    let user = tenants.home.user_id.clone();
    let configuration = tenants.home.team.configuration_id.clone();
    let within = |status: Option<i64>, low: i64, high: i64| {
        status.is_some_and(|status| (low..=high).contains(&status))
    };
    let cases: Vec<(String, Vec<String>)> = vec![
        (format!("from={}", instant(20)), expected(&|row| row.admitted_at >= rows[20].admitted_at)),
        (format!("to={}", instant(20)), expected(&|row| row.admitted_at < rows[20].admitted_at)),
        (
            format!("from={}&to={}", instant(10), instant(20)),
            expected(&|row| {
                (rows[10].admitted_at..rows[20].admitted_at).contains(&row.admitted_at)
            }),
        ),
        (format!("api_key_id={key}"), expected(&|row| row.api_key_id == key)),
        (format!("user_id={user}"), expected(&|row| row.user_id.as_ref() == Some(&user))),
        (format!("configuration_id={configuration}"), expected(&|_| true)),
        ("status=404".to_owned(), expected(&|row| row.status == Some(404))),
        ("status=2xx".to_owned(), expected(&|row| within(row.status, 200, 299))),
        ("status=4xx".to_owned(), expected(&|row| within(row.status, 400, 499))),
        ("status=5xx".to_owned(), expected(&|row| within(row.status, 500, 599))),
        ("outcome=blocked".to_owned(), expected(&|row| row.outcome == "blocked")),
        ("outcome=lost".to_owned(), vec![]),
        (format!("policy_id={POLICY}"), expected(&|row| !row.violated.is_empty())),
        (format!("policy_id={key}"), vec![]),
        (format!("request_id={}", rows[5].request_id), vec![rows[5].id.clone()]),
        ("client_request_id=Own-14".to_owned(), vec![rows[14].id.clone()]),
        ("client_request_id=own-14".to_owned(), vec![]),
        (
            format!("status=4xx&api_key_id={key}&from={}", instant(30)),
            expected(&|row| {
                within(row.status, 400, 499)
                    && row.api_key_id == key
                    && row.admitted_at >= rows[30].admitted_at
            }),
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(&tenants, &query).await, expected, "{query}");
    }

    let path = tenants.home.team.path("requests?limit=7&status=4xx");
    let paged = tenants.admin().get_pages(&path).await;
    let paged: Vec<String> = paged.iter().map(|one| text(one, "id")).collect();
    assert_eq!(paged, expected(&|row| within(row.status, 400, 499)));

    for (query, field) in [
        ("status=600", "status"),
        ("status=x4x", "status"),
        ("outcome=good", "outcome"),
        ("limit=0", "limit"),
        ("cursor=AAAA", "cursor"),
        ("from=1900-01-01T00:00:00Z", "from"),
        ("policy_id=x", "policy_id"),
        ("client_request_id=a%00b", "client_request_id"),
        ("nothing=1", "nothing"),
    ] {
        let path = tenants.home.team.path(&format!("requests?{query}"));
        let answer = tenants.admin().get(&path).await.expect(422).json();
        assert_eq!(answer["errors"][0]["field"], field, "{query}: {answer}");
    }
}

async fn a_request_has_all_its_attempts(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let mut first = Row::of(&tenants.home).at("2026-10-01T00:00:00.123456Z".parse().unwrap());
    first.outcome = "unknown";
    first.status = None;
    first.cost = None;
    let mut second = Row { id: id_at(first.admitted_at), ..first.clone() };
    second.attempt = 2;
    second.outcome = "completed";
    second.status = Some(200);
    second.cost = Some(2_000_000_001);
    second.client_request_id = Some("the-callers".to_owned());
    second.matched = vec![POLICY.to_owned()];
    second.metadata.insert("customer".to_owned(), "a \"b\"".to_owned());
    insert_with_others(&database, &[second.clone(), first.clone()], &[]).await;
    let path = tenants.home.team.path(&format!("requests/{}", first.request_id));
    let record = tenants.as_role("WORKSPACE_VIEWER").get(&path).await.expect(200).json();
    assert_eq!(record["request_id"], first.request_id);
    assert_eq!(record["cost_usd"].to_string(), "2.000000001");
    let attempts = record["attempts"].as_array().unwrap();
    assert_eq!((&attempts[0]["id"], &attempts[1]["id"]), (&json!(first.id), &json!(second.id)));
    assert_eq!(attempts[0]["cost_usd"], Value::Null);
    let mut shown = attempts[1].clone();
    assert_eq!(shown["cost_usd"].take().to_string(), "2.000000001");
    assert_eq!(
        shown,
        json!({
            "id": second.id,
            "request_id": second.request_id,
            "client_request_id": "the-callers",
            "attempt": 2,
            "admitted_at": "2026-10-01T00:00:00.123456Z",
            "workspace_id": second.workspace_id,
            "api_key_id": second.api_key_id,
            "user_id": null,
            "configuration_id": second.configuration_id,
            "configuration": "main",
            "provider": null,
            "route": "chat_completions",
            "model_asked": null,
            "model": "gpt-test",
            "model_used": null,
            "status": 200,
            "outcome": "completed",
            "code": null,
            "usage": {
                "input_tokens": 10,
                "cached_input_tokens": 4,
                "cache_write_tokens": 1,
                "output_tokens": 5,
                "reasoning_tokens": 2,
                "audio_input_tokens": 0,
                "audio_output_tokens": 0,
                "cache_write_1h_tokens": null,
            },
            "usage_source": "provider",
            "cost_usd": null,
            "cost_kind": "metered",
            "price_version": null,
            "first_byte_ms": 12,
            "list_cost_usd": null,
            "duration_ms": 34,
            "policies": {"matched": [POLICY], "violated": []},
            "metadata": {"customer": "a \"b\""},
            "guard_findings": [],
        })
    );
}

async fn requests_of_other_places_are_hidden(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let rows = [
        Row::of(&tenants.home),
        Row::of(&tenants.sibling),
        Row::of(&tenants.stranger),
        // The organization must match too.
        Row { organization_id: tenants.stranger.organization_id.clone(), ..Row::of(&tenants.home) },
    ];
    insert_with_others(&database, &rows, &[]).await;
    assert_eq!(ids(&tenants, "").await, [rows[0].id.clone()]);
    for row in &rows[1..] {
        let path = tenants.home.team.path(&format!("requests/{}", row.request_id));
        tenants.admin().get(&path).await.expect(404);
        assert!(ids(&tenants, &format!("request_id={}", row.request_id)).await.is_empty());
    }
    tenants.admin().get(&tenants.home.team.path("requests/nothing")).await.expect(404);
    let nowhere = format!("/api/v1/workspaces/{}/requests", uuid::Uuid::now_v7());
    tenants.admin().get(&nowhere).await.expect(404);
    tenants.admin().get(&tenants.stranger.team.path("requests")).await.expect(404);
    tenants.app.platform().get(&tenants.home.team.path("requests")).await.expect(404);
}

/// Makes `count` copies (at most 65,535) of the newest row, one per second.
async fn many(database: &Database, count: usize) {
    let (numbers, id, at) = match database.kind() {
        Kind::Sqlite => (
            format!(
                "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})"
            ),
            "printf('018f0000-%04x', n) || substr(id, 14)",
            "datetime('2026-01-01', '+' || n || ' seconds')",
        ),
        Kind::Postgres => (
            format!("WITH n AS (SELECT generate_series(1, {count}) AS n)"),
            "'018f0000-' || lpad(to_hex(n), 4, '0') || substr(id, 14)",
            "TIMESTAMP '2026-01-01' + n * INTERVAL '1 second'",
        ),
    };
    let columns = "organization_id, workspace_id, request_id, attempt, api_key_id, user_id, \
                   configuration_id, configuration, route, model_asked, model, model_used, status, \
                   outcome, code, tokens, usage_source, cost, price_version, first_byte_ms, \
                   duration_ms, policies, metadata, client_request_id";
    let sql = format!(
        "{numbers} INSERT INTO ledger (id, {columns}, admitted_at) SELECT {id}, {columns}, {at} \
         FROM n, (SELECT * FROM ledger ORDER BY id DESC LIMIT 1) AS newest"
    );
    execute(database, &sql).await;
}

async fn a_search_continues_at_its_cursor(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let sought: DateTime<Utc> = "2020-01-01T00:00:00Z".parse().unwrap();
    let mut oldest = Row::of(&tenants.home).at(sought);
    oldest.outcome = "lost";
    let newest = Row::of(&tenants.home);
    insert_with_others(&database, &[oldest.clone(), newest], &[]).await;
    many(&database, 60_000).await;
    let first = tenants.home.team.path("requests?outcome=lost");
    let page = tenants.admin().get(&first).await.expect(200).json();
    assert_eq!(page["data"], json!([]));
    let next = text(&page, "next_cursor");
    let page = tenants.admin().get(&format!("{first}&cursor={next}")).await.expect(200).json();
    assert_eq!(page["data"][0]["id"], oldest.id);
    assert_eq!(page["next_cursor"], Value::Null);
}

/// The query plans do not scan all rows.
async fn queries_use_indexes(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    insert_with_others(&database, &[Row::of(&tenants.home)], &[]).await;
    many(&database, 20_000).await;
    if database.kind() == Kind::Postgres {
        execute(&database, "ANALYZE").await;
    }
    let (organization, workspace) =
        (&tenants.home.organization_id, &tenants.home.team.workspace_id);
    let here = format!("organization_id = '{organization}' AND workspace_id = '{workspace}'");
    let key = &tenants.stranger.keys[0].id;
    for (filter, index) in [
        ("id >= '019a' AND id < '019b'".to_owned(), "ledger_workspace"),
        (format!("api_key_id = '{key}'"), "ledger_key"),
        (format!("request_id = '{key}'"), "ledger_request"),
        ("status >= 400 AND status >= 500 AND status <= 599".to_owned(), "ledger_errors"),
    ] {
        // SQLite is told which index to use, and fails if it can't use it.
        let indexed_by = match database.kind() {
            Kind::Sqlite => format!("INDEXED BY {index}"),
            Kind::Postgres => String::new(),
        };
        let select = format!(
            "SELECT * FROM ledger {indexed_by} WHERE {here} AND {filter} \
             ORDER BY id DESC LIMIT 51"
        );
        let plan = plan(&database, &select).await;
        // If one workspace has all rows, the primary key serves as well.
        let by_id = index == "ledger_workspace" && plan.contains("ledger_pkey");
        assert!(plan.contains(index) || by_id, "{filter}: {plan}");
    }
}
