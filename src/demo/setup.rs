//! Sets up the demo's workspace through the management API, as an admin would.

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
/// Of the same upstream in Anthropic's format.
pub(super) const MESSAGES_CONFIGURATION: &str = "demo-messages";

/// The workspace, and a key for calls.
pub(super) struct DemoWorkspace {
    pub(super) workspace_id: String,
    /// Has the role `GATEWAY_CALLER`.
    pub(super) caller_key: SecretText,
}

/// Creates a workspace, the provider secret, the model configurations and an API key.
pub(super) async fn set_up(
    client: &GatewayClient,
    admin_key: &SecretText,
    base_url: &str,
    provider_key: &SecretText,
) -> Result<DemoWorkspace, DemoError> {
    let send = async |method: Method, path: String, body: Value| {
        client.send(method, &path, admin_key, &body).await
    };
    let workspaces = "/api/v1/workspaces";
    let body = json!({"name": "Demonstration", "handle": WORKSPACE});
    let workspace = send(Method::POST, workspaces.to_owned(), body).await?;
    let workspace_id = text(&workspace.body, "id", workspaces)?;
    let path = |rest: &str| format!("{workspaces}/{workspace_id}/{rest}");

    let secret = json!({
        "value": provider_key.expose(),
        "description": "The built-in demonstration upstream's key",
    });
    send(Method::PUT, path(&format!("secrets/{SECRET}")), secret).await?;

    for (name, provider, format) in [
        (CONFIGURATION, "openai_compatible", "OpenAI's"),
        (MESSAGES_CONFIGURATION, "anthropic_compatible", "Anthropic's"),
    ] {
        let configuration = json!({
            "name": name,
            "description": format!("The built-in demonstration upstream, in {format} format"),
            "provider": provider,
            "base_url": base_url,
            "model": MODEL,
            "api_key_name": SECRET,
        });
        send(Method::POST, path("model-configurations"), configuration).await?;
    }

    let keys = path("api-keys");
    let body = json!({"name": "Demonstration caller", "role": "GATEWAY_CALLER"});
    let issued = send(Method::POST, keys.clone(), body).await?;
    let caller_key = SecretText::from(text(&issued.body, "key", &keys)?);
    Ok(DemoWorkspace { workspace_id, caller_key })
}

fn text(body: &Value, field: &str, path: &str) -> Result<String, DemoError> {
    body[field].as_str().map(str::to_owned).ok_or_else(|| DemoError::Call {
        request: path.to_owned(),
        problem: format!("the answer has no {field}"),
    })
}
