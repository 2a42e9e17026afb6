//! The subjects of a policy: its matchers in normal form, and whether a request matches them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::{InvalidField, PolicyType, SubjectMatcher};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::metadata::{MAX_KEY, MAX_VALUE, Metadata, is_value, normalize_key};

/// The most matchers of a policy.
pub const MAX_MATCHERS: usize = 10;

/// What a matcher compares.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatcherKey {
    OrganizationId,
    WorkspaceId,
    UserId,
    ApiKeyId,
    /// A key of the request's metadata in normal form.
    Header(String),
}

impl MatcherKey {
    /// Parses a key: the exact name of an id, or else the name of an `X-Gateway-` header with or
    /// without this prefix.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "organization_id" => Self::OrganizationId,
            "workspace_id" => Self::WorkspaceId,
            "user_id" => Self::UserId,
            "api_key_id" => Self::ApiKeyId,
            name => Self::Header(normalize_key(name).ok_or_else(|| {
                format!(
                    "must be organization_id, workspace_id, user_id, api_key_id or the name of an \
                     X-Gateway header of at most {MAX_KEY} characters that is not reserved for \
                     the gateway"
                )
            })?),
        })
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        match self {
            Self::OrganizationId => "organization_id",
            Self::WorkspaceId => "workspace_id",
            Self::UserId => "user_id",
            Self::ApiKeyId => "api_key_id",
            Self::Header(key) => key,
        }
    }

    /// The normal form of a value of this key: ids in lower case with hyphens, header values
    /// unchanged.
    pub fn normal_value(&self, value: &str) -> Result<String, String> {
        fn id<T: FromStr + fmt::Display>(value: &str) -> Result<String, String> {
            value.parse().map(|id: T| id.to_string()).map_err(|_| "must be an id".to_owned())
        }
        match self {
            Self::OrganizationId => id::<OrganizationId>(value),
            Self::WorkspaceId => id::<WorkspaceId>(value),
            Self::UserId => id::<UserId>(value),
            Self::ApiKeyId => id::<ApiKeyId>(value),
            Self::Header(_) if is_value(value) => Ok(value.to_owned()),
            Self::Header(_) => {
                Err(format!("must be 1 to {MAX_VALUE} bytes of text without control characters"))
            }
        }
    }
}

/// The properties of a request that matchers compare.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'r> {
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub user_id: Option<UserId>,
    pub api_key_id: Option<ApiKeyId>,
    pub metadata: &'r Metadata,
}

/// The matchers of a policy, grouped by key, sorted and without duplicates. At least one value of
/// every key has to match. There is at least one matcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matchers {
    organization_ids: Vec<OrganizationId>,
    workspace_ids: Vec<WorkspaceId>,
    user_ids: Vec<UserId>,
    api_key_ids: Vec<ApiKeyId>,
    headers: BTreeMap<String, Vec<String>>,
}

impl Matchers {
    /// Whether the policy applies to the request. A missing user, API key or header matches nothing.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.matches_ids(subject)
            && self.headers.iter().all(|(key, accepted)| {
                let sent = subject.metadata.get(key);
                sent.is_some_and(|sent| accepted.iter().any(|value| value == sent))
            })
    }

    /// Whether the ids match, whatever the metadata is.
    pub fn matches_ids(&self, subject: &Subject<'_>) -> bool {
        fn one_of<T: PartialEq>(accepted: &[T], id: Option<&T>) -> bool {
            accepted.is_empty() || id.is_some_and(|id| accepted.contains(id))
        }
        one_of(&self.organization_ids, Some(&subject.organization_id))
            && one_of(&self.workspace_ids, Some(&subject.workspace_id))
            && one_of(&self.user_ids, subject.user_id.as_ref())
            && one_of(&self.api_key_ids, subject.api_key_id.as_ref())
    }

    /// The accepted organizations; empty for any.
    pub fn organization_ids(&self) -> &[OrganizationId] {
        &self.organization_ids
    }

    /// The accepted workspaces; empty for any.
    pub fn workspace_ids(&self) -> &[WorkspaceId] {
        &self.workspace_ids
    }

    /// The accepted users; empty for any.
    pub fn user_ids(&self) -> &[UserId] {
        &self.user_ids
    }

    /// The accepted API keys; empty for any.
    pub fn api_key_ids(&self) -> &[ApiKeyId] {
        &self.api_key_ids
    }

    /// The accepted values of metadata, by normalized key.
    pub fn headers(&self) -> &BTreeMap<String, Vec<String>> {
        &self.headers
    }

    fn add(&mut self, key: MatcherKey, value: &str) -> Result<(), uuid::Error> {
        match key {
            MatcherKey::OrganizationId => self.organization_ids.push(value.parse()?),
            MatcherKey::WorkspaceId => self.workspace_ids.push(value.parse()?),
            MatcherKey::UserId => self.user_ids.push(value.parse()?),
            MatcherKey::ApiKeyId => self.api_key_ids.push(value.parse()?),
            MatcherKey::Header(key) => self.headers.entry(key).or_default().push(value.to_owned()),
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.organization_ids.sort_unstable();
        self.workspace_ids.sort_unstable();
        self.user_ids.sort_unstable();
        self.api_key_ids.sort_unstable();
        self.headers.values_mut().for_each(|values| values.sort_unstable());
    }
}

/// The kind of subject of which each gets a policy of its own from a default policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectKind {
    Workspace,
    User,
    ApiKey,
}

impl SubjectKind {
    /// The key of the children's matchers.
    pub fn key(self) -> MatcherKey {
        match self {
            Self::Workspace => MatcherKey::WorkspaceId,
            Self::User => MatcherKey::UserId,
            Self::ApiKey => MatcherKey::ApiKeyId,
        }
    }

