//! The operations of the OpenAPI document, and for each an example call that succeeds with a permitted
//! key. An operation without an example in [`example_call`] fails the tests that go through the document.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    fixture::{Fixture, question},
    http::{Client, Request},
    ledger_seed,
    two_tenants::{TwoTenants, text},
};

/// An operation of the document.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Such as `create_workspace`.
    pub(crate) id: String,
    pub(crate) method: String,
    /// With parameters in braces.
    pub(crate) path: String,
    /// `x-permission`, split at `|`.
    pub(crate) permissions: Vec<String>,
    pub(crate) body: bool,
}

impl Operation {
    pub(crate) fn public(&self) -> bool {
        self.permissions == ["none"]
    }

    pub(crate) fn data_plane(&self) -> bool {
        let is_management = self.path.starts_with("/v1/platform/");
        let places = ["/providers/", "/routes/", "/v1/"];
        places.iter().any(|place| self.path.starts_with(place)) && !is_management
    }

    /// Whether it changes data of the management plane.
    pub(crate) fn writes(&self) -> bool {
        let reads = self.id == "check_model_configuration"
            || ["search_", "test_"].iter().any(|start| self.id.starts_with(start));
        self.method != "GET" && !self.data_plane() && !reads
    }
}

/// The scopes whose keys may use an operation, given the permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Any scope.
    Anywhere,
    /// Platform keys by one permission; organization keys, for their own organization, by another.
    Organizations,
    /// Organization keys only.
    Organization,
    /// Organization and workspace keys; the platform's permission of the same name does not count.
    Inside,
    /// Workspace keys only.
    Workspace,
}

/// A request that succeeds with a permitted key.
#[derive(Clone, Debug)]
pub(crate) struct ExampleCall {
    pub(crate) reach: Reach,
    pub(crate) parameters: Vec<(&'static str, String)>,
    /// With its question mark.
    pub(crate) query: &'static str,
    pub(crate) body: Option<Value>,
    pub(crate) status: u16,
}

impl ExampleCall {
    /// Whether the request names a resource of its workspace.
    pub(crate) fn names_something(&self) -> bool {
        // A provider is everybody's, and a secret that is stored may be new.
        let is_new = |name: &str| name == "name" && self.status == 201;
        let has_parameter =
            self.parameters.iter().any(|(name, _)| *name != "provider" && !is_new(name));
        // A model of a configuration.
        let model = self.body.as_ref().and_then(|body| body["model"].as_str());
        has_parameter || model.is_some_and(|model| model.starts_with("custom/"))
    }

    pub(crate) fn request(&self, operation: &Operation) -> Request {
        let request = Request::new(&operation.method, &self.target(operation));
        match &self.body {
            Some(body) if operation.method == "PATCH" => request
                .header("content-type", "application/merge-patch+json")
                .body(body.to_string()),
            Some(body) => request.json(body),
            None => request,
        }
    }

    pub(crate) fn target(&self, operation: &Operation) -> String {
        let mut path = operation.path.clone();
        for (name, value) in &self.parameters {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
            path = path.replace(&format!("{{{name}}}"), &value);
        }
        assert!(!path.contains('{'), "{} needs more parameters: {path}", operation.id);
        path + self.query
    }
}

/// All operations of the served document.
pub(crate) async fn operations(tenants: &TwoTenants) -> Vec<Operation> {
    let document = tenants.app.anonymous().get("/api/v1/openapi.json").await.expect(200).json();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            operations.push(Operation {
                id: text(operation, "operationId"),
                method: method.to_uppercase(),
                path: path.clone(),
                permissions: text(operation, "x-permission")
                    .split('|')
                    .map(str::to_owned)
                    .collect(),
                body: operation.get("requestBody").is_some(),
            });
        }
    }
    assert!(operations.len() > 40, "the document is complete: {}", operations.len());
    operations
}

