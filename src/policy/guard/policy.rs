//! What guard policies say: the `config` of one, and the decision of several together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::category::{Categories, Category, Group};
use super::custom::{Pattern, PatternError};
use super::redact::STORED_STATE;
use super::scan::Scanner;
use crate::domain::policy::InvalidField;

/// The most patterns of one policy.
pub const MAX_PATTERNS: usize = 50;
/// The longest name of a pattern, in characters.
const MAX_NAME: usize = 64;
/// The shortest and longest time-out, in seconds.
const TIMEOUTS: std::ops::RangeInclusive<f64> = 0.1..=30.0;

/// The `config` of a guard policy. It is also what the hosted gateway's policies look like, which have
/// neither `action` nor `scan`, and patterns without names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// Always 1.
    pub version: u8,
    pub detect: Detect,
    /// What becomes of a value.
    #[serde(default)]
    pub action: Action,
    /// How long the scan of a request may take: 0.1 to 30 seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: f64,
    /// What becomes of a request whose scan is late or fails.
    #[serde(default)]
    pub timeout_action: TimeoutAction,
    #[serde(default)]
    pub scan: Scan,
    /// Whether the model is told about placeholders, in a sentence of the system prompt.
    #[serde(default)]
    pub note: bool,
}

/// What a policy detects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detect {
    /// Credentials of all kinds.
    pub secrets: bool,
    pub pii: Pii,
    /// At most 50 patterns of the policy's own.
    pub custom: Vec<CustomPattern>,
}

/// Personal data: all that this gateway can detect, or none of it, or these categories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Pii {
    All(bool),
    /// Text forms of categories.
    Only(Vec<String>),
}

/// A pattern of the policy's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomPattern {
    /// What reports call it.
    #[serde(default)]
    pub name: Option<String>,
    /// In the syntax of the `regex` crate; at most 512 bytes.
    pub pattern: String,
}

/// What becomes of a detected value, the most lenient first.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = GuardAction)]
pub enum Action {
    /// It is counted, and passes.
    Report,
    /// A placeholder is sent in its place.
    #[default]
    Redact,
    /// The request is refused.
    Block,
}

/// What becomes of a request whose scan is late or fails, the most lenient first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeoutAction {
    /// It is sent as it is.
    Allow,
    /// It is refused.
    #[default]
    Block,
}

/// What becomes of media and links that cannot be scanned, the most lenient first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaAction {
    /// They pass.
    #[default]
    Allow,
    /// The request is refused.
    Block,
}

/// What becomes of references to what the provider stores, which cannot be scanned, the most lenient first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredAction {
    /// They pass.
    Allow,
    /// The request is refused.
    Block,
}

/// What is scanned besides the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scan {
    /// System and developer prompts.
    pub system: bool,
    /// What the model says.
    pub answers: bool,
    /// Images, audio, files and links to them.
    pub media: MediaAction,
    /// References to what the provider stores: earlier responses, conversations, caches. They are refused
    /// if it is not said, and pass where values are only reported.
    pub stored: Option<StoredAction>,
}

impl Default for Scan {
    fn default() -> Self {
        Self { system: true, answers: false, media: MediaAction::Allow, stored: None }
    }
}

impl Default for Pii {
    fn default() -> Self {
        Self::All(false)
    }
}

fn default_timeout() -> f64 {
    2.0
}

impl GuardConfig {
    /// Parses a `config`. Values are not checked further.
    pub fn parse(config: &serde_json::Value) -> Result<Self, InvalidField> {
        Self::deserialize(config).map_err(|error| InvalidField::new("config", error.to_string()))
    }

