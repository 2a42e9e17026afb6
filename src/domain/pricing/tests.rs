//! Costs to the nano-dollar, and upper bounds of costs.

use proptest::prelude::*;

use super::*;

/// No usage that is believed has more tokens of a kind.
const MAX_TOKENS: u64 = 1_000_000_000_000;

fn usd(text: &str) -> NanoUsd {
    text.parse().unwrap()
}

fn price(json: serde_json::Value) -> Price {
    serde_json::from_value(json).unwrap()
}

fn usage(input: u64, output: u64) -> TokenUsage {
    TokenUsage { input: Some(input), output: Some(output), ..TokenUsage::default() }
}

#[test]
fn kinds_have_their_own_rates_and_fall_back() {
    let price = price(serde_json::json!({
        "input": 2.5, "cached_input": 1.25, "output": 10, "audio_input": 40, "request": 0.001,
    }));
    let usage = TokenUsage {
        cached_input: Some(400_000),
        cache_write: Some(100_000),
        audio_input: Some(100_000),
        reasoning: Some(600_000),
        ..usage(1_000_000, 1_000_000)
    };
    // 0.4 plain and 0.1 written at 2.5, 0.4 cached at 1.25, 0.1 audio at 40; all output at 10.
    assert_eq!(price.cost(&usage), usd("1.25") + usd("0.5") + usd("4") + usd("10.001"));
    assert_eq!(price.cost(&TokenUsage::default()), usd("0.001"));
}

#[test]
fn cache_writes_of_one_hour_are_charged_apart() {
    let usage = TokenUsage {
        cached_input: Some(400_000),
        cache_write: Some(300_000),
        cache_write_1h: Some(100_000),
        ..usage(1_000_000, 0)
    };
    let plain = price(serde_json::json!({"input": 1, "cached_input": 0.1, "output": 0}));
    // 0.3 plain at 1, 0.4 cached at 0.1, 0.2 written for five minutes and 0.1 for one hour.
    assert_eq!(plain.cost(&usage), usd("0.64"));
    let own = Price { cache_write: Some(usd("3")), ..plain.clone() };
    assert_eq!(own.cost(&usage), usd("1.24"));
    let filled = plain.with_cache_write_rates();
    assert_eq!(filled.cost(&usage), usd("0.3") + usd("0.04") + usd("0.25") + usd("0.2"));
    assert_eq!(filled.max_cost(1_000_000, 0), usd("2"));
    let own = Price { cache_write_1h: Some(usd("7")), ..own }.with_cache_write_rates();
    assert_eq!(own.cost(&usage), usd("0.3") + usd("0.04") + usd("0.6") + usd("0.7"));
    let tiered = price(serde_json::json!({"input": 1, "output": 0, "tiers": [
        {"above_input_tokens": 10, "input": 4, "output": 0}]}));
    let tier = tiered.with_cache_write_rates().tiers.remove(0);
    assert_eq!((tier.cache_write, tier.cache_write_1h), (Some(usd("5")), Some(usd("8"))));
    // More for one hour than in all is added to it.
    let beside = TokenUsage { cache_write_1h: Some(500_000), cached_input: None, ..usage };
    assert_eq!(filled.cost(&beside), usd("0.2") + usd("0.375") + usd("1"));
}

#[test]
fn the_sum_is_rounded_up_once() {
    let price = price(serde_json::json!({"input": 0.0000001, "output": 0.0000001}));
    // Each token is a tenth of a thousandth of a nano-dollar.
    assert_eq!(price.cost(&usage(1, 1)), NanoUsd::from_nanos(1));
    assert_eq!(price.cost(&usage(5_000, 5_000)), NanoUsd::from_nanos(1));
    assert_eq!(price.cost(&usage(5_000, 5_001)), NanoUsd::from_nanos(2));
}

