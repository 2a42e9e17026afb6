//! Hourly and daily sums: they add up to the rows, whatever metadata callers send, and stay when rows are
//! deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chrono::{DurationRound as _, NaiveDateTime, TimeDelta};
use diesel::connection::InstrumentationEvent;
use diesel_async::AsyncConnection as _;
use proptest::prelude::*;
use tollgate::{
    accounting::{
        ledger::{REJECTED, retention::delete_expired},
        record::{AttemptEnd, AttemptOutcome, AttemptStart},
    },
    db::{
        Conn,
        usage::{SpendConditions, UsageFilter, list_usage, spend_since},
    },
    domain::{
        ids::*,
        money::NanoUsd,
        scope::Scope,
        tokens::TokenUsage,
        usage::{GroupBy, Interval, UsageTotals},
    },
};

use crate::support::{
    case::{Case, cases},
    database::Database,
    ledger_fixture::{
        LedgerFixture, copy, days_agree, end, journal, row, rows, small, start, sums_agree,
        sums_agree_where,
    },
    property::holds_for,
    sql,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        sums_add_up_to_the_rows,
        the_number_of_values_per_metadata_key_is_limited,
        the_number_of_metadata_keys_per_hour_is_limited,
        a_day_tells_apart_what_its_hours_do,
        many_metadata_keys_need_few_statements,
        retention_deletes_rows_and_keeps_sums,
        deleted_rows_are_not_summed_again,
        postgres two_replicas_write_the_same_sums,
    ]
}

async fn sums_add_up_to_the_rows(database: Database) {
    let outcomes = prop_oneof![
        Just(AttemptOutcome::Completed),
        Just(AttemptOutcome::Failed),
        Just(AttemptOutcome::CallerLeft),
        Just(AttemptOutcome::Blocked),
    ];
    let tokens = || prop::option::of(0_u64..1_000_000);
    let attempt = (
        (0..3_usize, 0..2_usize, 0_i64..5_000, prop::option::of(0..4_usize)),
        (outcomes, prop::option::of(200_u16..600), prop::option::of(0_i64..1 << 40)),
        (tokens(), tokens(), tokens(), tokens()),
        (0..3_u32, prop::bool::weighted(0.1)),
    );
    let fixture = LedgerFixture::new(&database).await;
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    let clock = &fixture.clock;
    holds_for(prop::collection::vec(attempt, 1..60), 24, async |all| {
        let count = all.len();
        let organization_id: OrganizationId = clock.new_id();
        let keys: [ApiKeyId; 3] = [clock.new_id(), clock.new_id(), clock.new_id()];
        for (of, how, (input, cached, output, reasoning), (number, flush)) in all {
            let ((key, model, minutes, team), (outcome, status, cost)) = (of, how);
            let mut start = start(clock);
            start.organization_id = organization_id;
            start.api_key_id = Some(keys[key]);
            start.model = format!("model {model}");
            start.admitted_at -= TimeDelta::minutes(minutes);
            start.attempt = number;
            if let Some(team) = team {
                start.metadata.insert("team".to_owned(), format!("team {team}"));
                start.metadata.insert("stage".to_owned(), "test".to_owned());
            }
            let usage = TokenUsage {
                input,
                cached_input: cached,
                output,
                reasoning,
                ..TokenUsage::default()
            };
            let cost = cost.map(NanoUsd::from_nanos);
            let end = AttemptEnd { outcome, status, cost, usage, ..end(&start, 0) };
            ledger.start(start.clone()).unwrap();
            ledger.end(end);
            if flush {
                ledger.flush().await.unwrap();
            }
        }
        ledger.flush().await.unwrap();
        let own = format!("organization_id = '{organization_id}'");
        let ids = format!("SELECT id AS value FROM ledger WHERE {own}");
        assert_eq!(sql::texts(&database, &ids).await.len(), count);
        sums_agree_where(&database, &own).await
    })
    .await;
    let ragged = "SELECT cast(starts_at AS text) AS value FROM usage_rollups \
                  WHERE cast(starts_at AS text) NOT LIKE '%:00:00%'";
    assert!(sql::texts(&database, ragged).await.is_empty());
}

