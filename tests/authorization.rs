//! Authorization: every operation of the OpenAPI document is tried without a key, with an invalid key,
//! from another organization, from another workspace, and with each role.
//!
//! An operation without an [example](crate::support::operations::example_call) fails here.

use crate::support::{
    case::{Case, cases},
    database::Database,
    database_dump::differences,
    http::{Client, Request},
    operations::{ExampleCall, Operation, Reach, example_call, operations},
    two_tenants::{ROLES, Role, RoleKey, TenantWorkspace, TwoTenants},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        roles_have_the_documented_permissions,
        missing_and_invalid_keys_are_refused,
        other_tenants_see_and_change_nothing,
        each_role_can_do_exactly_what_it_is_permitted,
        permissions_are_checked_before_the_body,
    ]
}

/// Whether a key with this role may use the operation in its own scope.
fn allowed(role: Role, operation: &Operation, example: &ExampleCall) -> bool {
    let holds = |permission: &str| role.permissions.contains(&permission);
    let permissions: Vec<&str> = operation.permissions.iter().map(String::as_str).collect();
    match (permissions.as_slice(), example.reach) {
        (["none" | "authenticated"], _) => true,
        ([platform, own], Reach::Organizations) => match role.scope {
            "platform" => holds(platform),
            "organization" => holds(own),
            _ => false,
        },
        ([needed], Reach::Anywhere) => holds(needed),
        ([needed], Reach::Inside) => role.scope != "platform" && holds(needed),
        ([needed], Reach::Organization) => role.scope == "organization" && holds(needed),
        ([needed], Reach::Workspace) => role.scope == "workspace" && holds(needed),
        other => panic!("{}: nobody said what {other:?} means", operation.id),
    }
}

