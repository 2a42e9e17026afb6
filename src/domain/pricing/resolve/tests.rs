//! Which price applies, and when two names are the same model.

use proptest::prelude::*;
use uuid::Uuid;

use super::super::model_names::{matches, without_date};
use super::*;

fn price(input: u64) -> Price {
    serde_json::from_value(serde_json::json!({"input": input, "output": 1})).unwrap()
}

/// Prices of an organization, each told from the others by its input rate, from 1.
fn list(names: &[(&str, &str)]) -> PriceList {
    let price = |(at, (provider, model)): (usize, &(&str, &str))| OrganizationPrice {
        id: ModelPriceId::from(Uuid::from_u128(at as u128 + 1)),
        version: 3,
        provider: (*provider).to_owned(),
        model: (*model).to_owned(),
        price: price(at as u64 + 1),
    };
    PriceList(names.iter().enumerate().map(price).collect())
}

fn own(price: Option<Price>) -> ConfigurationPrice {
    ConfigurationPrice {
        id: ConfigurationId::from(Uuid::from_u128(7)),
        updated_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
        price,
        context_window: None,
        max_output_tokens: Some(5),
    }
}

fn found(provider: &str, model: &str, list: &PriceList) -> Option<ResolvedPrice> {
    resolve(provider, model, None, list).price
}

#[test]
fn a_configurations_own_price_wins_then_the_organizations() {
    let prices = list(&[("openai", "gpt-4o")]);
    let all = resolve("openai", "gpt-4o", Some(&own(Some(price(9)))), &prices);
    let won = all.price.unwrap();
    assert_eq!((won.origin, won.price), (PriceOrigin::Configuration, price(9)));
    let id = Uuid::from_u128(7);
    assert_eq!(won.version, format!("configuration:{id}:1700000000123456"));
    assert_eq!(won.matched, None);

    let won = resolve("openai", "gpt-4o", Some(&own(None)), &prices).price.unwrap();
    assert_eq!(won.origin, PriceOrigin::Organization);
    assert_eq!(won.version, format!("organization:{}:3", Uuid::from_u128(1)));

    let won = found("openai", "gpt-4o", &PriceList::default()).unwrap();
    assert_eq!(won.origin, PriceOrigin::Catalogue);
    let version = &Catalogue::shipped().version;
    assert_eq!(won.version, format!("catalogue:{version}:openai/gpt-4o"));
    assert_eq!(found("openai_compatible", "gpt-4o", &PriceList::default()), None);
}

#[test]
fn limits_come_from_elsewhere_than_the_price() {
    let known = Catalogue::shipped().find("openai", "gpt-4o").unwrap().0;
    let all = resolve("openai", "gpt-4o", Some(&own(Some(price(9)))), &PriceList::default());
    assert_eq!((all.context_window, all.max_output_tokens), (known.context_window, Some(5)));
    let all = resolve("openai", "gpt-4o", None, &list(&[("openai", "*")]));
    assert_eq!(all.max_output_tokens, known.max_output_tokens);
    assert_eq!(resolve("nobody", "none", None, &PriceList::default()), Resolution::default());
}

#[test]
fn the_closest_name_is_taken() {
    let prices = list(&[
        ("*", "*"),
        ("openai", "*"),
        ("openai", "gpt-*"),
        ("*", "gpt-4o-*"),
        ("openai", "gpt-4o"),
        ("*", "gpt-4o-mini"),
        ("anthropic", "gpt-4o-mini"),
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4o-2024-05-13"),
        ("openai", "*-4o-*"),
    ]);
    for (provider, model, at, by) in [
        ("openai", "gpt-4o", 5, NameMatch::Exact),
        ("openai", "gpt-4o-2024-05-13", 9, NameMatch::Exact),
        ("openai", "gpt-4o-2024-08-06", 5, NameMatch::Undated),
        ("openai", "gpt-4o-latest", 5, NameMatch::Undated),
        ("openai", "gpt-4o-mini", 8, NameMatch::Exact),
        ("openai", "gpt-4o-mini-2024-07-18", 8, NameMatch::Undated),
        ("openai", "gpt-4o-audio", 4, NameMatch::Pattern),
        ("openai", "gpt-5", 3, NameMatch::Pattern),
        ("openai", "my-4o-tuned", 10, NameMatch::Pattern),
        ("openai", "o1", 2, NameMatch::Pattern),
        ("mistral", "gpt-4o-mini", 6, NameMatch::Exact),
        ("mistral", "any", 1, NameMatch::Pattern),
    ] {
        let won = found(provider, model, &prices).unwrap();
        assert_eq!(won.price, price(at), "{provider}/{model}: {:?}", won.matched);
        assert_eq!(won.matched.unwrap().by, by, "{provider}/{model}");
    }
}

