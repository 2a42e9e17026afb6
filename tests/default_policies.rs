//! Default policies and their children.

use serde_json::{Value, json};

use crate::{
    gateway_policies::{PATH, cap, make, matcher, names},
    support::{
        case::{Case, cases},
        database::Database,
        problems::{problem, wrong_fields},
        sql::execute,
        two_tenants::{TwoTenants, text},
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![children_follow_their_default_until_edited, children_are_created_once_and_restored,]
}

/// Inserts a child of a default, as the gateway does when it first sees a subject.
async fn child(database: &Database, parent: &Value, team: &str, deleted: bool) -> String {
    let (id, parent_id) = (uuid::Uuid::now_v7().to_string(), text(parent, "id"));
    let matchers = tollgate::domain::policy::SubjectMatcher {
        key: "user_id".to_owned(),
        value: team.to_owned(),
    };
    let matchers = vec![matchers];
    let key = tollgate::domain::policy::Audience::digest(&matchers);
    let gone = if deleted { "created_at" } else { "NULL" };
    execute(
        database,
        &format!(
            "INSERT INTO gateway_policies (id, organization_id, name, policy_type, family,
                subject_matchers, matchers_key, config, action, enabled, priority,
                is_system_generated, parent_policy_id, detached, epochs, created_at, updated_at,
                deleted_at)
             SELECT '{id}', organization_id, 'Child {team}', 'spend_cap', family,
                '{}', '{key}', config, action, enabled, priority,
                TRUE, '{parent_id}', FALSE, epochs, created_at, updated_at, {gone}
             FROM gateway_policies WHERE id = '{parent_id}'",
            serde_json::to_string(&matchers).unwrap()
        ),
    )
    .await;
    id
}

async fn children_follow_their_default_until_edited(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let mut body = cap("Each person", &[matcher("user_id", "")]);
    body["policy_type"] = json!("default_spend_cap");
    let default = make(&admin, &body).await;
    assert!(default.get("current_spend_usd").is_none(), "{default}");
    let user = tenants.home.user_id.clone();
    let attached = child(&database, &default, &uuid::Uuid::now_v7().to_string(), false).await;
    let edited = child(&database, &default, &uuid::Uuid::now_v7().to_string(), false).await;
    let taken = child(&database, &default, &user, false).await;
    let deleted = child(&database, &default, &uuid::Uuid::now_v7().to_string(), true).await;
    let read = async |id: &str| admin.get(&format!("{PATH}/{id}")).await.expect(200).json();
    let parent = format!("{PATH}/{}", text(&default, "id"));

    let one = read(&attached).await;
    assert_eq!(one["is_system_generated"], true);
    assert_eq!(one["parent_policy_id"], default["id"]);
    assert_eq!(one["created_by"], json!(null));
    // A patch that changes nothing detaches nothing.
    admin.patch(&format!("{PATH}/{edited}"), &json!({"enabled": true})).await.expect(200);
    assert_eq!(read(&edited).await["is_system_generated"], true);
    let patch = json!({"config": {"limit_usd": 99}});
    let after = admin.patch(&format!("{PATH}/{edited}"), &patch).await.expect(200).json();
    assert_eq!(after["is_system_generated"], false);
    assert_eq!(after["parent_policy_id"], default["id"]);
    let moved = json!({"subject_matchers": [matcher("user_id", &user)]});
    let answer = admin.patch(&format!("{PATH}/{attached}"), &moved).await;
    assert_eq!(wrong_fields(&answer), ["subject_matchers"]);
    // Creating a policy for the child's subject detaches the child.
    let own = make(&admin, &cap("My own", &[matcher("user_id", &user)])).await;
    assert_eq!((text(&own, "id"), &own["is_system_generated"]), (taken.clone(), &json!(false)));

    let config = json!({"window": "hourly", "limit_usd": 5});
    let patch = json!({"config": config, "enabled": false, "priority": 3, "name": "Renamed"});
    admin.patch(&parent, &patch).await.expect(200);
    let follows = read(&attached).await;
    assert_eq!(follows["config"], config);
    assert_eq!((&follows["enabled"], &follows["priority"]), (&json!(false), &json!(3)));
    assert_eq!(follows["name"], one["name"]);
    for (id, limit) in [(&edited, 99), (&taken, 10)] {
        let stays = read(id).await;
        assert_eq!(
            (&stays["config"]["limit_usd"], &stays["enabled"]),
            (&json!(limit), &json!(true))
        );
    }
    problem(&admin.get(&format!("{PATH}/{deleted}")).await, 404, "not_found");
    // Posting the default again edits it.
    make(&admin, &body).await;
    assert_eq!(read(&attached).await["config"], body["config"]);

    admin.delete(&parent).await.expect(204);
    problem(&admin.get(&format!("{PATH}/{attached}")).await, 404, "not_found");
    for id in [&edited, &taken] {
        read(id).await;
    }
    let log = admin.get("/api/v1/audit-log?operation=delete_gateway_policy").await.expect(200);
    assert_eq!(log.json()["data"][0]["after"]["deleted"]["children"], 1);

    // Changing the kind of subject deletes the children.
    let default = make(&admin, &body).await;
    let old = child(&database, &default, &uuid::Uuid::now_v7().to_string(), false).await;
    let patch = json!({"subject_matchers": [matcher("api_key_id", "")]});
    admin.patch(&format!("{PATH}/{}", text(&default, "id")), &patch).await.expect(200);
    problem(&admin.get(&format!("{PATH}/{old}")).await, 404, "not_found");
}

