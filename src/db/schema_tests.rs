//! Holds the two sets of migrations to each other and to `schema.rs`, and every tenant table to
//! the rule that it has its owner's column, a foreign key on it and an index that begins with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::MigrationHarness;

use super::migrate;

/// Tables that are no tenant's: the change sequence, the tenants themselves, and the records, which
/// outlive what they speak of.
const NOBODYS: [&str; 8] = [
    "change_sequence",
    "changes",
    "organizations",
    "audit_events",
    "ledger",
    "usage_rollups",
    "usage_metadata_keys",
    "ledger_retention",
];

const OWNER: &str = "organization_id";

/// A column's type, in diesel's words, and whether it may be null.
type Column = (String, bool);
type Tables = BTreeMap<String, BTreeMap<String, Column>>;

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Info {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = BigInt)]
    required: i64,
}

fn migrated() -> SqliteConnection {
    let mut conn = SqliteConnection::establish(":memory:").unwrap();
    conn.run_pending_migrations(migrate::SQLITE).unwrap();
    conn
}

fn names(conn: &mut SqliteConnection, sql: &str) -> Vec<String> {
    diesel::sql_query(sql).load::<Name>(conn).unwrap().into_iter().map(|row| row.name).collect()
}

fn sqlite_tables(conn: &mut SqliteConnection) -> Tables {
    let tables = names(
        conn,
        "SELECT name FROM sqlite_master WHERE type = 'table' \
         AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '__diesel%' ORDER BY name",
    );
    let columns = |conn: &mut SqliteConnection, table: &str| {
        // SQLite does not call the columns of a primary key NOT NULL by themselves.
        let sql = format!(
            "SELECT name, type AS kind, CAST(\"notnull\" OR pk > 0 AS INTEGER) AS required \
             FROM pragma_table_info('{table}')"
        );
        let rows = diesel::sql_query(sql).load::<Info>(conn).unwrap();
        rows.into_iter()
            .map(|row| (row.name, (diesel_type(&row.kind), row.required == 0)))
            .collect()
    };
    tables.into_iter().map(|table| (table.clone(), columns(conn, &table))).collect()
}

fn diesel_type(sql: &str) -> String {
    match sql.to_ascii_uppercase().as_str() {
        "TEXT" => "Text",
        "BIGINT" => "BigInt",
        "INTEGER" => "Integer",
        "BOOLEAN" => "Bool",
        "BLOB" | "BYTEA" => "Binary",
        "DOUBLE" | "DOUBLE PRECISION" => "Double",
        "TIMESTAMP" => "Timestamp",
        "JSON" => "Json",
        other => panic!("{other} is not one of the column types that both databases have"),
    }
    .to_owned()
}

fn migrations(database: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Reads the statements that make tables and columns. No server is needed to see what they say.
fn postgres_tables() -> Tables {
    let mut tables = Tables::new();
    for migration in migrations("postgres") {
        let sql = std::fs::read_to_string(migration.join("up.sql")).unwrap();
        let sql: Vec<&str> =
            sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        for statement in sql.join(" ").split(';').map(str::trim) {
            if let Some(rest) = statement.strip_prefix("CREATE TABLE ") {
                let (name, body) = rest.split_once('(').unwrap();
                let body = body.trim().strip_suffix(')').unwrap();
                tables.insert(name.trim().to_owned(), columns(body));
            } else if let Some(rest) = statement.strip_prefix("ALTER TABLE ") {
                let (name, change) = rest.split_once(' ').unwrap();
                if let Some(new_name) = change.strip_prefix("RENAME TO ") {
                    let columns = tables.remove(name).unwrap();
                    tables.insert(new_name.to_owned(), columns);
                } else if let Some(change) = change.strip_prefix("RENAME COLUMN ") {
                    let (old_name, new_name) = change.split_once(" TO ").unwrap();
                    let columns = tables.get_mut(name).unwrap();
                    let column = columns.remove(old_name).unwrap();
                    columns.insert(new_name.to_owned(), column);
                } else if let Some(change) = change.strip_prefix("ADD COLUMN ") {
                    tables.get_mut(name).unwrap().extend(columns(change));
                } else if let Some(change) = change.strip_prefix("ALTER COLUMN ") {
                    let (column, change) = change.split_once(' ').unwrap();
                    assert_eq!(change, "DROP NOT NULL");
                    tables.get_mut(name).unwrap().get_mut(column).unwrap().1 = true;
                } else {
                    panic!("this test can't read: {statement}");
                }
            } else if let Some(name) = statement.strip_prefix("DROP TABLE ") {
                tables.remove(name.trim());
            }
        }
    }
    tables
}

fn columns(body: &str) -> BTreeMap<String, Column> {
    let mut found = BTreeMap::new();
    let mut keys = Vec::new();
    for part in parts(body) {
        let words: Vec<&str> = part.split_whitespace().collect();
        if let Some(key) = part.strip_prefix("PRIMARY KEY") {
            let inner = key.trim().trim_start_matches('(').trim_end_matches(')');
            keys.extend(inner.split(',').map(|name| name.trim().to_owned()));
        } else if !["UNIQUE", "FOREIGN", "CHECK", "CONSTRAINT"].contains(&words[0]) {
            let nullable = !part.contains("NOT NULL") && !part.contains("PRIMARY KEY");
            let two_words = words[1] == "DOUBLE";
            let kind = if two_words { "DOUBLE PRECISION" } else { words[1] };
            found.insert(words[0].to_owned(), (diesel_type(kind), nullable));
        }
    }
    for key in keys {
        found.get_mut(&key).unwrap().1 = false;
    }
    found
}

/// What is between the commas that are in no parentheses.
fn parts(body: &str) -> Vec<String> {
    let mut depth = 0;
    let mut all = vec![String::new()];
    for c in body.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        all.last_mut().unwrap().push(c);
    }
    all.iter().map(|part| part.trim().to_owned()).collect()
}

