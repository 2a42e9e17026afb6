//! Admission over a database and counters in memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::NaiveDateTime;

use super::*;
use crate::clock::Clock;
use crate::crypto::{KeyDigester, system_random};
use crate::db::gateway_policies::{
    GatewayPolicyRow, find_gateway_policy, insert_gateway_policy, list_effective_policies,
};
use crate::db::organizations::{OrganizationRow, insert_organization};
use crate::db::{ChangeScope, Conn, DbError, Location};
use crate::directory::DirectoryOptions;
use crate::domain::names::DisplayName;
use crate::domain::policy::{Audience, SubjectMatcher};
use crate::domain::pricing::Price;
use crate::domain::pricing::resolve::PriceOrigin;
use crate::policy::limits::Amounts;
use crate::policy::set::{StoredPolicy, child_id};

struct TestBed {
    admission: Admission,
    database: Database,
    child_queue: ChildQueue,
    flushes: Arc<AtomicUsize>,
    /// Whether the ledger can't be read.
    is_away: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

async fn test_bed(policies: Vec<StoredPolicy>) -> TestBed {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(folder.path().join("tollgate.db"));
    let database = Database::open(location, 2, std::time::Duration::from_secs(5)).unwrap();
    database.migrate().await.unwrap();
    let options = DirectoryOptions {
        capacity: 100,
        max_stale: std::time::Duration::from_secs(60),
        poll: std::time::Duration::from_secs(60),
    };
    let digester = KeyDigester::new(&mut system_random).unwrap();
    let metrics = Metrics::new();
    let directory =
        Directory::start(database.clone(), options, digester, metrics.clone()).await.unwrap();
    let now = Clock::default().now().naive_utc();
    let organization = OrganizationRow {
        id: id(1),
        name: DisplayName::parse("Acme").unwrap(),
        status: "active".to_owned(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let rows: Vec<GatewayPolicyRow> = policies.into_iter().map(|one| row(one, now)).collect();
    database
        .write(ChangeScope::Everything, async move |conn: &mut Conn| {
            insert_organization(conn, organization).await?;
            for row in rows {
                insert_gateway_policy(conn, row).await?;
            }
            Ok::<_, DbError>(())
        })
        .await
        .unwrap();
    let flushes = Arc::new(AtomicUsize::new(0));
    let is_away = Arc::new(AtomicBool::new(false));
    let (counted, away) = (flushes.clone(), is_away.clone());
    let flush: FlushLedger = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let away = away.load(Ordering::Relaxed);
        Box::pin(async move { if away { Err("it is away".to_owned()) } else { Ok(()) } })
    });
    let child_queue = ChildQueue::default();
    let counters = Counters::in_memory();
    let admission = Admission::new(
        directory,
        database.clone(),
        counters,
        child_queue.clone(),
        Clock::default(),
        metrics,
        flush,
    );
    TestBed { admission, database, child_queue, flushes, is_away, _folder: folder }
}

impl TestBed {
    /// Admits by the policies that the directory has.
    async fn admit(&self, request: AdmissionRequest<'_>) -> Result<Admitted, Denied> {
        let set = self.admission.inner.directory.find_policies(id(1)).await.unwrap();
        self.admission.admit(request, &set).await
    }
}

fn row(policy: StoredPolicy, now: NaiveDateTime) -> GatewayPolicyRow {
    GatewayPolicyRow {
        id: policy.id,
        organization_id: id(1),
        name: policy.name,
        description: None,
        policy_type: policy.policy_type,
        family: policy.policy_type.family().as_str().to_owned(),
        matchers_key: Audience::digest(&policy.subject_matchers),
        subject_matchers: serde_json::to_value(policy.subject_matchers).unwrap(),
        config: policy.config,
        action: "block".to_owned(),
        enabled: policy.enabled,
        priority: policy.priority,
        created_by: None,
        is_system_generated: false,
        parent_policy_id: policy.parent_policy_id,
        detached: policy.detached,
        epochs: serde_json::to_value(policy.epochs).unwrap(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}

/// A dollar for each request.
fn price() -> ResolvedPrice {
    let price: Price =
        serde_json::from_value(json!({"input": 0, "output": 0, "request": 1})).unwrap();
    ResolvedPrice {
        price,
        version: "test".to_owned(),
        origin: PriceOrigin::Organization,
        matched: None,
    }
}

#[tokio::test]
async fn a_cap_worth_100_requests_admits_100_of_400_at_once() {
    let bed = test_bed(vec![policy(10, "cap", PolicyType::SpendCap, cap(json!(100)))]).await;
    let (metadata, price) = (Metadata::default(), price());
    let admissions = (0..400).map(|number| {
        let request = AdmissionRequest { price: Some(&price), ..request(&metadata, 1000 + number) };
        bed.admit(request)
    });
    let answers = futures_util::future::join_all(admissions).await;
    let (admitted, denied): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((admitted.len(), denied.len()), (100, 300));
    assert!(denied.iter().all(|one| one.as_ref().unwrap_err().reason == Reason::Spend));
    assert_eq!(bed.flushes.load(Ordering::Relaxed), 1, "the first asks for all");

    // What is dropped unsent is free again, what was sent is charged, what is settled is corrected.
    let mut admitted = admitted.into_iter().map(Result::unwrap);
    drop(admitted.next());
    let mut sent = admitted.next().unwrap();
    assert_eq!(sent.reserved.map(NanoUsd::nanos), Some(1_000_000_000));
    sent.reservation.mark_sent();
    drop(sent);
    let used = Amounts { cost: NanoUsd::from_nanos(250_000_000), tokens: 5 };
    admitted.next().unwrap().reservation.settle(used);
    let again = |number| {
        let request = AdmissionRequest { price: Some(&price), ..request(&metadata, number) };
        bed.admit(request)
    };
    let one = again(2000).await.unwrap();
    assert_eq!(again(2001).await.unwrap_err().reason, Reason::Spend);
    drop((one, admitted));
}

#[tokio::test]
async fn without_a_price_a_cap_denies_and_says_how_to_set_one() {
    let bed = test_bed(vec![policy(10, "cap", PolicyType::SpendCap, cap(json!(100)))]).await;
    let metadata = Metadata::default();
    let denied = bed.admit(request(&metadata, 1)).await.unwrap_err();
    assert_eq!(denied.reason, Reason::PriceUnknown);
    assert!(denied.message.starts_with("request blocked by gateway policies: cap. "));
    assert!(denied.message.contains("/api/v1/model-prices"), "{}", denied.message);
    let listing = AdmissionRequest { bound: Bound::FREE, ..request(&metadata, 2) };
    assert!(bed.admit(listing).await.is_ok());
}

#[tokio::test]
async fn a_policy_that_does_not_parse_denies_further_attempts() {
    let bed = test_bed(vec![policy(10, "cap", PolicyType::SpendCap, json!({}))]).await;
    let metadata = Metadata::default();
    let denied = bed.admission.reserve_more(&request(&metadata, 1)).await.unwrap_err();
    assert_eq!((denied.reason, denied.retry_after), (Reason::Unavailable, Some(1)));
}

#[tokio::test]
async fn a_policy_that_is_not_enforced_denies_nothing() {
    let default = policy(20, "each", PolicyType::DefaultSpendCap, cap(json!(1)));
    let subject = Uuid::from_u128(3).to_string();
    let mut child = policy(21, "nobody's", PolicyType::SpendCap, cap(json!(1)));
    child.id = child_id(id(20), &subject, None);
    child.subject_matchers = vec![SubjectMatcher { key: "user_id".to_owned(), value: subject }];
    (child.parent_policy_id, child.detached, child.enabled) = (Some(id(20)), true, false);
    let bed = test_bed(vec![default, child]).await;
    let (metadata, price) = (Metadata::default(), price());
    let ask = async |number| {
        let request = AdmissionRequest { price: Some(&price), ..request(&metadata, number) };
        bed.admit(request).await
    };
    bed.is_away.store(true, Ordering::Relaxed);
    let admitted = ask(1).await.unwrap();
    assert!(admitted.report.policies.is_empty() && admitted.report.limits.is_empty());
    bed.is_away.store(false, Ordering::Relaxed);
    for number in 2..5 {
        ask(number).await.unwrap().reservation.settle(Amounts::default());
    }
}

#[tokio::test]
async fn a_childs_row_is_written_after_its_first_request() {
    let default = policy(20, "each", PolicyType::DefaultRateLimit, rate("requests", 2));
    let bed = test_bed(vec![default]).await;
    let metadata = Metadata::default();
    let child = child_id(id(20), &Uuid::from_u128(3).to_string(), None);
    let ask = async |number| bed.admit(request(&metadata, number)).await;
    let ids = |admitted: Admitted| admitted.report.policy_ids().collect::<Vec<_>>();
    assert_eq!(ids(ask(1).await.unwrap()), [child]);
    assert_eq!(bed.child_queue.len(), 1);
    bed.child_queue.write(&bed.database, &Clock::default()).await.unwrap();
    assert!(bed.child_queue.is_empty());
    let made = bed
        .database
        .read(async move |conn: &mut Conn| find_gateway_policy(conn, id(1), child).await)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((made.parent_policy_id, made.is_system_generated), (Some(id(20)), true));
    assert_eq!(made.policy_type, PolicyType::RateLimit);
    assert_eq!(ids(ask(2).await.unwrap()), [child], "it is the same bucket");
    assert_eq!(bed.child_queue.len(), 0, "it is known now");
    let rows = bed
        .database
        .read(async move |conn: &mut Conn| list_effective_policies(conn, id(1)).await)
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
}
