//! Headers that tell what is left of the policies' limits.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::domain::ids::{ApiKeyId, PolicyId, WorkspaceId};
use crate::domain::metadata::Metadata;
use crate::domain::policy::{PolicyType, Subject};
use crate::policy::admission::ReportedPolicy;
use crate::policy::limits::{LimitSource, LimitStatus};
use crate::policy::set::{PolicySet, StoredPolicy, sample_policy as policy};

/// A report of these policies; this is what is left of each one's first limit, if anything is said.
fn report(policies: Vec<StoredPolicy>, statuses: &[Option<LimitStatus>]) -> PolicyReport {
    let set = PolicySet::compile(policies).unwrap();
    let id = Uuid::from_u128;
    let subject = Subject {
        organization_id: id(1).into(),
        workspace_id: WorkspaceId::from(id(2)),
        user_id: None,
        api_key_id: Some(ApiKeyId::from(id(4))),
        metadata: &Metadata::default(),
    };
    let mut report = PolicyReport {
        at: "2026-03-04T05:06:07Z".parse().unwrap(),
        is_cost_hard: true,
        ..PolicyReport::default()
    };
    for (place, one) in set.matching(&subject).iter().enumerate() {
        let reported = ReportedPolicy { id: one.bucket, policy: Arc::clone(one.policy) };
        report.policies.push(reported);
        let Some(status) = statuses.get(place).copied().flatten() else { continue };
        report.limits.push(ReportedLimit {
            source: LimitSource { policy: place, limit: 0 },
            limit: one.policy.limits[0].limit,
            amount: 1,
            status,
        });
    }
    report
}

fn status(used: i64, violated: bool) -> Option<LimitStatus> {
    Some(LimitStatus { used, violated, retry_after: None, reset_after: 60 })
}

fn headers(report: &PolicyReport) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert_policy_headers(&mut headers, Some(report));
    headers
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

fn policies(headers: &HeaderMap) -> Value {
    serde_json::from_str(header(headers, "x-tollgate-policies").unwrap()).unwrap()
}

fn spend_cap(number: u128, name: &str) -> StoredPolicy {
    let config = json!({"window": "daily", "limit_usd": 1.5});
    policy(number, name, PolicyType::SpendCap, config)
}

fn rate_limit(number: u128, name: &str, value: u64) -> StoredPolicy {
    let limits = json!([{"metric": "requests", "window": "minute", "value": value}]);
    policy(number, name, PolicyType::RateLimit, json!({"version": 1, "limits": limits}))
}

#[test]
fn headers_say_how_each_limit_stands() {
    let models = policy(13, "models", PolicyType::ModelAccess, json!({"providers": []}));
    let stored = vec![
        spend_cap(10, "Équipe \"A\""),
        rate_limit(11, "pace", 2),
        rate_limit(12, "wide", 9),
        models,
    ];
    let statuses = [status(500_000_000, false), status(3, true), status(3, false)];
    let mut report = report(stored, &statuses);
    report.is_cost_hard = false;
    let headers = headers(&report);
    let id = |number| PolicyId::from(Uuid::from_u128(number)).to_string();
    assert_eq!(
        policies(&headers),
        json!([
            {"id": id(10), "name": "Équipe \"A\"", "type": "spend_cap",
                "limits": [{"window": "daily", "limit_usd": 1.5, "remaining_usd": 1,
                    "resets_at": "2026-03-05T00:00:00Z"}], "hard": false},
            {"id": id(11), "name": "pace", "type": "rate_limit",
                "limits": [{"metric": "requests", "window": "minute", "limit": 2, "remaining": 0,
                    "reset_seconds": 60, "violated": true}]},
            {"id": id(12), "name": "wide", "type": "rate_limit",
                "limits": [{"metric": "requests", "window": "minute", "limit": 9, "remaining": 6,
                    "reset_seconds": 60}]},
            {"id": id(13), "name": "models", "type": "model_access"},
        ])
    );
    assert!(header(&headers, "x-tollgate-policies").unwrap().is_ascii());
    assert_eq!(header(&headers, "x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(header(&headers, "x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(header(&headers, "x-ratelimit-reset-requests"), Some("1m0s"));
    assert_eq!(header(&headers, "x-ratelimit-limit-tokens"), None);
}

#[test]
fn limits_that_were_not_checked_are_left_out() {
    let headers = headers(&report(vec![spend_cap(10, "cap")], &[]));
    let id = PolicyId::from(Uuid::from_u128(10)).to_string();
    assert_eq!(policies(&headers), json!([{"id": id, "name": "cap", "type": "spend_cap"}]));
}

#[test]
fn the_array_is_bounded_and_says_how_many_are_left_out() {
    let name = "名".repeat(128);
    let headers = headers(&report((0..40).map(|n| spend_cap(10 + n, &name)).collect(), &[]));
    let text = header(&headers, "x-tollgate-policies").unwrap();
    assert!(text.len() <= MAX_BYTES, "{}", text.len());
    let policies = policies(&headers);
    let shown = policies.as_array().unwrap().len() - 1;
    assert_eq!(policies[shown]["more"], json!(40 - shown));
}

#[test]
fn instants_are_written_as_chrono_writes_them() {
    for at in ["2026-03-04T05:06:07Z", "1999-12-31T23:59:59Z", "2400-02-29T00:00:00Z"] {
        let mut json = String::new();
        push_instant(&mut json, at.parse().unwrap());
        assert_eq!(json, at);
    }
}
