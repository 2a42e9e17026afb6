//! What stands for a value is turned back into it, whatever a model makes of it.

use std::collections::BTreeSet;

use proptest::sample::Index;

use super::super::category::Category;
use super::super::placeholder::{ConversationKey, PlaceholderBuilder};
use super::*;

/// A value of a password, which has a quotation mark, and an address.
pub(super) const VALUES: [&str; 2] = ["p\"w\n", "a@b.co"];

/// The placeholders of [`VALUES`], and both together.
pub(super) fn placeholders() -> ([String; 2], Placeholders) {
    let key = ConversationKey::derive(&[1; 32], b"a", b"b");
    let mut builder = PlaceholderBuilder::new(&key, BTreeSet::new());
    let texts = [(Category::NamedSecret, VALUES[0]), (Category::Email, VALUES[1])]
        .map(|(category, value)| builder.placeholder(category, value));
    (texts, builder.finish())
}

/// The text in pieces that end at these places.
pub(super) fn cut<'t>(text: &'t str, cuts: &[Index]) -> Vec<&'t str> {
    let mut cuts: Vec<usize> =
        cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect()
}

/// The answer with `%` for the address and `@` for the password, escaped so many times, must become the
/// one with the values.
fn assert_restored(format: Format, answer: &str) {
    let ([password, email], all) = placeholders();
    let sent = answer.replace("@@@", &password).replace("@@", &password).replace('@', &password);
    let sent = sent.replace('%', &email);
    let expected = answer
        .replace("@@@", r#"p\\\\\\\"w\\\\n"#)
        .replace("@@", r#"p\\\"w\\n"#)
        .replace('@', r#"p\"w\n"#)
        .replace('%', "a#b.co")
        .replace('#', "@");
    let restored = restore_answer(format, sent.as_bytes(), &all);
    let restored = restored.map_or(sent, |restored| String::from_utf8(restored).unwrap());
    assert_eq!(restored, expected);
}

#[test]
fn plain_answers_of_every_format() {
    for (format, answer) in [
        (
            Format::Chat,
            r#"{ "choices":[{"message":{"content":"x % @","reasoning_content":"%","tool_calls":[{"function":{"name":"f","arguments":"{\"to\": \"%\", \"p\":\"@@\"}"}}]}}],"usage":{}}"#,
        ),
        (
            Format::Responses,
            r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"%"}]},{"type":"function_call","arguments":"{\"p\":\"@@\"}"},{"type":"reasoning","summary":[{"text":"%"}]}]}"#,
        ),
        (
            Format::Messages,
            r#"{"content":[{"type":"text","text":"%"},{"type":"tool_use","input":{"to":"%","%":["@"],"thinking":"%"}}]}"#,
        ),
        (
            Format::Gemini,
            r#"{"candidates":[{"content":{"parts":[{"text":"%"},{"functionCall":{"name":"f","args":{"to":"@"}}}]}}]}"#,
        ),
        (
            Format::Converse,
            r#"{"output":{"message":{"content":[{"text":"%"},{"toolUse":{"input":{"to":"%"}}}]}}}"#,
        ),
        // Errors, and JSON that is nested twice.
        (Format::Chat, r#"{"error":{"message":"no such user: %"}}"#),
        (
            Format::Chat,
            r#"{"choices":[{"message":{"content":"{\"x\":\"{\\\"y\\\":\\\"@@@\\\"}\"}"}}]}"#,
        ),
        (Format::Chat, r#"{"choices":[{"message":{"content":"nothing"}}]}"#),
    ] {
        assert_restored(format, answer);
    }
}

#[test]
fn values_within_reasoning_details_are_edited_in_their_order() {
    let scan = super::mask::tests::scan("redact");
    let mut edits = AnswerEdits::new(Placeholders::default(), Some(scan));
    let answer = r#"{"choices":[{"message":{"content":"x","reasoning_details":[{"text":"bob@example.org","logprobs":[1,2]}]}}]}"#;
    let edited = edit_answer(Format::Chat, answer.as_bytes(), &mut edits).unwrap();
    let edited: serde_json::Value = serde_json::from_slice(&edited).unwrap();
    let entry = &edited["choices"][0]["message"]["reasoning_details"][0];
    assert!(!entry["text"].as_str().unwrap().contains("bob@"), "{edited}");
}

#[test]
fn signed_reasoning_keeps_its_placeholders() {
    let ([_, email], all) = placeholders();
    for (format, answer) in [
        (Format::Messages, r#"{"content":[{"type":"thinking","thinking":"%","signature":"x"}]}"#),
        (
            Format::Converse,
            r#"{"output":{"message":{"content":[{"reasoningContent":{"reasoningText":{"text":"%","signature":"x"}}}]}}}"#,
        ),
        (
            Format::Chat,
            r#"{"choices":[{"message":{"reasoning_details":[{"text":"%","signature":"x"}],"thinking_blocks":[{"thinking":"%"}]}}]}"#,
        ),
    ] {
        assert_eq!(restore_answer(format, answer.replace('%', &email).as_bytes(), &all), None);
    }
}

#[test]
fn only_placeholders_of_the_request_are_restored() {
    let (_, all) = placeholders();
    let key = ConversationKey::derive(&[2; 32], b"a", b"b");
    let foreign =
        PlaceholderBuilder::new(&key, BTreeSet::new()).placeholder(Category::Email, "a@b.co");
    for text in [foreign.as_str(), "TG_EMAIL_ABCDEFGH2345", "TG_EMAIL_", "print all of TG_*"] {
        let answer = serde_json::json!({"choices": [{"message": {"content": text}}]}).to_string();
        assert_eq!(restore_answer(Format::Chat, answer.as_bytes(), &all), None);
        assert_eq!(restore_text(text, &all), None);
    }
    assert_eq!(restore_answer(Format::Chat, b"not JSON", &all), None);
}

#[test]
fn an_answer_gets_back_no_more_than_a_bounded_number_of_bytes() {
    let key = ConversationKey::derive(&[1; 32], b"a", b"b");
    let mut builder = PlaceholderBuilder::new(&key, BTreeSet::new());
    let long = "x".repeat(1024 * 1024);
    let placeholder = builder.placeholder(Category::PrivateKey, &long);
    let all = builder.finish();
    let answer = format!("{{\"text\":\"{}\"}}", vec![placeholder.as_str(); 100].join(" "));
    let restored = restore_answer(Format::Chat, answer.as_bytes(), &all).unwrap();
    assert!((16 << 20..17 << 20).contains(&restored.len()), "{}", restored.len());
    assert!(String::from_utf8(restored).unwrap().ends_with(&format!("{placeholder}\"}}")));
}
