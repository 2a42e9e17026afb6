//! What is masked in texts that go on.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::super::answer::SentValues;
use super::super::super::policy::{Guard, GuardConfig};
use super::super::tests::{cut, placeholders};
use super::*;

const IBAN: &str = "GB29 NWBK 6016 1331 9268 19";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj\nAgEAAoIBAQC7\n-----END PRIVATE KEY-----";

/// A scan for secrets, personal data and project numbers, where the caller has sent one address.
pub(in super::super) fn scan(action: &str) -> AnswerScan {
    let config = format!(
        r#"{{"version":1,"detect":{{"secrets":true,"pii":true,"custom":[{{"name":"project",
        "pattern":"PRJ-[0-9]{{4}}\\b"}}]}},"action":"{action}","scan":{{"answers":true}}}}"#
    );
    let config: GuardConfig = serde_json::from_str(&config).unwrap();
    let mut sent = SentValues::default();
    sent.add(b"Ada@example.org");
    AnswerScan::new(Arc::new(Guard::new(&[config]).unwrap().unwrap()), sent)
}

fn masked_by(scan: &mut AnswerScan, pieces: &[&str]) -> String {
    let (_, placeholders) = placeholders();
    let mut masking = Masking { scan, placeholders: &placeholders };
    let (mut masker, mut out) = (TextMasker::default(), String::new());
    for piece in pieces {
        masker.push(&mut masking, piece, &mut out);
        assert!(masker.text.len() <= CONTEXT + MAX_HELD + piece.len());
    }
    masker.finish(&mut masking, &mut out);
    assert!(!masker.is_holding());
    out
}

fn masked(pieces: &[&str]) -> String {
    masked_by(&mut scan("redact"), pieces)
}

#[test]
fn values_are_masked() {
    let (texts, _) = placeholders();
    for (text, expected) in [
        ("Write to bob@example.org.", "Write to REDACTED_EMAIL."),
        ("Write to ada@example.org.", "Write to ada@example.org."),
        ("Pay to GB29 NWBK 6016 1331 9268 19, please", "Pay to REDACTED_IBAN, please"),
        ("4111 1111 1111 1111 is a card", "REDACTED_CARD is a card"),
        ("password: hunter2hunter2", "password: REDACTED_SECRET"),
        ("password: TG_SECRET_ABCDEFGH2345", "password: TG_SECRET_ABCDEFGH2345"),
        ("PRJ-1234 and PRJ-12345", "REDACTED_VALUE and PRJ-12345"),
        (r#"{"card": 4111111111111111}"#, r#"{"card": "REDACTED_CARD"}"#),
        (r#"{"card": 4111111111111111.0}"#, r#"{"card": "REDACTED_CARD"}"#),
        (r#"{"card": "4111111111111111"}"#, r#"{"card": "REDACTED_CARD"}"#),
        (r#"{"a": "{\"card\":4111111111111111}"}"#, r#"{"a": "{\"card\":\"REDACTED_CARD\"}"}"#),
        (r#"{"to": "bob\u0040example.org"}"#, r#"{"to": "REDACTED_EMAIL"}"#),
        ("邮箱bob@example.org。", "邮箱REDACTED_EMAIL。"),
    ] {
        assert_eq!(masked(&[text]), expected);
    }
    assert_eq!(masked(&[&format!("Key:\n{KEY}\nEnd")]), "Key:\nREDACTED_SECRET\nEnd");
    let standing = format!("to {} and {}", texts[0], texts[1]);
    assert_eq!(masked(&[&standing]), standing);
}

#[test]
fn each_value_counts_once() {
    let text = "a@b.co, A@B.co, ada@example.org, PRJ-1234, a@b.co";
    for (action, expected) in [
        ("report", text),
        (
            "redact",
            "REDACTED_EMAIL, REDACTED_EMAIL, ada@example.org, REDACTED_VALUE, REDACTED_EMAIL",
        ),
        (
            "block",
            "REDACTED_EMAIL, REDACTED_EMAIL, ada@example.org, REDACTED_VALUE, REDACTED_EMAIL",
        ),
    ] {
        let mut scan = scan(action);
        assert_eq!(masked_by(&mut scan, &[text]), expected);
        let found: Vec<_> = scan.report().found.clone().into_iter().collect();
        assert_eq!(found, [("email".to_owned(), 1), ("project".to_owned(), 1)]);
        assert_eq!(scan.report().blocking.len(), if action == "block" { 2 } else { 0 });
    }
}

#[test]
fn only_what_may_be_a_value_is_held_back() {
    for (text, held) in [
        ("Write to bob", "bob"),
        ("Write to bob ", ""),
        ("Call 415 555 ", "415 555 "),
        ("Pay GB29 NWBK 60", "GB29 NWBK 60"),
        ("In 2024 the ", ""),
        ("一二三", ""),
        ("say \"x", "x"),
        ("key -----BEGIN PRIVATE KEY-----\nMIIE\n", "-----BEGIN PRIVATE KEY-----\nMIIE\n"),
    ] {
        let decided = decided(text, 0);
        assert_eq!(&text[decided..], held, "{text}");
    }
    assert_eq!(decided("one two three four", 7), "one two thr".len());
    let long = "x".repeat(MAX_HELD + 1);
    assert_eq!(decided(&long, 0), long.len() - MIN_HELD);
}

#[test]
fn a_scan_that_is_late_lets_the_text_pass_and_says_so() {
    let mut scan = scan("redact");
    scan.limit_time(|| false);
    assert_eq!(masked_by(&mut scan, &["to a@b.co"]), "to a@b.co");
    assert_eq!(scan.failure(), Some(super::super::super::redact::ScanError::TimeExceeded));
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        parts in prop::collection::vec((0..12_usize, "[ a-z\"\n{,:é一.]{0,6}"), 0..10),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (texts, _) = placeholders();
        let values = [
            "bob@example.org", "+1 415 555 2671", "4111 1111 1111 1111", IBAN, KEY,
            "AKIAIOSFODNN7EXAMPLE", "password: hunter2hunter2", "PRJ-1234", "203.0.113.7",
            "ada@example.org", &texts[1],
        ];
        let mut text = String::new();
        for (place, other) in &parts {
            text.push_str(other);
            text.push(' ');
            text.push_str(values.get(*place).unwrap_or(&""));
        }
        prop_assert_eq!(masked(&cut(&text, &cuts)), masked(&[&text]));
    }
}
