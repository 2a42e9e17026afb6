//! The master key: creation, missing and wrong keys, and rotation while a server serves.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::support::{
    app::{TestApp, master_key_file, options, write_master_key},
    background_load::BackgroundLoad,
    case::{Case, cases},
    commands::first_keys,
    database::{Database, Kind},
    fixture::Fixture,
    http::Request,
    process::{ChildProcess, Ended, Signal, run, tollgate},
    secrets, sql,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_rotation_under_load_fails_no_request,
        an_interrupted_rotation_is_finished_by_the_next,
        an_incomplete_key_file_stops_a_rotation,
        keys_in_a_variable_are_rotated_by_prepending_one,
        a_missing_key_stops_the_start,
        a_wrong_key_stops_the_start,
        a_missing_file_beside_an_old_database_stops_the_start,
        a_malformed_file_stops_the_start_and_is_not_quoted,
        plain a_new_database_gets_a_private_key_file,
        plain a_migrated_database_has_its_key,
        an_empty_variable_counts_as_unset,
        postgres postgres_without_a_key_says_what_to_do,
    ]
}

/// Runs a command of the binary on a database.
async fn command(database: &Database, name: &str, more: &[&str]) -> Ended {
    let mut command = tollgate(&[name]);
    command.args(options(database)).args(more);
    run(command).await
}

/// Rotates the master key of a database, also while a server uses it.
pub(crate) async fn rotate(database: &Database) -> Value {
    let ended = command(database, "rotate-master-key", &[]).await;
    note_keys(&master_key_file(database));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON on standard output")
}