#[test]
fn a_tier_applies_to_the_whole_request() {
    let price = price(serde_json::json!({
        "input": 1, "cached_input": 0.1, "output": 5,
        "tiers": [
            {"above_input_tokens": 200_000, "input": 2, "output": 8},
            {"above_input_tokens": 500_000, "input": 4, "cached_input": 0.5, "output": 1},
        ],
    }));
    assert_eq!(price.cost(&usage(200_000, 1_000_000)), usd("5.2"));
    assert_eq!(price.cost(&usage(200_001, 1_000_000)), usd("8.400002"));
    assert_eq!(price.cost(&usage(1_000_000, 0)), usd("4"));
    // The cached tokens count towards the tier, at the tier's own input rate if it has no other.
    let cached = TokenUsage { cached_input: Some(300_000), ..usage(300_000, 0) };
    assert_eq!(price.cost(&cached), usd("0.6"));
    // The middle tier is the most expensive here, at its end.
    assert_eq!(price.max_cost(1_000_000, 1_000_000), usd("9"));
    assert_eq!(price.max_cost(200_000, 1_000_000), usd("5.2"));
    assert_eq!(price.max_cost(0, 0), NanoUsd::ZERO);
}

#[test]
fn parts_that_exceed_their_total_stand_beside_it() {
    let price = price(serde_json::json!({
        "input": 1, "cached_input": 0.1, "cache_write": 2, "output": 1, "reasoning": 3,
        "tiers": [{"above_input_tokens": 1_000_000, "input": 10, "output": 10}],
    }));
    let beside = TokenUsage {
        cached_input: Some(200_000),
        cache_write: Some(100_000),
        reasoning: Some(100_000),
        ..usage(100_000, 50_000)
    };
    // 0.1 + 0.02 + 0.2 of input, 0.05 + 0.3 of output.
    assert_eq!(price.cost(&beside), usd("0.67"));
    // Together they reach the tier.
    let beside = TokenUsage { cached_input: Some(900_000), ..usage(200_000, 0) };
    assert_eq!(price.cost(&beside), usd("11"));
    let unreported = TokenUsage { cached_input: Some(1_000), ..TokenUsage::default() };
    assert_eq!(price.cost(&unreported), usd("0.0001"));
}

#[test]
fn audio_from_the_cache_is_charged_once() {
    let price = price(serde_json::json!({
        "input": 1, "cached_input": 0.1, "audio_input": 10, "output": 1,
    }));
    let both = TokenUsage {
        cached_input: Some(800_000),
        audio_input: Some(600_000),
        ..usage(1_000_000, 0)
    };
    // At least 0.4 of the audio is among the 0.8 that came from the cache.
    assert_eq!(price.cost(&both), usd("2.08"));
    assert!(price.cost(&both) <= price.max_cost(1_000_000, 0));
    assert_eq!(charged_tokens(&both), (1_000_000, 0));
    let all = TokenUsage { cached_input: Some(1_000_000), ..both };
    assert_eq!(price.cost(&all), usd("0.1"));
    let beside = TokenUsage { audio_input: Some(1_100_000), ..both };
    assert_eq!(price.cost(&beside), usd("12.08"));
}

#[test]
fn what_is_no_price_is_refused_by_its_field() {
    let sound = serde_json::json!({"input": 1, "output": 2});
    for (more, field) in [
        (serde_json::json!({"input": -1}), "input"),
        (serde_json::json!({"input": null}), "input"),
        (serde_json::json!({"output": 1_000_001}), "output"),
        (serde_json::json!({"output": "much"}), "output"),
        (serde_json::json!({"cached_input": 0.000_000_000_1}), "cached_input"),
        (serde_json::json!({"cached_input": -1}), "cached_input"),
        (serde_json::json!({"request": 1_000_001}), "request"),
        (
            serde_json::json!({"tiers": [{"above_input_tokens": 0, "input": 1, "output": 1}]}),
            "tiers[0].above_input_tokens",
        ),
        (
            serde_json::json!({"tiers": [{"above_input_tokens": 5, "input": -1, "output": 1}]}),
            "tiers[0].input",
        ),
        (
            serde_json::json!({"tiers": vec![
            serde_json::json!({"above_input_tokens": 5, "input": 1, "output": 1}); 2]}),
            "tiers",
        ),
        (
            serde_json::json!({"tiers": (1..18).map(|above| {
            serde_json::json!({"above_input_tokens": above, "input": 1, "output": 1})
        }).collect::<Vec<_>>()}),
            "tiers",
        ),
    ] {
        let mut price = sound.clone();
        for (name, value) in more.as_object().unwrap() {
            price[name] = value.clone();
        }
        let error = serde_path_to_error::deserialize::<_, Price>(price).unwrap_err();
        assert_eq!(error.path().to_string(), field, "{more}: {error}");
    }
    assert!(serde_json::from_value::<Price>(serde_json::json!({"input": 1})).is_err());
    assert!(
        serde_json::from_value::<Price>(serde_json::json!({"input": 1, "output": 1, "x": 1}))
            .is_err()
    );
}

