//! Two organizations with three workspaces, and a key of every role in each, for tests of the management
//! plane.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{app::TestApp, database::Database, fixture::Fixture, http::Client};

/// A role: its name, the scope of its keys, and its permissions. Repeated here on purpose, so that a
/// change of the code must be intended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    pub(crate) name: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) permissions: &'static [&'static str],
}

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

#[derive(Clone, Debug)]
pub(crate) struct RoleKey {
    pub(crate) role: Role,
    pub(crate) id: String,
    pub(crate) key: String,
}

/// A workspace with everything that can be in one, and keys of it and of its organization.
pub(crate) struct TenantWorkspace {
    pub(crate) organization_id: String,
    pub(crate) team: Fixture,
    pub(crate) user_id: String,
    /// The name of a configuration that no other workspace has.
    pub(crate) configuration: String,
    pub(crate) admin_key: String,
    /// One of every role of an organization or a workspace.
    pub(crate) keys: Vec<RoleKey>,
}

/// A gateway with two organizations.
pub(crate) struct TwoTenants {
    pub(crate) app: TestApp,
    /// The workspace that operations are tried on.
    pub(crate) home: TenantWorkspace,
    pub(crate) sibling: TenantWorkspace,
    pub(crate) stranger: TenantWorkspace,
    pub(crate) platform: RoleKey,
    count: AtomicUsize,
}

impl TwoTenants {
    pub(crate) async fn start(database: &Database) -> Self {
        Self::make(TestApp::start(database).await).await
    }

    /// Creates everything through the API.
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

    /// A client with the admin key of the home workspace's organization.
    pub(crate) fn admin(&self) -> Client {
        self.app.as_key(&self.home.admin_key)
    }

    /// A name that was not used before.
    pub(crate) fn fresh(&self, what: &str) -> String {
        format!("{what}{}", self.count.fetch_add(1, Ordering::SeqCst))
    }

    /// The platform key, and a key of every role of the home workspace and its organization.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &RoleKey> {
        std::iter::once(&self.platform).chain(&self.home.keys)
    }

    /// The key with this role among [`Self::roles`].
    pub(crate) fn key(&self, role: &str) -> &RoleKey {
        self.roles().find(|key| key.role.name == role).expect("a role")
    }

    /// A client with that key.
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

/// The text of a field. Fails the test if there is none.
#[track_caller]
pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field}: {value}")).to_owned()
}
