//! Usage and cost by time and group: the totals agree with the ledger's rows.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tollgate::{
    db::{
        Conn,
        usage::{SpendConditions, spend_since},
    },
    domain::money::NanoUsd,
};

use crate::support::{
    case::{Case, cases},
    database::{Database, Kind},
    http::Request,
    ledger_seed::{FIGURES, Row, insert_with_others},
    sql::execute,
    two_tenants::TwoTenants,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        totals_agree_with_the_rows,
        whole_days_are_read_from_daily_sums,
        keys_see_the_usage_of_their_scope,
        csv_is_safe_in_spreadsheets,
        invalid_queries_name_the_parameter,
        sums_saturate,
        spend_agrees_with_the_rows,
    ]
}

const BEGINNING: &str = "2026-09-29T22:00:00Z";
const END: &str = "2026-10-02T22:00:00Z";

/// A few hundred varied but fixed rows over three days around the end of a month.
fn rows(tenants: &TwoTenants) -> Vec<Row> {
    let mut state = 7_u64;
    let mut pick = |count: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % count
    };
    let beginning: DateTime<Utc> = BEGINNING.parse().unwrap();
    let customers = ["acme", "Acme", "=1+1", "a \"b\" \\", "käse"];
    let mut rows = Vec::new();
    for _ in 0..400 {
        let place = [&tenants.home, &tenants.home, &tenants.sibling, &tenants.stranger][pick(4)];
        let at = beginning + TimeDelta::milliseconds(i64::try_from(pick(72 * 3_600_000)).unwrap());
        let mut row = Row::of(place).at(at);
        row.api_key_id = place.keys[pick(place.keys.len())].id.clone();
        row.user_id = (pick(3) > 0).then(|| place.user_id.clone());
        row.model = ["small", "large"][pick(2)].to_owned();
        row.tokens = std::array::from_fn(|_| i64::try_from(pick(5000)).unwrap());
        row.cost = (pick(10) > 0).then(|| i64::try_from(pick(1_000_000_000)).unwrap());
        (row.outcome, row.status, row.attempt) = [
            ("completed", Some(200), 1),
            ("completed", Some(429), 1),
            ("failed", Some(502), 1),
            ("unknown", None, 1),
            ("completed", Some(200), 2),
            ("caller_left", None, 1),
            ("blocked", Some(402), 0),
        ][pick(7)];
        if pick(3) > 0 {
            row.metadata.insert("customer".to_owned(), customers[pick(5)].to_owned());
        }
        if pick(3) > 0 {
            row.metadata.insert("stage".to_owned(), ["test", "live"][pick(2)].to_owned());
        }
        rows.push(row);
    }
    rows
}

/// The expected sums, calculated row by row, by start, groups and metadata.
fn naive<'r>(
    rows: impl Iterator<Item = &'r Row>,
    interval: &str,
    groups: &[&str],
) -> BTreeMap<String, [i64; 13]> {
    let mut sums: BTreeMap<String, [i64; 13]> = BTreeMap::new();
    for row in rows {
        let hour = row.hour().format("%FT%TZ").to_string();
        let start = match interval {
            "hour" => json!(hour),
            "day" => json!(format!("{}T00:00:00Z", &hour[..10])),
            "month" => json!(format!("{}-01T00:00:00Z", &hour[..7])),
            _ => Value::Null,
        };
        let mut key = vec![start];
        key.extend(groups.iter().map(|group| match *group {
            "organization" => json!(row.organization_id),
            "workspace" => json!(row.workspace_id),
            "user" => json!(row.user_id),
            "api_key" => json!(row.api_key_id),
            "model" => json!(row.model),
            "configuration" => json!(row.configuration_id),
            other => json!(row.metadata.get(other.strip_prefix("metadata.").unwrap())),
        }));
        let sum = sums.entry(Value::from(key).to_string()).or_default();
        for (sum, figure) in sum.iter_mut().zip(row.figures()) {
            *sum += figure;
        }
    }
    sums
}

/// The sums in an answer.
fn answered(report: &Value, groups: &[&str]) -> BTreeMap<String, [i64; 13]> {
    let mut sums = BTreeMap::new();
    for item in report["data"].as_array().unwrap() {
        let mut key = vec![item["start"].clone()];
        key.extend(groups.iter().map(|group| match *group {
            "model" => item["model"].clone(),
            own if !own.starts_with("metadata.") => item[format!("{own}_id")].clone(),
            _ => item["metadata_value"].clone(),
        }));
        assert!(sums.insert(Value::from(key).to_string(), figures(item)).is_none(), "{item}");
    }
    sums
}

