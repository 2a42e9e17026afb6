//! Which policies of a set match a request.

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::metadata::Metadata;
use crate::domain::policy::SubjectMatcher;

fn id<T: From<Uuid>>(number: u128) -> T {
    T::from(Uuid::from_u128(number))
}

const ORGANIZATION: u128 = 1;

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    let names: Vec<String> = pairs.iter().map(|(key, _)| format!("x-gateway-{key}")).collect();
    let headers = names.iter().zip(pairs);
    Metadata::from_headers(headers.map(|(name, (_, value))| (name.as_str(), value.as_bytes())))
        .unwrap()
}

fn subject(workspace: u128, user: Option<u128>, key: u128, metadata: &Metadata) -> Subject<'_> {
    Subject {
        organization_id: id(ORGANIZATION),
        workspace_id: id::<WorkspaceId>(workspace),
        user_id: user.map(id::<UserId>),
        api_key_id: Some(id::<ApiKeyId>(key)),
        metadata,
    }
}

fn text(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

fn policy(number: u128, policy_type: PolicyType, matchers: &[(&str, String)]) -> StoredPolicy {
    let config = match policy_type.family() {
        crate::domain::policy::PolicyFamily::Spend => json!({"window": "daily", "limit_usd": 1}),
        crate::domain::policy::PolicyFamily::Rate => {
            json!({"version": 1, "limits": [{"metric": "requests", "window": "minute", "value": 5}]})
        }
        crate::domain::policy::PolicyFamily::ModelAccess => {
            json!({"providers": [{"provider": "openai", "models": "all"}]})
        }
        crate::domain::policy::PolicyFamily::Guard => {
            json!({"version": 1, "detect": {"pii": true}})
        }
        crate::domain::policy::PolicyFamily::Fallback => json!({"chain": {
            "selector": {"type": "alias", "alias": number.to_string()},
            "candidates": [{"type": "provider_model", "provider": "groq", "model": "llama"}],
        }}),
    };
    StoredPolicy {
        subject_matchers: matchers
            .iter()
            .map(|(key, value)| SubjectMatcher { key: (*key).to_owned(), value: value.clone() })
            .collect(),
        priority: 100,
        ..sample_policy(number, &format!("policy {number}"), policy_type, config)
    }
}

fn buckets(set: &PolicySet, subject: &Subject<'_>) -> Vec<PolicyId> {
    set.matching(subject).iter().filter(|one| one.is_enforced).map(|one| one.bucket).collect()
}

#[test]
fn the_broadest_come_first_then_by_priority_then_the_newest() {
    use PolicyType::{ModelAccess, RateLimit, SpendCap};
    let none = Metadata::default();
    let mut urgent = policy(14, SpendCap, &[("organization_id", text(ORGANIZATION))]);
    urgent.priority = 1;
    let set = PolicySet::compile([
        policy(10, SpendCap, &[("api_key_id", text(7))]),
        policy(11, RateLimit, &[("user_id", text(5)), ("organization_id", text(ORGANIZATION))]),
        policy(12, ModelAccess, &[("workspace_id", text(3))]),
        policy(13, RateLimit, &[("organization_id", text(ORGANIZATION))]),
        urgent,
        policy(15, SpendCap, &[("organization_id", text(ORGANIZATION))]),
        policy(16, SpendCap, &[("organization_id", text(99))]),
        policy(17, SpendCap, &[("team", "red".to_owned())]),
    ])
    .unwrap();
    let expected: Vec<PolicyId> = [14, 15, 13, 12, 11, 10].map(id).to_vec();
    assert_eq!(buckets(&set, &subject(3, Some(5), 7, &none)), expected);
    let red = metadata(&[("team", "red")]);
    let expected: Vec<PolicyId> = [14, 17, 15, 13].map(id).to_vec();
    assert_eq!(buckets(&set, &subject(4, None, 8, &red)), expected);
}

#[test]
fn a_default_gives_each_subject_a_bucket() {
    let set = PolicySet::compile([
        policy(20, PolicyType::DefaultSpendCap, &[("user_id", String::new())]),
        policy(
            21,
            PolicyType::DefaultRateLimit,
            &[("user_id", String::new()), ("team", String::new())],
        ),
    ])
    .unwrap();
    let (none, red) = (Metadata::default(), metadata(&[("team", "red")]));
    let of_user = child_id(id(20), &text(5), None);
    let of_team = child_id(id(21), &text(5), Some("red"));
    assert_eq!(buckets(&set, &subject(3, Some(5), 7, &none)), [of_user]);
    assert_eq!(buckets(&set, &subject(3, Some(5), 8, &red)), [of_team, of_user]);
    assert!(buckets(&set, &subject(3, None, 7, &red)).is_empty());
    assert_eq!(of_user.uuid().get_version_num(), 8);

    let subject = subject(3, Some(5), 7, &red);
    let children: Vec<ChildPolicy> =
        set.matching(&subject).iter().filter_map(|one| one.new_child().cloned()).collect();
    assert_eq!(children.len(), 2, "not queued yet");
    children.iter().for_each(|child| set.mark_queued(child));
    assert!(set.matching(&subject).iter().all(|one| one.new_child().is_none()));
    let matchers = children[0].subject_matchers();
    assert_eq!(matchers[0], SubjectMatcher { key: "user_id".to_owned(), value: text(5) });
    assert_eq!(matchers[1], SubjectMatcher { key: "team".to_owned(), value: "red".to_owned() });
}

fn child(parent: u128, user: u128, detached: bool, enabled: bool) -> StoredPolicy {
    let mut child = policy(0, PolicyType::SpendCap, &[("user_id", text(user))]);
    child.id = child_id(id(parent), &text(user), None);
    child.parent_policy_id = Some(id(parent));
    child.detached = detached;
    child.enabled = enabled;
    child
}

#[test]
fn a_detached_child_stands_for_itself() {
    let default = policy(20, PolicyType::DefaultSpendCap, &[("user_id", String::new())]);
    let mut own = child(20, 5, true, true);
    own.config = json!({"window": "monthly", "limit_usd": 7});
    let set =
        PolicySet::compile([default, own, child(20, 6, true, false), child(20, 7, false, true)])
            .unwrap();
    let none = Metadata::default();
    let enforced_for = |user| {
        let enforced: Vec<(PolicyId, PolicyType)> = set
            .matching(&subject(3, Some(user), 9, &none))
            .iter()
            .filter(|one| one.is_enforced)
            .map(|one| (one.bucket, one.policy.policy_type))
            .collect();
        enforced
    };
    assert_eq!(enforced_for(5), [(child_id(id(20), &text(5), None), PolicyType::SpendCap)]);
    assert_eq!(enforced_for(6), [], "it was switched off for this one");
    assert_eq!(enforced_for(7), [(child_id(id(20), &text(7), None), PolicyType::DefaultSpendCap)]);
}

#[test]
fn subjects_beyond_the_last_child_share_a_bucket() {
    let most = u128::from(crate::domain::policy::MAX_CHILDREN);
    let default = policy(20, PolicyType::DefaultSpendCap, &[("user_id", String::new())]);
    let children = (0..most - 1).map(|user| child(20, 1_000_000 + user, false, true));
    let set = PolicySet::compile(children.chain([default])).unwrap();
    let none = Metadata::default();
    let bucket = |user| buckets(&set, &subject(3, Some(user), 9, &none));
    assert_eq!(bucket(1), [child_id(id(20), &text(1), None)], "there is room for one more");
    assert_eq!(bucket(2), [overflow_id(id(20))]);
    assert_eq!(bucket(3), [overflow_id(id(20))]);
    assert_eq!(bucket(1), [child_id(id(20), &text(1), None)]);
    assert_eq!(bucket(1_000_000), [child_id(id(20), &text(1_000_000), None)]);
}

#[test]
fn a_rate_limit_of_its_own_replaces_the_default_and_a_cap_does_not() {
    use PolicyType::{DefaultRateLimit, DefaultSpendCap, RateLimit, SpendCap};
    let set = PolicySet::compile([
        policy(20, DefaultRateLimit, &[("user_id", String::new())]),
        policy(21, DefaultSpendCap, &[("user_id", String::new())]),
        policy(22, DefaultRateLimit, &[("user_id", String::new()), ("team", String::new())]),
        policy(30, RateLimit, &[("user_id", text(5))]),
        policy(31, SpendCap, &[("user_id", text(5))]),
        policy(32, RateLimit, &[("user_id", text(6)), ("team", "red".to_owned())]),
        policy(33, RateLimit, &[("user_id", text(7)), ("workspace_id", text(3))]),
    ])
    .unwrap();
    let none = Metadata::default();
    let red = metadata(&[("team", "red")]);
    let default = |number, user, header| child_id(id(number), &text(user), header);
    let found = |user, metadata| {
        let mut found = buckets(&set, &subject(3, Some(user), 9, metadata));
        found.sort_unstable();
        found
    };
    let sorted = |mut ids: Vec<PolicyId>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(found(5, &none), sorted(vec![id(30), id(31), default(21, 5, None)]));
    assert_eq!(
        found(5, &red),
        sorted(vec![id(30), id(31), default(21, 5, None), default(22, 5, Some("red"))])
    );
    assert_eq!(found(6, &red), sorted(vec![id(32), default(20, 6, None), default(21, 6, None)]));
    assert_eq!(
        found(7, &none),
        sorted(vec![id(33), default(20, 7, None), default(21, 7, None)]),
        "it is for a part of what the user does"
    );
}

#[test]
fn the_most_specific_model_access_decides() {
    let access = |number, matchers: &[(&str, String)], providers| {
        let mut policy = policy(number, PolicyType::ModelAccess, matchers);
        policy.config = json!({ "providers": providers });
        policy
    };
    let set = PolicySet::compile([
        access(10, &[("organization_id", text(ORGANIZATION))], json!([])),
        access(
            11,
            &[("workspace_id", text(3))],
            json!([{"provider": "openai", "models": ["gpt-4o", "o3"]}]),
        ),
        access(
            12,
            &[("workspace_id", text(3)), ("team", "red".to_owned())],
            json!([{"provider": "openai", "models": ["gpt-4o"]}]),
        ),
        access(
            13,
            &[("api_key_id", text(9))],
            json!([{"provider": "model_configuration", "models": ["chat"]}]),
        ),
    ])
    .unwrap();
    let (none, red) = (Metadata::default(), metadata(&[("team", "red")]));
    let forbidden = |subject: &Subject<'_>, model, configuration| {
        let target = Target {
            configuration: Some(configuration),
            providers: &["openai"],
            model: Some(model),
        };
        let matched = set.matching(subject);
        let ids: Vec<PolicyId> =
            denies_model(&matched, &target).map(|place| matched[place].bucket).collect();
        ids
    };
    let none_of: [PolicyId; 0] = [];
    assert_eq!(forbidden(&subject(2, None, 1, &none), "gpt-4o", "chat"), [id(10)]);
    assert_eq!(forbidden(&subject(3, None, 1, &none), "o3", "chat"), none_of);
    assert_eq!(forbidden(&subject(3, None, 1, &red), "o3", "chat"), [id(12)]);
    assert_eq!(forbidden(&subject(3, None, 1, &red), "gpt-4o", "chat"), none_of);
    assert_eq!(forbidden(&subject(3, None, 1, &red), "gpt-5", "chat"), [id(12), id(11)]);
    assert_eq!(forbidden(&subject(3, None, 9, &red), "gpt-5", "chat"), none_of);
    assert_eq!(forbidden(&subject(3, None, 9, &red), "gpt-4o", "other"), [id(13)]);
}

