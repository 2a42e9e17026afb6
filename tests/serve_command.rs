//! `tollgate serve` as a process: its port, its files, other processes beside it, and how it ends.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{
    app::{master_key_file, options, write_master_key},
    case::{Case, cases},
    commands::{BOOTSTRAP, command, command_with_key, first_keys, serve, stop},
    database::{Database, Kind},
    fixture::Fixture,
    http::{Client, Request},
    process::{ChildProcess, run, tollgate},
    sql,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        an_empty_database_serves_nobody,
        a_port_in_use_fails_before_anything_is_created,
        an_embedded_database_is_served_by_one_process,
        commands_run_beside_a_server,
        after_a_clean_stop_the_database_file_is_complete,
        all_files_are_private,
        a_database_file_that_others_can_read_is_warned_of,
        answered_changes_survive_a_kill,
    ]
}

async fn an_empty_database_serves_nobody(database: Database) {
    let (serving, address) = serve(&database).await;
    let client = Client::new(address);
    client.get("/healthz").await.expect(200);
    client.get("/readyz").await.expect(200);
    for path in ["me", "organizations", "workspaces", "users", "api-keys", "audit-log"] {
        client.get(&format!("/api/v1/{path}")).await.expect(401);
    }
    let organization = json!({"name": "Mine"});
    client.post_json("/api/v1/organizations", &organization).await.expect(401);
    client.get("/metrics").await.expect(401);
    client.send(Fixture::chat()).await.expect(401);
    let warnings = |serving: &ChildProcess| {
        let lines = serving.lines();
        lines.iter().filter(|line| line.contains("`tollgate bootstrap --organization")).count()
    };
    assert_eq!(warnings(&serving), 1, "{:#?}", serving.lines());
    stop(serving).await;

    first_keys(&run(command(&database, BOOTSTRAP)).await);
    let (serving, _) = serve(&database).await;
    assert_eq!(warnings(&serving), 0, "{:#?}", serving.lines());
    stop(serving).await;
}

/// The options of every test, with `value` for the option `name`.
fn options_with(database: &Database, name: &str, value: &str) -> Vec<String> {
    let mut options = options(database);
    let at = options.iter().position(|option| option == name).expect("an option");
    options[at + 1] = value.to_owned();
    options
}

fn serve_with(options: Vec<String>) -> std::process::Command {
    let mut command = tollgate(&["serve"]);
    command.args(options);
    command
}

async fn a_port_in_use_fails_before_anything_is_created(database: Database) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    if database.kind() == Kind::Postgres {
        write_master_key(&master_key_file(&database));
    }
    let before = files_below(database.directory());
    let ended = run(serve_with(options_with(&database, "--listen", &address))).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("can't listen on {address}")), "{}", ended.stderr);
    assert_eq!(files_below(database.directory()), before);
    drop(taken);
}

async fn an_embedded_database_is_served_by_one_process(database: Database) {
    let (mut first, _) = serve(&database).await;
    let other_journal = database.directory().join("other-journal").display().to_string();
    let options = options_with(&database, "--journal-dir", &other_journal);
    if database.kind() == Kind::Postgres {
        let second = ChildProcess::start(serve_with(options));
        second.address().await;
        stop(second).await;
        stop(first).await;
        return;
    }
    // By its own name, and by another.
    let file = database.url().strip_prefix("sqlite:").unwrap();
    let link = database.directory().join("another-name.db");
    std::os::unix::fs::symlink(file, &link).unwrap();
    for url in [database.url().to_owned(), format!("sqlite:{}", link.display())] {
        let mut options = options.clone();
        let at = options.iter().position(|option| option == "--database-url").unwrap();
        options[at + 1] = url;
        let ended = run(serve_with(options)).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("another `tollgate serve`"), "{}", ended.stderr);
        assert!(ended.stderr.contains("PostgreSQL and Redis"), "{}", ended.stderr);
        assert!(!std::path::Path::new(&other_journal).exists());
    }
    first.kill();
    first.ended().await;
    let second = ChildProcess::start(serve_with(options));
    second.address().await;
    stop(second).await;
}

async fn commands_run_beside_a_server(database: Database) {
    let (serving, address) = serve(&database).await;
    let made = first_keys(&run(command(&database, BOOTSTRAP)).await);
    for name in ["migrate", "rotate-master-key"] {
        let ended = run(command(&database, &[name])).await;
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.stderr);
    }
    let admin = Client::new(address).with_key(made["admin_key"].as_str().unwrap());
    eventually("the server knows the new key", async || {
        admin.get("/api/v1/workspaces").await.status == 200
    })
    .await;
    stop(serving).await;
}

