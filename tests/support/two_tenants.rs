//! Two organizations, three workspaces, and a key of every role in each place: what the cases of the
//! management plane try every operation with.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{app::TestApp, fixture::Fixture, http::Client};

/// A role as the issue of rights is documented: its name, where its keys live, and what it may do.
/// Written down here a second time on purpose: a change of either side has to be meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    /// As the API writes it.
    pub(crate) name: &'static str,
    /// `platform`, `organization` or `workspace`.
    pub(crate) scope: &'static str,
    /// What it may do there.
    pub(crate) permissions: &'static [&'static str],
}

/// All of them.
pub(crate) const ROLES: [Role; 7] = [
    Role {
        name: "PLATFORM_ADMIN",
        scope: "platform",
        permissions: &["organizations:write", "operations:read", "audit-log:read", "usage:read"],
    },
    Role {
        name: "ORGANIZATION_ADMIN",
        scope: "organization",
        permissions: &[
            "organization:read",
            "organization:manage",
            "workspaces:read",
            "workspaces:write",
            "users:read",
            "users:write",
            "secrets:read",
            "secrets:write",
            "model-configurations:read",
            "model-configurations:write",
            "model-configurations:connect",
            "api-keys:read",
            "api-keys:write",
            "audit-log:read",
            "usage:read",
        ],
    },
    Role {
        name: "ORGANIZATION_VIEWER",
        scope: "organization",
        permissions: &[
            "organization:read",
            "workspaces:read",
            "users:read",
            "secrets:read",
            "model-configurations:read",
            "api-keys:read",
            "audit-log:read",
            "usage:read",
        ],
    },
    Role {
        name: "WORKSPACE_ADMIN",
        scope: "workspace",
        permissions: &[
            "workspaces:read",
            "workspaces:write",
            "secrets:read",
            "secrets:write",
            "model-configurations:read",
            "model-configurations:write",
            "model-configurations:connect",
            "api-keys:read",
            "api-keys:write",
            "audit-log:read",
            "usage:read",
            "gateway:invoke",
        ],
    },
    Role {
        name: "WORKSPACE_EDITOR",
        scope: "workspace",
        permissions: &[
            "workspaces:read",
            "secrets:read",
            "model-configurations:read",
            "model-configurations:write",
            "api-keys:read",
            "usage:read",
        ],
    },
    Role {
        name: "WORKSPACE_VIEWER",
        scope: "workspace",
        permissions: &[
            "workspaces:read",
            "secrets:read",
            "model-configurations:read",
            "api-keys:read",
            "usage:read",
        ],
    },
    Role { name: "GATEWAY_CALLER", scope: "workspace", permissions: &["gateway:invoke"] },
];

/// A key of some role.
#[derive(Clone, Debug)]
pub(crate) struct RoleKey {
    /// Which.
    pub(crate) role: Role,
    /// The key's id.
    pub(crate) id: String,
    /// The key.
    pub(crate) key: String,
}

/// A workspace with all that can be in one, in an organization of which keys are at hand.
pub(crate) struct TenantWorkspace {
    /// The organization.
    pub(crate) organization_id: String,
    /// The workspace, with an upstream, a secret, a configuration and a caller's key.
    pub(crate) team: Fixture,
    /// A person in the organization.
    pub(crate) user_id: String,
    /// A configuration whose name no other place has.
    pub(crate) configuration: String,
    /// A key of the organization's admin.
    pub(crate) admin_key: String,
    /// One of every role that lives in the organization or the workspace.
    pub(crate) keys: Vec<RoleKey>,
}

/// The whole.
pub(crate) struct TwoTenants {
    /// The gateway.
    pub(crate) app: TestApp,
    /// What operations are tried on.
    pub(crate) home: TenantWorkspace,
    /// Another workspace of the same organization.
    pub(crate) sibling: TenantWorkspace,
    /// A workspace of another organization.
    pub(crate) stranger: TenantWorkspace,
    /// The platform's key.
    pub(crate) platform: RoleKey,
    count: AtomicUsize,
}

impl TwoTenants {
    /// Makes it, through the API.
    pub(crate) async fn make(app: TestApp) -> Self {
        let (own, admin) = (app.keys().organization_id.clone(), app.keys().admin.clone());
        let home = TenantWorkspace::make(&app, own.clone(), &admin, "home").await;
        let sibling = TenantWorkspace::make(&app, own, &admin, "sibling").await;
        let body = json!({"name": "Strangers"});
        let made =
            app.platform().post_json("/api/v1/organizations", &body).await.expect(201).json();
        let stranger =
            TenantWorkspace::make(&app, text(&made, "id"), &text(&made, "admin_key"), "other")
                .await;
        let me = app.platform().get("/api/v1/me").await.expect(200).json();
        let key = app.keys().platform.clone();
        let platform = RoleKey { role: ROLES[0], id: text(&me, "api_key_id"), key };
        Self { app, home, sibling, stranger, platform, count: AtomicUsize::new(0) }
    }

    /// The admin of the home's organization.
    pub(crate) fn admin(&self) -> Client {
        self.app.as_key(&self.home.admin_key)
    }

    /// A name that was not used yet.
    pub(crate) fn fresh(&self, what: &str) -> String {
        format!("{what}{}", self.count.fetch_add(1, Ordering::SeqCst))
    }

    /// A key of every role, the platform's included, that could have to do with the home.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &RoleKey> {
        std::iter::once(&self.platform).chain(&self.home.keys)
    }

    /// The home's key of that role.
    pub(crate) fn key(&self, role: &str) -> &RoleKey {
        self.roles().find(|key| key.role.name == role).expect("a role")
    }

    /// A caller with the home's key of that role.
    pub(crate) fn as_role(&self, role: &str) -> Client {
        self.app.as_key(&self.key(role).key)
    }
}

impl TenantWorkspace {
    async fn make(app: &TestApp, organization_id: String, admin_key: &str, name: &str) -> Self {
        let admin = app.as_key(admin_key);
        let team = Fixture::create(&admin, app.address()).await;
        let configuration = format!("only at {name}/1");
        team.configure(&configuration, json!({})).await;
        let person = json!({"email": format!("{name}@example.com"), "name": format!("Of {name}")});
        let user = admin.post_json("/api/v1/users", &person).await.expect(201).json();
        let mut keys = Vec::new();
        for role in ROLES.into_iter().filter(|role| role.scope != "platform") {
            let path = match role.scope {
                "organization" => "/api/v1/api-keys".to_owned(),
                _ => team.path("api-keys"),
            };
            let body = json!({"name": format!("{} at {name}", role.name), "role": role.name});
            let made = admin.post_json(&path, &body).await.expect(201).json();
            keys.push(RoleKey { role, id: text(&made, "id"), key: text(&made, "key") });
        }
        let user_id = text(&user, "id");
        let admin_key = admin_key.to_owned();
        Self { organization_id, team, user_id, configuration, admin_key, keys }
    }
}

/// A field that is there and is text.
#[track_caller]
pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field}: {value}")).to_owned()
}
