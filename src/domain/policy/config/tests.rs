//! What the configuration of a policy may hold.

use serde_json::json;

use super::*;

fn wrong(policy_type: PolicyType, config: &Value) -> Vec<String> {
    let invalid_fields = PolicyConfig::parse(policy_type, config).unwrap_err();
    invalid_fields.into_iter().map(|invalid_field| invalid_field.field).collect()
}

#[test]
fn both_forms_of_a_spend_cap() {
    let limit = |window, nanos| SpendLimit { window, limit_usd: NanoUsd::from_nanos(nanos) };
    for (config, limits) in [
        (
            json!({"window": "daily", "limit_usd": 12.5}),
            vec![limit(SpendWindow::Daily, 12_500_000_000)],
        ),
        (
            json!({"version": 1, "window": "weekly", "limit_usd": 0}),
            vec![limit(SpendWindow::Weekly, 0)],
        ),
        (
            json!({"version": 2, "limits": [{"window": "hourly", "limit_usd": 1},
                {"window": "monthly", "limit_usd": "0.000000001"}]}),
            vec![limit(SpendWindow::Hourly, 1_000_000_000), limit(SpendWindow::Monthly, 1)],
        ),
    ] {
        for policy_type in [PolicyType::SpendCap, PolicyType::DefaultSpendCap] {
            let parsed = PolicyConfig::parse(policy_type, &config).unwrap();
            let (limits, include_subscriptions) = (limits.clone(), false);
            let cap = SpendCap { limits, include_subscriptions };
            assert_eq!(parsed, PolicyConfig::Spend(cap.clone()), "{config}");
            let mut more = config.clone();
            more["include_subscriptions"] = true.into();
            let parsed = PolicyConfig::parse(policy_type, &more).unwrap();
            let names = parsed.limit_names();
            assert!(names.iter().all(|name| name.ends_with("_with_subscriptions")), "{names:?}");
            let with = SpendCap { include_subscriptions: true, ..cap };
            assert_eq!(parsed, PolicyConfig::Spend(with), "{more}");
        }
    }
}

#[test]
fn invalid_fields_of_spend_caps_are_named() {
    let twice = json!([{"window": "daily", "limit_usd": 1}, {"window": "daily", "limit_usd": 2}]);
    for (config, fields) in [
        (json!([]), vec!["config"]),
        (json!({}), vec!["config.window", "config.limit_usd"]),
        (json!({"window": "yearly", "limit_usd": 1}), vec!["config.window"]),
        (json!({"window": {"daily": null}, "limit_usd": 1}), vec!["config.window"]),
        (json!({"window": "daily", "limit_usd": -0.01}), vec!["config.limit_usd"]),
        (json!({"window": "daily", "limit_usd": "much"}), vec!["config.limit_usd"]),
        (json!({"window": "daily", "limit_usd": 1_000_000_001}), vec!["config.limit_usd"]),
        (json!({"window": "daily", "limit_usd": null}), vec!["config.limit_usd"]),
        (json!({"window": "daily", "limit_usd": 1, "more": 1}), vec!["config.more"]),
        (
            json!({"window": "daily", "limit_usd": 1, "include_subscriptions": "yes"}),
            vec!["config.include_subscriptions"],
        ),
        (json!({"version": 3, "limits": []}), vec!["config.version", "config.limits"]),
        (json!({"version": 2}), vec!["config.limits"]),
        (json!({"limits": [{"window": "daily", "limit_usd": 1}]}), vec!["config.version"]),
        (json!({"version": 2, "limits": twice}), vec!["config.limits[1].window"]),
        (json!({"version": 2, "limits": [1]}), vec!["config.limits[0]"]),
        (
            json!({"version": 2, "limits": [{"window": "daily", "limit_usd": 1},
                {"window": "never", "limit_usd": 1, "x": 1}]}),
            vec!["config.limits[1].x", "config.limits[1].window"],
        ),
    ] {
        assert_eq!(wrong(PolicyType::SpendCap, &config), fields, "{config}");
    }
}

#[test]
fn rate_limits() {
    let config = json!({"version": 1, "limits": [
        {"metric": "requests", "window": "minute", "value": 1},
        {"metric": "tokens", "window": "minute", "value": 1_000_000_000_000_u64},
        {"metric": "requests", "window": "hour", "value": 60}]});
    let Ok(PolicyConfig::Rate(limits)) = PolicyConfig::parse(PolicyType::RateLimit, &config) else {
        panic!("{config}");
    };
    assert_eq!(limits.len(), 3);
    let one = |value: Value| json!({"version": 1, "limits": [value]});
    for (config, field) in [
        (json!({"version": 2, "limits": config["limits"]}), "config.version"),
        (json!({"version": 1}), "config.limits"),
        (json!({"version": 1, "limits": []}), "config.limits"),
        (one(json!({"metric": "bytes", "window": "hour", "value": 1})), "config.limits[0].metric"),
        (one(json!({"metric": "tokens", "window": "day", "value": 1})), "config.limits[0].window"),
        (one(json!({"metric": "tokens", "window": "hour", "value": 0})), "config.limits[0].value"),
        (
            one(json!({"metric": "tokens", "window": "hour", "value": 1.5})),
            "config.limits[0].value",
        ),
        (one(json!({"metric": "tokens", "window": "hour"})), "config.limits[0].value"),
        (
            json!({"version": 1, "limits": [config["limits"][0], config["limits"][0]]}),
            "config.limits[1].window",
        ),
    ] {
        assert_eq!(wrong(PolicyType::DefaultRateLimit, &config), [field], "{config}");
    }
}

#[test]
fn model_access() {
    let config = json!({"providers": [{"provider": "openai", "models": "all"},
        {"provider": "model_configuration", "models": ["chat", "support/gpt 4o"]},
        {"provider": "none", "models": []}]});
    let Ok(PolicyConfig::ModelAccess(providers)) =
        PolicyConfig::parse(PolicyType::ModelAccess, &config)
    else {
        panic!("{config}");
    };
    assert_eq!(serde_json::to_value(&providers).unwrap(), config["providers"]);
    for (config, field) in [
        (json!({}), "config.providers"),
        (json!({"providers": {}}), "config.providers"),
        (json!({"providers": ["openai"]}), "config.providers[0]"),
        (json!({"providers": [{"models": "all"}]}), "config.providers[0].provider"),
        (json!({"providers": [{"provider": "a", "models": "some"}]}), "config.providers[0].models"),
        (
            json!({"providers": [{"provider": "a", "models": ["m", 1]}]}),
            "config.providers[0].models[1]",
        ),
        (
            json!({"providers": [{"provider": "a", "models": "all"},
                {"provider": "a", "models": []}]}),
            "config.providers[1].provider",
        ),
        (json!({"providers": [], "x": "y".repeat(40_000)}), "config"),
    ] {
        assert_eq!(wrong(PolicyType::ModelAccess, &config), [field], "{config}");
    }
}
