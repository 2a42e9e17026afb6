//! Reading from the ledger what was spent before.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;
use crate::db::Location;
use crate::domain::window::SpendWindow;
use crate::policy::limits::LimitSource;

/// A reader of a ledger that can't be flushed, and the number of tries.
fn failing(directory: &std::path::Path) -> (PastSpendReader, Arc<AtomicUsize>) {
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
    (PastSpendReader::new(database, flush), tries)
}

/// A claim on an hourly cap, at this time.
#[derive(Clone, Copy)]
struct SpendLookup {
    organization_id: OrganizationId,
    claim: Claim,
    at: DateTime<Utc>,
}

fn lookup(organization: u128, counter: u128, at: &str) -> SpendLookup {
    let uuid = uuid::Uuid::from_u128;
    let limit = Limit::Spend { window: SpendWindow::Hourly, limit: NanoUsd::ZERO };
    let (counter, source) = (uuid(counter).into(), LimitSource::default());
    let claim = Claim { counter, limit, amount: 1, spent_before: None, source };
    SpendLookup { organization_id: uuid(organization).into(), claim, at: at.parse().unwrap() }
}

const NOON: &str = "2026-03-04T12:00:00Z";

fn counted<'c>(requests: &'c CountedRequests<'c>) -> Counted<'c> {
    Counted { requests, with_subscriptions: false }
}

async fn ask(
    reader: &PastSpendReader,
    lookup: &SpendLookup,
    version: Option<u64>,
) -> Result<NanoUsd, String> {
    let only = version.map(|version| OnlyCounter { version, now: lookup.at, keeps_window: true });
    reader
        .before(lookup.organization_id, lookup.at, &lookup.claim, counted(&one_child()), only)
        .await
}

fn one_child() -> CountedRequests<'static> {
    CountedRequests::Child(ChildPolicy {
        id: uuid::Uuid::from_u128(2).into(),
        parent: uuid::Uuid::from_u128(3).into(),
        parent_type: crate::domain::policy::PolicyType::DefaultSpendCap,
        name: "each".into(),
        subject_kind: SubjectKind::ApiKey,
        subject_id: uuid::Uuid::from_u128(4).to_string(),
        header: None,
    })
}

#[tokio::test]
async fn requests_that_wait_for_one_read_share_its_error() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, tries) = failing(directory.path());
    let same = lookup(1, 2, NOON);
    let results = join_all((0..8).map(|_| ask(&reader, &same, None))).await;
    assert!(results.iter().all(Result::is_err), "{results:?}");
    assert_eq!(tries.load(Ordering::Relaxed), 1);
    // Another counter of the same organization fails without a try; another organization tries.
    ask(&reader, &lookup(1, 3, NOON), None).await.unwrap_err();
    assert_eq!(tries.load(Ordering::Relaxed), 1);
    ask(&reader, &lookup(4, 3, NOON), None).await.unwrap_err();
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    assert!(lock(&reader.under_way).is_empty());
}

#[tokio::test]
async fn a_window_that_began_after_the_process_needs_no_read() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, tries) = failing(directory.path());
    let at = |time: &str| lookup(1, 2, &format!("2026-03-04T{time}Z"));
    ask(&reader, &at("12:10:00"), Some(7)).await.unwrap_err();
    let later = at("13:00:00");
    assert_eq!(ask(&reader, &later, Some(7)).await, Ok(NanoUsd::ZERO));
    assert_eq!(tries.load(Ordering::Relaxed), 1);
    // With other policies, the rest of the hour is not known.
    ask(&reader, &at("13:30:00"), Some(8)).await.unwrap_err();
    ask(&reader, &at("13:59:59"), Some(8)).await.unwrap_err();
    assert_eq!(ask(&reader, &at("14:00:00"), Some(8)).await, Ok(NanoUsd::ZERO));
    // If other processes count too, the ledger is read.
    ask(&reader, &at("15:00:00"), None).await.unwrap_err();
}

#[tokio::test]
async fn what_may_have_been_counted_elsewhere_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, _) = failing(directory.path());
    let at = |time: &str| lookup(1, 2, &format!("2026-03-04T{time}Z"));
    let ask = async |time: &str, child: CountedRequests<'_>, keeps_window: bool| {
        let lookup = at(time);
        let only = OnlyCounter { version: 7, now: lookup.at, keeps_window };
        let SpendLookup { organization_id, claim, at } = lookup;
        reader.before(organization_id, at, &claim, counted(&child), Some(only)).await
    };
    ask("12:10:00", one_child(), true).await.unwrap_err();
    assert_eq!(ask("13:00:00", one_child(), true).await, Ok(NanoUsd::ZERO));
    // The clock was far ahead, and the window's counters may have been dropped.
    ask("13:30:00", one_child(), false).await.unwrap_err();
    // Subjects of an overflow bucket may get a bucket of their own within the hour.
    let shared = CountedRequests::Overflow(uuid::Uuid::from_u128(5).into());
    ask("14:20:00", shared, true).await.unwrap_err();
    ask("14:30:00", one_child(), true).await.unwrap_err();
    assert_eq!(ask("15:00:00", one_child(), true).await, Ok(NanoUsd::ZERO));
}
