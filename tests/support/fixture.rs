//! What most data plane tests start with: a workspace whose configuration points to a scripted
//! upstream, and a key to call it with. Created through the API.

use std::net::SocketAddr;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    http::{Client, Request},
    ledger_rows::Rates,
    logs, secrets,
    two_tenants::text,
    upstream::ScriptedUpstream,
    wait::eventually,
};

/// A workspace with everything that a call needs.
pub(crate) struct Fixture {
    pub(crate) upstream: ScriptedUpstream,
    pub(crate) workspace_id: String,
    /// The provider key, stored as [`Self::SECRET`].
    pub(crate) provider_key: String,
    /// The configuration named [`Self::CONFIGURATION`].
    pub(crate) configuration_id: String,
    /// A key with the role `GATEWAY_CALLER`.
    pub(crate) caller_key: String,
    pub(crate) caller_key_id: String,
    gateway: SocketAddr,
    admin: Client,
}

impl Fixture {
    /// The name of the provider key's secret.
    pub(crate) const SECRET: &str = "PROVIDER_KEY";
    pub(crate) const CONFIGURATION: &str = "main";
    /// The model of the configuration.
    pub(crate) const MODEL: &str = "gpt-test";

    /// Creates one with an admin's key, for calls to `gateway`.
    pub(crate) async fn create(admin: &Client, gateway: SocketAddr) -> Self {
        Self::before(admin, gateway, ScriptedUpstream::start().await).await
    }

    /// The same with the test's own upstream.
    pub(crate) async fn before(
        admin: &Client,
        gateway: SocketAddr,
        upstream: ScriptedUpstream,
    ) -> Self {
        // Ids of one millisecond differ only at the end.
        let handle = format!("team-{}", &Uuid::now_v7().simple().to_string()[16..]);
        let team = json!({"name": format!("Team {handle}"), "handle": handle});
        let workspace = admin.post_json("/api/v1/workspaces", &team).await.success().json();
        let workspace_id = text(&workspace, "id");

        let provider_key = format!("sk-test-{}", Uuid::now_v7().simple());
        secrets::register(&provider_key);
        let mut fixture = Self {
            upstream,
            workspace_id,
            provider_key,
            configuration_id: String::new(),
            caller_key: String::new(),
            caller_key_id: String::new(),
            gateway,
            admin: admin.clone(),
        };
        fixture.put_secret(Self::SECRET, &fixture.provider_key).await;
        fixture.configuration_id = fixture.configure(Self::CONFIGURATION, json!({})).await;
        (fixture.caller_key_id, fixture.caller_key) = fixture.key("GATEWAY_CALLER").await;
        fixture
    }

    /// The management API's path of something in this workspace: `secrets`, `api-keys`, ...
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/workspaces/{}/{rest}", self.workspace_id)
    }

    pub(crate) async fn put_secret(&self, name: &str, value: &str) {
        let path = self.path(&format!("secrets/{name}"));
        self.admin.put(&path, &json!({"value": value})).await.success();
    }

    /// Creates a configuration that points to the upstream and returns its id. `more` adds fields or
    /// replaces the usual ones.
    pub(crate) async fn configure(&self, name: &str, more: Value) -> String {
        let mut body = json!({
            "name": name,
            "provider": "openai_compatible",
            "base_url": self.upstream.base_url(),
            "model": Self::MODEL,
            "api_key_name": Self::SECRET,
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let path = self.path("model-configurations");
        text(&self.admin.post_json(&path, &body).await.success().json(), "id")
    }

    /// The management API's path of the usual configuration.
    pub(crate) fn configuration_path(&self) -> String {
        self.path(&format!("model-configurations/{}", self.configuration_id))
    }

    /// Sets the price of the usual configuration.
    pub(crate) async fn set_price(&self, price: Rates) {
        let price = json!({"price": price.json()});
        self.admin.patch(&self.configuration_path(), &price).await.expect(200);
    }

    /// Creates a key with this role in the workspace; returns its id and the key.
    pub(crate) async fn key(&self, role: &str) -> (String, String) {
        let body = json!({"name": format!("a {role}"), "role": role});
        let made = self.admin.post_json(&self.path("api-keys"), &body).await.success().json();
        (text(&made, "id"), text(&made, "key"))
    }

    /// Waits until `count` requests to a configuration have been settled, and returns their log lines.
    pub(crate) async fn settled(&self, configuration_id: &str, count: usize) -> Vec<Settled> {
        self.settled_with(&format!("configuration_id={configuration_id}"), count).await
    }

    /// The same for requests whose line has this field.
    pub(crate) async fn settled_with(&self, field: &str, count: usize) -> Vec<Settled> {
        let mut lines = Vec::new();
        eventually(&format!("{count} requests are settled"), async || {
            lines = logs::lines_with(field);
            // Only the line at the end has what the request led to.
            let is_last = |line: &String| {
                line.contains("proxy request") && line.contains(" configuration_id=")
            };
            lines.retain(is_last);
            lines.len() >= count
        })
        .await;
        lines.into_iter().map(Settled).collect()
    }

    /// The same for exactly one request to the usual configuration.
    pub(crate) async fn settled_once(&self) -> Settled {
        let mut settled = self.settled(&self.configuration_id, 1).await;
        assert_eq!(settled.len(), 1, "each request is settled once: {settled:?}");
        settled.remove(0)
    }

    /// A client with the caller's key.
    pub(crate) fn caller(&self) -> Client {
        Client::new(self.gateway).with_key(&self.caller_key)
    }

    /// The same for another replica.
    pub(crate) fn caller_at(&self, gateway: SocketAddr) -> Client {
        Client::new(gateway).with_key(&self.caller_key)
    }

    pub(crate) fn chat() -> Request {
        Request::post_json(&Self::route("chat/completions"), &question(false))
    }

    pub(crate) fn chat_stream() -> Request {
        Request::post_json(&Self::route("chat/completions"), &question(true))
    }

    /// The path of the usual configuration with this after `/v1/`.
    pub(crate) fn route(rest: &str) -> String {
        format!("/providers/{}/v1/{rest}", Self::CONFIGURATION)
    }
}

/// The log line of a completed request.
#[derive(Clone, Debug)]
pub(crate) struct Settled(String);

impl Settled {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let start = format!(" {name}=");
        let at = memchr::memmem::find(self.0.as_bytes(), start.as_bytes())? + start.len();
        self.0[at..].split(' ').next()
    }

    /// Fails the test unless every field has this value.
    #[track_caller]
    pub(crate) fn says(&self, fields: &[(&str, &str)]) {
        for (name, value) in fields {
            assert_eq!(self.field(name), Some(*value), "{name}: {}", self.0);
        }
    }
}

/// The body of a chat request, without a model.
pub(crate) fn question(stream: bool) -> Value {
    json!({"messages": [{"role": "user", "content": "Good morning?"}], "stream": stream})
}