fn figures(item: &Value) -> [i64; 13] {
    FIGURES.map(|name| match name {
        "cost" => item["cost_usd"].to_string().parse::<NanoUsd>().unwrap().nanos(),
        name => item[name].as_i64().unwrap_or_else(|| panic!("no {name}: {item}")),
    })
}

/// The groupings to test.
const GROUPS: [&[&str]; 7] = [
    &[],
    &["organization"],
    &["workspace", "user"],
    &["api_key", "model", "configuration"],
    &["metadata.customer"],
    &["user", "metadata.stage"],
    &["metadata.nothing"],
];

/// Compares the usage of a time range with the rows of the home organization.
async fn agrees(
    tenants: &TwoTenants,
    rows: &[Row],
    (from, to): (&str, &str),
    interval: &str,
    groups: &[&str],
) {
    let mut path = format!("/api/v1/usage?from={from}&to={to}&group_by={}", groups.join(","));
    if !interval.is_empty() {
        path.push_str(&format!("&interval={interval}"));
    }
    let (from, to): (DateTime<Utc>, DateTime<Utc>) = (from.parse().unwrap(), to.parse().unwrap());
    let own = || {
        let at_home = |row: &&Row| row.organization_id == tenants.home.organization_id;
        rows.iter().filter(at_home).filter(|row| (from..to).contains(&row.admitted_at))
    };
    let report = tenants.admin().get(&path).await.expect(200).json();
    assert_eq!(answered(&report, groups), naive(own(), interval, groups), "{path}");
    let total = naive(own(), "", &[]);
    assert_eq!(figures(&report["total"]), *total.get("[null]").unwrap_or(&[0; 13]), "{path}");
    let starts = report["data"].as_array().unwrap().iter().map(|one| one["start"].as_str());
    assert!(starts.is_sorted(), "{path}");
}

async fn totals_agree_with_the_rows(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let rows = rows(&tenants);
    insert_with_others(&database, &rows, &[]).await;
    for time in [
        // Partial days at both ends, one end or none; no whole day; within a day.
        (BEGINNING, END),
        ("2026-09-30T00:00:00Z", "2026-10-02T13:00:00Z"),
        ("2026-09-29T23:00:00Z", "2026-10-02T00:00:00Z"),
        ("2026-09-29T00:00:00Z", "2026-10-03T00:00:00Z"),
        ("2026-09-30T05:00:00Z", "2026-10-01T19:00:00Z"),
        ("2026-10-01T03:00:00Z", "2026-10-01T12:00:00Z"),
    ] {
        for groups in GROUPS {
            for interval in ["", "hour", "day", "month"] {
                agrees(&tenants, &rows, time, interval, groups).await;
            }
        }
    }
    let admin = tenants.admin();
    let own = |row: &&Row| row.organization_id == tenants.home.organization_id;
    let time = format!("from={BEGINNING}&to={END}");
    // The time has the hours that begin in it, and filters are combined.
    let path = format!(
        "/api/v1/usage?from=2026-09-30T10:59:59Z&to=2026-10-01T03:00:01Z&model=small&user_id={}",
        tenants.home.user_id
    );
    let report = admin.get(&path).await.expect(200).json();
    let (from, to) = ("2026-09-30T11:00:00Z", "2026-10-01T04:00:00Z");
    assert_eq!((&report["from"], &report["to"]), (&json!(from), &json!(to)));
    let (from, to): (DateTime<Utc>, DateTime<Utc>) = (from.parse().unwrap(), to.parse().unwrap());
    let part = rows.iter().filter(own).filter(|row| {
        row.model == "small"
            && row.user_id.as_ref() == Some(&tenants.home.user_id)
            && (from..to).contains(&row.admitted_at)
    });
    assert_eq!(answered(&report, &[]), naive(part, "", &[]));

    // Ranges that meet within an hour add up.
    let sum = async |from: &str, to: &str| {
        let report = admin.get(&format!("/api/v1/usage?from={from}&to={to}")).await.expect(200);
        let sums = answered(&report.json(), &[]);
        sums.into_values().next().unwrap_or_default()
    };
    let whole = sum(BEGINNING, END).await;
    assert!(whole[0] > 0);
    for middle in ["2026-09-30T10:30:00Z", "2026-10-01T03:00:00.5Z", "2026-10-01T12:00:00Z"] {
        let (before, after) = (sum(BEGINNING, middle).await, sum(middle, END).await);
        let both: Vec<i64> = before.iter().zip(after).map(|(one, other)| one + other).collect();
        assert_eq!(both, whole, "{middle}");
    }

    // Names are included, also of deleted resources.
    let key = &tenants.home.keys[0];
    let path = format!("/api/v1/usage?{time}&group_by=api_key&api_key_id={}", key.id);
    admin.delete(&format!("/api/v1/api-keys/{}", key.id)).await.expect(204);
    let report = admin.get(&path).await.expect(200).json();
    assert_eq!(report["data"][0]["api_key_name"], format!("{} at home", key.role.name), "{report}");
    assert_eq!(report["group_by"], json!(["api_key"]));
}

