//! Whom a policy is for: its matchers in normal form, and whether a request matches them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::{Mistake, PolicyType, SubjectMatcher};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::metadata::{MAX_KEY, MAX_VALUE, Metadata, is_value, normalize_key};

/// The most conditions a policy has.
pub const MOST_MATCHERS: usize = 10;

/// What a matcher looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatcherKey {
    OrganizationId,
    /// The workspace of the caller's key.
    WorkspaceId,
    UserId,
    /// The caller's key.
    ApiKeyId,
    /// A key of the request's metadata, in normal form.
    Header(String),
}

impl MatcherKey {
    /// Reads a key: an identity by its exact name, anything else as the name of a custom header
    /// with or without `X-Gateway-`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "organization_id" => Self::OrganizationId,
            "workspace_id" => Self::WorkspaceId,
            "user_id" => Self::UserId,
            "api_key_id" => Self::ApiKeyId,
            name => Self::Header(normalize_key(name).ok_or_else(|| {
                format!(
                    "must be organization_id, workspace_id, user_id, api_key_id or the name of an \
                     X-Gateway header of at most {MAX_KEY} characters that is none of those the \
                     gateway itself fills in"
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

    /// The normal form of a value under this key: ids in lower case with hyphens, header values as
    /// they are.
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

/// Who a request is from, as far as policies tell.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'r> {
    pub organization_id: OrganizationId,
    /// The workspace of the caller's key.
    pub workspace_id: WorkspaceId,
    /// The person whose key it is, if anybody's.
    pub user_id: Option<UserId>,
    /// The caller's key.
    pub api_key_id: Option<ApiKeyId>,
    /// What the caller says about the request.
    pub metadata: &'r Metadata,
}

/// The conditions of a policy, grouped by key and at least one: values under one key are
/// alternatives, and every key has to match. Sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matchers {
    organization_ids: Vec<OrganizationId>,
    workspace_ids: Vec<WorkspaceId>,
    user_ids: Vec<UserId>,
    api_key_ids: Vec<ApiKeyId>,
    headers: BTreeMap<String, Vec<String>>,
}

impl Matchers {
    /// Whether the request is from somebody the policy is for. Who has no user, and a header that
    /// was not sent, match nothing.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.matches_identity(subject)
            && self.headers.iter().all(|(key, wanted)| {
                let found = subject.metadata.get(key);
                found.is_some_and(|found| wanted.iter().any(|value| value == found))
            })
    }

    /// The same as far as the caller's identity tells, whatever the metadata.
    pub fn matches_identity(&self, subject: &Subject<'_>) -> bool {
        fn one_of<T: PartialEq>(wanted: &[T], found: Option<&T>) -> bool {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
        }
        one_of(&self.organization_ids, Some(&subject.organization_id))
            && one_of(&self.workspace_ids, Some(&subject.workspace_id))
            && one_of(&self.user_ids, subject.user_id.as_ref())
            && one_of(&self.api_key_ids, subject.api_key_id.as_ref())
    }

    /// The organizations, if it asks for any.
    pub fn organization_ids(&self) -> &[OrganizationId] {
        &self.organization_ids
    }

    /// The workspaces, if it asks for any.
    pub fn workspace_ids(&self) -> &[WorkspaceId] {
        &self.workspace_ids
    }

    /// The people, if it asks for any.
    pub fn user_ids(&self) -> &[UserId] {
        &self.user_ids
    }

    /// The API keys, if it asks for any.
    pub fn api_key_ids(&self) -> &[ApiKeyId] {
        &self.api_key_ids
    }

    /// The values of the metadata that it asks for, by normalized key.
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

/// The kind of subject that a default policy gives a policy of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectKind {
    Workspace,
    User,
    ApiKey,
}

impl SubjectKind {
    /// The key of its matchers.
    pub fn key(self) -> MatcherKey {
        match self {
            Self::Workspace => MatcherKey::WorkspaceId,
            Self::User => MatcherKey::UserId,
            Self::ApiKey => MatcherKey::ApiKeyId,
        }
    }

    /// The subject's id, in the text form of matchers; none if the request has no such subject.
    pub fn id_of(self, subject: &Subject<'_>) -> Option<String> {
        match self {
            Self::Workspace => Some(subject.workspace_id.to_string()),
            Self::User => subject.user_id.map(|id| id.to_string()),
            Self::ApiKey => subject.api_key_id.map(|id| id.to_string()),
        }
    }
}

/// For whom a policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// For those who match.
    Matching(Matchers),
    /// A default: for each subject of a kind by itself, or, with a normalized metadata key, for
    /// each value of it that the subject sends.
    Each(SubjectKind, Option<String>),
}

impl Audience {
    /// Reads a policy's matchers: the audience, and the same matchers in normal form, in their
    /// order and without duplicates. Fields are named as `subject_matchers[0].key`.
    ///
    /// A policy that is no default has at least one matcher: one for everybody says so by its
    /// organization's id. A default has one matcher of `workspace_id`, `user_id` or `api_key_id`
    /// with an empty value, and perhaps one of a custom header with an empty value.
    pub fn parse(
        policy_type: PolicyType,
        matchers: &[SubjectMatcher],
    ) -> Result<(Self, Vec<SubjectMatcher>), Vec<Mistake>> {
        if matchers.len() > MOST_MATCHERS {
            let message = format!("must be at most {MOST_MATCHERS}");
            return Err(vec![Mistake::new("subject_matchers", message)]);
        }
        if policy_type.is_default() { template(matchers) } else { conditions(matchers) }
    }

