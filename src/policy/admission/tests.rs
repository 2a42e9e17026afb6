use actix_web::http::header::RETRY_AFTER;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::domain::ids::{ApiKeyId, UserId, WorkspaceId};
use crate::domain::metadata::Metadata;
use crate::domain::policy::{Epochs, PolicyType, SubjectMatcher};
use crate::policy::limits::Memory;
use crate::policy::set::{PolicySet, StoredPolicy};

fn id<T: From<Uuid>>(number: u128) -> T {
    T::from(Uuid::from_u128(number))
}

fn policy(number: u128, name: &str, policy_type: PolicyType, config: Value) -> StoredPolicy {
    let key = if policy_type.is_default() { "user_id" } else { "organization_id" };
    let value =
        if policy_type.is_default() { String::new() } else { Uuid::from_u128(1).to_string() };
    StoredPolicy {
        id: id(number),
        name: name.to_owned(),
        policy_type,
        subject_matchers: vec![SubjectMatcher { key: key.to_owned(), value }],
        config,
        enabled: true,
        priority: i64::try_from(number).unwrap(),
        parent_policy_id: None,
        detached: false,
        epochs: Epochs::default(),
    }
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
        target: Target { configuration: "chat", providers: &["openai"], model: "gpt-4o" },
        price: None,
        bound: Bound {
            input_tokens: 100,
            output_tokens: 10,
            hard: true,
            estimate_tokens: 25,
            free: false,
            unseen_tokens: 0,
        },
        request_id: id(number),
        at: "2026-03-04T05:06:07Z".parse().unwrap(),
    }
}

type Told = (bool, Vec<(HeaderName, HeaderValue)>, Option<Denied>);

/// Asks the counters as admission does, with nothing spent before.
fn ask(set: &PolicySet, memory: &Memory, request: &AdmissionRequest<'_>, cost: i64) -> Told {
    let applied = set.matching(&request.subject);
    let Claimed { claims, owners } = Claimed::of(&applied, &[], request, NanoUsd::from_nanos(cost));
    let history = vec![Some(NanoUsd::ZERO); claims.len()];
    let claims = Claims {
        organization_id: request.subject.organization_id,
        request_id: request.request_id,
        at: request.at,
        claims,
    };
    match memory.reserve(&claims, &history) {
        Reserved::Admitted(standings) => {
            let told = Some((&claims, owners.as_slice(), standings.as_slice()));
            (true, headers::of(request, &applied, told), None)
        }
        Reserved::Refused(standings) => {
            let denied = Denied::by_limits(request, &applied, &claims, &owners, &standings);
            (false, denied.headers.clone(), Some(denied))
        }
        Reserved::Unknown(unknown) => panic!("{unknown:?} were told"),
    }
}

fn header<'h>(headers: &'h [(HeaderName, HeaderValue)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.to_str().unwrap())
}

fn list(headers: &[(HeaderName, HeaderValue)]) -> Value {
    serde_json::from_str(header(headers, "x-tollgate-policies").unwrap()).unwrap()
}

fn cap(limit: Value) -> Value {
    json!({"window": "daily", "limit_usd": limit})
}

fn rate(metric: &str, value: u64) -> Value {
    json!({"version": 1, "limits": [{"metric": metric, "window": "minute", "value": value}]})
}

