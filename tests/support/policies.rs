//! Creates policies through the API, and sends concurrent requests.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    http::{Answer, Client, Request},
    ledger_rows,
    two_tenants::text,
    wait::eventually,
};

pub(crate) const POLICIES: &str = "/api/v1/gateway-policies";

/// Creates a policy and returns it. Matchers are pairs of key and value.
pub(crate) async fn make(
    admin: &Client,
    (policy_type, name): (&str, &str),
    matchers: &[(&str, &str)],
    config: Value,
) -> Value {
    let matchers = matchers.iter().map(|(key, value)| json!({"key": key, "value": value}));
    let body = json!({
        "name": name,
        "policy_type": policy_type,
        "subject_matchers": matchers.collect::<Vec<_>>(),
        "config": config,
        "action": "block",
    });
    admin.post_json(POLICIES, &body).await.expect(201).json()
}

/// Creates a spend cap of `limit` nano-dollars.
pub(crate) async fn spend_cap(
    admin: &Client,
    name: &str,
    matchers: &[(&str, &str)],
    (window, limit): (&str, i128),
) -> Value {
    let config = json!({"window": window, "limit_usd": ledger_rows::usd(limit)});
    make(admin, ("spend_cap", name), matchers, config).await
}

/// Creates a rate limit of `requests` or `tokens` per `minute` or `hour`.
pub(crate) async fn rate_limit(
    admin: &Client,
    name: &str,
    matchers: &[(&str, &str)],
    limits: &[(&str, &str, u64)],
) -> Value {
    make(admin, ("rate_limit", name), matchers, rates(limits)).await
}

pub(crate) fn rates(limits: &[(&str, &str, u64)]) -> Value {
    let limits = limits
        .iter()
        .map(|(metric, window, value)| json!({"metric": metric, "window": window, "value": value}));
    json!({"version": 1, "limits": limits.collect::<Vec<_>>()})
}

/// The policy's current spend in nano-dollars, if known.
pub(crate) async fn spent(admin: &Client, policy: &Value) -> Option<i128> {
    let path = format!("{POLICIES}/{}", text(policy, "id"));
    let policy = admin.get(&path).await.expect(200).json();
    policy.get("current_spend_usd").filter(|spend| !spend.is_null()).map(ledger_rows::nanos)
}

/// Waits until the policy's current spend is this.
pub(crate) async fn has_spent(admin: &Client, policy: &Value, nanos: i128) {
    let what = format!("{} says that {nanos} nano-dollars are spent", policy["name"]);
    eventually(&what, async || spent(admin, policy).await == Some(nanos)).await;
}

/// Sends the request `count` times concurrently, alternating between the callers.
pub(crate) async fn crowd(callers: &[Client], request: &Request, count: usize) -> Vec<Answer> {
    let calls = (0..count).map(|number| callers[number % callers.len()].send(request.clone()));
    join_all(calls).await
}

/// The number of answers by status.
pub(crate) fn statuses(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status).or_default() += 1;
    }
    statuses
}

/// Fails the test unless the gateway refused the request for its cost and named the policy.
#[track_caller]
pub(crate) fn over_cap(answer: &Answer, name: &str) {
    refused(answer, 402, "spend_cap_exceeded", name);
}

/// Fails the test unless the gateway refused the request with this status and code and named the
/// policy.
#[track_caller]
pub(crate) fn refused(answer: &Answer, status: u16, code: &str, name: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-error"), Some("gateway"), "{:?}", answer.headers);
    assert!(answer.header("x-tollgate-policies").is_some(), "{:?}", answer.headers);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code, "{error}");
    let message = text(error, "message");
    let named = message.split_once("request blocked by gateway policies: ");
    let named = named.unwrap_or_else(|| panic!("{message}")).1;
    assert!(named.contains(name), "{message}");
}
