//! The lists of the management plane: pages and cursors.

use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    operations::{example_call, operations, permitted_client},
    problems::wrong_fields,
    two_tenants::TwoTenants,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![every_list_pages_the_same_way]
}

async fn every_list_pages_the_same_way(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for name in ["P1", "P2", "P3", "P4"] {
        tenants.home.team.put_secret(name, "sk-paged-value").await;
        let shared = format!("/api/v1/secrets/{name}");
        tenants.admin().put(&shared, &json!({"value": "sk-paged-value"})).await.expect(201);
        tenants.home.team.configure(name, json!({})).await;
        tenants.home.team.key("WORKSPACE_VIEWER").await;
        let person = json!({"name": name, "email": format!("{name}@example.com")});
        tenants.admin().post_json("/api/v1/users", &person).await.expect(201);
        let team = json!({"name": name, "handle": name.to_lowercase()});
        tenants.admin().post_json("/api/v1/workspaces", &team).await.expect(201);
        let spare = json!({"name": name, "role": "ORGANIZATION_VIEWER"});
        tenants.admin().post_json("/api/v1/api-keys", &spare).await.expect(201);
        for provider in ["openai", "*"] {
            let price = json!({"input": 1, "output": 2});
            let price = json!({"provider": provider, "model": name, "price": price});
            tenants.admin().post_json("/api/v1/model-prices", &price).await.expect(201);
        }
        let tenant = json!({"name": name});
        tenants.app.platform().post_json("/api/v1/organizations", &tenant).await.expect(201);
    }
    let shared = json!({"value": "sk-paged-value"});
    tenants.admin().put("/api/v1/secrets/P5", &shared).await.expect(201);
    for _ in 0..5 {
        tenants.home.team.caller().send(Fixture::chat_stream()).await.expect(200);
    }
    let rows = format!("/api/v1/workspaces/{}/requests", tenants.home.team.workspace_id);
    eventually("the calls are in the ledger", async || {
        let page = tenants.admin().get(&rows).await.expect(200).json();
        page["data"].as_array().is_some_and(|rows| rows.len() == 5)
    })
    .await;
    let mut tried = 0;
    for operation in operations(&tenants).await {
        // These lists are plain arrays.
        let plain = operation.id.starts_with("list_gateway_policies")
            || operation.id.ends_with("provider_settings");
        if !operation.id.starts_with("list_") || operation.data_plane() || plain {
            continue;
        }
        tried += 1;
        let id = &operation.id;
        let example = example_call(&tenants, &operation).await;
        let (client, target) = (permitted_client(&tenants, &operation), example.target(&operation));
        let all = client.get(&format!("{target}?limit=200")).await.expect(200).json();
        let whole = all["data"].as_array().unwrap().clone();
        assert_eq!(all["next_cursor"], Value::Null, "{id}");
        assert!(whole.len() >= 5, "{id}: {all}");
        for limit in [1, 3, whole.len() - 1, whole.len()] {
            let first = format!("{target}?limit={limit}");
            let page = client.get(&first).await.expect(200).json();
            assert_eq!(page["data"].as_array().unwrap().len(), limit, "{id}");
            let paged = client.get_pages(&first).await;
            assert_eq!(paged.len(), whole.len(), "{id} by {limit}");
            for (paged, whole) in paged.iter().zip(&whole) {
                assert_eq!(paged["id"], whole["id"], "{id} by {limit}");
                assert_eq!(paged["name"], whole["name"], "{id} by {limit}");
            }
        }
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=-1", "limit"),
            ("limit=many", "limit"),
            ("limit=70000", "limit"),
            ("cursor=", "cursor"),
            ("cursor=nonsense", "cursor"),
            ("cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor"),
            ("no_such=1", "no_such"),
        ] {
            let answer = client.get(&format!("{target}?{query}")).await;
            assert_eq!(wrong_fields(&answer), [field], "{id}?{query}");
        }
        // Any well-formed cursor is a valid position.
        let answer = client.get(&format!("{target}?cursor=AAAAAAAAAAAAAAAAAAAAAA")).await;
        answer.expect(200);
    }
    assert_eq!(tried, 11);
}
