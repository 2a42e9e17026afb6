//! Egress rules: which base URLs can be saved, and the messages for those that cannot.

use serde_json::json;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Client},
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        refused_addresses_name_their_rule_in_every_notation,
        invalid_base_urls_are_refused,
        public_addresses_and_unknown_names_are_saved,
        exactly_the_allowed_networks_are_allowed,
        a_changed_base_url_is_checked,
        rules_are_checked_again_at_connect,
        the_rules_hold_for_a_replaced_origin,
    ]
}

/// Refused base URLs with the name of the rule. Some resolver or URL parser accepts each notation.
const REFUSED: &[(&str, &str)] = &[
    ("https://0.0.0.0/v1", "this_network"),
    ("https://0.1.2.3/v1", "this_network"),
    ("https://10.0.0.1/v1", "private_use"),
    ("https://172.16.0.1/v1", "private_use"),
    ("https://172.31.255.255/v1", "private_use"),
    ("https://192.168.1.1/v1", "private_use"),
    ("https://100.64.0.1/v1", "shared_address_space"),
    ("https://127.0.0.1/v1", "loopback"),
    ("https://127.1.2.3/v1", "loopback"),
    ("https://169.254.169.254/latest", "link_local"),
    ("https://192.0.0.1/v1", "ietf_protocol_assignments"),
    ("https://192.0.2.1/v1", "documentation"),
    ("https://198.51.100.1/v1", "documentation"),
    ("https://203.0.113.1/v1", "documentation"),
    ("https://192.88.99.1/v1", "6to4_relay_anycast"),
    ("https://198.18.0.1/v1", "benchmarking"),
    ("https://224.0.0.1/v1", "multicast"),
    ("https://240.0.0.1/v1", "reserved"),
    ("https://255.255.255.255/v1", "limited_broadcast"),
    // Decimal, hexadecimal, octal, short, with a trailing dot.
    ("https://2130706433/v1", "loopback"),
    ("https://0x7f000001/v1", "loopback"),
    ("https://0x7f.0x0.0x0.0x1/v1", "loopback"),
    ("https://0177.0.0.1/v1", "loopback"),
    ("https://017700000001/v1", "loopback"),
    ("https://127.1/v1", "loopback"),
    ("https://127.0.1/v1", "loopback"),
    ("https://127.0.0.1./v1", "loopback"),
    ("https://0xA9FEA9FE/latest", "link_local"),
    ("https://2852039166/latest", "link_local"),
    ("https://0/v1", "this_network"),
    // Percent-encoded, and in characters that are normalized to digits and dots.
    ("https://%31%32%37.0.0.1/v1", "loopback"),
    ("https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/v1", "loopback"),
    ("https://127\u{3002}0\u{3002}0\u{3002}1/v1", "loopback"),
    ("https://\u{2460}\u{2461}\u{2466}.0.0.1/v1", "loopback"),
    // IPv6.
    ("https://[::]/v1", "unspecified"),
    ("https://[::1]/v1", "loopback"),
    ("https://[0:0:0:0:0:0:0:1]/v1", "loopback"),
    ("https://[::ffff:127.0.0.1]/v1", "loopback"),
    ("https://[::ffff:7f00:1]/v1", "loopback"),
    ("https://[::ffff:10.0.0.1]/v1", "private_use"),
    ("https://[::127.0.0.1]/v1", "ipv4_compatible"),
    ("https://[64:ff9b::127.0.0.1]/v1", "loopback"),
    ("https://[64:ff9b::a00:1]/v1", "private_use"),
    ("https://[64:ff9b:1::1]/v1", "local_use_nat64"),
    ("https://[2002:7f00:1::]/v1", "6to4"),
    ("https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/v1", "teredo"),
    ("https://[2001:db8::1]/v1", "documentation"),
    ("https://[3fff::1]/v1", "documentation"),
    ("https://[100::1]/v1", "discard_only"),
    ("https://[2001:2::1]/v1", "benchmarking"),
    ("https://[2001:10::1]/v1", "orchid"),
    ("https://[5f00::1]/v1", "segment_routing_sids"),
    ("https://[fc00::1]/v1", "unique_local"),
    ("https://[fd12:3456::1]/v1", "unique_local"),
    ("https://[fe80::1]/v1", "link_local"),
    ("https://[ff02::1]/v1", "multicast"),
    ("https://[4000::1]/v1", "not_global_unicast"),
    ("https://[2606:4700::5efe:10.0.0.1]/v1", "private_use"),
    // Names.
    ("https://localhost/v1", "loopback"),
    ("https://LocalHost:8443/v1", "loopback"),
    ("https://localhost./v1", "loopback"),
    // Plain HTTP to public addresses.
    ("http://1.1.1.1/v1", "plain_http"),
    ("http://[2606:4700:4700::1111]/v1", "plain_http"),
    ("http://[64:ff9b::1.1.1.1]/v1", "plain_http"),
    ("http://127.0.0.1/v1", "loopback"),
];

