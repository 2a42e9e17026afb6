use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;
use crate::db::Location;
use crate::domain::window::SpendWindow;

/// Readings of a ledger that can't be flushed, and how often somebody tried.
fn failing(directory: &std::path::Path) -> (Histories, Arc<AtomicUsize>) {
    let location = Location::Sqlite(directory.join("tollgate.db"));
    let database = Database::open(location, 1, Duration::from_secs(1)).unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = tries.clone();
    let flush: FlushLedger = Arc::new(move || {
        tried.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            tokio::task::yield_now().await;
            Err("the database hangs".to_owned())
        })
    });
    (Histories::new(database, flush), tries)
}

fn claims(organization: u128, bucket: u128, at: &str) -> Claims {
    let uuid = uuid::Uuid::from_u128;
    let limit = Limit::Spend { window: SpendWindow::Hourly, limit: NanoUsd::ZERO };
    Claims {
        organization_id: uuid(organization).into(),
        request_id: uuid(9).into(),
        at: at.parse().unwrap(),
        claims: vec![Claim { bucket: uuid(bucket).into(), limit, amount: 1 }],
    }
}

const NOON: &str = "2026-03-04T12:00:00Z";

async fn ask(
    histories: &Histories,
    claims: &Claims,
    version: Option<u64>,
) -> Result<NanoUsd, String> {
    let alone = version.map(|version| Alone { version, now: claims.at, keeps: true });
    histories.spent(claims, &claims.claims[0], &one_child(), alone).await
}

fn one_child() -> Counted<'static> {
    Counted::Child(ChildSeed {
        id: uuid::Uuid::from_u128(2).into(),
        parent: uuid::Uuid::from_u128(3).into(),
        parent_type: crate::domain::policy::PolicyType::DefaultSpendCap,
        name: "each".into(),
        kind: SubjectKind::ApiKey,
        subject: uuid::Uuid::from_u128(4).to_string(),
        header: None,
    })
}

#[tokio::test]
async fn all_who_wait_hear_the_same_error() {
    let directory = tempfile::tempdir().unwrap();
    let (histories, tries) = failing(directory.path());
    let same = claims(1, 2, NOON);
    let heard = join_all((0..8).map(|_| ask(&histories, &same, None))).await;
    assert!(heard.iter().all(Result::is_err), "{heard:?}");
    assert_eq!(tries.load(Ordering::Relaxed), 1);
    // Another counter of theirs need not find out again; others have to.
    ask(&histories, &claims(1, 3, NOON), None).await.unwrap_err();
    assert_eq!(tries.load(Ordering::Relaxed), 1);
    ask(&histories, &claims(4, 3, NOON), None).await.unwrap_err();
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    assert!(lock(&histories.under_way).is_empty());
}

#[tokio::test]
async fn a_window_that_was_seen_whole_needs_no_reading() {
    let directory = tempfile::tempdir().unwrap();
    let (histories, tries) = failing(directory.path());
    let at = |time: &str| claims(1, 2, &format!("2026-03-04T{time}Z"));
    ask(&histories, &at("12:10:00"), Some(7)).await.unwrap_err();
    let later = at("13:00:00");
    assert_eq!(ask(&histories, &later, Some(7)).await, Ok(NanoUsd::ZERO));
    assert_eq!(tries.load(Ordering::Relaxed), 1);
    // Of other policies, the rest of the hour is not known.
    ask(&histories, &at("13:30:00"), Some(8)).await.unwrap_err();
    ask(&histories, &at("13:59:59"), Some(8)).await.unwrap_err();
    assert_eq!(ask(&histories, &at("14:00:00"), Some(8)).await, Ok(NanoUsd::ZERO));
    // Who does not count alone asks.
    ask(&histories, &at("15:00:00"), None).await.unwrap_err();
}

#[tokio::test]
async fn what_may_have_been_counted_elsewhere_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (histories, _) = failing(directory.path());
    let at = |time: &str| claims(1, 2, &format!("2026-03-04T{time}Z"));
    let ask = async |time: &str, counted: Counted<'_>, keeps: bool| {
        let claims = at(time);
        let alone = Alone { version: 7, now: claims.at, keeps };
        histories.spent(&claims, &claims.claims[0], &counted, Some(alone)).await
    };
    ask("12:10:00", one_child(), true).await.unwrap_err();
    assert_eq!(ask("13:00:00", one_child(), true).await, Ok(NanoUsd::ZERO));
    // The clock was far ahead, and the window's counters may have been dropped.
    ask("13:30:00", one_child(), false).await.unwrap_err();
    // Some share a bucket in this hour, and may get one of their own.
    let shared = Counted::Shared(uuid::Uuid::from_u128(5).into());
    ask("14:20:00", shared, true).await.unwrap_err();
    ask("14:30:00", one_child(), true).await.unwrap_err();
    assert_eq!(ask("15:00:00", one_child(), true).await, Ok(NanoUsd::ZERO));
}