/// A sum that no fixed width bounds: digits in base 1e9, the lowest first.
#[derive(Default)]
struct Big(Vec<u128>);

impl Big {
    const BASE: u128 = 1_000_000_000;

    fn add(&mut self, mut tokens: u128, rate: u128) {
        let mut shift = 0;
        while tokens > 0 {
            let mut carry = (tokens % Self::BASE) * rate;
            let mut at = shift;
            while carry > 0 {
                if self.0.len() <= at {
                    self.0.push(0);
                }
                let sum = self.0[at] + carry % Self::BASE;
                self.0[at] = sum % Self::BASE;
                carry = carry / Self::BASE + sum / Self::BASE;
                at += 1;
            }
            tokens /= Self::BASE;
            shift += 1;
            if self.0.len() < shift {
                self.0.resize(shift, 0);
            }
        }
    }

    /// Divided by `by`, rounded up; none beyond what money holds.
    fn divided_up(&self, by: u128) -> Option<i64> {
        let (mut quotient, mut rest) = (0_u128, 0);
        for digit in self.0.iter().rev() {
            rest = rest * Self::BASE + digit;
            quotient = quotient.checked_mul(Self::BASE)? + rest / by;
            rest %= by;
        }
        i64::try_from(quotient + u128::from(rest > 0)).ok()
    }
}

/// What a price asks for a usage, worked out another way: token by token kind, without limits.
fn oracle(price: &Price, usage: &TokenUsage) -> NanoUsd {
    let parts = |total: Option<u64>, kinds: &[Option<u64>]| {
        let total = u128::from(total.unwrap_or(0));
        let kinds: Vec<u128> = kinds.iter().map(|kind| u128::from(kind.unwrap_or(0))).collect();
        let sum: u128 = kinds.iter().sum();
        let plain = if sum <= total { total - sum } else { total };
        (plain, kinds)
    };
    let (short, long) = parts(usage.cache_write, &[usage.cache_write_1h]);
    let of_cache = u128::from(usage.cached_input.unwrap_or(0)) + short + long[0];
    let total = u128::from(usage.input.unwrap_or(0));
    let audio = usage
        .audio_input
        .filter(|audio| of_cache > total || u128::from(*audio) > total)
        .or_else(|| {
            let left = u64::try_from(total.saturating_sub(of_cache)).unwrap();
            usage.audio_input.map(|audio| audio.min(left))
        });
    let short = Some(u64::try_from(short).unwrap());
    let kinds = [usage.cached_input, short, usage.cache_write_1h, audio];
    let (plain_input, input) = parts(usage.input, &kinds);
    let (plain_output, output) = parts(usage.output, &[usage.reasoning, usage.audio_output]);
    let all_input = plain_input + input.iter().sum::<u128>();
    let mut rates = (
        [
            Some(price.input),
            price.cached_input,
            price.cache_write,
            price.cache_write_1h.or(price.cache_write),
            price.audio_input,
        ],
        [Some(price.output), price.reasoning, price.audio_output],
    );
    for tier in &price.tiers {
        if all_input > u128::from(tier.above_input_tokens) {
            rates = (
                [
                    Some(tier.input),
                    tier.cached_input,
                    tier.cache_write,
                    tier.cache_write_1h.or(tier.cache_write),
                    tier.audio_input,
                ],
                [Some(tier.output), tier.reasoning, tier.audio_output],
            );
        }
    }
    let mut sum = Big::default();
    let input = std::iter::once(plain_input).chain(input).zip(rates.0.map(|r| r.or(rates.0[0])));
    let output = std::iter::once(plain_output).chain(output).zip(rates.1.map(|r| r.or(rates.1[0])));
    for (tokens, rate) in input.chain(output) {
        sum.add(tokens, u128::try_from(rate.unwrap().nanos()).unwrap());
    }
    let nanos =
        sum.divided_up(1_000_000).and_then(|nanos| nanos.checked_add(price.request.nanos()));
    NanoUsd::from_nanos(nanos.unwrap_or(i64::MAX))
}

