//! What guards found in a request or in its answer: counts by category, never values.

use serde::{Deserialize, Serialize};

use super::text_enum::text_enum;

/// The most entries of a request: there are fewer categories, but patterns have names of their own. What is
/// beyond counts as [`OTHER`].
const MAX_FINDINGS: usize = 64;
const OTHER: &str = "other";

text_enum! {
    /// Where values were found.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum FindingPlace {
        Request = "request",
        Answer = "answer",
    }
}

text_enum! {
    /// What became of values that a guard found.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum FindingAction {
        /// They passed.
        Report = "report",
        /// The provider got placeholders.
        Redact = "redact",
        /// The caller got masks.
        Mask = "mask",
        /// The request or the answer was refused.
        Block = "block",
    }
}

/// What a guard found of one category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ContentFinding {
    pub place: FindingPlace,
    /// The category, or the name of the policy's pattern; `other` for what is beyond 64 of them.
    #[schema(example = "email")]
    pub category: String,
    pub action: FindingAction,
    /// How many values; in answers, different ones.
    pub count: u64,
}

/// The findings of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentFindings(Vec<ContentFinding>);

impl ContentFindings {
    /// Counts further values.
    pub fn add(&mut self, mut finding: ContentFinding) {
        let find = |findings: &mut Vec<ContentFinding>, finding: &ContentFinding| {
            findings.iter().position(|one| {
                let kind = (one.place, one.action, &one.category);
                kind == (finding.place, finding.action, &finding.category)
            })
        };
        let mut known = find(&mut self.0, &finding);
        if known.is_none() && self.0.len() >= MAX_FINDINGS {
            OTHER.clone_into(&mut finding.category);
            known = find(&mut self.0, &finding);
        }
        match known.and_then(|place| self.0.get_mut(place)) {
            Some(known) => known.count = known.count.saturating_add(finding.count),
            None => self.0.push(finding),
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order in which they were found.
    pub fn as_slice(&self) -> &[ContentFinding] {
        &self.0
    }

    /// As the log line has them, such as `email=2,iban=1`; none without any.
    pub fn line(&self, place: FindingPlace) -> Option<String> {
        let found = self.0.iter().filter(|one| one.place == place);
        let parts: Vec<String> =
            found.map(|one| format!("{}={}", one.category, one.count)).collect();
        (!parts.is_empty()).then(|| parts.join(","))
    }
}

impl From<Vec<ContentFinding>> for ContentFindings {
    fn from(findings: Vec<ContentFinding>) -> Self {
        Self(findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(category: &str, action: FindingAction, count: u64) -> ContentFinding {
        let place = FindingPlace::Request;
        ContentFinding { place, category: category.to_owned(), action, count }
    }

    #[test]
    fn counts_of_one_kind_are_added_up() {
        let mut findings = ContentFindings::default();
        assert_eq!(findings.line(FindingPlace::Request), None);
        for action in [FindingAction::Redact, FindingAction::Redact, FindingAction::Block] {
            findings.add(finding("email", action, 2));
        }
        assert_eq!(
            findings.as_slice(),
            [finding("email", FindingAction::Redact, 4), finding("email", FindingAction::Block, 2)]
        );
        assert_eq!(findings.line(FindingPlace::Request).as_deref(), Some("email=4,email=2"));
        assert_eq!(findings.line(FindingPlace::Answer), None);
    }

    #[test]
    fn many_names_become_one() {
        let mut findings = ContentFindings::default();
        for number in 0..1_000 {
            findings.add(finding(&format!("pattern {number}"), FindingAction::Report, 1));
        }
        let last = findings.as_slice().last().unwrap();
        assert_eq!((&*last.category, last.count), (OTHER, 1_000 - MAX_FINDINGS as u64));
        assert_eq!(findings.as_slice().len(), MAX_FINDINGS + 1);
    }
}
