//! Cool-downs, and what is counted.

use super::*;
use crate::domain::provider::Provider;

fn key(model: &str) -> TargetKey {
    TargetKey {
        workspace_id: WorkspaceId::from(uuid::Uuid::from_u128(1)),
        upstream: UpstreamId::Provider(Provider::Openai),
        model: Some(model.to_owned()),
    }
}

fn status(status: u16) -> Failure {
    Failure { status: Some(status), retry_after: None, code: "server_error" }
}

fn left(health: &TargetHealth, model: &str, now: DateTime<Utc>) -> Option<Duration> {
    health.check(&key(model), now).map(|cooling| cooling.left)
}

#[test]
fn one_request_tries_again_when_the_time_is_over() {
    let (health, now) = (TargetHealth::default(), DateTime::UNIX_EPOCH);
    assert_eq!(left(&health, "a", now), None);
    health.failed(&key("a"), status(500), now);
    let cooling = health.check(&key("a"), now).unwrap();
    assert_eq!((cooling.left, cooling.reason), (FIRST, CoolDownReason::Failing));
    assert_eq!(left(&health, "b", now), None);
    let later = now + FIRST;
    assert_eq!(left(&health, "a", later), None, "looking is not trying");
    assert_eq!(health.enter(&key("a"), later), None, "one request tries it");
    assert!(health.enter(&key("a"), later).is_some(), "the others do not");
    assert!(left(&health, "a", later).is_some());
    health.failed(&key("a"), status(500), later);
    assert_eq!(left(&health, "a", later), Some(FIRST * 2));
    health.answered(&key("a"), later);
    assert_eq!(left(&health, "a", later), None);
    assert_eq!(health.enter(&key("a"), later), None, "many requests use a target that answers");
    assert_eq!(health.enter(&key("a"), later), None);
}

#[test]
fn the_upstream_says_how_long() {
    let (health, now) = (TargetHealth::default(), DateTime::UNIX_EPOCH);
    let limited = |seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        Failure { status: Some(429), retry_after, code: "rate_limited" }
    };
    health.failed(&key("a"), limited(20), now);
    let cooling = health.check(&key("a"), now).unwrap();
    assert_eq!((cooling.left, cooling.is_rate()), (Duration::from_secs(20), true));
    assert_eq!(cooling.until, now + Duration::from_secs(20));
    // One that was under way as well says less.
    health.failed(&key("a"), status(500), now);
    assert_eq!(left(&health, "a", now), Some(Duration::from_secs(20)));
    health.failed(&key("a"), limited(1_000_000), now);
    assert_eq!(left(&health, "a", now), Some(LONGEST_RETRY_AFTER));
}

#[test]
fn a_refused_credential_cools_all_models_and_a_mistake_none() {
    let (health, now) = (TargetHealth::default(), DateTime::UNIX_EPOCH);
    for harmless in [400, 403, 404, 413, 422] {
        health.failed(&key("a"), status(harmless), now);
    }
    assert_eq!(left(&health, "a", now), None);
    let mut now = now;
    for refused in [401, 402] {
        health.failed(&key("a"), status(refused), now);
        assert_eq!(left(&health, "b", now), Some(REFUSED_CREDENTIAL), "{refused}");
        let later = now + REFUSED_CREDENTIAL;
        assert_eq!(health.enter(&key("b"), later), None);
        health.answered(&key("b"), later);
        let is_good = "an answer shows that the credential is good";
        assert_eq!(left(&health, "a", later), None, "{is_good}");
        now = later;
    }
    health.failed(&key("a"), status(402), now);
    let other = WorkspaceId::from(uuid::Uuid::from_u128(2));
    assert_eq!(health.check(&TargetKey { workspace_id: other, ..key("b") }, now), None);
}

#[test]
fn a_clear_ends_all_cool_downs_of_one_upstream() {
    let (health, now) = (TargetHealth::default(), DateTime::UNIX_EPOCH);
    let elsewhere = TargetKey { upstream: UpstreamId::Provider(Provider::Groq), ..key("a") };
    for key in [&key("a"), &key("b"), &elsewhere] {
        health.failed(key, status(500), now);
    }
    health.failed(&key("c"), status(401), now);
    let one = CoolingTargets { rate_limited: 0, credentials_refused: 1, failing: 3 };
    assert_eq!((health.cooling(now), one.total()), (one, 4));
    health.clear(key("a").workspace_id, key("a").upstream, now);
    assert_eq!(["a", "b", "c"].map(|model| left(&health, model, now)), [None, None, None]);
    assert!(health.check(&elsewhere, now).is_some());
}

#[test]
fn a_report_counts_attempts() {
    let (health, now) = (TargetHealth::default(), DateTime::UNIX_EPOCH);
    assert_eq!(health.report(&key("a"), now), TargetReport::default());
    health.failed(&key("a"), status(404), now);
    health.answered(&key("a"), now);
    health.answered(&key("a"), now);
    let report = health.report(&key("a"), now);
    assert_eq!((report.cooling, report.answered, report.failed), (None, 2, 1));
    assert_eq!(report.last_failure, Some(("server_error", now)));
}

#[test]
fn few_targets_are_remembered() {
    let (health, now) = (TargetHealth::default(), DateTime::UNIX_EPOCH);
    for number in 0..MAX_TARGETS + 10 {
        health.failed(&key(&number.to_string()), status(500), now);
    }
    assert_eq!(health.all().len(), MAX_TARGETS);
    health.failed(&key("later"), status(500), now + LONGEST);
    assert_eq!(health.all().len(), 1);
}