/// An example call of the operation in the home workspace. What it changes is created for it.
pub(crate) async fn example_call(tenants: &TwoTenants, operation: &Operation) -> ExampleCall {
    use Reach::{Anywhere, Inside, Organization, Organizations, Workspace};

    let home = &tenants.home;
    let workspace = ("workspace_id", home.team.workspace_id.clone());
    let organization = ("organization_id", home.organization_id.clone());
    let of = |reach, status, parameters: Vec<(&'static str, String)>, body: Option<Value>| {
        ExampleCall { reach, status, parameters, query: "", body }
    };
    match operation.id.as_str() {
        "get_health"
        | "get_version"
        | "get_readiness"
        | "get_openapi"
        | "get_openapi_of_version"
        | "get_metrics"
        | "get_me"
        | "list_workspaces"
        | "list_audit_log"
        | "get_usage" => of(Anywhere, 200, vec![], None),
        "create_organization" => {
            of(Anywhere, 201, vec![], Some(json!({"name": tenants.fresh("Organization ")})))
        }
        "list_organizations" => of(Organizations, 200, vec![], None),
        "get_organization" => of(Organizations, 200, vec![organization], None),
        "update_organization" => of(
            Organizations,
            200,
            vec![organization],
            Some(json!({"name": tenants.fresh("Renamed ")})),
        ),
        "create_organization_api_key" => of(
            Anywhere,
            201,
            vec![organization],
            Some(json!({"name": "Spare", "role": "ORGANIZATION_VIEWER"})),
        ),
        "create_workspace" => of(
            Organization,
            201,
            vec![],
            Some(json!({"name": "New", "handle": tenants.fresh("new-")})),
        ),
        "get_workspace" => of(Anywhere, 200, vec![workspace], None),
        "update_workspace" => {
            of(Anywhere, 200, vec![workspace], Some(json!({"name": tenants.fresh("Team ")})))
        }
        "delete_workspace" => {
            let body = json!({"name": "Gone soon", "handle": tenants.fresh("gone-")});
            let made = tenants.admin().post_json("/api/v1/workspaces", &body).await.expect(201);
            of(Organization, 204, vec![("workspace_id", text(&made.json(), "id"))], None)
        }
        "create_user" => of(
            Organization,
            201,
            vec![],
            Some(json!({"name": "New", "email": format!("{}@example.com", tenants.fresh("new"))})),
        ),
        "list_users" | "list_api_keys" => of(Organization, 200, vec![], None),
        "get_user" => of(Organization, 200, vec![("user_id", home.user_id.clone())], None),
        "update_user" => of(
            Organization,
            200,
            vec![("user_id", home.user_id.clone())],
            Some(json!({"name": tenants.fresh("Called ")})),
        ),
        "delete_user" => {
            let email = format!("{}@example.com", tenants.fresh("leaving"));
            let body = json!({"name": "Leaving", "email": email});
            let made = tenants.admin().post_json("/api/v1/users", &body).await.expect(201);
            of(Organization, 204, vec![("user_id", text(&made.json(), "id"))], None)
        }
        "create_api_key" => of(
            Organization,
            201,
            vec![],
            Some(json!({"name": "New", "role": "ORGANIZATION_VIEWER"})),
        ),
        "get_api_key" | "update_api_key" | "delete_api_key" | "rotate_api_key" => {
            let body = json!({"name": "Target", "role": "ORGANIZATION_VIEWER"});
            let made =
                tenants.admin().post_json("/api/v1/api-keys", &body).await.expect(201).json();
            let key = ("api_key_id", text(&made, "id"));
            let (status, body) = of_key(&operation.id, tenants);
            of(Organization, status, vec![key], body)
        }
        "create_workspace_api_key" => of(
            Anywhere,
            201,
            vec![workspace],
            Some(json!({"name": "New", "role": "GATEWAY_CALLER"})),
        ),
        "list_requests" => of(Inside, 200, vec![workspace], None),
        "list_workspace_api_keys" | "list_secrets" | "list_model_configurations" => {
            of(Anywhere, 200, vec![workspace], None)
        }
        "get_request" => {
            let row = ledger_seed::Row::of(home);
            ledger_seed::insert(tenants.app.database(), std::slice::from_ref(&row)).await;
            of(Inside, 200, vec![workspace, ("request_id", row.request_id)], None)
        }
        "get_workspace_api_key"
        | "update_workspace_api_key"
        | "delete_workspace_api_key"
        | "rotate_workspace_api_key" => {
            let (id, _) = home.team.key("GATEWAY_CALLER").await;
            let (status, body) = of_key(&operation.id, tenants);
            of(Anywhere, status, vec![workspace, ("api_key_id", id)], body)
        }
        "put_secret" => of(
            Anywhere,
            201,
            vec![workspace, ("name", tenants.fresh("NEW_"))],
            Some(json!({"value": format!("sk-{}", tenants.fresh("sample-value-"))})),
        ),
        "get_secret" => {
            of(Anywhere, 200, vec![workspace, ("name", Fixture::SECRET.to_owned())], None)
        }
        "delete_secret" => {
            let name = tenants.fresh("GONE_");
            home.team.put_secret(&name, "sk-gone-soon").await;
            of(Anywhere, 204, vec![workspace, ("name", name)], None)
        }
        "list_organization_secrets" => of(Organization, 200, vec![], None),
        "put_organization_secret" => of(
            Organization,
            201,
            vec![("name", tenants.fresh("NEW_"))],
            Some(json!({"value": format!("sk-{}", tenants.fresh("shared-value-"))})),
        ),
        "get_organization_secret" | "delete_organization_secret" => {
            let name = tenants.fresh("SHARED_");
            let path = format!("/api/v1/secrets/{name}");
            let body = json!({"value": "sk-of-the-organization"});
            tenants.admin().put(&path, &body).await.expect(201);
            let status = if operation.method == "GET" { 200 } else { 204 };
            of(Organization, status, vec![("name", name)], None)
        }
        "list_provider_settings" => of(Organization, 200, vec![], None),
        "list_workspace_provider_settings" => of(Anywhere, 200, vec![workspace], None),
        "get_provider_settings" | "put_provider_settings" | "delete_provider_settings" => {
            let (status, body) = of_settings(&operation.method, tenants);
            let path = "/api/v1/provider-settings/groq";
            tenants.admin().put(path, &json!({"enabled": true})).await.expect(200);
            of(Organization, status, vec![("provider", "groq".to_owned())], body)
        }
        "get_workspace_provider_settings"
        | "put_workspace_provider_settings"
        | "delete_workspace_provider_settings" => {
            let (status, body) = of_settings(&operation.method, tenants);
            let path = home.team.path("provider-settings/groq");
            tenants.admin().put(&path, &json!({"enabled": false})).await.expect(200);
            of(Anywhere, status, vec![workspace, ("provider", "groq".to_owned())], body)
        }
        "create_model_configuration" => of(
            Anywhere,
            201,
            vec![workspace],
            Some(json!({
                "name": tenants.fresh("new "),
                "base_url": home.team.upstream.base_url(),
                "model": "m",
                "api_key_name": Fixture::SECRET,
            })),
        ),
        "check_model_configuration" => {
            let id = home.team.configuration_id.clone();
            let body = Some(json!({"model": "gpt-4o-mini"}));
            of(Anywhere, 200, vec![workspace, ("configuration_id", id)], body)
        }
        "get_model_configuration" => {
            let id = home.team.configuration_id.clone();
            of(Anywhere, 200, vec![workspace, ("configuration_id", id)], None)
        }
        "update_model_configuration" => {
            let id = home.team.configuration_id.clone();
            let body = json!({"description": tenants.fresh("as ")});
            of(Anywhere, 200, vec![workspace, ("configuration_id", id)], Some(body))
        }
        "delete_model_configuration" => {
            let id = home.team.configure(&tenants.fresh("gone "), json!({})).await;
            of(Anywhere, 204, vec![workspace, ("configuration_id", id)], None)
        }
        "list_gateway_policies"
        | "list_gateway_policies_platform"
        | "list_gateway_policies_compat" => of(Organization, 200, vec![], None),
        "search_gateway_policies"
        | "search_gateway_policies_platform"
        | "search_gateway_policies_compat" => {
            of(Organization, 200, vec![], Some(json!({"policy_type": "spend_cap"})))
        }
        "create_gateway_policy"
        | "create_gateway_policy_platform"
        | "create_gateway_policy_compat" => of(Organization, 201, vec![], Some(policy(tenants))),
        "get_gateway_policy"
        | "get_gateway_policy_platform"
        | "get_gateway_policy_compat"
        | "update_gateway_policy"
        | "update_gateway_policy_platform"
        | "update_gateway_policy_compat"
        | "delete_gateway_policy"
        | "delete_gateway_policy_platform"
        | "delete_gateway_policy_compat" => {
            let path = "/api/v1/gateway-policies";
            let made = tenants.admin().post_json(path, &policy(tenants)).await.expect(201).json();
            let (status, body) = of_key(&operation.id, tenants);
            of(Organization, status, vec![("policy_id", text(&made, "id"))], body)
        }
        "test_gateway_policy" | "test_gateway_policy_platform" | "test_gateway_policy_compat" => {
            let mut guard = policy(tenants);
            guard["policy_type"] = json!("guard");
            guard["config"] = json!({"version": 1, "detect": {"pii": true}});
            let path = "/api/v1/gateway-policies";
            let made = tenants.admin().post_json(path, &guard).await.expect(201).json();
            let sample = Some(json!({"text": "Good morning"}));
            of(Organization, 200, vec![("policy_id", text(&made, "id"))], sample)
        }
        "get_route_health" => {
            let name = route(tenants, &home.team.configuration_id).await;
            of(Anywhere, 200, vec![workspace, ("name", name)], None)
        }
        "create_route_chat_completion" => {
            let name = route(tenants, &home.team.configuration_id).await;
            of(Workspace, 200, vec![("routeName", name)], Some(question(false)))
        }
        "create_route_response" => {
            let name = route(tenants, &home.team.configuration_id).await;
            let body = json!({"input": "Good morning?"});
            of(Workspace, 200, vec![("routeName", name)], Some(body))
        }
        "create_route_message" | "count_route_message_tokens" => {
            let claude = json!({"provider": "anthropic_compatible"});
            let id = home.team.configure(&format!("claude {}", Uuid::now_v7()), claude).await;
            let name = route(tenants, &id).await;
            of(Workspace, 200, vec![("routeName", name)], Some(question(false)))
        }
        "create_model_price" => of(Organization, 201, vec![], Some(price_of(tenants))),
        "list_model_prices" => of(Organization, 200, vec![], None),
        "resolve_model_price" => ExampleCall {
            query: "?provider=openai&model=gpt-4o",
            ..of(Organization, 200, vec![], None)
        },
        "get_model_price" | "update_model_price" | "delete_model_price" => {
            let body = price_of(tenants);
            let made = tenants.admin().post_json("/api/v1/model-prices", &body).await.expect(201);
            let price = ("model_price_id", text(&made.json(), "id"));
            match operation.id.as_str() {
                "get_model_price" => of(Organization, 200, vec![price], None),
                "delete_model_price" => of(Organization, 204, vec![price], None),
                _ => of(Organization, 200, vec![price], Some(json!({"price": {"output": 3}}))),
            }
        }
        "create_chat_completion" => of(
            Workspace,
            200,
            vec![("configName", home.configuration.clone())],
            Some(question(false)),
        ),
        "create_chat_completion_of_any_model" | "create_message_of_any_model" => {
            let mut body = question(false);
            body["model"] = format!("custom/{}", home.configuration).into();
            body["max_tokens"] = 50.into();
            of(Workspace, 200, vec![], Some(body))
        }
        "create_response_of_any_model" => {
            let model = format!("custom/{}", home.configuration);
            of(Workspace, 200, vec![], Some(json!({"model": model, "input": "Good morning?"})))
        }
        "count_message_tokens_of_any_model" => {
            let name = format!("claude {}", Uuid::now_v7());
            home.team.configure(&name, json!({"provider": "anthropic_compatible"})).await;
            let mut body = question(false);
            body["model"] = format!("custom/{name}").into();
            of(Workspace, 200, vec![], Some(body))
        }
        "create_response" | "compact_response" => of(
            Workspace,
            200,
            vec![("configName", home.configuration.clone())],
            Some(json!({"input": "Good morning?"})),
        ),
        "create_embedding" => of(
            Workspace,
            200,
            vec![("configName", home.configuration.clone())],
            Some(json!({"input": ["Good morning?"]})),
        ),
        "create_message" | "count_message_tokens" => {
            let name = format!("claude {}", Uuid::now_v7());
            home.team.configure(&name, json!({"provider": "anthropic_compatible"})).await;
            of(Workspace, 200, vec![("configName", name)], Some(question(false)))
        }
        "list_models" => of(Workspace, 200, vec![("configName", home.configuration.clone())], None),
        "get_model" => of(
            Workspace,
            200,
            vec![("configName", home.configuration.clone()), ("id", Fixture::MODEL.to_owned())],
            None,
        ),
        "list_usable_models" => of(Workspace, 200, vec![], None),
        "get_usable_model" => {
            let id = format!("custom/{}", home.configuration);
            of(Workspace, 200, vec![("id", id)], None)
        }
        unknown => panic!("{unknown} has no example call: add one here"),
    }
}