#[test]
fn every_answer_tells_how_the_limits_stand() {
    let set = PolicySet::compile([
        policy(10, "Équipe \"A\"", PolicyType::SpendCap, cap(json!(1.5))),
        policy(11, "pace", PolicyType::RateLimit, rate("requests", 2)),
        policy(12, "models", PolicyType::ModelAccess, json!({"providers": []})),
    ])
    .unwrap();
    let metadata = Metadata::default();
    let mut request = request(&metadata, 100);
    request.bound.hard = false;
    let (admitted, headers, _) = ask(&set, &Memory::default(), &request, 500_000_000);
    assert!(admitted);
    assert_eq!(
        list(&headers),
        json!([
            {"id": Uuid::from_u128(10).to_string(), "name": "Équipe \"A\"", "type": "spend_cap",
                "limits": [{"window": "daily", "limit_usd": 1.5, "remaining_usd": 1,
                    "resets_at": "2026-03-05T00:00:00Z"}], "hard": false},
            {"id": Uuid::from_u128(11).to_string(), "name": "pace", "type": "rate_limit",
                "limits": [{"metric": "requests", "window": "minute", "limit": 2, "remaining": 1,
                    "reset_seconds": 60}]},
            {"id": Uuid::from_u128(12).to_string(), "name": "models", "type": "model_access"},
        ])
    );
    assert!(header(&headers, "x-tollgate-policies").unwrap().is_ascii());
    assert_eq!(header(&headers, "x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(header(&headers, "x-ratelimit-remaining-requests"), Some("1"));
    assert_eq!(header(&headers, "x-ratelimit-reset-requests"), Some("1m0s"));
    assert_eq!(header(&headers, "x-ratelimit-limit-tokens"), None);
}

#[test]
fn all_that_forbid_are_named_and_money_weighs_more() {
    let set = PolicySet::compile([
        policy(10, "cap", PolicyType::SpendCap, cap(json!(1))),
        policy(11, "pace", PolicyType::RateLimit, rate("requests", 1)),
        policy(12, "roomy", PolicyType::RateLimit, rate("tokens", 1000)),
    ])
    .unwrap();
    let metadata = Metadata::default();
    let memory = Memory::default();
    assert!(ask(&set, &memory, &request(&metadata, 100), 1_000_000_000).0);
    let (_, _, denied) = ask(&set, &memory, &request(&metadata, 101), 1);
    let denied = denied.unwrap();
    assert_eq!(denied.reason, Reason::Spend);
    assert_eq!(denied.message, "request blocked by gateway policies: cap, pace");
    assert_eq!(denied.violated, [id(10), id(11)]);
    assert_eq!(denied.matched, [id(10), id(11), id(12)]);
    assert_eq!(header(&denied.headers, "retry-after"), None);
    let (_, _, denied) = ask(&set, &memory, &request(&metadata, 102), 0);
    let denied = denied.unwrap();
    assert_eq!((denied.reason, &denied.violated[..]), (Reason::Rate, &[id(11)][..]));
    assert_eq!(denied.retry_after, Some(60));
    let after: Vec<_> = denied.headers.iter().filter(|(name, _)| *name == RETRY_AFTER).collect();
    assert_eq!(after.len(), 1);
    assert_eq!(list(&denied.headers)[1]["limits"][0]["violated"], json!(true));
}

#[test]
fn what_can_never_pass_has_no_time_to_retry() {
    let set = PolicySet::compile([
        policy(10, "pace", PolicyType::RateLimit, rate("requests", 1)),
        policy(11, "small", PolicyType::RateLimit, rate("tokens", 24)),
    ])
    .unwrap();
    let metadata = Metadata::default();
    let (_, headers, denied) = ask(&set, &Memory::default(), &request(&metadata, 100), 0);
    assert_eq!(denied.unwrap().retry_after, None);
    assert_eq!(header(&headers, "retry-after"), None);
}

#[test]
fn the_list_is_bounded() {
    let name = "名".repeat(128);
    let policies = (0..40).map(|n| policy(10 + n, &name, PolicyType::SpendCap, cap(json!(1))));
    let set = PolicySet::compile(policies).unwrap();
    let metadata = Metadata::default();
    let request = request(&metadata, 100);
    let headers = headers::of(&request, &set.matching(&request.subject), None);
    let text = header(&headers, "x-tollgate-policies").unwrap();
    assert!(text.len() <= 4096, "{}", text.len());
    let list = list(&headers);
    let told = list.as_array().unwrap().len() - 1;
    assert_eq!(list[told]["more"], json!(40 - told));
}

#[test]
fn a_listing_takes_no_money() {
    let set = PolicySet::compile([policy(10, "cap", PolicyType::SpendCap, cap(json!(0)))]).unwrap();
    let metadata = Metadata::default();
    let request = AdmissionRequest { bound: Bound::FREE, ..request(&metadata, 100) };
    assert!(ask(&set, &Memory::default(), &request, 0).0);
}

mod whole;
