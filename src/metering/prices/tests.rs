use proptest::prelude::*;

use super::*;

#[test]
fn dates_come_off_the_end() {
    for (model, undated) in [
        ("gpt-4o-2024-08-06", Some("gpt-4o")),
        ("claude-sonnet-4-20250514", Some("claude-sonnet-4")),
        ("claude-sonnet-4@20250514", Some("claude-sonnet-4")),
        ("mistral-large-latest", Some("mistral-large")),
        ("gpt-4o", None),
        ("gpt-4-0613", None),
        ("mistral-large-2411", None),
        ("model-12345678", None),
        ("-latest", None),
        ("-20250514", None),
        ("20250514", None),
        ("é-2024-08-0é", None),
        ("", None),
    ] {
        assert_eq!(without_date(model), undated, "{model}");
    }
}