#[test]
fn patterns_match_the_whole_name() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("*", "anything", true),
        ("a*", "a", true),
        ("a*c", "abc", true),
        ("a*c", "abcd", false),
        ("*b*", "abc", true),
        ("a*b*c", "axxbyyc", true),
        ("a*b*c", "axxcyyb", false),
        ("**", "x", true),
        ("", "", true),
        ("", "x", false),
        ("*.openai.azure.com", "us.openai.azure.com", true),
        ("*.openai.azure.com", "openai.azure.com", false),
        ("*é", "caf\u{e9}", true),
    ] {
        assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
    }
}

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

/// The pattern taken apart at its stars, the slow and obvious way.
fn matches_slowly(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| matches_slowly(after, &rest[at..]))),
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_obvious_way(pattern in "[ab*]{0,8}", text in "[ab]{0,12}") {
        prop_assert_eq!(matches(&pattern, &text), matches_slowly(&pattern, &text));
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        names in prop::collection::btree_set(("[ab*]", "[ab*]{1,4}"), 1..8),
        model in "[ab]{1,5}",
        turn in 0..8_usize,
    ) {
        let names: Vec<(&str, &str)> =
            names.iter().map(|(provider, model)| (provider.as_str(), model.as_str())).collect();
        let one = list(&names);
        let mut other = one.clone();
        let turn = turn % other.0.len();
        other.0.rotate_left(turn);
        prop_assert_eq!(found("a", &model, &one), found("a", &model, &other));
    }

    #[test]
    fn no_name_panics(provider in ".{0,9}", model in ".{0,30}", pattern in ".{0,9}") {
        let _ = found(&provider, &model, &list(&[("*", &pattern)]));
        let _ = without_date(&model);
    }
}

#[test]
fn another_model_that_answers_has_its_own_price() {
    let prices = list(&[("openai", "gpt-4o-mini"), ("openai", "gpt-4o"), ("openai", "o3*")]);
    let pinned = found("openai", "gpt-4o-mini", &prices).unwrap();
    let used = |used: &str, pinned_price: Option<&ResolvedPrice>| {
        let price = price_of_used("openai", "gpt-4o-mini", used, pinned_price, &prices);
        price.map(|price| price.price)
    };
    for same in ["gpt-4o-mini", "gpt-4o-mini-2024-07-18", "GPT-4o-mini", "gpt-4o-mini-latest"] {
        assert_eq!(used(same, Some(&pinned)), None, "{same}");
    }
    assert_eq!(used("gpt-4o-2024-08-06", Some(&pinned)), Some(price(2)));
    assert_eq!(used("o3-pro", Some(&pinned)), Some(price(3)));
    assert_eq!(used("o3-pro", None), Some(price(3)));
    assert_eq!(used("a-model-of-nobody", Some(&pinned)), None);
    let own = resolve("openai", "gpt-4o-mini", Some(&own(Some(price(9)))), &prices).price.unwrap();
    assert_eq!(used("o3-pro", Some(&own)), None);
    let listed = price_of_used("openai", "gpt-4o-mini", "gpt-4o", None, &PriceList::default());
    assert_eq!(listed.unwrap().origin, PriceOrigin::Catalogue);
}