/// Creates a route to one configuration of the home workspace; its name.
async fn route(tenants: &TwoTenants, configuration_id: &str) -> String {
    let name = tenants.fresh("route ");
    let body = json!({"name": name, "policy_type": "route_config",
        "subject_matchers": [{"key": "workspace_id", "value": tenants.home.team.workspace_id}],
        "config": {"fallbacks": [{"model_configs": [{"model_config_id": configuration_id}]}]}});
    tenants.admin().post_json("/api/v1/gateway-policies", &body).await.expect(201);
    name
}

/// A spend cap for a new subject.
fn policy(tenants: &TwoTenants) -> Value {
    json!({
        "name": tenants.fresh("Cap "),
        "policy_type": "spend_cap",
        "subject_matchers": [{"key": "sample", "value": tenants.fresh("subject ")}],
        "config": {"window": "daily", "limit_usd": 10},
    })
}

/// A price for a new model.
fn price_of(tenants: &TwoTenants) -> Value {
    json!({
        "provider": "openai",
        "model": tenants.fresh("model-"),
        "price": {"input": 1, "output": 2},
    })
}

fn of_settings(method: &str, tenants: &TwoTenants) -> (u16, Option<Value>) {
    match method {
        "PUT" => (200, Some(json!({"secret_name": tenants.fresh("RENAMED_")}))),
        "DELETE" => (204, None),
        _ => (200, None),
    }
}

fn of_key(operation: &str, tenants: &TwoTenants) -> (u16, Option<Value>) {
    if operation.starts_with("update") {
        (200, Some(json!({"name": tenants.fresh("Renamed ")})))
    } else if operation.starts_with("delete") {
        (204, None)
    } else if operation.starts_with("rotate") {
        (200, Some(json!({"grace_seconds": 0})))
    } else {
        (200, None)
    }
}

/// A client whose key may call the operation.
pub(crate) fn permitted_client(tenants: &TwoTenants, operation: &Operation) -> Client {
    match operation.permissions.iter().any(|one| one == "organizations:write") {
        true => tenants.app.platform(),
        false => tenants.admin(),
    }
}
