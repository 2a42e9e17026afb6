//! Names of documents. Converse takes letters, digits, single blanks, hyphens, parentheses and square
//! brackets, and each name once in a request (AWS, `DocumentBlock`).

use std::collections::{HashMap, HashSet};

/// The longest name, in characters.
const MAX_CHARACTERS: usize = 200;

/// Room for the number of a name that occurs more than once, with a blank.
const NUMBER_CHARACTERS: usize = 12;

/// The names so far.
#[derive(Debug, Default)]
pub(super) struct DocumentNames {
    used: HashSet<String>,
    /// The number of the last document of a name that occurs more than once.
    last: HashMap<String, u64>,
}

impl DocumentNames {
    /// A name that fits and is new; it follows from the names so far alone.
    pub(super) fn fit(&mut self, name: Option<&str>) -> String {
        let fitting = fitting(name.unwrap_or_default());
        if self.used.insert(fitting.clone()) {
            return fitting;
        }
        let number = self.last.entry(fitting.clone()).or_insert(1);
        loop {
            *number = number.saturating_add(1);
            let numbered = format!("{fitting} {number}");
            if self.used.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

fn fitting(name: &str) -> String {
    let mut fitting = String::new();
    for character in name.chars().take(MAX_CHARACTERS - NUMBER_CHARACTERS) {
        match character {
            c if c.is_whitespace() => {
                if !fitting.is_empty() && !fitting.ends_with(' ') {
                    fitting.push(' ');
                }
            }
            '-' | '(' | ')' | '[' | ']' => fitting.push(character),
            c if c.is_ascii_alphanumeric() => fitting.push(character),
            _ => fitting.push('-'),
        }
    }
    fitting.truncate(fitting.trim_end().len());
    if fitting.is_empty() { "document".to_owned() } else { fitting }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_occur_once() {
        let mut names = DocumentNames::default();
        let long = "x".repeat(300);
        for (name, expected) in [
            (Some("Q3  report_v2.pdf"), "Q3 report-v2-pdf"),
            (Some(" a\n[b] (c) "), "a [b] (c)"),
            (Some("Q3 report-v2-pdf"), "Q3 report-v2-pdf 2"),
            (Some("Q3 report-v2-pdf 2"), "Q3 report-v2-pdf 2 2"),
            (Some("Q3 report.v2.pdf"), "Q3 report-v2-pdf 3"),
            (None, "document"),
            (Some("  "), "document 2"),
            (Some("é"), "-"),
            (Some(&long), &long[..188]),
        ] {
            assert_eq!(names.fit(name), expected, "{name:?}");
        }
    }
}