    /// What is wrong with the values; patterns are compiled. `has_recognizer` says whether there is a
    /// service that recognizes names.
    pub fn check(&self, has_recognizer: bool) -> Vec<InvalidField> {
        let mut invalid = Vec::new();
        let mut add =
            |field: String, message: String| invalid.push(InvalidField { field, message });
        if self.version != 1 {
            add("config.version".to_owned(), "must be 1".to_owned());
        }
        if !TIMEOUTS.contains(&self.timeout_seconds) {
            let message = format!("must be {} to {}", TIMEOUTS.start(), TIMEOUTS.end());
            add("config.timeout_seconds".to_owned(), message);
        }
        if let Pii::Only(names) = &self.detect.pii {
            for (place, name) in names.iter().enumerate() {
                let message = match pii_category(name) {
                    None => "is no category of personal data",
                    Some(category) if category.group() == Group::Entities && !has_recognizer => {
                        "needs Presidio, which this gateway is not set up with (--presidio-url)"
                    }
                    Some(_) => continue,
                };
                add(format!("config.detect.pii[{place}]"), message.to_owned());
            }
        }
        if self.detect.custom.len() > MAX_PATTERNS {
            add("config.detect.custom".to_owned(), format!("must be at most {MAX_PATTERNS}"));
        }
        for (place, custom) in self.detect.custom.iter().take(MAX_PATTERNS).enumerate() {
            let field = |name: &str| format!("config.detect.custom[{place}].{name}");
            if let Err(error) = Pattern::compile(&custom.pattern) {
                add(field("pattern"), error.to_string());
            }
            let is_name = |name: &String| {
                (1..=MAX_NAME).contains(&name.chars().count())
                    && !name.chars().any(char::is_control)
            };
            if !custom.name.as_ref().is_none_or(is_name) {
                add(field("name"), format!("must be 1 to {MAX_NAME} characters of text"));
            }
        }
        invalid
    }

    /// Whether the policy detects what reports call `name`: a category, a pattern, `media` or
    /// `stored_state`.
    pub fn detects(&self, name: &str) -> bool {
        let mut patterns = self.detect.custom.iter();
        (name == "media" && self.scan.media == MediaAction::Block)
            || (name == STORED_STATE && self.stored() == StoredAction::Block)
            || Category::parse(name).is_some_and(|category| self.categories().contains(category))
            || patterns.any(|custom| custom.name.as_deref().unwrap_or("custom") == name)
    }

    fn stored(&self) -> StoredAction {
        let usual = || match self.action {
            Action::Report => StoredAction::Allow,
            Action::Redact | Action::Block => StoredAction::Block,
        };
        self.scan.stored.unwrap_or_else(usual)
    }

    /// Whether it names categories that only a service recognizes. `true` for all personal data does not.
    fn requires_recognizer(&self) -> bool {
        matches!(self.detect.pii, Pii::Only(_))
            && self.categories().iter().any(|category| category.group() == Group::Entities)
    }

    fn categories(&self) -> Categories {
        let pii = match &self.detect.pii {
            Pii::All(true) => {
                Categories::of_group(Group::Pii).union(Categories::of_group(Group::Entities))
            }
            Pii::All(false) => Categories::default(),
            Pii::Only(names) => names.iter().filter_map(|name| pii_category(name)).collect(),
        };
        let secrets = if self.detect.secrets {
            Categories::of_group(Group::Secrets)
        } else {
            Categories::default()
        };
        pii.union(secrets)
    }
}

fn pii_category(name: &str) -> Option<Category> {
    Category::parse(name)
        .filter(|category| matches!(category.group(), Group::Pii | Group::Entities))
}

/// The decision of all guard policies that match a request, ready to scan with.
#[derive(Debug, Clone)]
pub struct Guard {
    pub(super) scanner: Scanner,
    /// By category; those that are not detected have the most lenient one.
    actions: [Action; Category::ALL.len()],
    /// Of each pattern: its name, and what becomes of its matches.
    patterns: Vec<(String, Action)>,
    timeout: Duration,
    timeout_action: TimeoutAction,
    scan: Scan,
    has_note: bool,
    /// What a service has to recognize; whether a policy names some of it.
    entities: Categories,
    requires_recognizer: bool,
}

