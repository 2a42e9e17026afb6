//! API keys: creation, rotation and revocation, and when a key works on each plane. Who may do this to
//! which key is tested in [`role_grants`](crate::role_grants).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Client, Request},
    problems::{problem, wrong_fields},
    two_tenants::{TwoTenants, text},
    wait::{DEADLINE, eventually, within},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_key_is_created_and_listed,
        a_rotated_key_keeps_its_id,
        the_old_credential_works_until_its_grace_period_ends,
        the_number_of_credentials_is_limited,
        a_disabled_or_revoked_key_gets_401,
        a_key_that_is_revoked_while_a_body_comes_gets_401,
        an_expired_key_gets_401,
        keys_of_a_deactivated_user_get_401,
        keys_of_a_suspended_organization_get_403,
        the_last_use_is_recorded,
        wrong_secrets_are_limited_without_locking_the_key_out,
        concurrent_first_uses_succeed,
        a_key_is_accepted_in_either_header,
    ]
}

async fn a_key_is_created_and_listed(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, path) = (tenants.admin(), tenants.home.team.path("api-keys"));
    let expires = "2999-01-02T03:04:05.123456Z";
    let body = json!({
        "name": "Search, production", "role": "WORKSPACE_EDITOR", "user_id": tenants.home.user_id,
        "expires_at": expires,
    });
    let made = admin.post_json(&path, &body).await.expect(201).json();
    let id = text(&made, "id");
    assert!(text(&made, "key").starts_with(text(&made, "short_key").trim_end_matches('…')));
    let me = admin.get("/api/v1/me").await.json();
    for (field, value) in [
        ("name", json!("Search, production")),
        ("role", json!("WORKSPACE_EDITOR")),
        ("user_id", json!(tenants.home.user_id)),
        ("workspace_id", json!(tenants.home.team.workspace_id)),
        ("organization_id", json!(tenants.home.organization_id)),
        ("created_by", me["api_key_id"].clone()),
        ("expires_at", json!(expires)),
        ("disabled", json!(false)),
        ("last_used_at", Value::Null),
    ] {
        assert_eq!(made[field], value, "{field} of {made}");
    }
    let mut read = admin.get(&format!("{path}/{id}")).await.expect(200).json();
    assert!(read.get("key").is_none());
    read["key"] = made["key"].clone();
    assert_eq!(read, made);

    let ids = async |query: &str| -> Vec<String> {
        let list = admin.get(&format!("{path}?limit=200&{query}")).await.expect(200).json();
        list["data"].as_array().unwrap().iter().map(|key| text(key, "id")).collect()
    };
    assert_eq!(ids(&format!("user_id={}", tenants.home.user_id)).await, vec![id.clone()]);
    assert!(ids("role=WORKSPACE_EDITOR").await.contains(&id));
    assert!(!ids("role=GATEWAY_CALLER").await.contains(&id));
    assert_eq!(wrong_fields(&admin.get(&format!("{path}?role=KING")).await), ["role"]);
    assert_eq!(wrong_fields(&admin.get(&format!("{path}?user_id=x")).await), ["user_id"]);

    // A patch changes what it names; null removes optional fields only.
    let one = format!("{path}/{id}");
    let changed = admin.patch(&one, &json!({"name": "Renamed"})).await.expect(200).json();
    assert_eq!((&changed["name"], &changed["expires_at"]), (&json!("Renamed"), &json!(expires)));
    let changed = admin.patch(&one, &json!({"expires_at": null})).await.expect(200).json();
    assert_eq!((&changed["name"], &changed["expires_at"]), (&json!("Renamed"), &Value::Null));
    assert_eq!(wrong_fields(&admin.patch(&one, &json!({"name": null})).await), ["name"]);
    assert_eq!(wrong_fields(&admin.patch(&one, &json!({"disabled": null})).await), ["disabled"]);
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("x".repeat(129))),
        ("name", json!("a\nb")),
        ("name", json!(7)),
        ("expires_at", json!("2001-01-01T00:00:00Z")),
        ("expires_at", json!("tomorrow")),
        ("expires_at", json!("2999-01-02T03:04:05")),
        ("expires_at", json!("+12999-01-02T03:04:05Z")),
        ("role", json!("KING")),
        ("user_id", json!("x")),
        ("user_id", json!(uuid::Uuid::now_v7())),
    ] {
        let mut body = json!({"name": "n", "role": "GATEWAY_CALLER"});
        body[field] = value.clone();
        assert_eq!(wrong_fields(&admin.post_json(&path, &body).await), [field], "{value}");
    }
    let answer = admin.post_json(&path, &json!({"name": "n"})).await;
    assert_eq!(wrong_fields(&answer), ["role"]);

    // A revoked key is gone.
    admin.delete(&one).await.expect(204);
    problem(&admin.delete(&one).await, 404, "not_found");
    problem(&admin.get(&one).await, 404, "not_found");
    problem(&admin.patch(&one, &json!({"disabled": false})).await, 404, "not_found");
    problem(&admin.post_json(&format!("{one}/rotate"), &json!({})).await, 404, "not_found");
    assert!(!ids("").await.contains(&id));
}