fn any_rate() -> impl Strategy<Value = NanoUsd> {
    prop_oneof![0..=MAX_RATE.nanos(), 0..100_000_i64, Just(0)].prop_map(NanoUsd::from_nanos)
}

fn any_tier() -> impl Strategy<Value = Tier> {
    let rate = || prop::option::of(any_rate());
    (1..2_000_000_u64, any_rate(), any_rate(), (rate(), rate(), rate(), rate(), rate(), rate()))
        .prop_map(|(above_input_tokens, input, output, rates)| Tier {
            above_input_tokens,
            input,
            cached_input: rates.0,
            cache_write: rates.1,
            output,
            reasoning: rates.2,
            audio_input: rates.3,
            audio_output: rates.4,
            cache_write_1h: rates.5,
        })
}

fn any_price() -> impl Strategy<Value = Price> {
    (any_tier(), any_rate(), prop::collection::vec(any_tier(), 0..4)).prop_map(
        |(base, request, mut tiers)| {
            tiers.sort_by_key(|tier| tier.above_input_tokens);
            tiers.dedup_by_key(|tier| tier.above_input_tokens);
            Price {
                input: base.input,
                cached_input: base.cached_input,
                cache_write: base.cache_write,
                cache_write_1h: base.cache_write_1h,
                output: base.output,
                reasoning: base.reasoning,
                audio_input: base.audio_input,
                audio_output: base.audio_output,
                request,
                tiers,
                ..Price::default()
            }
        },
    )
}

fn any_count() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(prop_oneof![0..3_000_000_u64, 0..50_u64, 0..=MAX_TOKENS])
}

/// Parts that need not fit into their totals.
fn any_usage() -> impl Strategy<Value = TokenUsage> {
    let count = any_count;
    (count(), count(), count(), count(), count(), count(), count(), count()).prop_map(|counts| {
        TokenUsage {
            input: counts.0,
            cached_input: counts.1,
            cache_write: counts.2,
            output: counts.3,
            reasoning: counts.4,
            audio_input: counts.5,
            audio_output: counts.6,
            cache_write_1h: counts.7,
        }
    })
}

