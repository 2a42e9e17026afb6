//! The current spend that a spend cap shows.

use serde_json::{Value, json};

use crate::{
    gateway_policies::{PATH, cap, make, matcher},
    support::{
        case::{Case, cases},
        database::Database,
        sql::{execute, texts},
        two_tenants::TwoTenants,
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![current_spend_comes_from_the_rollups,]
}

async fn current_spend_comes_from_the_rollups(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, home) = (tenants.admin(), &tenants.home);
    let now = chrono::Utc::now();
    // Whole days are read from daily sums, so hours are not needed.
    let day =
        |ago: i64| (now - chrono::TimeDelta::days(ago)).format("%Y-%m-%d 00:00:00").to_string();
    let counts = "1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0";
    let mut statements = String::new();
    for (organization, workspace, user, key, ago, nanos) in [
        (
            &home.organization_id,
            &home.team.workspace_id,
            home.user_id.as_str(),
            &home.keys[0].id,
            0,
            1_500_000_000_i64,
        ),
        (
            &home.organization_id,
            &home.team.workspace_id,
            "",
            &home.team.caller_key_id,
            0,
            250_000_001,
        ),
        (
            &home.organization_id,
            &tenants.sibling.team.workspace_id,
            "",
            &tenants.sibling.team.caller_key_id,
            0,
            4_000_000_000,
        ),
        // Another window, and another organization.
        (
            &home.organization_id,
            &home.team.workspace_id,
            "",
            &home.team.caller_key_id,
            40,
            9_000_000_000,
        ),
        (
            &tenants.stranger.organization_id,
            &home.team.workspace_id,
            "",
            &home.team.caller_key_id,
            0,
            7_000_000_000,
        ),
    ] {
        let day = day(ago);
        let names = "requests, attempts, errors, blocks, input_tokens, cached_input_tokens,
            cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens,
            audio_output_tokens, cost, unknown_costs";
        statements.push_str(&format!(
            "INSERT INTO usage_rollups (organization_id, period, starts_at, metadata_key,
                metadata_value, workspace_id, user_id, api_key_id, configuration_id, model, {names})
             VALUES
                ('{organization}', 'day', '{day}', '', '', '{workspace}', '{user}', '{key}',
                'c', 'm', {counts}, {nanos}, 0),
                ('{organization}', 'day', '{day}', 'team', 'a', '{workspace}', '{user}', '{key}',
                'c', 'm', {counts}, {nanos}, 0);"
        ));
    }
    execute(&database, &statements).await;
    let workspace = matcher("workspace_id", &home.team.workspace_id);
    for (matchers, spend) in [
        (vec![matcher("organization_id", &home.organization_id)], Some("5.750000001")),
        (vec![workspace.clone()], Some("1.750000001")),
        (vec![matcher("user_id", &home.user_id)], Some("1.5")),
        (vec![matcher("api_key_id", &home.team.caller_key_id)], Some("0.250000001")),
        (
            vec![
                matcher("user_id", &home.user_id),
                matcher("api_key_id", &home.team.caller_key_id),
            ],
            Some("0"),
        ),
        (vec![matcher("team", "a")], Some("5.750000001")),
        (vec![matcher("team", "a"), matcher("team", "b"), workspace], Some("1.750000001")),
        (vec![matcher("team", "b")], Some("0")),
        (vec![matcher("team", "a"), matcher("region", "eu")], None),
    ] {
        let mut body = cap("Cap", &matchers);
        body["config"] = json!({"version": 2, "limits": [
            {"window": "monthly", "limit_usd": 1}, {"window": "hourly", "limit_usd": 1}]});
        let made = make(&admin, &body).await;
        let shown = made.get("current_spend_usd").map(Value::to_string);
        assert_eq!(shown.as_deref(), spend, "{matchers:?}");
    }
    let listed = admin.get(PATH).await.expect(200).json();
    let shown: Vec<Option<String>> = listed
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|policy| policy.get("current_spend_usd").map(Value::to_string))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        shown[..4],
        [some("5.750000001"), some("1.750000001"), some("1.5"), some("0.250000001")]
    );
    assert_eq!(shown[8], None);
    let names = texts(&database, "SELECT name AS value FROM gateway_policies").await;
    assert_eq!(names.len(), 9);
}