/// Without the hourly sums of whole days the result is the same.
async fn whole_days_are_read_from_daily_sums(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let rows = rows(&tenants);
    insert_with_others(&database, &rows, &[]).await;
    let (first, last) = ("2026-09-30 00:00:00", "2026-10-02 00:00:00");
    let statements = format!(
        "DELETE FROM usage_rollups
            WHERE period = 'hour' AND starts_at >= '{first}' AND starts_at < '{last}';
         DELETE FROM usage_rollups
            WHERE period = 'day' AND (starts_at < '{first}' OR starts_at >= '{last}');"
    );
    execute(&database, &statements).await;
    for groups in GROUPS {
        for interval in ["", "day", "month"] {
            agrees(&tenants, &rows, (BEGINNING, END), interval, groups).await;
        }
        let time = ("2026-09-30T00:00:00Z", "2026-10-02T00:00:00Z");
        agrees(&tenants, &[], time, "hour", groups).await;
    }
}

async fn keys_see_the_usage_of_their_scope(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let rows = rows(&tenants);
    insert_with_others(&database, &rows, &[]).await;
    let usage = format!("/api/v1/usage?from={BEGINNING}&to={END}");
    let (home, sibling) = (&tenants.home.team.workspace_id, &tenants.sibling.team.workspace_id);

    let viewer = tenants.as_role("WORKSPACE_VIEWER");
    let groups = ["workspace", "metadata.customer"];
    let path = format!("{usage}&group_by=workspace,X-Gateway-Customer");
    let report = viewer.get(&path).await.expect(200).json();
    let own = rows.iter().filter(|row| row.workspace_id == *home);
    assert_eq!(answered(&report, &groups), naive(own, "", &groups));
    viewer.get(&format!("{usage}&workspace_id={home}")).await.expect(200);
    viewer.get(&format!("{usage}&workspace_id={sibling}")).await.expect(404);
    let stranger = &tenants.stranger.team.workspace_id;
    tenants.admin().get(&format!("{usage}&workspace_id={sibling}")).await.expect(200);
    tenants.admin().get(&format!("{usage}&workspace_id={stranger}")).await.expect(404);
    let other = &tenants.stranger.organization_id;
    tenants.admin().get(&format!("{usage}&organization_id={other}")).await.expect(404);

    let platform = tenants.app.platform();
    let path = format!("{usage}&group_by=organization&interval=day");
    let report = platform.get(&path).await.expect(200).json();
    let groups = ["organization"];
    assert_eq!(answered(&report, &groups), naive(rows.iter(), "day", &groups));
    let strangers = report["data"].as_array().unwrap().iter();
    let mut strangers = strangers.filter(|one| one["organization_id"] == json!(other));
    assert!(strangers.all(|one| one["organization_name"] == "Strangers"), "{report}");
    let report = platform.get(&format!("{usage}&organization_id={other}")).await.expect(200).json();
    let own = rows.iter().filter(|row| row.organization_id == *other);
    assert_eq!(answered(&report, &[]), naive(own, "", &[]));
    let nobody = uuid::Uuid::now_v7();
    platform.get(&format!("{usage}&organization_id={nobody}")).await.expect(404);
    for inside in [
        "group_by=workspace".to_owned(),
        "group_by=organization,model".to_owned(),
        "group_by=metadata.customer".to_owned(),
        format!("workspace_id={home}"),
        format!("user_id={nobody}"),
        format!("api_key_id={nobody}"),
        format!("configuration_id={nobody}"),
        "model=small".to_owned(),
    ] {
        let refused = platform.get(&format!("{usage}&{inside}")).await.expect(403).json();
        assert_eq!(refused["code"], "organization_key_needed", "{inside}");
        assert!(refused["detail"].as_str().unwrap().contains("'organization'"), "{refused}");
    }
}