/// A key that works on both planes.
async fn admin_key(tenants: &TwoTenants) -> (String, String) {
    tenants.home.team.key("WORKSPACE_ADMIN").await
}

async fn call_both_planes(client: &Client) -> [Answer; 2] {
    [client.get("/api/v1/me").await, client.send(Fixture::chat()).await]
}

/// Fails the test unless the key works on both planes.
async fn assert_works(tenants: &TwoTenants, key: &str) {
    for answer in call_both_planes(&tenants.app.as_key(key)).await {
        answer.expect(200);
    }
}

/// Fails the test unless both planes refuse the key with this code.
async fn assert_refused(tenants: &TwoTenants, key: &str, status: u16, code: &str) {
    let [management, data] = call_both_planes(&tenants.app.as_key(key)).await;
    problem(&management, status, code);
    assert_eq!(data.status, status, "{}", data.text());
    assert_eq!(data.json()["error"]["code"], code, "{}", data.text());
    assert_eq!(data.header("x-tollgate-error"), Some("gateway"));
}

async fn a_rotated_key_keeps_its_id(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (id, old) = admin_key(&tenants).await;
    let path = tenants.home.team.path(&format!("api-keys/{id}"));
    assert_works(&tenants, &old).await;
    let before = tenants.admin().get(&path).await.expect(200).json();
    // Without a body, the old credential stops at once.
    let rotated = tenants.admin().send(Request::new("POST", &format!("{path}/rotate"))).await;
    let rotated = rotated.expect(200).json();
    let new = text(&rotated, "key");
    assert_ne!(new, old);
    assert_eq!(rotated["id"], id);
    assert_ne!(rotated["short_key"], before["short_key"]);
    for field in ["name", "role", "created_at", "workspace_id", "expires_at", "disabled"] {
        assert_eq!(rotated[field], before[field], "{field}");
    }
    assert_works(&tenants, &new).await;
    assert_refused(&tenants, &old, 401, "revoked_api_key").await;
    let me = tenants.app.as_key(&new).get("/api/v1/me").await.expect(200).json();
    assert_eq!(me["api_key_id"], id);
    // A key that may grant its role may rotate itself.
    let own = tenants.app.as_key(&new);
    let again = own.post_json(&format!("{path}/rotate"), &json!({})).await.expect(200).json();
    assert_works(&tenants, &text(&again, "key")).await;
    assert_refused(&tenants, &new, 401, "revoked_api_key").await;
}