/// Registers the keys of a file as secrets, and returns its key lines.
fn note_keys(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let lines: Vec<_> = lines.map(str::to_owned).collect();
    for line in &lines {
        let key = line.split_whitespace().nth(1).expect("an id and a key");
        secrets::register(key);
        let bytes = BASE64_STANDARD.decode(key).unwrap();
        secrets::register(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    lines
}

/// The master keys that wrap data keys in this database.
async fn in_use(database: &Database) -> Vec<String> {
    let query = "SELECT DISTINCT master_key_id AS value FROM data_keys ORDER BY master_key_id";
    sql::texts(database, query).await
}

async fn a_rotation_under_load_fails_no_request(database: Database) {
    let app = TestApp::start(&database).await;
    let teams = [app.workspace().await, app.workspace().await, app.workspace().await];
    // This replica has decrypted nothing so far and so has not read the file again.
    let idle = app.replica().await;
    let plain = BackgroundLoad::start(&teams[0].caller(), Fixture::chat(), 4).await;
    let streamed = BackgroundLoad::start(&teams[1].caller(), Fixture::chat_stream(), 2).await;
    let admin = BackgroundLoad::start(&app.admin(), Request::get("/api/v1/workspaces"), 1).await;
    let before = in_use(&database).await;
    let mut active = String::new();
    for round in 1..=3 {
        let rotated = rotate(&database).await;
        active = rotated["master_key_id"].as_str().expect("an id").to_owned();
        assert_eq!(rotated["rewrapped_data_keys"], 3, "round {round}");
        assert!(!before.contains(&active));
        // Secrets can be stored meanwhile.
        teams[2].put_secret(Fixture::SECRET, &teams[2].provider_key).await;
        plain.wait_for_progress().await;
        streamed.wait_for_progress().await;
        admin.wait_for_progress().await;
    }
    // A new workspace uses the new key.
    let new_team = idle.workspace().await;
    new_team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(in_use(&database).await, [active]);
    plain.end().await;
    streamed.end().await;
    admin.end().await;
    for team in &teams {
        team.caller().send(Fixture::chat()).await.expect(200);
        let credential = format!("Bearer {}", team.provider_key);
        let received = team.upstream.last_request();
        assert_eq!(received.header("authorization"), Some(credential.as_str()));
    }
    // The old keys are still in the file but no longer needed.
    let file = master_key_file(&database);
    let lines = note_keys(&file);
    assert_eq!(lines.len(), 4, "three new ones and the first");
    assert_eq!(mode(&file), 0o600);
    std::fs::write(&file, format!("{}\n", lines[0])).unwrap();
    let restarted = app.replica().await;
    for team in teams.iter().chain([&new_team]) {
        team.caller_at(restarted.address()).send(Fixture::chat()).await.expect(200);
    }
}

async fn an_interrupted_rotation_is_finished_by_the_next(database: Database) {
    let app = TestApp::start(&database).await;
    let teams = [app.workspace().await, app.workspace().await, app.workspace().await];
    let keep = "CREATE TABLE before_rotation AS SELECT id, master_key_id, wrapped FROM data_keys";
    sql::execute(&database, keep).await;
    rotate(&database).await;
    // As after kill -9 between two batches: the file has both keys, and some data keys use the old one.
    sql::execute(
        &database,
        "UPDATE data_keys SET
            master_key_id = (SELECT b.master_key_id FROM before_rotation b WHERE b.id = data_keys.id),
            wrapped = (SELECT b.wrapped FROM before_rotation b WHERE b.id = data_keys.id)
         WHERE id <> (SELECT MIN(id) FROM before_rotation);
         DROP TABLE before_rotation;",
    )
    .await;
    assert_eq!(in_use(&database).await.len(), 2);

    let restarted = app.replica().await;
    for team in &teams {
        team.caller_at(restarted.address()).send(Fixture::chat()).await.expect(200);
    }
    let rotated = rotate(&database).await;
    assert_eq!(rotated["rewrapped_data_keys"], 3);
    let active = rotated["master_key_id"].as_str().expect("an id");
    assert_eq!(in_use(&database).await, [active]);
    for team in &teams {
        team.caller().send(Fixture::chat()).await.expect(200);
        team.caller_at(restarted.address()).send(Fixture::chat()).await.expect(200);
    }
}

async fn an_incomplete_key_file_stops_a_rotation(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let file = master_key_file(&database);
    let before = std::fs::read(&file).unwrap();
    let half_made = file.with_file_name("master.key.rotating");
    std::fs::write(&half_made, "").unwrap();
    let ended = command(&database, "rotate-master-key", &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&half_made.display().to_string()), "{}", ended.stderr);
    assert!(ended.stdout.is_empty());
    assert_eq!(std::fs::read(&file).unwrap(), before);
    std::fs::remove_file(&half_made).unwrap();
    rotate(&database).await;
    team.caller().send(Fixture::chat()).await.expect(200);
}

/// Runs a command with the keys in the variable instead of a file.
async fn with_variable(database: &Database, name: &str, keys: &str) -> Ended {
    let mut command = tollgate(&[name]);
    let without_file: Vec<_> = options(database)
        .chunks(2)
        .filter(|pair| pair[0] != "--master-key-file")
        .flatten()
        .cloned()
        .collect();
    command.args(without_file).env("TOLLGATE_MASTER_KEY", keys);
    run(command).await
}

async fn keys_in_a_variable_are_rotated_by_prepending_one(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let old = note_keys(&master_key_file(&database)).remove(0);
    let refused = with_variable(&database, "rotate-master-key", &old).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("put a new key in front"), "{}", refused.stderr);

    let other = database.directory().join("other.key");
    write_master_key(&other);
    let new = note_keys(&other).remove(0).replace("test ", "second ");
    let both = format!("{new};{old}");
    let ended = with_variable(&database, "rotate-master-key", &both).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(in_use(&database).await, ["second"]);

    // A server with only the new key in its variable.
    let mut command =
        tollgate(&["serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"]);
    command.env("TOLLGATE_MASTER_KEY", &new).env("TOLLGATE_DATABASE_URL", database.url());
    let mut serving = ChildProcess::start(command);
    let address = serving.address().await;
    team.caller_at(address).send(Fixture::chat()).await.expect(200);
    serving.signal(Signal::Term);
    assert_eq!(serving.ended().await.code(), Some(0));
}