async fn the_number_of_values_per_metadata_key_is_limited(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    let template = start(&fixture.clock);
    let write = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let id = fixture.clock.new_id();
            let mut start = AttemptStart { id, ..template.clone() };
            start.metadata.insert("team".to_owned(), format!("{number}"));
            ledger.start(start.clone()).unwrap();
            ledger.end(end(&start, 1));
        }
        ledger.flush().await.unwrap();
    };
    let counts = async || {
        let count = "SELECT cast(count(*) AS text) || ' ' || cast(sum(requests) AS text) AS value \
                     FROM usage_rollups WHERE period = 'hour' AND metadata_key <> '' \
                     GROUP BY metadata_value = '' ORDER BY metadata_value = ''";
        sql::texts(&database, count).await
    };
    let value_count = "SELECT cast(value_count AS text) AS value FROM usage_metadata_keys";
    write(0..1_200).await;
    write(0..10).await;
    assert_eq!(counts().await, ["1200 1210"]);
    assert_eq!(sql::texts(&database, value_count).await, ["1200"]);
    // As if the hour already had nearly all the values it can tell apart.
    sql::execute(&database, "UPDATE usage_metadata_keys SET value_count = 9900").await;
    write(1_100..1_400).await;
    write(0..1_400).await;
    assert_eq!(counts().await, ["1300 2710", "1 200"]);
    assert_eq!(sql::texts(&database, value_count).await, ["10000"]);
    sums_agree(&database).await;
}

/// A filter for a time range.
fn filter(from: NaiveDateTime, to: NaiveDateTime) -> UsageFilter {
    UsageFilter {
        from,
        to,
        organization_id: None,
        workspace_id: None,
        user_id: None,
        api_key_id: None,
        configuration_id: None,
        model: None,
    }
}

/// More keys than can be told apart, in several batches.
async fn the_number_of_metadata_keys_per_hour_is_limited(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    let template = start(&fixture.clock);
    for batch in 0..4 {
        for number in 0..3 {
            let id = fixture.clock.new_id();
            let mut start = AttemptStart { id, ..template.clone() };
            start.metadata.insert("team".to_owned(), format!("{number}"));
            // A request has at most this many keys.
            for key in (0..82).skip(batch * 25).take(25) {
                start.metadata.insert(format!("key_{key:02}"), "same".to_owned());
            }
            ledger.start(start.clone()).unwrap();
            ledger.end(end(&start, 1));
        }
        ledger.flush().await.unwrap();
    }
    sums_agree(&database).await;
    let keys = "SELECT metadata_key AS value FROM usage_metadata_keys ORDER BY metadata_key";
    let keys = sql::texts(&database, keys).await;
    assert_eq!((keys.len(), keys[0].as_str(), keys[62].as_str()), (64, "key_00", "key_62"));
    let marked = "SELECT cast(requests AS text) AS value FROM usage_rollups \
                  WHERE period = 'hour' AND metadata_key = '*' AND metadata_value = ''";
    assert_eq!(sql::texts(&database, marked).await, ["6"], "two batches of three, each once");

    let organization_id = template.organization_id;
    let hour = template.admitted_at.duration_trunc(TimeDelta::hours(1)).unwrap().naive_utc();
    let filter = filter(hour, hour + TimeDelta::hours(2));
    let by = async |key: &str| {
        let group_by = GroupBy { dimensions: Vec::new(), metadata_key: Some(key.to_owned()) };
        let (scope, filter) = (Scope::Organization(organization_id), filter.clone());
        let groups = fixture.database.read(async move |conn: &mut Conn| {
            list_usage(conn, scope, &filter, None, &group_by, 100).await
        });
        let groups = groups.await.unwrap().unwrap().into_iter();
        groups.map(|group| (group.metadata, group.totals.requests)).collect::<Vec<_>>()
    };
    let some = |value: &str| Some(value.to_owned());
    assert_eq!(by("team").await, [(some("0"), 4), (some("1"), 4), (some("2"), 4)]);
    assert_eq!(by("key_01").await, [(None, 9), (some("same"), 3)]);
    assert_eq!(by("key_62").await, [(None, 9), (some("same"), 3)], "told apart, and the last");
    // It is among the keys that were not told apart.
    assert_eq!(by("key_81").await, [(None, 6), (some(""), 6)]);

    for (key, value, nanos) in
        [("team", "1", 4), ("key_01", "same", 3), ("key_81", "same", 3), ("key_81", "other", 0)]
    {
        let metadata = vec![(key.to_owned(), vec![value.to_owned()])];
        let conditions = SpendConditions { metadata, ..SpendConditions::default() };
        let spent = fixture.database.read(async move |conn: &mut Conn| {
            spend_since(conn, organization_id, &conditions, hour).await
        });
        assert_eq!(spent.await.unwrap().nanos(), nanos, "{key}: {value}");
    }
}