async fn csv_is_safe_in_spreadsheets(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let mut row = Row::of(&tenants.home).at(BEGINNING.parse().unwrap());
    row.metadata.insert("customer".to_owned(), "=1+1".to_owned());
    let mut other = row.clone().at(BEGINNING.parse().unwrap());
    other.metadata.insert("customer".to_owned(), "one too many".to_owned());
    let mut silent = row.clone().at(BEGINNING.parse().unwrap());
    silent.metadata.clear();
    insert_with_others(&database, &[row, other, silent], &["one too many"]).await;
    let path = format!(
        "/api/v1/usage?from={BEGINNING}&group_by=metadata.customer&interval=day&to=2026-10-01T00:00:00Z"
    );
    let ask = async |accept: &str| {
        tenants.admin().send(Request::get(&path).header("accept", accept)).await.expect(200)
    };
    for accept in ["text/csv", "text/csv, application/json;q=0.5", "text/*;q=0.1, text/csv"] {
        let answer = ask(accept).await;
        assert_eq!(answer.header("content-type").unwrap(), "text/csv; charset=utf-8");
        assert_eq!(
            answer.text(),
            "start,metadata_value,metadata_name,input_tokens,cached_input_tokens,cache_write_tokens,\
             output_tokens,reasoning_tokens,audio_input_tokens,audio_output_tokens,\
             cache_write_1h_tokens,cost_usd,unknown_costs,requests,attempts,errors,blocks\n\
             2026-09-29T00:00:00Z,,,10,4,1,5,2,0,0,0,0.0000015,0,1,1,0,0\n\
             2026-09-29T00:00:00Z,,(other),10,4,1,5,2,0,0,0,0.0000015,0,1,1,0,0\n\
             2026-09-29T00:00:00Z,'=1+1,'=1+1,10,4,1,5,2,0,0,0,0.0000015,0,1,1,0,0\n"
        );
    }
    for accept in ["*/*", "application/json", "application/json, text/csv;q=0.9", "image/png"] {
        let report = ask(accept).await.json();
        let names: Vec<_> =
            report["data"].as_array().unwrap().iter().map(|one| &one["metadata_name"]).collect();
        assert_eq!(names, [&json!(null), &json!("(other)"), &json!("=1+1")], "{accept}");
        assert_eq!(report["data"][1]["metadata_value"], "", "{accept}");
    }
}

async fn invalid_queries_name_the_parameter(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for (query, field) in [
        ("group_by=colour", "group_by"),
        ("group_by=model,model", "group_by"),
        ("group_by=model,user,api_key,workspace", "group_by"),
        ("interval=week", "interval"),
        ("from=yesterday", "from"),
        ("from=2025-01-01T00:00:00Z", "from"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("to=9999-01-01T00:00:00Z", "to"),
        ("model=a%00b", "model"),
        ("nothing=1", "nothing"),
    ] {
        let answer =
            tenants.admin().get(&format!("/api/v1/usage?{query}")).await.expect(422).json();
        assert_eq!(answer["errors"][0]["field"], field, "{query}: {answer}");
    }
    // More groups than an answer may have: 10,001.
    let numbers = match database.kind() {
        Kind::Sqlite => {
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10001)"
        }
        Kind::Postgres => "WITH n AS (SELECT generate_series(1, 10001) AS n)",
    };
    let day = match database.kind() {
        Kind::Sqlite => "'2026-09-30 00:00:00'",
        Kind::Postgres => "TIMESTAMP '2026-09-30 00:00:00'",
    };
    let sql = format!(
        "{numbers} INSERT INTO usage_rollups SELECT '{}', 'day', '', {day}, '', 'w', '', 'k', 'c', \
         'm' || n, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0 FROM n",
        tenants.home.organization_id
    );
    execute(&database, &sql).await;
    let usage = "/api/v1/usage?from=2026-09-30T00:00:00Z&to=2026-10-01T00:00:00Z";
    let answer = tenants.admin().get(&format!("{usage}&group_by=model")).await.expect(422).json();
    assert_eq!(answer["errors"][0]["field"], "group_by", "{answer}");
    let report = tenants.admin().get(usage).await.expect(200).json();
    assert_eq!(report["total"]["requests"], 10_001);
}

