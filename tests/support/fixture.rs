//! What most cases of the data plane begin with: a workspace whose configuration points to a
//! scripted upstream, and a key to call it with. Made through the API, as an admin would.

use std::net::SocketAddr;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    eventually::eventually,
    http::{Client, Request},
    logs, secrets,
    upstream::ScriptedUpstream,
    world::text,
};

/// A workspace and all that a call needs.
pub(crate) struct Fixture {
    /// Where the configuration points to.
    pub(crate) upstream: ScriptedUpstream,
    /// The workspace.
    pub(crate) workspace_id: String,
    /// The provider's key, stored under [`Self::SECRET`].
    pub(crate) provider_key: String,
    /// The configuration, called [`Self::CONFIGURATION`].
    pub(crate) configuration_id: String,
    /// The key of a `GATEWAY_CALLER`.
    pub(crate) caller_key: String,
    /// Its id.
    pub(crate) caller_key_id: String,
    gateway: SocketAddr,
    admin: Client,
}

impl Fixture {
    /// The name of the provider's key.
    pub(crate) const SECRET: &str = "PROVIDER_KEY";
    /// The name of the configuration.
    pub(crate) const CONFIGURATION: &str = "main";
    /// The model that the configuration names.
    pub(crate) const MODEL: &str = "gpt-test";

    /// Makes one with an admin's key, for calls to `gateway`.
    pub(crate) async fn create(admin: &Client, gateway: SocketAddr) -> Self {
        Self::before(admin, gateway, ScriptedUpstream::start().await).await
    }

    /// The same before an upstream of the test's own.
    pub(crate) async fn before(
        admin: &Client,
        gateway: SocketAddr,
        upstream: ScriptedUpstream,
    ) -> Self {
        // Ids of one millisecond begin alike; the end is what differs.
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

    /// A path of the management plane inside this workspace: `secrets`, `api-keys`, ...
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/workspaces/{}/{rest}", self.workspace_id)
    }

    /// Stores a secret.
    pub(crate) async fn put_secret(&self, name: &str, value: &str) {
        let path = self.path(&format!("secrets/{name}"));
        self.admin.put(&path, &json!({"value": value})).await.success();
    }

    /// Saves a configuration that points to the upstream and returns its id. `more` are fields that
    /// are added, or that replace the usual ones.
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

    /// Makes a key with a role in this workspace: its id, and the key.
    pub(crate) async fn key(&self, role: &str) -> (String, String) {
        let body = json!({"name": format!("a {role}"), "role": role});
        let made = self.admin.post_json(&self.path("api-keys"), &body).await.success().json();
        (text(&made, "id"), text(&made, "key"))
    }

    /// Waits until `count` requests to a configuration have been settled, and gives what the log says
    /// of each.
    pub(crate) async fn settled(&self, configuration_id: &str, count: usize) -> Vec<Settled> {
        let field = format!("configuration_id={configuration_id}");
        let mut lines = Vec::new();
        eventually(&format!("{count} requests are settled"), async || {
            lines = logs::lines_with(&field);
            lines.retain(|line| line.contains("proxy request"));
            lines.len() >= count
        })
        .await;
        lines.into_iter().map(Settled).collect()
    }

    /// The same for one request to the usual configuration.
    pub(crate) async fn settled_once(&self) -> Settled {
        let mut settled = self.settled(&self.configuration_id, 1).await;
        assert_eq!(settled.len(), 1, "each request is settled once: {settled:?}");
        settled.remove(0)
    }

    /// The application that holds the caller's key.
    pub(crate) fn caller(&self) -> Client {
        Client::new(self.gateway).with_key(&self.caller_key)
    }

    /// The same at another replica.
    pub(crate) fn caller_at(&self, gateway: SocketAddr) -> Client {
        Client::new(gateway).with_key(&self.caller_key)
    }

    /// A plain chat call, to be sent by a caller.
    pub(crate) fn chat() -> Request {
        Request::post_json(&Self::route("chat/completions"), &question(false))
    }

    /// A streamed one.
    pub(crate) fn chat_stream() -> Request {
        Request::post_json(&Self::route("chat/completions"), &question(true))
    }

    /// A route of the usual configuration, from what follows `/v1/`.
    pub(crate) fn route(rest: &str) -> String {
        format!("/providers/{}/v1/{rest}", Self::CONFIGURATION)
    }
}

/// What the log says of one request at its end.
#[derive(Clone, Debug)]
pub(crate) struct Settled(String);

impl Settled {
    /// One field, if it was told.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let start = format!(" {name}=");
        let at = memchr::memmem::find(self.0.as_bytes(), start.as_bytes())? + start.len();
        self.0[at..].split(' ').next()
    }

    /// Fails the case unless every field has this value.
    #[track_caller]
    pub(crate) fn says(&self, fields: &[(&str, &str)]) {
        for (name, value) in fields {
            assert_eq!(self.field(name), Some(*value), "{name}: {}", self.0);
        }
    }
}

/// A chat request's body, the model left for the gateway to fill in.
pub(crate) fn question(stream: bool) -> Value {
    json!({"messages": [{"role": "user", "content": "Good morning?"}], "stream": stream})
}