/// A key or value may be told apart in one hour and not in the next.
async fn a_day_tells_apart_what_its_hours_do(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    let template = start(&fixture.clock);
    let midnight = template.admitted_at.duration_trunc(TimeDelta::days(1)).unwrap();
    let write = async |hour: i64, metadata: &[(&str, &str)]| {
        let id = fixture.clock.new_id();
        let admitted_at = midnight + TimeDelta::hours(hour);
        let mut start = AttemptStart { id, admitted_at, ..template.clone() };
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        start.metadata.extend(metadata);
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
        ledger.flush().await.unwrap();
    };
    for hour in [-1, 0, 5, 23, 24] {
        write(hour, &[("team", "a"), ("stage", "test")]).await;
    }
    // As if one hour had reached the limit of values and another that of keys.
    let full = |hour: i64| (midnight + TimeDelta::hours(hour)).format("'%F %T'").to_string();
    let values =
        format!("UPDATE usage_metadata_keys SET value_count = 10000 WHERE hour = {}", full(5));
    sql::execute(&database, &values).await;
    for number in 0..63 {
        write(6, &[(&format!("key_{number}"), "x")]).await;
    }
    for hour in [5, 6, 7] {
        write(hour, &[("team", "b"), ("stage", "test")]).await;
        write(hour, &[("team", "a")]).await;
        write(hour, &[]).await;
    }
    days_agree(&database).await;

    let organization_id = template.organization_id;
    let by = async |key: &str, (from, to): (i64, i64), interval: Option<Interval>| {
        let group_by = GroupBy { dimensions: Vec::new(), metadata_key: Some(key.to_owned()) };
        let (scope, midnight) = (Scope::Organization(organization_id), midnight.naive_utc());
        let filter = filter(midnight + TimeDelta::hours(from), midnight + TimeDelta::hours(to));
        let groups = fixture.database.read(async move |conn: &mut Conn| {
            list_usage(conn, scope, &filter, interval, &group_by, 1_000).await
        });
        let mut sums: BTreeMap<Option<String>, UsageTotals> = BTreeMap::new();
        for group in groups.await.unwrap().unwrap() {
            let sum = sums.entry(group.metadata).or_default();
            *sum = sum.plus(group.totals);
        }
        sums
    };
    for key in ["team", "stage", "key_1", "nothing"] {
        for time in [(0, 24), (-1, 25), (-24, 48), (5, 48), (-24, 7), (6, 7)] {
            let by_hour = by(key, time, Some(Interval::Hour)).await;
            for interval in [None, Some(Interval::Day), Some(Interval::Month)] {
                assert_eq!(by(key, time, interval).await, by_hour, "{key} {time:?} {interval:?}");
            }
        }
    }
    let some = |value: &str| Some(value.to_owned());
    let team = by("team", (0, 24), Some(Interval::Day)).await;
    let team: Vec<_> = team.into_iter().map(|(value, sums)| (value, sums.requests)).collect();
    assert_eq!(team, [(None, 66), (some(""), 3), (some("a"), 5), (some("b"), 1)]);
}

