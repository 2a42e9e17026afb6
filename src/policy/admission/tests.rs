//! Verdicts, and what they report.

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::domain::ids::{ApiKeyId, PolicyId, UserId, WorkspaceId};
use crate::domain::metadata::Metadata;
use crate::domain::policy::{PolicyType, RateMetric};
use crate::domain::pricing::Extras;
use crate::llm::limits::Metering;
use crate::policy::limits::Memory;
use crate::policy::set::{PolicySet, sample_policy as policy};

fn id<T: From<Uuid>>(number: u128) -> T {
    T::from(Uuid::from_u128(number))
}

fn request(metadata: &Metadata, number: u128) -> AdmissionRequest<'_> {
    AdmissionRequest {
        subject: Subject {
            organization_id: id(1),
            workspace_id: id::<WorkspaceId>(2),
            user_id: Some(id::<UserId>(3)),
            api_key_id: Some(id::<ApiKeyId>(4)),
            metadata,
        },
        targets: &[Target {
            configuration: Some("chat"),
            providers: &["openai"],
            model: Some("gpt-4o"),
        }],
        price: None,
        bound: Bound {
            input_tokens: 100,
            output_tokens: 10,
            hard: true,
            estimate_tokens: 25,
            metering: Metering::Tokens,
            unknown: false,
            unseen_tokens: 0,
            extras: Extras::NONE,
        },
        request_id: id(number),
        at: "2026-03-04T05:06:07Z".parse().unwrap(),
    }
}

/// Reserves in memory as admission does, with nothing spent before.
fn ask(
    set: &PolicySet,
    memory: &Memory,
    request: &AdmissionRequest<'_>,
    cost: i64,
) -> Result<Box<PolicyReport>, Denied> {
    let matched = set.matching(&request.subject);
    let mut claims = claims_of(&matched, request, NanoUsd::from_nanos(cost));
    claims.list.iter_mut().for_each(|claim| claim.spent_before = Some(NanoUsd::ZERO));
    let mut report = Box::new(PolicyReport::new(request, &matched));
    match memory.reserve(&claims) {
        Reserved::Admitted(statuses) => {
            report.add_limits(&claims, &statuses);
            Ok(report)
        }
        Reserved::Refused(statuses) => {
            report.add_limits(&claims, &statuses);
            Err(Denied::by_limits(request, report))
        }
        Reserved::Unknown(unknown) => panic!("{unknown:?} are known"),
    }
}

fn cap(limit: Value) -> Value {
    json!({"window": "daily", "limit_usd": limit})
}

fn rate(metric: &str, value: u64) -> Value {
    json!({"version": 1, "limits": [{"metric": metric, "window": "minute", "value": value}]})
}

#[test]
fn a_report_says_what_is_left_of_each_limit() {
    let set = PolicySet::compile([
        policy(10, "cap", PolicyType::SpendCap, cap(json!(1.5))),
        policy(11, "pace", PolicyType::RateLimit, rate("requests", 2)),
        policy(12, "wide", PolicyType::RateLimit, rate("requests", 9)),
        policy(13, "models", PolicyType::ModelAccess, json!({"providers": []})),
    ])
    .unwrap();
    let metadata = Metadata::default();
    let report = ask(&set, &Memory::default(), &request(&metadata, 100), 500_000_000).unwrap();
    let ids: Vec<PolicyId> = report.policy_ids().collect();
    assert_eq!(ids, [10, 11, 12, 13].map(id));
    let left: Vec<_> =
        report.limits.iter().map(|one| (one.source.policy, one.remaining())).collect();
    assert_eq!(left, [(0, 1_000_000_000), (1, 1), (2, 8)]);
    let tightest = report.tightest(RateMetric::Requests).unwrap();
    assert_eq!((tightest.limit.max(), tightest.status.reset_after), (2, 60));
    assert!(report.tightest(RateMetric::Tokens).is_none());
    assert!(report.is_cost_hard);
}

#[test]
fn all_violated_policies_are_named_and_a_spend_cap_decides_the_reason() {
    let set = PolicySet::compile([
        policy(10, "cap", PolicyType::SpendCap, cap(json!(1))),
        policy(11, "pace", PolicyType::RateLimit, rate("requests", 1)),
        policy(12, "roomy", PolicyType::RateLimit, rate("tokens", 1000)),
    ])
    .unwrap();
    let metadata = Metadata::default();
    let memory = Memory::default();
    ask(&set, &memory, &request(&metadata, 100), 1_000_000_000).unwrap();
    let denied = ask(&set, &memory, &request(&metadata, 101), 1).unwrap_err();
    assert_eq!(denied.reason, Reason::Spend);
    assert_eq!(
        denied.message,
        "request blocked by gateway policies: cap, pace. It may cost up to 0.000000001 USD, and \
         nothing is left of cap's daily limit of 1 USD until 2026-03-05T00:00:00Z."
    );
    assert_eq!(denied.violated, [id(10), id(11)]);
    let matched: Vec<PolicyId> = denied.report.policy_ids().collect();
    assert_eq!(matched, [10, 11, 12].map(id));
    assert_eq!(denied.retry_after, None);
    let denied = ask(&set, &memory, &request(&metadata, 102), 0).unwrap_err();
    assert_eq!((denied.reason, &denied.violated[..]), (Reason::Rate, &[id(11)][..]));
    assert_eq!(denied.retry_after, Some(60));
    let violated: Vec<bool> = denied.report.limits.iter().map(|one| one.status.violated).collect();
    assert_eq!(violated, [false, true, false]);
}

#[test]
fn a_request_that_may_cost_more_than_is_left_is_told_how_to_lower_that() {
    let cap = cap(json!(1));
    let set = PolicySet::compile([policy(10, "cap", PolicyType::SpendCap, cap)]).unwrap();
    let metadata = Metadata::default();
    let memory = Memory::default();
    ask(&set, &memory, &request(&metadata, 100), 600_000_000).unwrap();
    let denied = ask(&set, &memory, &request(&metadata, 101), 500_000_000).unwrap_err();
    assert_eq!(
        denied.message,
        "request blocked by gateway policies: cap. It may cost up to 0.5 USD, and 0.4 USD is left \
         of cap's daily limit of 1 USD. A lower max_tokens (max_output_tokens in the Responses API) \
         lowers what it may cost."
    );
}

#[test]
fn a_request_that_never_fits_has_no_time_to_retry() {
    let set = PolicySet::compile([
        policy(10, "pace", PolicyType::RateLimit, rate("requests", 1)),
        policy(11, "small", PolicyType::RateLimit, rate("tokens", 24)),
    ])
    .unwrap();
    let metadata = Metadata::default();
    let denied = ask(&set, &Memory::default(), &request(&metadata, 100), 0).unwrap_err();
    assert_eq!(denied.retry_after, None);
}

#[test]
fn a_listing_passes_a_cap_of_zero() {
    let set = PolicySet::compile([policy(10, "cap", PolicyType::SpendCap, cap(json!(0)))]).unwrap();
    let metadata = Metadata::default();
    let request = AdmissionRequest { bound: Bound::FREE, ..request(&metadata, 100) };
    assert!(ask(&set, &Memory::default(), &request, 0).is_ok());
}

mod with_database;