async fn roles_have_the_documented_permissions(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for key in tenants.roles() {
        let me = tenants.app.as_key(&key.key).get("/api/v1/me").await.expect(200).json();
        assert_eq!(me["role"], key.role.name);
        assert_eq!(me["scope"], key.role.scope);
        assert_eq!(me["api_key_id"], key.id);
        let mut permissions: Vec<&str> =
            me["permissions"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
        let mut written = key.role.permissions.to_vec();
        permissions.sort_unstable();
        written.sort_unstable();
        assert_eq!(permissions, written, "{}", key.role.name);
    }
    assert_eq!(tenants.roles().count(), ROLES.len());
}

async fn missing_and_invalid_keys_are_refused(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let app = &tenants.app;
    let (known, secret) = tenants.home.team.caller_key.rsplit_once('_').unwrap();
    let unknown = tollgate::crypto::ApiKeyText::generate(&mut |buffer: &mut [u8]| {
        tollgate::crypto::system_random(buffer)
    });
    let unknown = unknown.unwrap().text.expose().to_owned();
    let mistyped = format!("{known}_{}", secret.chars().rev().collect::<String>());
    let nobodies = [
        ("nobody", app.anonymous()),
        ("a key of no one", app.as_key(&unknown)),
        ("a mistyped key", app.as_key(&mistyped)),
        ("what is no key", app.as_key("sk-not-one-of-ours")),
        ("an unknown key in X-Api-Key", app.anonymous().with_header("x-api-key", &unknown)),
    ];
    for operation in operations(&tenants).await {
        let example = example_call(&tenants, &operation).await;
        let before = database.dump().await;
        let calls = tenants.home.team.upstream.seen().requests.len();
        for (who, client) in &nobodies {
            let answer = client.send(example.request(&operation)).await;
            let expected = if operation.public() { example.status } else { 401 };
            assert_eq!(answer.status, expected, "{} as {who}: {}", operation.id, answer.text());
            if expected == 401 {
                assert_hidden(&tenants.home, &example, &answer.text(), &operation.id);
            }
        }
        assert_eq!(tenants.home.team.upstream.seen().requests.len(), calls, "{}", operation.id);
        let changed = differences(&before, &database.dump().await);
        assert!(changed.is_empty(), "{} by nobody changed {changed:#?}", operation.id);
    }
}

async fn other_tenants_see_and_change_nothing(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for operation in operations(&tenants).await {
        if operation.public() {
            continue;
        }
        let example = example_call(&tenants, &operation).await;
        // Within the organization, only the keys of another workspace have no access.
        let siblings = tenants.sibling.keys.iter().filter(|key| key.role.scope == "workspace");
        let others: Vec<&RoleKey> = siblings.chain(&tenants.stranger.keys).collect();
        let before = database.dump().await;
        let calls = tenants.home.team.upstream.seen().requests.len();
        for other in &others {
            let who = format!("{} as another's {}", operation.id, other.role.name);
            let may = allowed(other.role, &operation, &example);
            if !example.names_something() && may && operation.writes() {
                // Without parameters, the request is about the key's own resources.
                continue;
            }
            let answer = tenants.app.as_key(&other.key).send(example.request(&operation)).await;
            match (may, example.names_something()) {
                (true, false) => assert_eq!(answer.status, example.status, "{who}"),
                (true, true) => assert_eq!(answer.status, 404, "{who}: {}", answer.text()),
                (false, _) => {
                    assert!(matches!(answer.status, 403 | 404), "{who}: {}", answer.text());
                }
            }
            assert_hidden(&tenants.home, &example, &answer.text(), &who);
            let same = tenants.sibling.keys.iter().any(|key| key.id == other.id);
            let names_organization = answer.text().contains(&tenants.home.organization_id);
            assert!(same || !names_organization, "{who}: {}", answer.text());
        }
        assert_eq!(tenants.home.team.upstream.seen().requests.len(), calls, "{}", operation.id);
        let changed = differences(&before, &database.dump().await);
        assert!(changed.is_empty(), "{} by others changed {changed:#?}", operation.id);
    }
    // Their own lists do not contain anything of the home workspace.
    for key in &tenants.stranger.keys {
        let client = tenants.app.as_key(&key.key);
        for path in
            ["/api/v1/organizations", "/api/v1/workspaces", "/api/v1/audit-log", "/api/v1/users"]
        {
            let answer = client.get(path).await;
            assert_all_hidden(&tenants.home, &answer.text(), path);
            assert_all_hidden(&tenants.sibling, &answer.text(), path);
        }
    }
}

async fn each_role_can_do_exactly_what_it_is_permitted(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for operation in operations(&tenants).await {
        let denied_example = example_call(&tenants, &operation).await;
        let before = database.dump().await;
        for key in tenants.roles() {
            if allowed(key.role, &operation, &denied_example) {
                continue;
            }
            let client = tenants.app.as_key(&key.key);
            let answer = client.send(denied_example.request(&operation)).await;
            let who = format!("{} as {}", operation.id, key.role.name);
            assert!(
                matches!(answer.status, 403 | 404),
                "{who}: {} {}",
                answer.status,
                answer.text()
            );
            assert_hidden(&tenants.home, &denied_example, &answer.text(), &who);
        }
        let changed = differences(&before, &database.dump().await);
        assert!(changed.is_empty(), "{} by roles that may not: {changed:#?}", operation.id);

        let mut somebody = false;
        for key in tenants.roles() {
            let example = example_call(&tenants, &operation).await;
            if !allowed(key.role, &operation, &example) {
                continue;
            }
            somebody = true;
            let answer = tenants.app.as_key(&key.key).send(example.request(&operation)).await;
            let who = format!("{} as {}", operation.id, key.role.name);
            assert_eq!(answer.status, example.status, "{who}: {}", answer.text());
        }
        assert!(somebody, "{} is for nobody", operation.id);
    }
}

async fn permissions_are_checked_before_the_body(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let broken = |target: &str, method: &str| {
        Request::new(method, target).header("content-type", "application/json").body("{\"nam")
    };
    for operation in operations(&tenants).await.iter().filter(|one| one.writes() && one.body) {
        let example = example_call(&tenants, operation).await;
        let (target, method) = (example.target(operation), operation.method.as_str());
        let nobody = tenants.app.anonymous().send(broken(&target, method)).await;
        assert_eq!(nobody.status, 401, "{}", operation.id);
        for key in tenants.roles() {
            let answer = client_of(&tenants, key).send(broken(&target, method)).await;
            let right = match allowed(key.role, operation, &example) {
                true => answer.status == 400,
                false => matches!(answer.status, 403 | 404),
            };
            assert!(right, "{} as {}: {}", operation.id, key.role.name, answer.text());
        }
    }
    let listings =
        ["/api/v1/users?nothing=1", "/api/v1/api-keys?limit=0", "/api/v1/audit-log?limit=x"];
    for listing in listings {
        assert_eq!(tenants.app.anonymous().get(listing).await.status, 401, "{listing}");
        assert_eq!(tenants.as_role("GATEWAY_CALLER").get(listing).await.status, 403, "{listing}");
        assert_eq!(
            tenants.as_role("ORGANIZATION_ADMIN").get(listing).await.status,
            422,
            "{listing}"
        );
    }
}

fn client_of(tenants: &TwoTenants, key: &RoleKey) -> Client {
    tenants.app.as_key(&key.key)
}

/// Fails the test if an answer reveals identifiers of the workspace that the request did not contain.
fn assert_hidden(place: &TenantWorkspace, example: &ExampleCall, answer: &str, who: &str) {
    let said: Vec<&str> = example.parameters.iter().map(|(_, value)| value.as_str()).collect();
    let body = example.body.as_ref().map(ToString::to_string).unwrap_or_default();
    let is_said = |mark: &str| said.iter().any(|said| said.contains(mark)) || body.contains(mark);
    for mark in identifiers(place).iter().filter(|mark| !is_said(mark)) {
        assert!(!answer.contains(mark), "{who} was told {mark}: {answer}");
    }
}

fn assert_all_hidden(place: &TenantWorkspace, answer: &str, who: &str) {
    for mark in identifiers(place) {
        assert!(!answer.contains(mark), "{who} was told {mark}: {answer}");
    }
}

fn identifiers(place: &TenantWorkspace) -> Vec<&str> {
    let team = &place.team;
    let mut marks = vec![
        place.user_id.as_str(),
        &place.configuration,
        &team.workspace_id,
        &team.configuration_id,
        &team.caller_key_id,
        &team.provider_key,
    ];
    marks.extend(place.keys.iter().map(|key| key.id.as_str()));
    marks
}