async fn save(team: &Fixture, app: &TestApp, name: &str, base_url: &str) -> Answer {
    let body = json!({
        "name": name,
        "provider": "openai_compatible",
        "base_url": base_url,
        "model": Fixture::MODEL,
    });
    app.admin().post_json(&team.path("model-configurations"), &body).await
}

/// The message of a refusal that concerns only `base_url`.
#[track_caller]
fn refusal_message(answer: Answer, base_url: &str) -> String {
    assert_eq!(answer.status, 422, "{base_url}: {}", answer.text());
    let problem = answer.json();
    let errors = problem["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 1, "{base_url}: {problem}");
    assert_eq!(errors[0]["field"], "base_url", "{base_url}: {problem}");
    errors[0]["message"].as_str().expect("a message").to_owned()
}

/// A gateway that allows loopback, a replica with these egress rules, and a workspace.
async fn replica_that_allows(database: &Database, admitted: &str) -> (TestApp, TestApp, Fixture) {
    let lenient = TestApp::start(database).await;
    let team = lenient.workspace().await;
    let strict = lenient.replica_with(&["--egress-allow", admitted]).await;
    (lenient, strict, team)
}

async fn refused_addresses_name_their_rule_in_every_notation(database: Database) {
    let (_lenient, app, team) = replica_that_allows(&database, "").await;
    for (base_url, rule) in REFUSED {
        let said = refusal_message(save(&team, &app, "refused", base_url).await, base_url);
        assert!(said.contains(&format!("egress rule {rule}:")), "{base_url}: {said}");
    }
    let listed = app.admin().get(&team.path("model-configurations")).await.expect(200).json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "only the usual one: {listed}");
}

async fn invalid_base_urls_are_refused(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    for (base_url, word) in [
        ("", "https://"),
        ("api.example.com/v1", "https://"),
        ("ftp://api.example.com/v1", "https://"),
        ("file:///etc/passwd", "https://"),
        ("https://", "host"),
        ("https:///v1", "host"),
        ("https://user@api.example.com/v1", "user information"),
        ("https://user:pass@api.example.com/v1", "user information"),
        ("https://@127.0.0.1/v1", "user information"),
        ("https://api.example.com@127.0.0.1/v1", "user information"),
        ("https://api.example.com/v1#fragment", "fragment"),
        ("https://api.example.com/v1#", "fragment"),
        ("https://api.example.com:0/v1", "port"),
        ("https://api.example.com:65536/v1", "port"),
        ("https://api.example.com\\@127.0.0.1/v1", "percent-encoded"),
        ("https://api.example.com/v1\r\nx: y", "percent-encoded"),
        ("https://api.example.com/ v1", "percent-encoded"),
        ("https://[::1/v1", "URL"),
        ("https://[fe80::1%25eth0]/v1", "URL"),
        ("https://256.256.256.256/v1", "URL"),
        ("https://a..b/v1", "host"),
    ] {
        let said = refusal_message(save(&team, &app, "refused", base_url).await, base_url);
        assert!(said.contains(word), "{base_url}: {said}");
    }
    let long = format!("https://api.example.com/{}", "x".repeat(3_000));
    refusal_message(save(&team, &app, "refused", &long).await, &long);
}

async fn public_addresses_and_unknown_names_are_saved(database: Database) {
    let (_lenient, app, team) = replica_that_allows(&database, "").await;
    for (number, (base_url, stored)) in [
        ("https://1.1.1.1/v1", "https://1.1.1.1/v1"),
        ("https://0x01010101/v1/", "https://1.1.1.1/v1"),
        ("HTTPS://1.1.1.1:443", "https://1.1.1.1"),
        ("https://[2606:4700:4700::1111]:8443/x", "https://[2606:4700:4700::1111]:8443/x"),
        ("https://[64:ff9b::1.1.1.1]/v1", "https://[64:ff9b::101:101]/v1"),
        ("https://Not-There-Yet.invalid/v1", "https://not-there-yet.invalid/v1"),
        (
            "https://not-there-yet.invalid./v1?api-version=1",
            "https://not-there-yet.invalid/v1?api-version=1",
        ),
    ]
    .iter()
    .enumerate()
    {
        let saved = save(&team, &app, &format!("saved {number}"), base_url).await.success().json();
        assert_eq!(saved["base_url"], *stored, "{base_url}");
    }
}