impl Guard {
    /// The decision of these policies: the union of what they detect, the strictest action for each
    /// category and pattern, the smallest time-out. `None` for no policies.
    pub fn new(configs: &[GuardConfig]) -> Result<Option<Self>, PatternError> {
        let Some(first) = configs.first() else { return Ok(None) };
        let mut wanted = Categories::default();
        let mut actions = [Action::Report; Category::ALL.len()];
        let mut patterns: Vec<(&str, String, Action)> = Vec::new();
        let mut timeout = first.timeout_seconds;
        let mut timeout_action = TimeoutAction::Allow;
        let media = MediaAction::Allow;
        let mut scan = Scan { system: false, answers: false, media, stored: None };
        for config in configs {
            for category in config.categories().iter() {
                wanted.insert(category);
                if let Some(action) = actions.get_mut(category as usize) {
                    *action = config.action.max(*action);
                }
            }
            for custom in &config.detect.custom {
                let known = patterns.iter_mut().find(|(pattern, _, _)| *pattern == custom.pattern);
                match known {
                    Some((_, _, action)) => *action = config.action.max(*action),
                    None => {
                        let name = custom.name.clone().unwrap_or_else(|| "custom".to_owned());
                        patterns.push((&custom.pattern, name, config.action));
                    }
                }
            }
            timeout = timeout.min(config.timeout_seconds);
            timeout_action = timeout_action.max(config.timeout_action);
            scan.system |= config.scan.system;
            scan.answers |= config.scan.answers;
            scan.media = scan.media.max(config.scan.media);
            scan.stored = scan.stored.max(Some(config.stored()));
        }
        let compiled: Result<Vec<_>, _> =
            patterns.iter().map(|(pattern, _, _)| Pattern::compile(pattern)).collect();
        Ok(Some(Self {
            scanner: Scanner::new(wanted, compiled?),
            actions,
            patterns: patterns.into_iter().map(|(_, name, action)| (name, action)).collect(),
            timeout: Duration::from_secs_f64(timeout.clamp(*TIMEOUTS.start(), *TIMEOUTS.end())),
            timeout_action,
            scan,
            has_note: configs.iter().any(|config| config.note),
            entities: wanted.intersection(Categories::of_group(Group::Entities)),
            requires_recognizer: configs.iter().any(GuardConfig::requires_recognizer),
        }))
    }

    /// What a service has to recognize: names, places, organizations.
    pub fn entities(&self) -> Categories {
        self.entities
    }

    /// Whether a policy names such categories, so that there has to be a service. `pii: true` is all that
    /// the gateway can detect.
    pub fn requires_recognizer(&self) -> bool {
        self.requires_recognizer
    }

    /// How long the scan of a request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What becomes of a request whose scan is late or fails.
    pub fn timeout_action(&self) -> TimeoutAction {
        self.timeout_action
    }

    /// What is scanned besides the conversation.
    pub fn scan(&self) -> Scan {
        self.scan
    }

    /// Whether the model is told about placeholders.
    pub fn has_note(&self) -> bool {
        self.has_note
    }

    /// What becomes of a value.
    pub(super) fn action(&self, category: Category, pattern: Option<usize>) -> Action {
        let of_pattern =
            pattern.and_then(|pattern| self.patterns.get(pattern)).map(|(_, action)| *action);
        of_pattern.or_else(|| self.actions.get(category as usize).copied()).unwrap_or(Action::Block)
    }

    /// Whether something that is detected is not only reported.
    pub(super) fn masks(&self) -> bool {
        let of_patterns = self.patterns.iter().map(|(_, action)| action);
        self.actions.iter().chain(of_patterns).any(|action| *action != Action::Report)
    }

    /// What becomes of a value that reports call so.
    pub fn action_of(&self, name: &str) -> Action {
        let of_pattern =
            self.patterns.iter().find(|(own, _)| own == name).map(|(_, action)| *action);
        let of_category = || Category::parse(name).map(|category| self.action(category, None));
        of_pattern.or_else(of_category).unwrap_or(Action::Block)
    }