proptest! {
    #[test]
    fn a_cost_is_exact(price in any_price(), usage in any_usage()) {
        prop_assert_eq!(price.cost(&usage), oracle(&price, &usage));
    }

    #[test]
    fn no_usage_costs_more_than_the_maximum(
        price in any_price(),
        usage in any_usage(),
        more in (0..1_000_000_u64, 0..1_000_000_u64),
    ) {
        let (input, output) = charged_tokens(&usage);
        prop_assert!(price.cost(&usage) <= price.max_cost(input + more.0, output + more.1));
        // Whatever the parts say, a provider's totals bound them five- and threefold.
        let most_of = |kinds: &[Option<u64>]| kinds.iter().flatten().max().copied().unwrap_or(0);
        let cached = [usage.cached_input, usage.cache_write, usage.cache_write_1h];
        let input = most_of(&[&cached[..], &[usage.input, usage.audio_input]].concat());
        let output = most_of(&[usage.output, usage.reasoning, usage.audio_output]);
        prop_assert!(price.cost(&usage) <= price.max_cost(5 * input, 3 * output));
    }

    #[test]
    fn consistent_usage_is_charged_for_its_totals(
        price in any_price(),
        kinds in prop::array::uniform8(0..1_000_000_u64),
    ) {
        let [plain, cached_input, short, long, audio_input, output, reasoning, audio_output] = kinds;
        let usage = TokenUsage {
            input: Some(plain + cached_input + short + long + audio_input),
            cached_input: Some(cached_input),
            cache_write: Some(short + long),
            cache_write_1h: Some(long),
            audio_input: Some(audio_input),
            output: Some(output + reasoning + audio_output),
            reasoning: Some(reasoning),
            audio_output: Some(audio_output),
        };
        prop_assert_eq!(charged_tokens(&usage), (usage.input.unwrap(), usage.output.unwrap()));
        prop_assert!(price.cost(&usage) <= price.max_cost(usage.input.unwrap(), usage.output.unwrap()));
    }

    #[test]
    fn some_usage_costs_the_maximum(price in any_price(), input in 0..3_000_000_u64, output in 0..3_000_000_u64) {
        let ends = price.tiers.iter().map(|tier| tier.above_input_tokens.min(input));
        let kinds = |total: u64| {
            let kind = move |at: usize, this: usize| (at == this).then_some(total);
            (0..5).map(move |at| {
                (kind(at, 1), kind(at, 2).or(kind(at, 4)), kind(at, 3), kind(at, 4))
            })
        };
        let dearest = ends.chain([input]).flat_map(|input| {
            let price = &price;
            kinds(input).flat_map(move |(cached_input, cache_write, audio_input, cache_write_1h)| {
                kinds(output).map(move |(reasoning, audio_output, ..)| price.cost(&TokenUsage {
                    input: Some(input),
                    cached_input,
                    cache_write,
                    cache_write_1h,
                    audio_input,
                    output: Some(output),
                    reasoning,
                    audio_output,
                }))
            })
        }).max();
        prop_assert_eq!(dearest, Some(price.max_cost(input, output)));
    }

    #[test]
    fn more_tokens_do_not_lower_the_maximum(
        price in any_price(),
        (input, output) in (0..=MAX_TOKENS, 0..=MAX_TOKENS),
        more in (0..3_000_000_u64, 0..3_000_000_u64),
    ) {
        prop_assert!(price.max_cost(input, output) <= price.max_cost(input + more.0, output + more.1));
    }

    #[test]
    fn more_tokens_of_a_kind_never_cost_less_in_one_tier(
        mut price in any_price(),
        kinds in prop::array::uniform8(0..1_000_000_u64),
        which in 0..8_usize,
        more in 0..1_000_000_u64,
    ) {
        // Across tiers they may: providers could make long prompts cheaper.
        price.tiers.clear();
        let usage = |kinds: [u64; 8]| TokenUsage {
            input: Some(kinds[0] + kinds[1] + kinds[2] + kinds[3] + kinds[7]),
            cached_input: Some(kinds[1]),
            cache_write: Some(kinds[2] + kinds[7]),
            cache_write_1h: Some(kinds[7]),
            audio_input: Some(kinds[3]),
            output: Some(kinds[4] + kinds[5] + kinds[6]),
            reasoning: Some(kinds[5]),
            audio_output: Some(kinds[6]),
        };
        let mut after = kinds;
        after[which] += more;
        prop_assert!(price.cost(&usage(kinds)) <= price.cost(&usage(after)));
    }

    #[test]
    fn nothing_overflows(tokens in prop::array::uniform8(any::<u64>()), rate in 0..=i64::MAX) {
        let rate = NanoUsd::from_nanos(rate);
        let price = Price { input: rate, output: rate, request: rate, ..Price::default() };
        let usage = TokenUsage::from_counts(tokens.map(Some));
        let _ = (price.cost(&usage), price.max_cost(tokens[0], tokens[1]));
        let dearest = Price { input: MAX_RATE, output: MAX_RATE, ..Price::default() };
        prop_assert_eq!(dearest.max_cost(MAX_TOKENS, MAX_TOKENS), NanoUsd::MAX);
    }

    #[test]
    fn a_price_survives_json(price in any_price()) {
        let text = serde_json::to_string(&price).unwrap();
        prop_assert_eq!(serde_json::from_str::<Price>(&text).unwrap(), price.clone());
        let value = serde_json::to_value(&price).unwrap();
        prop_assert_eq!(serde_json::from_value::<Price>(value).unwrap(), price);
    }
}
