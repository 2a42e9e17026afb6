//! Which subjects a policy matches.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn matcher(key: &str, value: &str) -> SubjectMatcher {
    SubjectMatcher { key: key.to_owned(), value: value.to_owned() }
}

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

fn metadata(entries: &[(String, String)]) -> Metadata {
    let headers: Vec<(String, &[u8])> =
        entries.iter().map(|(key, value)| (format!("x-gateway-{key}"), value.as_bytes())).collect();
    Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), *value))).unwrap()
}

fn wrong(policy_type: PolicyType, matchers: &[SubjectMatcher]) -> Vec<String> {
    let invalid_fields = Audience::parse(policy_type, matchers).unwrap_err();
    invalid_fields.into_iter().map(|invalid_field| invalid_field.field).collect()
}

#[test]
fn the_normal_form() {
    let upper = id(0xABCD).to_uppercase();
    let written = [
        matcher("X-Gateway-Customer.Id", "Acme"),
        matcher("user_id", &upper),
        matcher("customer_id", "Acme"),
        matcher("user_id", &id(0xABCD)),
        matcher("customer-id", "acme"),
    ];
    let (audience, normal) = Audience::parse(PolicyType::SpendCap, &written).unwrap();
    let expected = [
        matcher("customer_id", "Acme"),
        matcher("user_id", &id(0xABCD)),
        matcher("customer_id", "acme"),
    ];
    assert_eq!(normal, expected);
    let Audience::Matching(matchers) = audience else { panic!("{audience:?}") };
    assert_eq!(matchers.headers()["customer_id"], ["Acme", "acme"]);
    assert_eq!(matchers.user_ids().len(), 1);
}

#[test]
fn invalid_fields_are_named() {
    let eleven: Vec<SubjectMatcher> = (0..11).map(|n| matcher("team", &n.to_string())).collect();
    for (matchers, field) in [
        (vec![], "subject_matchers"),
        (eleven, "subject_matchers"),
        (vec![matcher("team", "a"), matcher("user_email", "a@b")], "subject_matchers[1].key"),
        (vec![matcher("X-Gateway-User-Id", &id(1))], "subject_matchers[0].key"),
        (vec![matcher("User_Id", &id(1))], "subject_matchers[0].key"),
        (vec![matcher("gateway_anything", "x")], "subject_matchers[0].key"),
        (vec![matcher("", "x")], "subject_matchers[0].key"),
        (vec![matcher("user_id", "ada")], "subject_matchers[0].value"),
        (vec![matcher("user_id", "")], "subject_matchers[0].value"),
        (vec![matcher("team", "")], "subject_matchers[0].value"),
        (vec![matcher("team", "a\nb")], "subject_matchers[0].value"),
        (vec![matcher("team", &"x".repeat(MAX_VALUE + 1))], "subject_matchers[0].value"),
    ] {
        for policy_type in [PolicyType::SpendCap, PolicyType::RateLimit, PolicyType::ModelAccess] {
            assert_eq!(wrong(policy_type, &matchers), [field], "{matchers:?}");
        }
    }
}

#[test]
fn defaults_leave_their_subject_open() {
    for (matchers, audience) in [
        (vec![matcher("user_id", "")], Audience::Each(SubjectKind::User, None)),
        (vec![matcher("workspace_id", "")], Audience::Each(SubjectKind::Workspace, None)),
        (
            vec![matcher("X-Gateway-Team", ""), matcher("api_key_id", "")],
            Audience::Each(SubjectKind::ApiKey, Some("team".to_owned())),
        ),
    ] {
        let parsed = Audience::parse(PolicyType::DefaultSpendCap, &matchers).unwrap();
        assert_eq!(parsed.0, audience);
        assert_eq!(parsed.1.len(), matchers.len());
    }
    for (matchers, field) in [
        (vec![], "subject_matchers"),
        (vec![matcher("team", "")], "subject_matchers"),
        (vec![matcher("user_id", ""), matcher("workspace_id", "")], "subject_matchers"),
        (vec![matcher("user_id", ""), matcher("a", ""), matcher("b", "")], "subject_matchers"),
        (vec![matcher("organization_id", "")], "subject_matchers[0].key"),
        (vec![matcher("user_id", &id(1))], "subject_matchers[0].value"),
        (vec![matcher("user_id", ""), matcher("team", "x")], "subject_matchers[1].value"),
    ] {
        assert_eq!(wrong(PolicyType::DefaultRateLimit, &matchers), [field], "{matchers:?}");
    }
}

