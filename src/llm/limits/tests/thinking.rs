//! Thoughts that the limit on the answer may not include.

use super::*;

#[test]
fn a_budget_for_thoughts_is_added_to_the_answers_limit() {
    for (fields, tokens) in [
        (json!({"thinking_budget": 60_000}), 60_010),
        (json!({"enable_thinking": true, "thinking_budget": 60_000}), 60_010),
        (json!({"Thinking_Budget": 60_000}), 60_010),
        (json!({"thinking_budget": 60_000, "n": 2}), 120_020),
        (json!({"max_completion_tokens": 20, "thinking_budget": 60_000}), 60_020),
        (json!({"thinking_budget": 60_000, "max_thinking_tokens": 5}), 60_010),
        (json!({"max_thinking_tokens": 60_000}), 60_010),
        (json!({"max_reasoning_tokens": 60_000}), 60_010),
        (json!({"thinking_budget_tokens": 60_000}), 60_010),
        (json!({"thinking_token_budget": 60_000}), 60_010),
        (json!({"reasoning_budget": 60_000}), 60_010),
        (json!({"reasoning": {"max_tokens": 60_000}}), 60_010),
        (json!({"reasoning": {"effort": "high", "summary": [{"max_tokens": 7}]}}), 10),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 60_000}}), 60_010),
        (json!({"extra_body": {"thinking_budget": 60_000}}), 60_010),
        (json!({"extra_body": {"reasoning": {"max_tokens": 60_000}}}), 60_010),
        (json!({"extra_body": {"reasoning": [{"a": {"max_tokens": 60_000}}]}}), 60_010),
        (
            json!({"extra_body": {"google": {"thinking_config": {"thinking_budget": 60_000}}}}),
            60_010,
        ),
        (json!({"nvext": {"max_thinking_tokens": 60_000}}), 60_010),
        (json!({"providerOptions": {"a": {"thinking": {"budgetTokens": 60_000}}}}), 60_010),
        // No thoughts, as far as these say.
        (json!({"thinking_budget": 0}), 10),
        (json!({"thinking_budget": null, "enable_thinking": false}), 10),
        (json!({"thinking": {"type": "disabled"}, "reasoning": null}), 10),
        (json!({"thinking": true, "reasoning": "high"}), 10),
    ] {
        let mut body = json!({"max_tokens": 10});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let bound = chat(body.clone());
        assert_eq!((bound.output_tokens, bound.hard), (tokens, true), "{body}");
    }
    let limit = json!({"max_output_tokens": 10, "reasoning": {"max_tokens": 60_000}});
    assert_eq!(responses(limit).output_tokens, 60_010);
    // The model's own limit may be that of its final answer.
    assert_eq!(chat(json!({"thinking_budget": 60_000})).output_tokens, 16_384 + 60_000);
}

#[test]
fn thoughts_without_a_number_are_assumed_to_be_as_long_as_an_answer() {
    for fields in [
        json!({"enable_thinking": true}),
        json!({"enable_thinking": "true", "thinking_budget": 0}),
        json!({"extra_body": {"enable_thinking": true}}),
        json!({"thinking_budget": -1}),
        json!({"thinking_budget": "high"}),
        json!({"thinking_budget": "7"}),
        json!({"reasoning": {"max_tokens": [9]}}),
    ] {
        let mut body = json!({"max_tokens": 10});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let bound = chat(body.clone());
        assert_eq!((bound.output_tokens, bound.hard), (16_394, false), "{body}");
        let bound = bound_of(Format::Chat, &body, ModelLimits::default());
        assert_eq!((bound.output_tokens, bound.hard), (32_778, false), "{body}");
    }
    let number = chat(json!({"max_tokens": 10, "thinking_budget": "60000"}));
    assert_eq!((number.output_tokens, number.hard), (60_010, false));
}

#[test]
fn anthropics_limit_includes_the_thoughts() {
    let body = |budget: u64| json!({"max_tokens": 5_000, "thinking": {"type": "enabled", "budget_tokens": budget}});
    for (budget, tokens) in [(4_000, 5_000), (60_000, 60_000)] {
        let bound = bound_of(Format::Messages, &body(budget), MODEL);
        assert_eq!((bound.output_tokens, bound.hard), (tokens, true), "{budget}");
        let body = json!({"inferenceConfig": {"maxTokens": 5_000},
            "additionalModelRequestFields": {"thinking": {"budget_tokens": budget}}});
        let text = Bytes::from(body.to_string());
        let (_, facts) = BodyFacts::parse_in(Format::Converse, text).unwrap();
        let bound = Bound::of_request(&facts, 100, &target(Format::Converse, MODEL));
        assert_eq!((bound.output_tokens, bound.hard), (tokens, true), "{budget}");
    }
    let other = json!({"max_tokens": 5_000, "thinking_budget": 4_000});
    assert_eq!(bound_of(Format::Messages, &other, MODEL).output_tokens, 9_000);
}
