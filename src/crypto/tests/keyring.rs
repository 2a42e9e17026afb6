//! The text form of keyrings.

use super::*;
use crate::crypto::system_random;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[test]
fn the_text_form_comes_back() {
    let mut ring = Keyring::generate(&mut system_random).unwrap();
    let first = ring.active_id().to_owned();
    let second = ring.add_new_active(&mut system_random).unwrap().to_owned();
    assert_ne!(first, second);
    let again = Keyring::parse(ring.to_text().expose()).unwrap();
    assert_eq!(again.ids().collect::<Vec<_>>(), [second.as_str(), first.as_str()]);
    assert_eq!(again.active_id(), second);
    assert_eq!(again.to_text().expose(), ring.to_text().expose());
    assert!(again.contains(&first) && !again.contains("mk-other"));
}

#[test]
fn comments_blanks_and_order() {
    let text = format!("# ours\n\n  b.2\t{KEY}  # new\r\na_1 {KEY}\n");
    let ring = Keyring::parse(&text).unwrap();
    assert_eq!(ring.ids().collect::<Vec<_>>(), ["b.2", "a_1"]);
}

#[test]
fn errors_name_the_line_and_never_the_key() {
    let long = "x".repeat(65);
    for (text, expected) in [
        (String::new(), KeyringParseError::Empty),
        ("# only words\n".into(), KeyringParseError::Empty),
        (KEY.into(), KeyringParseError::Parts { line: 1, parts: 1 }),
        (format!("a {KEY} more"), KeyringParseError::Parts { line: 1, parts: 3 }),
        (format!("# c\n{KEY} a"), KeyringParseError::Id { line: 2 }),
        (format!("{long} {KEY}"), KeyringParseError::Id { line: 1 }),
        (format!("a {}", KEY.trim_end_matches('=')), KeyringParseError::Base64 { line: 1 }),
        ("a c2hvcnQ=".into(), KeyringParseError::Length { line: 1, bytes: 5 }),
        (format!("a {KEY}\n\na {KEY}"), KeyringParseError::Duplicate { line: 3, id: "a".into() }),
    ] {
        let error = Keyring::parse(&text).unwrap_err();
        assert_eq!(error, expected);
        let said = format!("{error} {error:?}");
        assert!(!said.contains("MDEy") && !said.contains("c2hv"), "{said}");
    }
}

#[test]
fn debug_shows_ids_only() {
    let ring = Keyring::parse(&format!("first {KEY}")).unwrap();
    assert_eq!(format!("{ring:?}"), "Keyring[\"first\"]");
}
