//! What a scan finds in a text, and how it ends.

use super::super::category::Group;
use proptest::prelude::*;

use super::*;

const UNITS: [&str; 34] = [
    "1 ",
    "1-",
    "a@",
    "@",
    "a:",
    "::",
    "1a",
    "token=",
    "eyJ",
    "://",
    "a://b:c@",
    "8Q~",
    "sk-",
    "0x",
    "4111",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "GB29",
    "bc1",
    "1.",
    "aa-",
    "tg_",
    "\\n",
    "password=",
    "+1 (",
    "é@é.de",
    "\u{a0}",
    "AB",
    "12 34 56 C",
    "X1234567",
    "b.co ",
    "2001:db8::",
    "00:1a:2b",
    "\\",
];

fn everything() -> Scanner {
    let wanted = Categories::of_group(Group::Secrets).union(Categories::of_group(Group::Pii));
    Scanner::new(wanted, Vec::new())
}

fn scan(text: &str) -> Vec<(&str, Category)> {
    let mut findings = Findings::default();
    everything().scan(text.as_bytes(), b"", &|| true, &mut findings).unwrap();
    findings.found.sort_by_key(|finding| finding.range.start);
    findings.found.into_iter().map(|finding| (&text[finding.range], finding.category)).collect()
}

#[test]
fn a_text_with_some_of_everything() {
    let text = "Mail a@b.co or call +1 415 555 2671 from 203.0.113.7 (00:1a:2b:3c:4d:5e). \
        IBAN GB29 NWBK 6016 1331 9268 19, card 4111 1111 1111 1111, key AKIAIOSFODNN7EXAMPLE.";
    let expected = [
        ("a@b.co", Category::Email),
        ("+1 415 555 2671", Category::Phone),
        ("203.0.113.7", Category::IpAddress),
        ("00:1a:2b:3c:4d:5e", Category::MacAddress),
        ("GB29 NWBK 6016 1331 9268 19", Category::Iban),
        ("4111 1111 1111 1111", Category::PaymentCard),
        ("AKIAIOSFODNN7EXAMPLE", Category::AwsKey),
    ];
    assert_eq!(scan(text), expected);
}

#[test]
fn urls_and_addresses_have_colons_in_common() {
    assert_eq!(
        scan("a:b://user:pa55@host.example/x 2001:db8::8a2e:370:7334"),
        [
            ("b://user:pa55@host.example/x", Category::ConnectionString),
            ("pa55@host.example", Category::Email),
            ("2001:db8::8a2e:370:7334", Category::IpAddress),
        ]
    );
}

#[test]
fn only_what_is_wanted() {
    let scanner = Scanner::new([Category::Email].into_iter().collect(), Vec::new());
    let mut findings = Findings::default();
    let text = b"a@b.co +1 415 555 2671 AKIAIOSFODNN7EXAMPLE 203.0.113.7";
    scanner.scan(text, b"", &|| true, &mut findings).unwrap();
    assert_eq!(findings.found, [Finding { range: 0..6, category: Category::Email, pattern: None }]);
}

#[test]
fn values_at_the_borders_of_parts_are_found_once() {
    let key = "AKIAIOSFODNN7EXAMPLE";
    for shift in 0..key.len() + 2 {
        let mut text = ".".repeat(PART - shift);
        text.push_str(key);
        text.push_str(&".".repeat(PART));
        assert_eq!(scan(&text), [(key, Category::AwsKey)], "{shift}");
    }
}

#[test]
fn placeholders_are_remembered_and_are_no_secrets() {
    let mut findings = Findings::default();
    let text = br"password: TG_SECRET_ABCDEFGH2345 tg\_email\_abcdefgh2345 TG_EMAIL_short TG_NONE_ABCDEFGH2345";
    everything().scan(text, b"", &|| true, &mut findings).unwrap();
    assert_eq!(findings.found, []);
    let literals: Vec<_> = findings.literals.into_iter().collect();
    assert_eq!(literals, ["TG_EMAIL_ABCDEFGH2345", "TG_SECRET_ABCDEFGH2345"]);
}

proptest! {
    /// Each of these is a candidate of some detector.
    #[test]
    fn findings_are_within_the_text(units in prop::collection::vec(prop::sample::select(UNITS.to_vec()), 0..60)) {
        let text = units.concat();
        let mut findings = Findings::default();
        everything().scan(text.as_bytes(), b"password", &|| true, &mut findings).unwrap();
        for finding in findings.found {
            prop_assert!(finding.range.start < finding.range.end && finding.range.end <= text.len());
            prop_assert!(text.is_char_boundary(finding.range.start) && text.is_char_boundary(finding.range.end));
        }
    }
}

#[test]
fn a_scan_stops_when_it_is_late() {
    let text = "a ".repeat(PART);
    let mut findings = Findings::default();
    assert_eq!(
        everything().scan(text.as_bytes(), b"", &|| false, &mut findings),
        Err(TimeExceeded)
    );
}