async fn the_old_credential_works_until_its_grace_period_ends(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (id, first) = admin_key(&tenants).await;
    let rotate = tenants.home.team.path(&format!("api-keys/{id}/rotate"));
    let grace = json!({"grace_seconds": 3600});
    let second = text(&tenants.admin().post_json(&rotate, &grace).await.expect(200).json(), "key");
    assert_works(&tenants, &first).await;
    assert_works(&tenants, &second).await;
    // A rotation with a shorter grace period shortens earlier ones; a longer one extends nothing.
    let grace = json!({"grace_seconds": 2});
    let third = text(&tenants.admin().post_json(&rotate, &grace).await.expect(200).json(), "key");
    let grace = json!({"grace_seconds": 3600});
    let fourth = text(&tenants.admin().post_json(&rotate, &grace).await.expect(200).json(), "key");
    for old in [&first, &second] {
        eventually("the grace ends", async || {
            tenants.app.as_key(old).get("/api/v1/me").await.status == 401
        })
        .await;
        assert_refused(&tenants, old, 401, "revoked_api_key").await;
    }
    assert_works(&tenants, &third).await;
    assert_works(&tenants, &fourth).await;
    // Revoking the key stops all its credentials.
    let path = tenants.home.team.path(&format!("api-keys/{id}"));
    tenants.admin().delete(&path).await.expect(204);
    assert_refused(&tenants, &third, 401, "revoked_api_key").await;
    assert_refused(&tenants, &fourth, 401, "revoked_api_key").await;
}

async fn the_number_of_credentials_is_limited(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (id, _) = admin_key(&tenants).await;
    let rotate = tenants.home.team.path(&format!("api-keys/{id}/rotate"));
    for grace in [json!(-1), json!(2_592_001), json!("1"), json!(1.5), json!(null)] {
        let answer = tenants.admin().post_json(&rotate, &json!({"grace_seconds": grace})).await;
        assert_eq!(wrong_fields(&answer), ["grace_seconds"], "{grace}");
    }
    let grace = json!({"grace_seconds": 2_592_000});
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(tenants.admin().post_json(&rotate, &grace).await.status);
    }
    let good = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(statuses[good..].iter().filter(|status| **status == 409).count(), 10 - good);
    assert_eq!(good, 7, "{statuses:?}");
    let refusal = tenants.admin().post_json(&rotate, &grace).await;
    problem(&refusal, 409, "too_many_credentials");
    tenants.admin().post_json(&rotate, &json!({})).await.expect(200);
}

async fn a_disabled_or_revoked_key_gets_401(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (id, key) = admin_key(&tenants).await;
    let path = tenants.home.team.path(&format!("api-keys/{id}"));
    assert_works(&tenants, &key).await;
    tenants.admin().patch(&path, &json!({"disabled": true})).await.expect(200);
    assert_refused(&tenants, &key, 401, "disabled_api_key").await;
    tenants.admin().patch(&path, &json!({"disabled": false})).await.expect(200);
    assert_works(&tenants, &key).await;
    tenants.admin().delete(&path).await.expect(204);
    assert_refused(&tenants, &key, 401, "revoked_api_key").await;
}

