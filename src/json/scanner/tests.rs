//! Members kept of an object that passes in chunks, however it is split.

use proptest::prelude::*;

use super::*;

const KEEP: Keep = Keep {
    names: &MemberNames::USUAL,
    usage: 64,
    id: 100,
    model: 16,
    choices: 8,
    kind: 8,
    state: 8,
    response: true,
};

fn scan(text: &str, size: usize) -> TopLevelScanner {
    let mut scanner = TopLevelScanner::new(KEEP);
    for chunk in text.as_bytes().chunks(size) {
        scanner.feed(chunk);
    }
    scanner
}

#[test]
fn members_of_the_top_level_only() {
    let text = r#" {"id": "a\"}", "x": {"usage": 1, "y": ["model", {"model": "no"}]},
        "usage" : {"a": [1, "}"]} , "choices": [ {"usage": 2} ], "modeled": 1, "model":"m\\" }"#;
    for size in [1, 5, 1000] {
        let scanner = scan(text, size);
        assert_eq!(scanner.usage.value(), Some(r#"{"a": [1, "}"]}"#));
        assert_eq!(scanner.model.value(), Some(r#""m\\""#));
        assert_eq!(scanner.choices.value(), None, "longer than what is kept");
        assert_eq!(scanner.choices.beginning().take(2).collect::<Vec<_>>(), b"[{");
    }
}

#[test]
fn unfinished_and_foreign_text() {
    assert_eq!(scan(r#"{"usage": {"a": 1}"#, 3).usage.value(), None);
    assert_eq!(scan(r#"{"usage": 1, "usage": 22}"#, 3).usage.value(), Some("22"));
    assert!(scan("[DONE]", 3).is_other());
    assert!(scan("{]", 3).is_other());
    assert!(!scan("  ", 3).is_other());
    for odd in ["{}", "{\"a\"", "{\"a\\", "{,", "{\"a\":}", "}{", "\"", "{\"usage\":]}"] {
        for size in [1, 10] {
            scan(odd, size);
        }
    }
}

#[test]
fn members_of_the_response() {
    let text = r#"{"type": "r.c","usage": 0, "response": {"usage": {"a": [1, "}"]}, "model": "m",
        "response": {"usage": 2}, "type": "no"}, "responses": {"usage": 3}}"#;
    for size in [1, 5, 1000] {
        let scanner = scan(text, size);
        assert_eq!(scanner.kind.value(), Some("\"r.c\""));
        assert_eq!(scanner.usage.value(), Some("0"));
        let response = scanner.response().unwrap();
        assert_eq!(response.usage.value(), Some(r#"{"a": [1, "}"]}"#));
        assert_eq!(response.model.value(), Some("\"m\""));
        assert!(response.response().is_none());
    }
    assert!(scan("{\"response\":[]}", 3).response().unwrap().is_other());
}

#[test]
fn members_have_the_names_of_their_format() {
    const NAMES: MemberNames = MemberNames {
        usage: "usageMetadata",
        model: "modelVersion",
        choices: "data",
        output: "embedding",
        end_key: Some("end"),
    };
    let text = r#"{"usage":1,"usageMetadata":2,"usageMetadata_":3,"modelVersion":"m","data":[4],
        "output":5,"embedding":{"end":6}}"#;
    for size in [1, 1000] {
        let mut scanner = TopLevelScanner::new(Keep { names: &NAMES, ..KEEP });
        assert!(!scanner.has_end_key());
        text.as_bytes().chunks(size).for_each(|chunk| scanner.feed(chunk));
        assert_eq!(scanner.usage.value(), Some("2"));
        assert_eq!(scanner.model.value(), Some("\"m\""));
        assert_eq!(scanner.choices.value(), Some("[4]"));
        assert_eq!(scanner.output.beginning().next(), Some(b'{'));
        assert!(scanner.has_end_key());
    }
}

/// A member as the scanner has to see it.
#[derive(Debug, Default)]
struct MemberSeen {
    key: Vec<u8>,
    /// From the colon on.
    value: Option<Vec<u8>>,
    ended: bool,
}

/// One byte after the other, nothing skipped: the members, and whether the text is no object.
fn byte_by_byte(text: &[u8]) -> (Vec<MemberSeen>, bool) {
    let mut members: Vec<MemberSeen> = Vec::new();
    let (mut position, mut depth) = (Position::Start, 0u32);
    let (mut in_text, mut escaped) = (false, false);
    for byte in text.iter().copied() {
        let was_in_text = in_text;
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte == b'"' && matches!(position, Position::Key | Position::Value) {
            in_text = true;
        }
        let last = members.last_mut();
        match (position, last) {
            (Position::End | Position::Other, _) => {}
            (Position::Value, Some(MemberSeen { value: Some(value), ended, .. })) => {
                if !was_in_text && depth == 0 && matches!(byte, b',' | b'}') {
                    position = if byte == b',' { Position::Key } else { Position::End };
                    *ended = true;
                    continue;
                }
                value.push(byte);
                match byte {
                    b'{' | b'[' if !was_in_text => depth += 1,
                    b'}' | b']' if !was_in_text => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            (Position::Key, Some(last)) if was_in_text && in_text => last.key.push(byte),
            (Position::Key, _) if was_in_text => position = Position::Colon,
            (Position::Key, _) if in_text => members.push(MemberSeen::default()),
            (Position::Start | Position::Key | Position::Colon, _)
                if b" \t\n\r".contains(&byte) => {}
            (Position::Start, _) if byte == b'{' => position = Position::Key,
            (Position::Key, _) if byte == b'}' => position = Position::End,
            (Position::Colon, Some(last)) if byte == b':' => {
                last.value = Some(Vec::new());
                position = Position::Value;
            }
            _ => position = Position::Other,
        }
    }
    (members, position == Position::Other)
}

fn same_as_byte_by_byte(text: &str, sizes: &[usize]) -> Result<(), TestCaseError> {
    let mut scanner = TopLevelScanner::new(KEEP);
    let (mut rest, mut sizes) = (text.as_bytes(), sizes.iter().cycle());
    while let (false, Some(size)) = (rest.is_empty(), sizes.next()) {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        scanner.feed(chunk);
        rest = after;
    }
    let (members, is_other) = byte_by_byte(text.as_bytes());
    prop_assert_eq!(scanner.is_other(), is_other);
    for (key, member, keep) in [
        ("usage", &scanner.usage, KEEP.usage),
        ("model", &scanner.model, KEEP.model),
        ("choices", &scanner.choices, KEEP.choices),
        ("type", &scanner.kind, KEEP.kind),
        ("error", &scanner.error, KEEP.state),
    ] {
        let begun = members.iter().filter(|seen| seen.key == key.as_bytes());
        let last = begun.rev().find_map(|seen| Some((seen.value.as_deref()?, seen.ended)));
        let (value, ended) = last.unwrap_or_default();
        let beginning: Vec<u8> = member.beginning().collect();
        let kept = value.get(..keep).unwrap_or(value);
        let expected: Vec<u8> =
            kept.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        prop_assert_eq!(beginning, expected, "{}", key);
        let whole = (ended && value.len() <= keep)
            .then(|| std::str::from_utf8(value).map(str::trim).unwrap_or_default());
        prop_assert_eq!(member.value(), whole, "{}", key);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn nothing_is_missed_under_any_chunking(
        pieces in prop::collection::vec(
            prop_oneof![
                Just("\"usage\":".to_owned()),
                Just(",\"choices\":[".to_owned()),
                Just("],\"model\" : ".to_owned()),
                Just("\"error\": {".to_owned()),
                "[{}\\[\\]\":,\\\\ a\n]{1,3}",
                "\"[a{}é\\\\,\"]{0,24}\"",
            ],
            0..16,
        ),
        sizes in prop::collection::vec(1usize..40, 1..6),
    ) {
        same_as_byte_by_byte(&format!("{{{}", pieces.concat()), &sizes)?;
        same_as_byte_by_byte(&pieces.concat(), &sizes)?;
    }
}