async fn exactly_the_allowed_networks_are_allowed(database: Database) {
    let (_lenient, app, team) =
        replica_that_allows(&database, "10.9.0.0/16,fd00:9::/32,192.168.7.7").await;
    for (number, base_url) in [
        "http://10.9.1.2:8000/v1",
        "https://10.9.255.255/v1",
        "http://[::ffff:10.9.1.2]/v1",
        "https://[64:ff9b::10.9.1.2]/v1",
        "http://[fd00:9::1]/v1",
        "http://192.168.7.7/v1",
    ]
    .iter()
    .enumerate()
    {
        save(&team, &app, &format!("admitted {number}"), base_url).await.success();
    }
    for (base_url, rule) in [
        ("https://10.8.255.255/v1", "private_use"),
        ("https://10.10.0.1/v1", "private_use"),
        ("https://192.168.7.8/v1", "private_use"),
        ("https://[fd00:a::1]/v1", "unique_local"),
        ("https://127.0.0.1/v1", "loopback"),
        ("http://1.1.1.1/v1", "plain_http"),
        // Embedded addresses outside the allowed networks are refused.
        ("https://[64:ff9b::10.8.1.2]/v1", "private_use"),
    ] {
        let said = refusal_message(save(&team, &app, "refused", base_url).await, base_url);
        assert!(said.contains(&format!("egress rule {rule}:")), "{base_url}: {said}");
    }
}

async fn a_changed_base_url_is_checked(database: Database) {
    let (_lenient, app, team) = replica_that_allows(&database, "").await;
    let path = team.configuration_path();
    for (base_url, rule) in &REFUSED[..8] {
        let said = refusal_message(
            app.admin().patch(&path, &json!({"base_url": base_url})).await,
            base_url,
        );
        assert!(said.contains(&format!("egress rule {rule}:")), "{base_url}: {said}");
    }
    // Other fields of a configuration saved under other rules can be changed.
    app.admin().patch(&path, &json!({"description": "an old one"})).await.expect(200);
    let stored = app.admin().get(&path).await.expect(200).json();
    assert_eq!(stored["base_url"], team.upstream.base_url());
}

async fn rules_are_checked_again_at_connect(database: Database) {
    let (lenient, app, team) = replica_that_allows(&database, "").await;
    team.caller().send(Fixture::chat()).await.expect(200);
    let before = team.upstream.seen().accepted();
    let refused = team.caller_at(app.address()).send(Fixture::chat()).await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert_eq!(refused.header("x-tollgate-error"), Some("gateway"));
    assert_eq!(team.upstream.seen().accepted(), before, "it was dialed");
    let path = format!("{}/check", team.configuration_path());
    let checked = app.admin().post_json(&path, &json!({})).await.success().json();
    assert_eq!(checked["reachable"], false, "{checked}");
    assert!(checked.to_string().contains("--egress-allow"), "{checked}");
    assert_eq!(team.upstream.seen().accepted(), before, "it was dialed");
    drop(lenient);
}

async fn the_rules_hold_for_a_replaced_origin(database: Database) {
    let upstream = ScriptedUpstream::start().await;
    let origin = format!("openai={}", upstream.origin());
    let lenient = TestApp::with(&database, &["--provider-origin", &origin]).await;
    let team = Fixture::before(&lenient.admin(), lenient.address(), upstream).await;
    team.put_secret("OPENAI_API_KEY", "sk-of-the-team").await;
    let ask = async |caller: Client| {
        let body = json!({"model": "gpt-4o", "messages": []});
        caller.post_json("/openai/v1/chat/completions", &body).await
    };
    ask(team.caller()).await.expect(200);
    let options = ["--egress-allow", "", "--provider-origin", &origin];
    let strict = lenient.replica_with_only(&options).await;
    let refused = ask(team.caller_at(strict.address())).await.expect(502);
    assert_eq!(refused.json()["error"]["code"], "egress_refused", "{}", refused.text());
    assert_eq!(team.upstream.seen().requests.len(), 1);
}
