//! Texts of a request that are recorded: in its log line, and in the ledger. They keep no value that is
//! detected, whatever becomes of the request.

use std::cmp::Reverse;

use super::answer::mask;
use super::entities::Entities;
use super::policy::Guard;
use super::scan::Findings;

/// In place of a text that could not be scanned to its end.
const UNKNOWN: &str = "REDACTED";

impl Guard {
    /// The text with masks in place of all that is detected, also of what is only reported; `None` without
    /// any. `entities` is what a service found in texts of the request.
    pub fn masked(
        &self,
        text: &str,
        entities: &Entities,
        keep_going: &dyn Fn() -> bool,
    ) -> Option<String> {
        let bytes = text.as_bytes();
        let mut findings = Findings::default();
        if self.scanner.scan(bytes, b"", keep_going, &mut findings).is_err() {
            return Some(UNKNOWN.to_owned());
        }
        entities.add_to(bytes, &mut findings);
        let mut found = findings.found;
        found.sort_by_key(|finding| (finding.range.start, Reverse(finding.range.end)));
        let (mut masked, mut done) = (Vec::new(), 0);
        for finding in &found {
            if finding.range.start >= done {
                masked.extend_from_slice(bytes.get(done..finding.range.start).unwrap_or_default());
                masked.extend_from_slice(mask(finding.category).as_bytes());
            }
            done = done.max(finding.range.end);
        }
        masked.extend_from_slice(bytes.get(done..).unwrap_or_default());
        (!found.is_empty()).then(|| String::from_utf8_lossy(&masked).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::guard::category::Category;
    use crate::policy::guard::policy::GuardConfig;

    fn masked(text: &str, entities: &Entities, has_time: bool) -> Option<String> {
        let config = r#"{"version":1,"detect":{"pii":true,"custom":[{"pattern":"b@x[.]org and"}]},
            "action":"report"}"#;
        let config: GuardConfig = serde_json::from_str(config).unwrap();
        Guard::new(&[config]).unwrap().unwrap().masked(text, entities, &|| has_time)
    }

    #[test]
    fn all_that_is_detected_is_masked() {
        let none = Entities::default();
        assert_eq!(masked("gpt-4o", &none, true), None);
        assert_eq!(masked("", &none, true), None);
        let text = "é a@b.co, b@x.org and c";
        assert_eq!(
            masked(text, &none, true).as_deref(),
            Some("é REDACTED_EMAIL, REDACTED_VALUE c")
        );
        let mut names = Entities::default();
        names.insert(b"of Ada".to_vec(), vec![(3..6, Category::PersonName)]);
        assert_eq!(masked("of Ada", &names, true).as_deref(), Some("of REDACTED_PERSON"));
        assert_eq!(masked("gpt-4o", &none, false).as_deref(), Some(UNKNOWN));
    }
}