async fn refuses_to_serve(database: &Database, names: &[&str]) -> Ended {
    let ended = command(database, "serve", &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for name in names {
        assert!(ended.stderr.contains(name), "{name} is not named: {}", ended.stderr);
    }
    ended
}

async fn a_missing_key_stops_the_start(database: Database) {
    sealed(&database).await;
    let file = master_key_file(&database);
    let other = database.directory().join("other.key");
    write_master_key(&other);
    let other = note_keys(&other).remove(0).replace("test ", "another-id ");
    std::fs::write(&file, other).unwrap();
    refuses_to_serve(&database, &["`test`", "another-id"]).await;
    let ended = command(&database, "rotate-master-key", &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(note_keys(&file).len(), 1, "nothing was changed");
}

async fn a_wrong_key_stops_the_start(database: Database) {
    sealed(&database).await;
    let file = master_key_file(&database);
    std::fs::remove_file(&file).unwrap();
    write_master_key(&file);
    refuses_to_serve(&database, &["'test'"]).await;
}

async fn a_missing_file_beside_an_old_database_stops_the_start(database: Database) {
    sealed(&database).await;
    let file = master_key_file(&database);
    std::fs::remove_file(&file).unwrap();
    refuses_to_serve(&database, &[&file.display().to_string(), "backup"]).await;
    assert!(!file.exists(), "a key was made beside a database that has another");
}

async fn a_malformed_file_stops_the_start_and_is_not_quoted(database: Database) {
    sealed(&database).await;
    let file = master_key_file(&database);
    let line = note_keys(&file).remove(0);
    let key = line.split_whitespace().nth(1).expect("a key");
    for broken in [
        format!("{key}\n"),
        format!("test {}\n", &key[..40]),
        format!("test {key} {key}\n"),
        format!("{key} test\n"),
        format!("te/st {key}\n"),
        format!("test {key}\ntest {key}\n"),
        "# nothing\n".to_owned(),
    ] {
        std::fs::write(&file, &broken).unwrap();
        let ended = refuses_to_serve(&database, &[&file.display().to_string()]).await;
        assert!(!ended.stderr.contains(&key[..20]), "the key is quoted");
    }
}

/// Creates a database with a secret, not being served.
async fn sealed(database: &Database) {
    let app = TestApp::start(database).await;
    app.workspace().await;
    app.stop().await;
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

/// An empty directory, and the options for an installation in it.
fn fresh() -> (tempfile::TempDir, PathBuf, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("t.db").display());
    let options = ["--database-url", &url, "--listen", "127.0.0.1:0"].map(str::to_owned);
    let key = directory.path().join("tollgate-master.key");
    (directory, key, options.to_vec())
}

async fn a_new_database_gets_a_private_key_file() {
    let (directory, key, options) = fresh();
    let mut serving = tollgate(&["serve"]);
    serving.args(&options);
    let mut serving = ChildProcess::start(serving);
    serving.address().await;
    // Also the database and SQLite's other files.
    for file in std::fs::read_dir(key.parent().unwrap()).unwrap() {
        let file = file.unwrap().path();
        let expected = if file.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&file), expected, "{}", file.display());
    }
    assert!(key.exists());
    note_keys(&key);
    serving.signal(Signal::Int);
    assert_eq!(serving.ended().await.code(), Some(0));

    std::fs::remove_file(&key).unwrap();
    let mut again = tollgate(&["serve"]);
    again.args(&options);
    let ended = run(again).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("tollgate-master.key"), "{}", ended.stderr);
    assert!(!key.exists());
    drop(directory);
}

async fn a_migrated_database_has_its_key() {
    let (directory, key, options) = fresh();
    let mut migrate = tollgate(&["migrate"]);
    migrate.args(&options);
    let ended = run(migrate).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(mode(&key), 0o600);
    let before = note_keys(&key);
    let mut bootstrap = tollgate(&["bootstrap", "--organization", "First"]);
    bootstrap.args(&options);
    let ended = run(bootstrap).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    first_keys(&ended);
    assert_eq!(note_keys(&key), before);
    drop(directory);
}

async fn an_empty_variable_counts_as_unset(database: Database) {
    sealed(&database).await;
    let mut command = tollgate(&["serve"]);
    command.args(options(&database)).env("TOLLGATE_MASTER_KEY", "");
    let mut serving = ChildProcess::start(command);
    serving.address().await;
    serving.signal(Signal::Term);
    assert_eq!(serving.ended().await.code(), Some(0));

    let line = note_keys(&master_key_file(&database)).remove(0);
    let mut command = tollgate(&["serve"]);
    command.args(options(&database)).env("TOLLGATE_MASTER_KEY", line);
    let ended = run(command).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--master-key-file"), "{}", ended.stderr);
    assert!(ended.stderr.contains("TOLLGATE_MASTER_KEY"), "{}", ended.stderr);
}

async fn postgres_without_a_key_says_what_to_do(database: Database) {
    assert_eq!(database.kind(), Kind::Postgres);
    for name in ["serve", "rotate-master-key"] {
        let ended = run(tollgate(&[name, "--database-url", database.url()])).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        for word in ["--master-key-file", "TOLLGATE_MASTER_KEY", "openssl rand"] {
            assert!(ended.stderr.contains(word), "{}", ended.stderr);
        }
    }
    // A missing file is not created, because other replicas may share the database.
    let file = master_key_file(&database);
    let ended = command(&database, "serve", &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&file.display().to_string()), "{}", ended.stderr);
    assert!(!file.exists());
    // `migrate` needs no key.
    let ended = run(tollgate(&["migrate", "--database-url", database.url()])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