#[test]
fn what_does_not_parse_fails_the_whole_set() {
    let mut bad = policy(10, PolicyType::SpendCap, &[("api_key_id", text(7))]);
    bad.config = json!({"window": "yearly", "limit_usd": 1});
    let error = PolicySet::compile([bad]).unwrap_err();
    assert_eq!((error.id, error.field.as_str()), (id(10), "config.window"));
    let nobody = policy(11, PolicyType::SpendCap, &[]);
    assert!(PolicySet::compile([nobody]).is_err());
}

fn conditions() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let value = prop_oneof![
        (1u128..3).prop_map(|n| ("workspace_id", text(n))),
        (1u128..3).prop_map(|n| ("user_id", text(n))),
        (1u128..3).prop_map(|n| ("api_key_id", text(n))),
        (1u128..3).prop_map(|n| ("organization_id", text(n))),
        prop::sample::select(vec!["red", "blue"]).prop_map(|v| ("team", v.to_owned())),
        prop::sample::select(vec!["a", "b"]).prop_map(|v| ("stage", v.to_owned())),
    ];
    prop::collection::vec(value, 1..5)
}

fn naive(policy: &StoredPolicy, subject: &Subject<'_>) -> bool {
    let own = |key: &str| match key {
        "organization_id" => Some(subject.organization_id.to_string()),
        "workspace_id" => Some(subject.workspace_id.to_string()),
        "user_id" => subject.user_id.map(|id| id.to_string()),
        "api_key_id" => subject.api_key_id.map(|id| id.to_string()),
        key => subject.metadata.get(key).map(str::to_owned),
    };
    policy.subject_matchers.iter().all(|condition| {
        let mut same = policy.subject_matchers.iter().filter(|other| other.key == condition.key);
        let found = own(&condition.key);
        same.any(|alternative| Some(&alternative.value) == found.as_ref())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_index_finds_what_asking_each_policy_finds(
        all in prop::collection::vec(conditions(), 0..12),
        (workspace, user, key) in (1u128..3, prop::option::of(1u128..3), 1u128..3),
        team in prop::option::of(prop::sample::select(vec!["red", "blue", "green"])),
        stage in prop::option::of(prop::sample::select(vec!["a", "b"])),
    ) {
        let policies: Vec<StoredPolicy> = all
            .iter()
            .enumerate()
            .map(|(place, conditions)| {
                let number = 100 + u128::try_from(place).unwrap();
                policy(number, PolicyType::SpendCap, conditions)
            })
            .collect();
        let pairs: Vec<(&str, &str)> =
            team.map(|v| ("team", v)).into_iter().chain(stage.map(|v| ("stage", v))).collect();
        let metadata = metadata(&pairs);
        let subject = subject(workspace, user, key, &metadata);
        let mut expected: Vec<PolicyId> =
            policies.iter().filter(|one| naive(one, &subject)).map(|one| one.id).collect();
        let set = PolicySet::compile(policies).unwrap();
        let mut found = buckets(&set, &subject);
        let tiers: Vec<Tier> = set.matching(&subject).iter().map(|one| one.policy.tier).collect();
        prop_assert!(tiers.is_sorted());
        expected.sort_unstable();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(subject.organization_id, id::<OrganizationId>(ORGANIZATION));
    }
}

#[test]
fn an_alias_of_one_key_comes_before_that_of_its_workspace() {
    let workspace = ("workspace_id", text(1));
    let mut narrow =
        policy(31, PolicyType::ModelFallback, &[workspace.clone(), ("api_key_id", text(3))]);
    narrow.config["chain"]["selector"]["alias"] = "30".into();
    let broad = policy(30, PolicyType::ModelFallback, &[workspace]);
    let mut disabled = policy(32, PolicyType::ModelFallback, &[("workspace_id", text(1))]);
    disabled.enabled = false;
    let set = PolicySet::compile([broad, narrow, disabled]).unwrap();
    let metadata = Metadata::default();
    let name = |subject: &Subject<'_>, alias| {
        set.chain_for_alias(subject, alias).map(|chain| chain.name.to_string())
    };
    let subject = subject(1, Some(2), 3, &metadata);
    assert_eq!(name(&subject, "30").as_deref(), Some("policy 31"));
    let other_key = Subject { api_key_id: Some(id(4)), ..subject };
    assert_eq!(name(&other_key, "30").as_deref(), Some("policy 30"));
    let elsewhere = Subject { workspace_id: id(9), ..subject };
    assert_eq!(name(&elsewhere, "30"), None);
    assert_eq!(name(&subject, "32"), None);
    assert!(set.matching(&subject).is_empty(), "a chain limits nothing");
}
