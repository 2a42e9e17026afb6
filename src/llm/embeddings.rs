//! OpenAI Embeddings, and what others who serve its API make of it. All of its tokens are input.

use super::usage::{NO_KINDS, ReportedUsage, UsageNames};
use crate::domain::tokens::ByKind;
use crate::json::scanner::MemberNames;

pub(super) const MEMBER_NAMES: MemberNames = MemberNames { choices: "data", ..MemberNames::USUAL };

pub(super) const USAGE_NAMES: UsageNames = UsageNames {
    kinds: ByKind {
        // Voyage and Jina report the total alone.
        input: &[("", "prompt_tokens"), ("", "input_tokens"), ("", "total_tokens")],
        ..NO_KINDS
    },
    ..UsageNames::NONE
};

/// Reads a `usage` object. `None` when it is not an object or holds no known count.
pub(super) fn parse_usage(raw: &str) -> Option<ReportedUsage> {
    let mut usage = ReportedUsage::parse(raw, &USAGE_NAMES)?;
    usage.counts.output = Some(0);
    Some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tokens::TokenUsage;
    use crate::llm::answer::{AnswerContent, PlainAnswer};
    use crate::llm::format::Format;

    #[test]
    fn all_tokens_are_input() {
        let expected = TokenUsage { input: Some(7), output: Some(0), ..TokenUsage::default() };
        for raw in [
            r#"{"prompt_tokens":7,"total_tokens":7}"#,
            r#"{"total_tokens":7}"#,
            r#"{"input_tokens":7,"completion_tokens":0}"#,
        ] {
            assert_eq!(parse_usage(raw).unwrap().tokens(0), expected, "{raw}");
        }
        assert_eq!(parse_usage(r#"{"prompt_tokens":null}"#), None);
    }

    #[test]
    fn vectors_are_an_answer_of_which_nothing_is_kept() {
        let vector = "0.0123456789,".repeat(2_000);
        let usage = r#","usage":{"prompt_tokens":7,"total_tokens":7}"#;
        for (end, reported) in [(usage, Some(7)), (r#","usage":null"#, None), ("", None)] {
            let mut answer = PlainAnswer::new(Format::Embeddings);
            answer.push(br#"{"object":"list","model":"small","data":[{"embedding":["#);
            (0..100).for_each(|_| answer.push(vector.as_bytes()));
            answer.push(format!("1]}}]{end}}}").as_bytes());
            let observed = answer.observed();
            assert_eq!(observed.content, AnswerContent::Answer);
            assert_eq!(observed.model.as_deref(), Some("small"));
            assert_eq!(observed.usage.and_then(|usage| usage.counts.input), reported);
            assert!(answer.take_text().is_empty());
        }
        for (body, content) in [
            (r#"{"object":"list","data":[]}"#, AnswerContent::Nothing),
            (r#"{"error":{"message":"overloaded"}}"#, AnswerContent::Error),
            (r#"{"data":[],"usage":{"total_tokens":3}}"#, AnswerContent::Answer),
        ] {
            let mut answer = PlainAnswer::new(Format::Embeddings);
            answer.push(body.as_bytes());
            assert_eq!(answer.observed().content, content, "{body}");
        }
    }
}
