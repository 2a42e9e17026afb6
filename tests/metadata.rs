//! What callers say of a request in `X-Gateway-*` headers reaches the policies that match by it, or the
//! request is refused: it is never left out in silence.

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::Connection,
    database::Database,
    fixture::{Fixture, question},
    http::Answer,
    ledger_rows::{self, Rates},
    policies::{over_cap, spend_cap},
    two_tenants::text,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_value_in_iso_8859_1_meets_its_policy,
        a_value_that_cannot_be_read_is_400_and_names_the_header,
        values_that_say_nothing_are_as_if_not_sent,
        more_entries_than_are_kept_are_400,
    ]
}

/// A workspace whose calls cost money, with a cap of nothing on the customer `Zoë`.
struct Capped {
    app: TestApp,
    team: Fixture,
}

impl Capped {
    async fn start(database: &Database) -> Self {
        let (app, team) = TestApp::start_with_workspace(database).await;
        team.set_price(Rates::fee(1_000_000)).await;
        spend_cap(&app.admin(), "none", &[("X-Gateway-Customer-Id", "Zoë")], ("daily", 0)).await;
        Self { app, team }
    }

    /// Sends a chat call with these headers, byte for byte.
    async fn call(&self, headers: &[(&str, &[u8])]) -> Answer {
        let body = question(false).to_string();
        let mut head = String::new();
        write!(
            head,
            "POST {} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n",
            Fixture::route("chat/completions"),
            self.team.caller_key,
            body.len(),
        )
        .unwrap();
        let mut bytes = head.into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
        let mut connection = Connection::open(self.app.address()).await.unwrap();
        connection.send(&bytes).await.unwrap();
        connection.answer().await.unwrap()
    }

    /// Fails the case unless the headers are refused before anything is sent, in words that name
    /// the header.
    async fn refuses(&self, headers: &[(&str, &[u8])], named: &str) {
        let before = self.team.upstream.seen().requests.len();
        let answer = self.call(headers).await.expect(400);
        assert_eq!(answer.header("x-tollgate-error"), Some("gateway"), "{:?}", answer.headers);
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{:?}", answer.headers);
        let error: Value = answer.json()["error"].clone();
        assert_eq!(error["code"], "invalid_metadata", "{error}");
        assert!(text(&error, "message").contains(named), "{named}: {error}");
        assert_eq!(self.team.upstream.seen().requests.len(), before, "{named}");
    }
}

async fn a_value_in_iso_8859_1_meets_its_policy(database: Database) {
    let capped = Capped::start(&database).await;
    for value in ["Zoë".as_bytes(), b"Zo\xeb"] {
        over_cap(&capped.call(&[("X-Gateway-Customer-Id", value)]).await, "none");
        let object = [br#"{"Customer-Id": ""#.as_slice(), value, br#""}"#].concat();
        over_cap(&capped.call(&[("X-Gateway-Metadata", &object)]).await, "none");
    }
    assert!(capped.team.upstream.seen().requests.is_empty());
    capped.call(&[("X-Gateway-Customer-Id", b"Zo\xe9")]).await.expect(200);
    let rows = ledger_rows::rows_at_least(&database, 5).await;
    assert_eq!(rows.iter().filter(|row| row.outcome == "blocked").count(), 4, "{rows:?}");
}

async fn a_value_that_cannot_be_read_is_400_and_names_the_header(database: Database) {
    let capped = Capped::start(&database).await;
    let long = "x".repeat(257);
    // 129 characters of two bytes each in UTF-8.
    let long_once_decoded = vec![0xeb; 129];
    let long_name = format!("x-gateway-{}", "n".repeat(65));
    let refused: [(&str, &[u8], &str); 14] = [
        ("X-Gateway-Customer-Id", b"Zo\t\xeb", "x-gateway-customer-id"),
        // A control character in ISO-8859-1.
        ("X-Gateway-Customer-Id", b"Zo\x80", "x-gateway-customer-id"),
        ("X-Gateway-Customer-Id", long.as_bytes(), "x-gateway-customer-id"),
        ("X-Gateway-Customer-Id", &long_once_decoded, "x-gateway-customer-id"),
        (&long_name, b"a", "x-gateway-nnn"),
        ("X-Gateway-", b"a", "x-gateway-"),
        ("X-Gateway-Metadata", b"customer_id=1", "x-gateway-metadata"),
        ("X-Gateway-Metadata", b"[1]", "x-gateway-metadata"),
        ("X-Gateway-Metadata", br#"{"customer_id": "Zo"#, "x-gateway-metadata"),
        ("X-Gateway-Metadata", br#"{"customer_id": ["Zoe"]}"#, "customer_id"),
        ("X-Gateway-Metadata", br#"{"customer_id": {"name": "Zoe"}}"#, "customer_id"),
        ("X-Gateway-Metadata", br#"{"customer_id": "a\u0000"}"#, "customer_id"),
        ("X-Gateway-Metadata", br#"{"": "a"}"#, "x-gateway-metadata"),
        ("X-Gateway-Metadata", br#"{"team": "a", "team": "b"}"#, "team"),
    ];
    for (name, value, named) in refused {
        capped.refuses(&[(name, value)], named).await;
    }
}

async fn values_that_say_nothing_are_as_if_not_sent(database: Database) {
    let capped = Capped::start(&database).await;
    let taken: [(&str, &[u8]); 5] = [
        ("X-Gateway-Customer-Id", b""),
        ("X-Gateway-Metadata", b""),
        ("X-Gateway-Metadata", br#"{"customer_id": null, "team": ""}"#),
        // Names of what the gateway itself says are not the caller's to say.
        ("X-Gateway-User-Id", b"Zo\x80"),
        ("X-Gateway-Gateway-Version", b"1"),
    ];
    for header in taken {
        capped.call(&[header]).await.expect(200);
    }
}

async fn more_entries_than_are_kept_are_400(database: Database) {
    let capped = Capped::start(&database).await;
    let names: Vec<String> = (0..33).map(|number| format!("x-gateway-k{number:02}")).collect();
    let mut headers: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), b"v".as_slice())).collect();
    capped.refuses(&headers, "32").await;
    headers.pop();
    capped.call(&headers).await.expect(200);
}