    /// The id in the text form of matchers; `None` if the request has no subject of this kind.
    pub fn id_of(self, subject: &Subject<'_>) -> Option<String> {
        match self {
            Self::Workspace => Some(subject.workspace_id.to_string()),
            Self::User => subject.user_id.map(|id| id.to_string()),
            Self::ApiKey => subject.api_key_id.map(|id| id.to_string()),
        }
    }
}

/// The subjects of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The requests that match, together.
    Matching(Matchers),
    /// For default policies: each subject of the kind separately or, with a normalized metadata key,
    /// each pair of a subject and a value that it sends.
    Each(SubjectKind, Option<String>),
}

impl Audience {
    /// Parses a policy's matchers. Also returns them in normal form, in their order and without
    /// duplicates. Fields are named as `subject_matchers[0].key`.
    ///
    /// A default policy has one matcher with the key `workspace_id`, `user_id` or `api_key_id` and an
    /// empty value, and at most one with a metadata key and an empty value. Other policies have at
    /// least one matcher; a policy for every request matches the id of its organization.
    pub fn parse(
        policy_type: PolicyType,
        matchers: &[SubjectMatcher],
    ) -> Result<(Self, Vec<SubjectMatcher>), Vec<InvalidField>> {
        if matchers.len() > MAX_MATCHERS {
            let message = format!("must be at most {MAX_MATCHERS}");
            return Err(vec![InvalidField::new("subject_matchers", message)]);
        }
        if policy_type.is_default() { parse_default(matchers) } else { parse_conditions(matchers) }
    }

    /// The same digest for the same subjects in any order: the hex SHA-256 of the sorted matchers as
    /// JSON.
    pub fn digest(matchers: &[SubjectMatcher]) -> String {
        let mut pairs: Vec<[&str; 2]> =
            matchers.iter().map(|one| [one.key.as_str(), one.value.as_str()]).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let json = serde_json::to_vec(&pairs).unwrap_or_default();
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

type Parsed = Result<(Audience, Vec<SubjectMatcher>), Vec<InvalidField>>;

fn parse_conditions(matchers: &[SubjectMatcher]) -> Parsed {
    if matchers.is_empty() {
        let message =
            "must not be empty; match organization_id for a policy that applies to every request";
        return Err(vec![InvalidField::new("subject_matchers", message)]);
    }
    let (mut all, mut normal, mut invalid_fields) = (Matchers::default(), Vec::new(), Vec::new());
    for (index, matcher) in matchers.iter().enumerate() {
        let invalid = |part: &str, message| {
            InvalidField::new(format!("subject_matchers[{index}].{part}"), message)
        };
        let key = match MatcherKey::parse(&matcher.key) {
            Ok(key) => key,
            Err(message) => {
                invalid_fields.push(invalid("key", message));
                continue;
            }
        };
        if matcher.value.is_empty() {
            let message = "must not be empty; only default policies have matchers without a value";
            invalid_fields.push(invalid("value", message.to_owned()));
            continue;
        }
        let value = match key.normal_value(&matcher.value) {
            Ok(value) => value,
            Err(message) => {
                invalid_fields.push(invalid("value", message));
                continue;
            }
        };
        let one = SubjectMatcher { key: key.as_str().to_owned(), value };
        if normal.contains(&one) {
            continue;
        }
        if all.add(key, &one.value).is_err() {
            invalid_fields.push(invalid("value", "must be an id".to_owned()));
        }
        normal.push(one);
    }
    if !invalid_fields.is_empty() {
        return Err(invalid_fields);
    }
    all.sort();
    Ok((Audience::Matching(all), normal))
}

fn parse_default(matchers: &[SubjectMatcher]) -> Parsed {
    let (mut kinds, mut headers, mut invalid_fields) = (Vec::new(), Vec::new(), Vec::new());
    for (index, matcher) in matchers.iter().enumerate() {
        let invalid = |part: &str, message| {
            InvalidField::new(format!("subject_matchers[{index}].{part}"), message)
        };
        if !matcher.value.is_empty() {
            let message = "must be empty: a default policy applies to each subject of the kind";
            invalid_fields.push(invalid("value", message.to_owned()));
        }
        match MatcherKey::parse(&matcher.key) {
            Ok(MatcherKey::WorkspaceId) => kinds.push(SubjectKind::Workspace),
            Ok(MatcherKey::UserId) => kinds.push(SubjectKind::User),
            Ok(MatcherKey::ApiKeyId) => kinds.push(SubjectKind::ApiKey),
            Ok(MatcherKey::Header(key)) => headers.push(key),
            Ok(MatcherKey::OrganizationId) => {
                let message =
                    "cannot be the subject of a default policy: there is only one organization";
                invalid_fields.push(invalid("key", message.to_owned()));
            }
            Err(message) => invalid_fields.push(invalid("key", message)),
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    headers.sort_unstable();
    headers.dedup();
    match (kinds.as_slice(), headers.as_slice()) {
        _ if !invalid_fields.is_empty() => Err(invalid_fields),
        ([kind], [] | [_]) => {
            let empty = |key: &str| SubjectMatcher { key: key.to_owned(), value: String::new() };
            let mut normal = vec![empty(kind.key().as_str())];
            normal.extend(headers.iter().map(|key| empty(key)));
            Ok((Audience::Each(*kind, headers.pop()), normal))
        }
        _ => {
            let message = "of a default policy must be one of workspace_id, user_id or api_key_id, \
                           and at most one custom header";
            Err(vec![InvalidField::new("subject_matchers", message)])
        }
    }
}

#[cfg(test)]
mod tests;