/// Reads `schema.rs` itself.
fn diesel_tables() -> Tables {
    let mut tables = Tables::new();
    let mut current = String::new();
    let mut inside = false;
    for line in include_str!("schema.rs").lines().map(str::trim) {
        if line == "table! {" {
            inside = true;
        } else if inside && current.is_empty() && line.ends_with('{') {
            current = line.split(' ').next().unwrap().to_owned();
            tables.insert(current.clone(), BTreeMap::new());
        } else if let Some((name, kind)) = line.split_once(" -> ").filter(|_| !current.is_empty()) {
            let kind = kind.trim_end_matches(',');
            let inner = kind.strip_prefix("Nullable<").and_then(|kind| kind.strip_suffix('>'));
            let column = (inner.unwrap_or(kind).to_owned(), inner.is_some());
            tables.get_mut(&current).unwrap().insert(name.to_owned(), column);
        } else if line == "}" {
            inside = false;
            current.clear();
        }
    }
    tables
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |database| -> Vec<_> {
        let all = migrations(database);
        all.iter().map(|path| path.file_name().unwrap().to_owned()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
}

#[test]
fn both_databases_have_the_tables_that_diesel_knows() {
    let known = diesel_tables();
    assert!(known.len() >= 12 && known.values().all(|columns| !columns.is_empty()));
    assert_eq!(postgres_tables(), known);
    // SQLite keeps JSON as text.
    let mut as_text = known;
    for (kind, _) in as_text.values_mut().flat_map(BTreeMap::values_mut) {
        if kind == "Json" {
            *kind = "Text".to_owned();
        }
    }
    assert_eq!(sqlite_tables(&mut migrated()), as_text);
}

#[test]
fn migrations_can_be_reverted() {
    let mut conn = migrated();
    let tables = sqlite_tables(&mut conn);
    conn.revert_last_migration(migrate::SQLITE).unwrap();
    conn.run_pending_migrations(migrate::SQLITE).unwrap();
    assert_eq!(sqlite_tables(&mut conn), tables);
    conn.revert_all_migrations(migrate::SQLITE).unwrap();
    assert_eq!(sqlite_tables(&mut conn), Tables::new());
}

#[test]
fn every_tenant_table_has_its_owner() {
    let mut conn = migrated();
    for (table, columns) in sqlite_tables(&mut conn) {
        if NOBODYS.contains(&table.as_str()) {
            continue;
        }
        assert!(columns.contains_key(OWNER), "{table} has no {OWNER}");
        let keys = names(
            &mut conn,
            &format!("SELECT \"from\" AS name FROM pragma_foreign_key_list('{table}')"),
        );
        assert!(keys.iter().any(|name| name == OWNER), "{table}: no foreign key on {OWNER}");
        let leading = names(
            &mut conn,
            &format!(
                "SELECT info.name AS name FROM pragma_index_list('{table}') AS list, \
                 pragma_index_info(list.name) AS info WHERE info.seqno = 0"
            ),
        );
        assert!(leading.iter().any(|name| name == OWNER), "{table}: no index begins with {OWNER}");
    }
}