/// The metadata of one caller must not slow the ledger down for all.
async fn many_metadata_keys_need_few_statements(database: Database) {
    let fixture = LedgerFixture::with_connections(&database, 1).await;
    let statements = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&statements);
    let count = move |event: InstrumentationEvent<'_>| {
        if matches!(event, InstrumentationEvent::StartQuery { .. }) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let watched = fixture.database.housekeeping_write(async move |conn: &mut Conn| {
        match conn {
            Conn::Sqlite(object) => object.set_instrumentation(count),
            Conn::Postgres(object) => object.set_instrumentation(count),
        }
        Ok(())
    });
    watched.await.unwrap();
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    let template = start(&fixture.clock);
    for number in 0..31 {
        let id = fixture.clock.new_id();
        let mut start = AttemptStart { id, ..template.clone() };
        for key in 0..32 {
            start.metadata.insert(format!("key_{number}_{key}"), "same".to_owned());
        }
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
    }
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.len(), 31);
    // SQLite writes row by row: 31 rows, their sums and their keys.
    let statements = statements.load(Ordering::Relaxed);
    assert!((5..250).contains(&statements), "{statements}");
    let sums = "SELECT cast(count(*) AS text) AS value FROM usage_rollups \
                WHERE period = 'hour' AND metadata_key <> ''";
    assert_eq!(sql::texts(&database, sums).await, ["65"]);
}

/// Moves an attempt back by so many days, and its id, which holds the time.
fn admit_earlier(start: &mut AttemptStart, days: i64) {
    start.admitted_at -= TimeDelta::days(days);
    start.id = AttemptId::first_at(start.admitted_at);
}

async fn retention_deletes_rows_and_keeps_sums(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    let mut kept = BTreeSet::new();
    for days in [0, 39, 41, 400] {
        let mut start = start(&fixture.clock);
        admit_earlier(&mut start, days);
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
        if days < 40 {
            kept.insert(row(start.id, "completed", 1));
        }
    }
    ledger.flush().await.unwrap();
    assert!(!delete_expired(&fixture.database, &fixture.clock, 40).await.unwrap());
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), kept);
    let requests = "SELECT cast(sum(requests) AS text) AS value FROM usage_rollups \
                    WHERE period = 'hour'";
    assert_eq!(sql::texts(&database, requests).await, ["4"]);
}

async fn deleted_rows_are_not_summed_again(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "j");
    let ledger = fixture.open(small(directory.clone())).await;
    let admitted = async |days: i64| {
        let mut start = start(&fixture.clock);
        admit_earlier(&mut start, days);
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
        start.id
    };
    admitted(41).await;
    let young = admitted(39).await;
    let whole = copy(&directory, &journal(&database, "whole"));
    ledger.flush().await.unwrap();
    assert!(!delete_expired(&fixture.database, &fixture.clock, 40).await.unwrap());
    // A longer retention does not bring deleted rows back.
    assert!(!delete_expired(&fixture.database, &fixture.clock, 400).await.unwrap());
    fixture.settle(&whole).await;
    assert_eq!(rows(&database).await, [row(young, "completed", 1)]);
    let requests = "SELECT cast(sum(requests) AS text) AS value FROM usage_rollups \
                    WHERE period = 'hour'";
    assert_eq!(sql::texts(&database, requests).await, ["2"]);
    // The row is kept in a file, because it may never have been in the ledger.
    let kept = std::fs::read_to_string(whole.join(REJECTED)).unwrap();
    assert_eq!(kept.lines().count(), 1, "{kept}");
}

async fn two_replicas_write_the_same_sums(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let other = LedgerFixture::new(&database).await;
    let ledgers = [
        fixture.open(small(journal(&database, "one"))).await,
        other.open(small(journal(&database, "two"))).await,
    ];
    let template = start(&fixture.clock);
    for number in 0..2_000_usize {
        let (id, api_key_id) = (fixture.clock.new_id(), Some(fixture.clock.new_id()));
        let mut start = AttemptStart { id, ..template.clone() };
        if number % 3 == 0 {
            start.api_key_id = api_key_id;
        }
        start.metadata.insert("team".to_owned(), format!("{}", number % 50));
        let ledger = &ledgers[number % 2];
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
    }
    let (one, two) = tokio::join!(ledgers[0].flush(), ledgers[1].flush());
    one.unwrap();
    two.unwrap();
    assert_eq!(rows(&database).await.len(), 2_000);
    sums_agree(&database).await;
}