async fn a_key_that_is_revoked_while_a_body_comes_gets_401(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (id, key) = admin_key(&tenants).await;
    assert_works(&tenants, &key).await;
    let (secret, body) = (tenants.home.team.path("secrets/LATE"), r#"{"value": "too late"}"#);
    // The gateway has authenticated the caller when it asks for the body.
    let request = Request::new("PUT", &secret)
        .header("content-type", "application/json")
        .header("expect", "100-continue")
        .promising(body.len());
    let mut connection = tenants.app.as_key(&key).open(request).await.unwrap();
    let head = within(DEADLINE, "100 Continue", connection.head()).await.unwrap();
    assert_eq!(head.status, 100);
    let path = tenants.home.team.path(&format!("api-keys/{id}"));
    tenants.admin().delete(&path).await.expect(204);
    connection.send(body).await.unwrap();
    let answer = within(DEADLINE, "an answer", connection.answer()).await.unwrap();
    problem(&answer, 401, "revoked_api_key");
    problem(&tenants.admin().get(&secret).await, 404, "not_found");
}

async fn an_expired_key_gets_401(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (id, key) = admin_key(&tenants).await;
    assert_works(&tenants, &key).await;
    let path = tenants.home.team.path(&format!("api-keys/{id}"));
    let soon = chrono::Utc::now() + Duration::from_secs(2);
    tenants.admin().patch(&path, &json!({"expires_at": soon})).await.expect(200);
    let client = tenants.app.as_key(&key);
    // No write and no notification is needed.
    eventually("the key expires", async || client.get("/api/v1/me").await.status == 401).await;
    assert!(chrono::Utc::now() >= soon);
    assert_refused(&tenants, &key, 401, "expired_api_key").await;
    // An expired key can be changed and made valid again.
    tenants.admin().patch(&path, &json!({"name": "Expired"})).await.expect(200);
    tenants.admin().patch(&path, &json!({"expires_at": null})).await.expect(200);
    assert_works(&tenants, &key).await;
}

async fn keys_of_a_deactivated_user_get_401(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let body =
        json!({"name": "Theirs", "role": "WORKSPACE_ADMIN", "user_id": tenants.home.user_id});
    let path = tenants.home.team.path("api-keys");
    let made = tenants.admin().post_json(&path, &body).await.expect(201).json();
    let key = text(&made, "key");
    assert_works(&tenants, &key).await;
    let user = format!("/api/v1/users/{}", tenants.home.user_id);
    tenants.admin().delete(&user).await.expect(204);
    assert_refused(&tenants, &key, 401, "user_deactivated").await;
    assert_eq!(wrong_fields(&tenants.admin().post_json(&path, &body).await), ["user_id"]);
    tenants.admin().patch(&user, &json!({"status": "active"})).await.expect(200);
    assert_works(&tenants, &key).await;
    tenants.admin().patch(&user, &json!({"status": "deactivated"})).await.expect(200);
    assert_refused(&tenants, &key, 401, "user_deactivated").await;
}

async fn keys_of_a_suspended_organization_get_403(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (_, key) = admin_key(&tenants).await;
    let never_used = admin_key(&tenants).await.1;
    assert_works(&tenants, &key).await;
    let path = format!("/api/v1/organizations/{}", tenants.home.organization_id);
    let platform = tenants.app.platform();
    platform.patch(&path, &json!({"status": "suspended"})).await.expect(200);
    assert_refused(&tenants, &key, 403, "organization_suspended").await;
    assert_refused(&tenants, &never_used, 403, "organization_suspended").await;
    for key in &tenants.home.keys {
        let answer = tenants.app.as_key(&key.key).get("/api/v1/me").await;
        let document = problem(&answer, 403, "organization_suspended");
        assert!(text(&document, "detail").contains("suspended"), "{document}");
    }
    // An invalid key does not reveal that the organization is suspended.
    let (known, secret) = key.rsplit_once('_').unwrap();
    let wrong = wrong_secret(known, secret);
    problem(&tenants.app.as_key(&wrong).get("/api/v1/me").await, 401, "invalid_api_key");
    // Other organizations are not affected.
    tenants.stranger.team.caller().send(Fixture::chat()).await.expect(200);
    platform.patch(&path, &json!({"status": "active"})).await.expect(200);
    assert_works(&tenants, &key).await;
}

async fn the_last_use_is_recorded(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let began = chrono::Utc::now();
    let (used, unused) = (admin_key(&tenants).await, admin_key(&tenants).await);
    assert_works(&tenants, &used.1).await;
    let path = |id: &str| tenants.home.team.path(&format!("api-keys/{id}"));
    let before = tenants.admin().get(&path(&unused.0)).await.expect(200).json();
    assert_eq!(before["last_used_at"], Value::Null);
    let (used, unused) = (path(&used.0), path(&unused.0));
    // Written at the latest when the process stops.
    let next = tenants.app.restart().await;
    let after = next.admin().get(&used).await.expect(200).json();
    let at: chrono::DateTime<chrono::Utc> = text(&after, "last_used_at").parse().unwrap();
    assert!((began..=chrono::Utc::now()).contains(&at), "{after}");
    let after = next.admin().get(&unused).await.expect(200).json();
    assert_eq!(after["last_used_at"], Value::Null);
}

/// The same lookup id with another secret and a valid checksum.
fn wrong_secret(known: &str, secret: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut secret: Vec<char> = secret[..43].chars().collect();
    secret.reverse();
    let text = format!("{known}_{}", secret.iter().collect::<String>());
    let mut number = crc32fast::hash(text.as_bytes());
    let mut checksum = [b'0'; 6];
    for place in checksum.iter_mut().rev() {
        *place = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    format!("{text}{}", String::from_utf8_lossy(&checksum))
}

async fn wrong_secrets_are_limited_without_locking_the_key_out(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (_, good) = admin_key(&tenants).await;
    let (_, bystander) = admin_key(&tenants).await;
    assert_works(&tenants, &good).await;
    let (known, secret) = good.rsplit_once('_').unwrap();
    let wrong = wrong_secret(known, secret);
    let guesses = async || -> Vec<u16> {
        let guess = async || tenants.app.as_key(&wrong).get("/api/v1/me").await.status;
        join_all((0..40).map(|_| guess())).await
    };
    let statuses = guesses().await;
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    let limited = tenants.app.as_key(&wrong).get("/api/v1/me").await;
    problem(&limited, 429, "too_many_attempts");
    assert!(limited.header("retry-after").is_some());
    let limited = tenants.app.as_key(&wrong).send(Fixture::chat()).await.expect(429);
    assert_eq!(limited.json()["error"]["code"], "key_attempts_limited");
    assert!(limited.header("retry-after").is_some());
    // The key and other keys keep working.
    assert_works(&tenants, &good).await;
    assert_works(&tenants, &bystander).await;
    // Also after a change that makes the gateway load its keys again.
    tenants.home.team.put_secret("ANOTHER", "sk-another-value").await;
    guesses().await;
    assert_works(&tenants, &good).await;
}

async fn concurrent_first_uses_succeed(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (_, key) = admin_key(&tenants).await;
    let client = tenants.app.as_key(&key);
    let (known, secret) = key.rsplit_once('_').unwrap();
    let wrong = tenants.app.as_key(&wrong_secret(known, secret));
    let before = verified(&tenants).await;
    let calls = (0..40).map(async |number: usize| match number % 4 {
        // Wrong keys among them do no harm.
        0 => wrong.get("/api/v1/me").await.status,
        1 => client.send(Fixture::chat()).await.status,
        _ => client.get("/api/v1/me").await.status,
    });
    let statuses = join_all(calls).await;
    for (number, status) in statuses.iter().enumerate() {
        assert_eq!(*status, if number % 4 == 0 { 401 } else { 200 }, "{statuses:?}");
    }
    // One hash for thirty requests, and none after a change that reloads entries.
    assert_eq!(verified(&tenants).await, before + 1);
    tenants.home.team.put_secret("ANOTHER", "sk-another-value").await;
    assert_works(&tenants, &key).await;
    assert_eq!(verified(&tenants).await, before + 1);
}

/// The number of keys verified by hashing, from `/metrics`.
async fn verified(tenants: &TwoTenants) -> u64 {
    let metrics = tenants.app.platform().get("/metrics").await.expect(200).text();
    let line = metrics.lines().find(|line| {
        line.starts_with("tollgate_key_verifications_total") && line.contains("\"verified\"")
    });
    line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse().ok()).unwrap()
}

async fn a_key_is_accepted_in_either_header(database: Database) {
    let app = TestApp::start(&database).await;
    let (admin, nobody) = (app.keys().admin.clone(), app.anonymous());
    for (name, value) in [
        ("authorization", format!("Bearer {admin}")),
        ("authorization", format!("bearer {admin}")),
        ("Authorization", format!("BEARER  {admin} ")),
        ("x-api-key", admin.clone()),
        ("X-Api-Key", format!(" {admin}")),
    ] {
        nobody.clone().with_header(name, &value).get("/api/v1/me").await.expect(200);
    }
    let both = nobody
        .clone()
        .with_header("authorization", "Bearer sk-other")
        .with_header("x-api-key", &admin);
    both.get("/api/v1/me").await.expect(200);
    for (name, value) in [
        ("authorization", admin.clone()),
        ("authorization", format!("Basic {admin}")),
        ("cookie", format!("key={admin}")),
    ] {
        let answer = nobody.clone().with_header(name, &value).get("/api/v1/me").await;
        problem(&answer, 401, "missing_api_key");
    }
    let answer = nobody.get(&format!("/api/v1/me?key={admin}&api_key={admin}")).await;
    problem(&answer, 401, "missing_api_key");
}