async fn sums_saturate(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let row = |tokens: i64, model: &str| {
        let mut row = Row::of(&tenants.home).at(BEGINNING.parse().unwrap());
        row.tokens = [tokens; 7];
        row.cost = Some(tokens);
        row.model = model.to_owned();
        row
    };
    let rows = [row(i64::MAX, "a"), row(i64::MAX, "b"), row(i64::MAX - 5, "c"), row(5, "d")];
    insert_with_others(&database, &rows, &[]).await;
    let ask = async |filter: &str| {
        let path = format!("/api/v1/usage?from={BEGINNING}&to=2026-10-01T00:00:00Z&{filter}");
        tenants.admin().get(&path).await.expect(200).json()["total"].clone()
    };
    assert_eq!(ask("").await["input_tokens"], i64::MAX);
    assert_eq!(ask("").await["cost_usd"].to_string(), "9223372036.854775807");
    assert_eq!(ask("model=c").await["input_tokens"], i64::MAX - 5);
}

async fn spend_agrees_with_the_rows(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let rows = rows(&tenants);
    insert_with_others(&database, &rows, &["käse"]).await;
    // Whole days are read from daily sums, others from hourly sums.
    let statements = "DELETE FROM usage_rollups
            WHERE period = 'hour' AND starts_at >= '2026-09-30 00:00:00';
         DELETE FROM usage_rollups
            WHERE period = 'day' AND starts_at < '2026-09-30 00:00:00';";
    execute(&database, statements).await;
    let store = database.open(1);
    let (home, sibling) = (&tenants.home, &tenants.sibling);
    let text = |values: &[&str]| values.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let tagged = |tags: &[(&str, &[&str])]| -> Vec<(String, Vec<String>)> {
        tags.iter().map(|(key, values)| ((*key).to_owned(), text(values))).collect()
    };
    let workspaces = [vec![], vec![home.team.workspace_id.clone()]];
    let keys = [vec![], vec![home.keys[0].id.clone(), sibling.keys[1].id.clone()]];
    let users = [vec![], vec![home.user_id.clone(), sibling.user_id.clone()]];
    let metadata = [
        tagged(&[]),
        tagged(&[("stage", &["test"])]),
        tagged(&[("stage", &["test", "live", "test"])]),
        // With values over the limit, and one of them.
        tagged(&[("customer", &["acme"])]),
        tagged(&[("customer", &["käse", "a \"b\" \\"])]),
        tagged(&[("customer", &["acme", "=1+1"]), ("stage", &["live"])]),
        tagged(&[("customer", &["ACME"]), ("stage", &["live"])]),
        tagged(&[("stage", &[])]),
        tagged(&[("nothing", &["x"])]),
    ];
    let rows = Arc::new(rows);
    for from in [BEGINNING, "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"] {
        let from: DateTime<Utc> = from.parse().unwrap();
        for (workspaces, keys, users, metadata) in workspaces.iter().flat_map(|workspaces| {
            let (keys, users, metadata) = (&keys, &users, &metadata);
            keys.iter().flat_map(move |keys| {
                users.iter().flat_map(move |users| {
                    metadata.iter().map(move |metadata| (workspaces, keys, users, metadata))
                })
            })
        }) {
            let conditions = SpendConditions {
                policy: None,
                with_subscriptions: false,
                workspaces: workspaces.iter().map(|id| id.parse().unwrap()).collect(),
                users: users.iter().map(|id| id.parse().unwrap()).collect(),
                keys: keys.iter().map(|id| id.parse().unwrap()).collect(),
                metadata: metadata.clone(),
            };
            let holds = |row: &&Row| {
                row.organization_id == home.organization_id
                    && row.admitted_at >= from
                    && (workspaces.is_empty() || workspaces.contains(&row.workspace_id))
                    && (keys.is_empty() || keys.contains(&row.api_key_id))
                    && (users.is_empty()
                        || row.user_id.as_ref().is_some_and(|id| users.contains(id)))
                    && metadata.iter().all(|(key, values)| {
                        row.metadata.get(key).is_some_and(|value| values.contains(value))
                    })
            };
            let expected: i64 = rows.iter().filter(holds).filter_map(|row| row.cost).sum();
            let organization_id = home.organization_id.parse().unwrap();
            let asked = conditions.clone();
            let spent = store
                .read(async move |conn: &mut Conn| {
                    spend_since(conn, organization_id, &asked, from.naive_utc()).await
                })
                .await
                .unwrap();
            assert_eq!(spent.nanos(), expected, "{from} {conditions:?}");
        }
    }
}
