//! Every public type, function, constant and module of the library has a doc comment.
//!
//! rustc's `missing_docs` cannot be limited to these: it also wants one on every field and variant,
//! where most could only repeat the name.

use std::{fs, path::Path};

use crate::support::case::{Case, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![plain every_public_item_has_a_doc_comment, plain an_undocumented_item_is_found]
}

async fn every_public_item_has_a_doc_comment() {
    let mut missing = Vec::new();
    check_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut missing);
    assert!(missing.is_empty(), "add a doc comment to:\n{}", missing.join("\n"));
}

async fn an_undocumented_item_is_found() {
    let source = "
        /// Documented.
        #[derive(
            Debug,
        )]
        pub struct A {
            pub field: u8,
        }
        #[derive(Debug)]
        // A comment.
        pub struct B;
        impl A {
            /// Documented.
            #[must_use]
            pub const fn c(self) {}
            pub async fn d(self) {}
        }
        pub(crate) fn e() {}
        pub const F: u8 = 0;
        pub use g::G;
    ";
    let found: Vec<&str> = undocumented(source).into_iter().map(|(_, line)| line).collect();
    assert_eq!(found, ["pub struct B;", "pub async fn d(self) {}", "pub const F: u8 = 0;"]);
}

fn check_folder(folder: &Path, missing: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check_folder(&path, missing);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        // A module's documentation is at the top of its file; modules of unit tests need none.
        if !source.starts_with("//!") && !path.components().any(|part| is_tests(part.as_ref())) {
            missing.push(format!("{}: the module", path.display()));
        }
        for (number, line) in undocumented(&source) {
            missing.push(format!("{}:{number}: {line}", path.display()));
        }
    }
}

fn is_tests(name: &Path) -> bool {
    name.ends_with("tests") || name.to_string_lossy().ends_with("tests.rs")
}

/// The first lines of public items without a doc comment, with their numbers. Relies on rustfmt's
/// layout: an item and each of its attributes begin a line.
fn undocumented(source: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut documented = false;
    let mut in_attribute = false;
    for (index, line) in source.lines().enumerate() {
        let line = line.trim();
        if in_attribute {
            in_attribute = !line.ends_with(")]");
        } else if line.starts_with("///") {
            documented = true;
        } else if line.starts_with("#[") {
            in_attribute = !line.ends_with(']');
        } else if !line.starts_with("//") {
            if !documented && is_public_item(line) {
                found.push((index + 1, line));
            }
            documented = false;
        }
    }
    found
}

/// Whether the line begins a public type, function or constant. Modules are documented in their own
/// files, and names in macros (`$name`) by whoever uses the macro.
fn is_public_item(line: &str) -> bool {
    const KEYWORDS: [&str; 8] =
        ["struct", "enum", "union", "trait", "type", "fn", "const", "static"];
    let Some(item) = line.strip_prefix("pub ") else { return false };
    let keyword = item.split(' ').find(|word| !matches!(*word, "async" | "unsafe"));
    keyword.is_some_and(|word| KEYWORDS.contains(&word)) && !item.contains('$')
}