async fn children_are_created_once_and_restored(database: Database) {
    use tollgate::db::gateway_policies::{ChildOutcome, GatewayPolicyRow, ensure_children};
    use tollgate::db::{ChangeScope, Conn};
    use tollgate::domain::policy::{Audience, PolicyType, SubjectMatcher};

    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let mut body = cap("Each person", &[matcher("user_id", "")]);
    body["policy_type"] = json!("default_spend_cap");
    let default = make(&admin, &body).await;
    let capped = matcher("user_id", &tenants.home.user_id);
    let own = make(&admin, &cap("My own", &[capped])).await;
    let engine = database.open(2);
    let organization_id: tollgate::domain::ids::OrganizationId =
        tenants.home.organization_id.parse().unwrap();
    let wanted = |parent: &Value, key: &str, subject: &str| {
        let matchers = vec![SubjectMatcher { key: key.to_owned(), value: subject.to_owned() }];
        let now = chrono::Utc::now().naive_utc();
        GatewayPolicyRow {
            id: uuid::Uuid::now_v7().into(),
            organization_id,
            name: format!("Each person: {subject}"),
            description: None,
            policy_type: PolicyType::SpendCap,
            family: "spend".to_owned(),
            matchers_key: Audience::digest(&matchers),
            subject_matchers: serde_json::to_value(matchers).unwrap(),
            // Filled in from the parent.
            config: json!({}),
            action: String::new(),
            enabled: false,
            priority: 0,
            created_by: None,
            is_system_generated: true,
            parent_policy_id: Some(text(parent, "id").parse().unwrap()),
            detached: false,
            epochs: json!({}),
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    };
    let ensure = async |organization_id, rows: Vec<GatewayPolicyRow>| -> Vec<ChildOutcome> {
        engine
            .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
                ensure_children(conn, organization_id, rows).await
            })
            .await
            .unwrap()
    };
    let somebody = uuid::Uuid::now_v7().to_string();
    let child = wanted(&default, "user_id", &somebody);
    let rows = vec![
        child.clone(),
        child.clone(),
        wanted(&default, "user_id", &tenants.home.user_id),
        wanted(&default, "api_key_id", &somebody),
        wanted(&own, "user_id", &somebody),
    ];
    assert_eq!(
        ensure(organization_id, rows).await,
        [
            ChildOutcome::Created,
            ChildOutcome::Present,
            ChildOutcome::SubjectTaken,
            ChildOutcome::ParentChanged,
            ChildOutcome::ParentChanged,
        ]
    );
    let foreign = tenants.stranger.organization_id.parse().unwrap();
    assert_eq!(ensure(foreign, vec![child.clone()]).await, [ChildOutcome::ParentChanged]);
    let one = format!("{PATH}/{}", child.id);
    let made = admin.get(&one).await.expect(200).json();
    assert_eq!((&made["config"], &made["enabled"]), (&default["config"], &json!(true)));
    assert_eq!(made["parent_policy_id"], default["id"]);
    // A deleted child that is seen again is attached again.
    admin.patch(&one, &json!({"priority": 1})).await.expect(200);
    admin.delete(&one).await.expect(204);
    assert_eq!(ensure(organization_id, vec![child.clone()]).await, [ChildOutcome::Restored]);
    let back = admin.get(&one).await.expect(200).json();
    assert_eq!((&back["is_system_generated"], &back["priority"]), (&json!(true), &json!(100)));
    // The number of children is limited.
    let many = (0..10_000_i64).map(|number| {
        let values = format!("'{}', '{number}'", uuid::Uuid::now_v7());
        format!(
            "INSERT INTO gateway_policies (id, matchers_key, organization_id, name, policy_type,
                family, subject_matchers, config, action, enabled, priority, is_system_generated,
                parent_policy_id, detached, epochs, created_at, updated_at)
             SELECT {values}, organization_id, name, policy_type, family, subject_matchers, config,
                action, enabled, priority, is_system_generated, parent_policy_id, detached,
                epochs, created_at, updated_at
             FROM gateway_policies WHERE id = '{}';",
            child.id
        )
    });
    let all = format!("BEGIN; {} COMMIT;", many.collect::<String>());
    execute(&database, &all).await;
    let one_more = wanted(&default, "user_id", &uuid::Uuid::now_v7().to_string());
    assert_eq!(ensure(organization_id, vec![one_more]).await, [ChildOutcome::Full]);
    let answer = admin.get(&format!("{PATH}?limit=1")).await.expect(200);
    assert_eq!(answer.header("x-total-count"), Some("10003"));
    admin.delete(&format!("{PATH}/{}", text(&default, "id"))).await.expect(204);
    assert_eq!(names(&admin, "").await, ["My own"]);
    assert_eq!(ensure(organization_id, vec![child]).await, [ChildOutcome::ParentChanged]);
}