#[test]
fn a_missing_header_or_user_matches_nothing() {
    let none = Metadata::default();
    let subject = Subject {
        organization_id: Uuid::from_u128(1).into(),
        workspace_id: Uuid::from_u128(2).into(),
        user_id: None,
        api_key_id: Some(Uuid::from_u128(3).into()),
        metadata: &none,
    };
    for (one, matches) in [
        (matcher("organization_id", &id(1)), true),
        (matcher("workspace_id", &id(2)), true),
        (matcher("api_key_id", &id(3)), true),
        (matcher("user_id", &id(0)), false),
        (matcher("team", "a"), false),
    ] {
        let (audience, _) = Audience::parse(PolicyType::SpendCap, &[one]).unwrap();
        let Audience::Matching(matchers) = audience else { panic!("{audience:?}") };
        assert_eq!(matchers.matches(&subject), matches, "{matchers:?}");
    }
}

/// A condition under one of few keys with one of few values, so that they meet.
fn any_matcher() -> impl Strategy<Value = SubjectMatcher> {
    let identity =
        prop::sample::select(vec!["organization_id", "workspace_id", "user_id", "api_key_id"]);
    prop_oneof![
        (identity, 0..3_u128).prop_map(|(key, number)| matcher(key, &id(number))),
        ("[ab]", "[xyz]").prop_map(|(key, value)| matcher(&key, &value)),
    ]
}

proptest! {
    #[test]
    fn values_are_ored_and_keys_are_anded(
        matchers in prop::collection::vec(any_matcher(), 1..=MAX_MATCHERS),
        (organization, workspace, user, key) in (0..3_u128, 0..3_u128, prop::option::of(0..3_u128), 0..3_u128),
        headers in prop::collection::btree_map("[ab]", "[xyz]", 0..3),
    ) {
        let metadata = metadata(&headers.into_iter().collect::<Vec<_>>());
        let subject = Subject {
            organization_id: Uuid::from_u128(organization).into(),
            workspace_id: Uuid::from_u128(workspace).into(),
            user_id: user.map(|user| Uuid::from_u128(user).into()),
            api_key_id: Some(Uuid::from_u128(key).into()),
            metadata: &metadata,
        };
        let found = |name: &str| match name {
            "organization_id" => Some(id(organization)),
            "workspace_id" => Some(id(workspace)),
            "user_id" => user.map(id),
            "api_key_id" => Some(id(key)),
            name => metadata.get(name).map(str::to_owned),
        };
        // By definition: for every key, one of its values equals the request's.
        let expected = matchers.iter().all(|wanted| {
            matchers.iter().any(|one| one.key == wanted.key && found(&one.key).as_ref() == Some(&one.value))
        });
        let (audience, normal) = Audience::parse(PolicyType::SpendCap, &matchers).unwrap();
        let Audience::Matching(parsed) = &audience else { panic!("{audience:?}") };
        prop_assert_eq!(parsed.matches(&subject), expected);
        // The normal form means the same and is its own.
        let again = Audience::parse(PolicyType::SpendCap, &normal).unwrap();
        prop_assert_eq!(&again.0, &audience);
        prop_assert_eq!(&again.1, &normal);
    }

    #[test]
    fn the_digest_depends_on_the_subjects_and_not_on_their_order(
        one in prop::collection::vec(any_matcher(), 1..=MAX_MATCHERS),
        other in prop::collection::vec(any_matcher(), 1..=MAX_MATCHERS),
    ) {
        let reversed: Vec<SubjectMatcher> = one.iter().rev().cloned().collect();
        prop_assert_eq!(Audience::digest(&one), Audience::digest(&reversed));
        let same = Audience::parse(PolicyType::SpendCap, &one).unwrap().0
            == Audience::parse(PolicyType::SpendCap, &other).unwrap().0;
        prop_assert_eq!(Audience::digest(&one) == Audience::digest(&other), same);
    }
}