async fn after_a_clean_stop_the_database_file_is_complete(database: Database) {
    let made = first_keys(&run(command_with_key(&database, BOOTSTRAP)).await);
    let (serving, address) = serve(&database).await;
    let admin = Client::new(address).with_key(made["admin_key"].as_str().unwrap());
    admin.post_json("/api/v1/workspaces", &json!({"name": "Last"})).await.success();
    stop(serving).await;
    let names = "SELECT name AS value FROM workspaces";
    if database.kind() == Kind::Postgres {
        assert_eq!(sql::texts(&database, names).await, ["Last"]);
        return;
    }
    let left: Vec<_> = files_below(database.directory()).into_keys().collect();
    assert!(!left.iter().any(|path| path.ends_with("-wal")), "{left:?}");
    let copy = database.directory().join("copy.db");
    std::fs::copy(database.url().strip_prefix("sqlite:").unwrap(), &copy).unwrap();
    let copy = database.reached_by(format!("sqlite:{}", copy.display()));
    assert_eq!(sql::texts(&copy, names).await, ["Last"]);
}

async fn all_files_are_private(database: Database) {
    if database.kind() == Kind::Postgres {
        write_master_key(&master_key_file(&database));
    }
    let made = first_keys(&run(command(&database, BOOTSTRAP)).await);
    let serving = ChildProcess::start(command(&database, &["serve"]));
    let admin = Client::new(serving.address().await).with_key(made["admin_key"].as_str().unwrap());
    let team = Fixture::create(&admin, admin.address()).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    let files = files_below(database.directory());
    let sqlite = ["tollgate.db", "tollgate.db-wal", "tollgate.db-shm", "tollgate.db.lock"];
    let sqlite = sqlite.into_iter().filter(|_| database.kind() == Kind::Sqlite);
    for name in sqlite.chain(["master.key", "journal/lock"]) {
        assert!(files.contains_key(name), "no {name} in {files:?}");
    }
    for (name, mode) in files {
        assert_eq!(mode & 0o777, 0o600, "{name} has mode {mode:o}");
    }
    stop(serving).await;
}

async fn a_database_file_that_others_can_read_is_warned_of(database: Database) {
    use std::os::unix::fs::PermissionsExt as _;

    first_keys(&run(command_with_key(&database, BOOTSTRAP)).await);
    if database.kind() == Kind::Postgres {
        return;
    }
    let file = database.directory().join("tollgate.db");
    let wal = database.directory().join("tollgate.db-wal");
    for (mode, warned) in [(0o644, 2), (0o600, 0)] {
        for file in [&file, &wal] {
            std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let (serving, _) = serve(&database).await;
        let is_warning = |line: &&String| line.contains("other users can read the database file");
        let lines = serving.lines();
        let warnings: Vec<&String> = lines.iter().filter(is_warning).collect();
        assert_eq!(warnings.len(), warned, "{lines:#?}");
        assert!(warnings.iter().all(|line| line.contains("0644") && line.contains("WARN")));
        stop(serving).await;
    }
}

/// The files below a directory with their modes.
fn files_below(directory: &std::path::Path) -> BTreeMap<String, u32> {
    use std::os::unix::fs::PermissionsExt as _;

    let (mut files, mut directories) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            // A file of the database's may go at any time.
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                files.insert(name, metadata.permissions().mode());
            }
        }
    }
    files
}

async fn answered_changes_survive_a_kill(database: Database) {
    let made = first_keys(&run(command_with_key(&database, BOOTSTRAP)).await);
    let admin_key = made["admin_key"].as_str().unwrap().to_owned();
    let mut answered = Vec::new();
    for round in 0..3 {
        let (mut serving, address) = serve(&database).await;
        let admin = Client::new(address).with_key(&admin_key);
        let writers = (0..4).map(|writer| {
            let admin = admin.clone();
            actix_rt::spawn(async move {
                let mut ids: Vec<String> = Vec::new();
                for number in 0.. {
                    let handle = format!("w-{round}-{writer}-{number}");
                    let body = json!({"name": handle, "handle": handle});
                    let request = Request::post_json("/api/v1/workspaces", &body);
                    match admin.try_send(request).await {
                        Ok(answer) if answer.status / 100 == 2 => {
                            let id = answer.json()["id"].as_str().unwrap().to_owned();
                            ids.push(id);
                        }
                        Ok(answer) => panic!("{} {}", answer.status, answer.text()),
                        Err(_) => break,
                    }
                }
                ids
            })
        });
        let writers: Vec<_> = writers.collect();
        eventually("some writes were answered", async || {
            let page = admin.get("/api/v1/workspaces?limit=200").await.json();
            let names = page["data"].as_array().map_or(0, Vec::len);
            names >= (round + 1) * 8
        })
        .await;
        serving.kill();
        serving.ended().await;
        for writer in writers {
            answered.extend(writer.await.expect("a writer"));
        }
    }
    let (serving, address) = serve(&database).await;
    let admin = Client::new(address).with_key(&admin_key);
    assert!(answered.len() >= 8, "{} writes", answered.len());
    for id in &answered {
        admin.get(&format!("/api/v1/workspaces/{id}")).await.expect(200);
    }
    if database.kind() == Kind::Sqlite {
        let check = "SELECT integrity_check AS value FROM pragma_integrity_check";
        assert_eq!(sql::texts(&database, check).await, ["ok"]);
    }
    stop(serving).await;
}