    /// A digest that is the same for the same audience, however it was written: the hex SHA-256
    /// of its matchers, sorted, as JSON.
    pub fn digest(matchers: &[SubjectMatcher]) -> String {
        let mut pairs: Vec<[&str; 2]> =
            matchers.iter().map(|one| [one.key.as_str(), one.value.as_str()]).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let json = serde_json::to_vec(&pairs).unwrap_or_default();
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

type Parsed = Result<(Audience, Vec<SubjectMatcher>), Vec<Mistake>>;

fn conditions(matchers: &[SubjectMatcher]) -> Parsed {
    if matchers.is_empty() {
        let message = "must name whom the policy is for; for everybody, match organization_id";
        return Err(vec![Mistake::new("subject_matchers", message)]);
    }
    let (mut all, mut normal, mut mistakes) = (Matchers::default(), Vec::new(), Vec::new());
    for (index, matcher) in matchers.iter().enumerate() {
        let wrong = |part: &str, message| {
            Mistake::new(format!("subject_matchers[{index}].{part}"), message)
        };
        let key = match MatcherKey::parse(&matcher.key) {
            Ok(key) => key,
            Err(message) => {
                mistakes.push(wrong("key", message));
                continue;
            }
        };
        if matcher.value.is_empty() {
            let message = "must not be empty; only default policies leave the value open";
            mistakes.push(wrong("value", message.to_owned()));
            continue;
        }
        let value = match key.normal_value(&matcher.value) {
            Ok(value) => value,
            Err(message) => {
                mistakes.push(wrong("value", message));
                continue;
            }
        };
        let one = SubjectMatcher { key: key.as_str().to_owned(), value };
        if normal.contains(&one) {
            continue;
        }
        if all.add(key, &one.value).is_err() {
            mistakes.push(wrong("value", "must be an id".to_owned()));
        }
        normal.push(one);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    all.sort();
    Ok((Audience::Matching(all), normal))
}

fn template(matchers: &[SubjectMatcher]) -> Parsed {
    let (mut kinds, mut headers, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    for (index, matcher) in matchers.iter().enumerate() {
        let wrong = |part: &str, message| {
            Mistake::new(format!("subject_matchers[{index}].{part}"), message)
        };
        if !matcher.value.is_empty() {
            let message = "must be empty: a default policy is for each subject of a kind";
            mistakes.push(wrong("value", message.to_owned()));
        }
        match MatcherKey::parse(&matcher.key) {
            Ok(MatcherKey::WorkspaceId) => kinds.push(SubjectKind::Workspace),
            Ok(MatcherKey::UserId) => kinds.push(SubjectKind::User),
            Ok(MatcherKey::ApiKeyId) => kinds.push(SubjectKind::ApiKey),
            Ok(MatcherKey::Header(key)) => headers.push(key),
            Ok(MatcherKey::OrganizationId) => {
                let message = "can't be the subject of a default policy: there is one organization";
                mistakes.push(wrong("key", message.to_owned()));
            }
            Err(message) => mistakes.push(wrong("key", message)),
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    headers.sort_unstable();
    headers.dedup();
    match (kinds.as_slice(), headers.as_slice()) {
        _ if !mistakes.is_empty() => Err(mistakes),
        ([kind], [] | [_]) => {
            let open = |key: &str| SubjectMatcher { key: key.to_owned(), value: String::new() };
            let mut normal = vec![open(kind.key().as_str())];
            normal.extend(headers.iter().map(|key| open(key)));
            Ok((Audience::Each(*kind, headers.pop()), normal))
        }
        _ => {
            let message = "of a default policy must be one of workspace_id, user_id or api_key_id, \
                           and at most one custom header";
            Err(vec![Mistake::new("subject_matchers", message)])
        }
    }
}

#[cfg(test)]
mod tests;