    /// What reports call a category, or a pattern.
    pub(super) fn name(&self, category: Category, pattern: Option<usize>) -> &str {
        let of_pattern = pattern.and_then(|pattern| self.patterns.get(pattern));
        of_pattern.map_or(category.as_str(), |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> GuardConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn defaults() {
        let config = config(r#"{"version":1,"detect":{}}"#);
        assert_eq!(config.action, Action::Redact);
        assert_eq!(config.timeout_seconds, 2.0);
        assert_eq!(config.timeout_action, TimeoutAction::Block);
        let media = MediaAction::Allow;
        assert_eq!(config.scan, Scan { system: true, answers: false, media, stored: None });
        assert_eq!(config.stored(), StoredAction::Block);
        assert!(!config.note);
        assert!(!config.detect.secrets && config.categories().is_empty());
        assert_eq!(config.check(false), []);
    }

    #[test]
    fn the_hosted_gateways_form_is_accepted() {
        let config = config(
            r#"{"version":1,"detect":{"pii":true,"secrets":false,"custom":[{"pattern":"PRJ-[0-9]+"}]},
            "timeout_seconds":0.5,"timeout_action":"allow"}"#,
        );
        assert_eq!(config.check(false), []);
        assert!(config.categories().contains(Category::Email) && !config.requires_recognizer());
    }

    #[test]
    fn names_need_a_service_when_they_are_named() {
        let config = config(r#"{"version":1,"detect":{"pii":["email","person_name"]}}"#);
        assert_eq!(config.check(true), []);
        assert_eq!(config.check(false)[0].field, "config.detect.pii[1]");
        let guard = Guard::new(&[config]).unwrap().unwrap();
        assert!(guard.requires_recognizer());
        assert_eq!(guard.entities().iter().collect::<Vec<_>>(), [Category::PersonName]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for json in [
            r#"{"version":1,"detect":{},"x":1}"#,
            r#"{"version":1,"detect":{"names":true}}"#,
            r#"{"version":1,"detect":{"custom":[{"pattern":"a","flags":"i"}]}}"#,
            r#"{"version":1,"detect":{},"action":"mask"}"#,
            r#"{"version":1,"detect":{},"scan":{"tools":true}}"#,
            r#"{"version":1,"detect":{"pii":"all"}}"#,
            r#"{"version":1}"#,
        ] {
            assert!(serde_json::from_str::<GuardConfig>(json).is_err(), "{json}");
        }
        let config = config(
            r#"{"version":2,"detect":{"pii":["email","jwt","names"],
            "custom":[{"pattern":"a*"},{"name":"","pattern":"(a"}]},"timeout_seconds":0.05}"#,
        );
        let fields: Vec<_> = config.check(true).into_iter().map(|invalid| invalid.field).collect();
        let expected = [
            "config.version",
            "config.timeout_seconds",
            "config.detect.pii[1]",
            "config.detect.pii[2]",
            "config.detect.custom[0].pattern",
            "config.detect.custom[1].pattern",
            "config.detect.custom[1].name",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn the_strictest_of_several_policies_wins() {
        let lenient = config(
            r#"{"version":1,"detect":{"pii":true,"custom":[{"name":"project","pattern":"PRJ"}]},
            "action":"report","timeout_action":"allow","timeout_seconds":5,"scan":{"system":false}}"#,
        );
        let strict = config(
            r#"{"version":1,"detect":{"pii":["email"],"secrets":true,"custom":[{"pattern":"PRJ"}]},
            "action":"block","timeout_seconds":1,"scan":{"answers":true,"media":"block"},"note":true}"#,
        );
        for configs in [[lenient.clone(), strict.clone()], [strict, lenient.clone()]] {
            let guard = Guard::new(&configs).unwrap().unwrap();
            assert_eq!(guard.action(Category::Email, None), Action::Block);
            assert_eq!(guard.action(Category::Jwt, None), Action::Block);
            assert_eq!(guard.action(Category::Phone, None), Action::Report);
            assert_eq!(guard.action(Category::Custom, Some(0)), Action::Block);
            assert_eq!(guard.patterns.len(), 1);
            assert_eq!(guard.timeout(), Duration::from_secs(1));
            assert_eq!(guard.timeout_action(), TimeoutAction::Block);
            let (media, stored) = (MediaAction::Block, Some(StoredAction::Block));
            assert_eq!(guard.scan(), Scan { system: true, answers: true, media, stored });
            assert!(guard.has_note());
        }
        let guard = Guard::new(&[lenient]).unwrap().unwrap();
        assert_eq!(guard.timeout_action(), TimeoutAction::Allow);
        assert_eq!(guard.name(Category::Custom, Some(0)), "project");
        assert!(!guard.scan().system && guard.scan().stored == Some(StoredAction::Allow));
        assert!(Guard::new(&[]).unwrap().is_none());
    }
}
