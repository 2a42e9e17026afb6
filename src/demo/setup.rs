//! What an admin does before the first call, through the management API.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::DemoError;
use super::client::GatewayClient;
use super::upstream::MODEL;
use crate::crypto::SecretText;

pub(super) const ORGANIZATION: &str = "Demonstration";
pub(super) const WORKSPACE: &str = "demo";
pub(super) const SECRET: &str = "DEMO_UPSTREAM_KEY";
pub(super) const CONFIGURATION: &str = "demo";

/// What an application needs to know.
pub(super) struct Team {
    pub(super) workspace_id: String,
    /// A key of the role `GATEWAY_CALLER`.
    pub(super) caller_key: SecretText,
}

/// Makes a workspace, stores the provider's key, names the upstream and issues a caller's key.
pub(super) async fn set_up(
    client: &GatewayClient,
    admin_key: &SecretText,
    base_url: &str,
    provider_key: &SecretText,
) -> Result<Team, DemoError> {
    let ask = async |method: Method, path: String, body: Value| {
        client.send(method, &path, admin_key, &body).await
    };
    let workspaces = "/api/v1/workspaces";
    let body = json!({"name": "Demonstration", "handle": WORKSPACE});
    let workspace = ask(Method::POST, workspaces.to_owned(), body).await?;
    let workspace_id = text(&workspace.body, "id", workspaces)?;
    let inside = |rest: &str| format!("{workspaces}/{workspace_id}/{rest}");

    let secret = json!({
        "value": provider_key.expose(),
        "description": "The built-in demonstration upstream's key",
    });
    ask(Method::PUT, inside(&format!("secrets/{SECRET}")), secret).await?;

    let configuration = json!({
        "name": CONFIGURATION,
        "description": "The built-in demonstration upstream",
        "provider": "openai_compatible",
        "base_url": base_url,
        "model": MODEL,
        "api_key_name": SECRET,
    });
    ask(Method::POST, inside("model-configurations"), configuration).await?;

    let keys = inside("api-keys");
    let body = json!({"name": "Demonstration caller", "role": "GATEWAY_CALLER"});
    let issued = ask(Method::POST, keys.clone(), body).await?;
    let caller_key = SecretText::from(text(&issued.body, "key", &keys)?);
    Ok(Team { workspace_id, caller_key })
}

fn text(body: &Value, field: &str, path: &str) -> Result<String, DemoError> {
    body[field].as_str().map(str::to_owned).ok_or_else(|| DemoError::Call {
        request: path.to_owned(),
        problem: format!("the answer has no {field}"),
    })
}
