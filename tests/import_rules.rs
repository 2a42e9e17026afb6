//! The library keeps to the rules between rooms that `src/lib.rs` states, names libraries only where they
//! belong, and has no circles of files. Unit tests may import what they need.

use std::collections::BTreeSet;

use crate::support::case::{Case, cases};
use crate::support::source_tree::{SourceTree, room};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        plain rooms_import_what_the_rules_allow,
        plain libraries_are_named_where_they_belong,
        plain files_of_a_room_form_no_circle,
        plain forbidden_imports_and_circles_are_found,
    ]
}

/// Libraries, and the only rooms that name them.
const ONLY_IN: [(&[&str], &[&str]); 6] = [
    (&["diesel", "diesel_async", "diesel_migrations", "tokio_postgres"], &["db"]),
    (&["awc"], &["upstream", "demo"]),
    (&["redis"], &["policy"]),
    (&["prometheus_client"], &["telemetry"]),
    (&["utoipa_actix_web", "utoipa_swagger_ui"], &["api"]),
    (&["aes_gcm", "argon2", "hkdf"], &["crypto"]),
];

/// Rooms without HTTP server, I/O and clock.
const PURE: [&str; 3] = ["domain", "json", "llm"];

/// How the paths begin that pure rooms do not name.
const IMPURE: [&str; 9] = [
    "actix_",
    "tokio::",
    "tracing::",
    "std::fs::",
    "std::net::Tcp",
    "std::time::Instant",
    "std::time::SystemTime",
    "chrono::Utc::now",
    "chrono::Local",
];

/// Circles that are left: the folder that has all files of the circle, and why.
const CIRCLES: [(&str, &str); 2] = [
    (
        "policy/guard/detect/",
        "a run of digits is tried by each kind of number, which reads its digits",
    ),
    ("policy/guard/", "a request's guard collects what its answer is searched for"),
];

async fn rooms_import_what_the_rules_allow() {
    let tree = SourceTree::read();
    let broken = forbidden_imports(&tree, &Rules::stated());
    assert!(broken.is_empty(), "against the rules in src/lib.rs:\n{}", broken.join("\n"));
}

async fn libraries_are_named_where_they_belong() {
    let mut broken = Vec::new();
    for file in &SourceTree::read().files {
        let room = room(&file.path);
        for import in &file.imports {
            let path = import.join("::");
            let is_elsewhere = ONLY_IN.iter().any(|(libraries, rooms)| {
                libraries.contains(&&*import[0]) && !rooms.contains(&room)
            });
            let is_impure =
                PURE.contains(&room) && IMPURE.iter().any(|start| path.starts_with(start));
            if is_elsewhere || is_impure {
                broken.push(format!("{} names {path}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "not in these rooms:\n{}", broken.join("\n"));
}

async fn files_of_a_room_form_no_circle() {
    let tree = SourceTree::read();
    let mut left: BTreeSet<&str> = CIRCLES.iter().map(|(folder, _)| *folder).collect();
    let mut unknown = Vec::new();
    for circle in tree.circles() {
        let folder =
            CIRCLES.iter().find(|(folder, _)| circle.keys().all(|file| file.starts_with(folder)));
        match folder {
            Some((folder, _)) => drop(left.remove(folder)),
            None => unknown.extend(circle.into_iter().map(|(file, imports)| {
                format!("{file} imports {}", imports.into_iter().collect::<Vec<_>>().join(", "))
            })),
        }
    }
    assert!(unknown.is_empty(), "these files import each other:\n{}", unknown.join("\n"));
    assert!(left.is_empty(), "no circles any more, so strike them from the list: {left:?}");
}

async fn forbidden_imports_and_circles_are_found() {
    let file = |path: &str, source: &str| (path.to_owned(), source.to_owned());
    let tree = SourceTree::of(&[
        file("api/mod.rs", "mod keys;\npub use keys::Key;\n// use crate::proxy::A;"),
        file("api/keys.rs", "pub struct Key; fn f() -> &'static str { \"crate::proxy::A\" }"),
        file(
            "proxy/mod.rs",
            "mod a; mod b; #[cfg(test)] mod tests; use crate::{api::Key, domain::C};",
        ),
        file("proxy/a.rs", "use super::b::B; #[cfg(test)] mod tests { use crate::db::Row; }"),
        file("proxy/b.rs", "pub struct B(crate::db::Row<'static>); fn g(a: super::a::A) {}"),
        file("proxy/tests.rs", "use crate::db::Row;"),
        file("db.rs", "pub struct Row<'r>(&'r ());"),
        file("domain.rs", "pub struct C;"),
    ]);
    let rules = Rules::parse("| `proxy` | |\n| `api` | `db` |\n| `db` | |\n| `domain` | |");
    assert_eq!(
        forbidden_imports(&tree, &rules),
        ["proxy/b.rs imports crate::db::Row", "proxy/mod.rs imports crate::api::Key"]
    );
    let circles = tree.circles();
    assert_eq!(circles.len(), 1);
    assert_eq!(circles[0].keys().copied().collect::<Vec<_>>(), ["proxy/a.rs", "proxy/b.rs"]);
}

/// Which room may import which, from the top down.
struct Rules(Vec<(String, Vec<String>)>);

impl Rules {
    /// Those of the documentation of the library.
    fn stated() -> Self {
        let source = include_str!("../src/lib.rs");
        let table = source.split("| room | may import |").nth(1).unwrap();
        let rows = table.lines().skip(2).map(|line| line.trim_start_matches("//!").trim());
        let rows: Vec<&str> = rows.take_while(|row| row.starts_with('|')).collect();
        Self::parse(&rows.join("\n"))
    }

    /// Reads the rows of the table.
    fn parse(rows: &str) -> Self {
        let mut rules = Vec::new();
        for row in rows.lines() {
            let mut names = row.split('`').skip(1).step_by(2).map(str::to_owned);
            rules.push((names.next().unwrap(), names.collect::<Vec<_>>()));
        }
        for (index, (room, allowed)) in rules.iter().enumerate() {
            for one in allowed {
                let is_below = rules[index + 1..].iter().any(|(below, _)| below == one);
                assert!(is_below, "the row of {room} names {one}, which is not further down");
            }
        }
        Self(rules)
    }

    /// The room of a path of modules: the row with the longest name that the path begins with.
    fn room_of(&self, path: &[String]) -> Option<&str> {
        let path = path.join("::");
        let names = self.0.iter().map(|(name, _)| name.as_str()).filter(|name| {
            path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        names.max_by_key(|name| name.len())
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        let row = self.0.iter().find(|(room, _)| room == from);
        from == to
            || to == "domain"
            || row.is_some_and(|(_, allowed)| allowed.iter().any(|one| one == to))
    }
}

fn forbidden_imports(tree: &SourceTree, rules: &Rules) -> Vec<String> {
    let mut broken = Vec::new();
    for file in tree.files.iter().filter(|file| !matches!(&*file.path, "lib.rs" | "main.rs")) {
        let Some(from) = rules.room_of(&file.module) else {
            broken.push(format!("{} belongs to a room without a row", file.path));
            continue;
        };
        for import in file.imports.iter().filter(|import| import[0] == "crate" && import.len() > 1)
        {
            if !rules.room_of(&import[1..]).is_some_and(|to| rules.allows(from, to)) {
                broken.push(format!("{} imports {}", file.path, import.join("::")));
            }
        }
    }
    broken.sort();
    broken
}
