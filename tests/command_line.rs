//! The real binary: what it prints where, with which exit code, and what it leaves behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::{Value, json};
use url::Url;

use crate::support::{
    app::{master_key_file, options, write_master_key},
    case::{Case, cases},
    database::{Database, Kind},
    eventually::eventually,
    fixture::Fixture,
    http::{Client, Request},
    process::{Ended, Running, Signal, run, tollgate},
    secrets, sql,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        bootstrap_prints_one_object_and_its_keys_work,
        of_several_bootstraps_at_once_one_wins,
        a_platform_key_is_replaced_while_serving,
        several_migrate_at_once,
        a_newer_schema_is_refused,
        postgres a_database_that_can_not_hold_all_text_is_refused,
        an_empty_database_serves_nobody,
        a_port_in_use_fails_before_anything_is_created,
        an_embedded_database_is_served_by_one_process,
        commands_run_beside_a_server,
        after_a_clean_stop_the_database_file_is_complete,
        all_files_are_private,
        what_was_answered_survives_a_kill,
        plain openapi_prints_the_committed_document,
        plain help_shows_flags_variables_and_defaults_in_groups,
        plain a_bad_value_is_refused_with_its_options_name,
        plain a_bad_database_url_is_not_quoted,
    ]
}

fn with(database: &Database, name: &[&str]) -> std::process::Command {
    write_master_key(&master_key_file(database));
    bare(database, name)
}

/// Without a master key made beforehand.
fn bare(database: &Database, name: &[&str]) -> std::process::Command {
    let mut command = tollgate(name);
    command.args(options(database));
    command
}

const BOOTSTRAP: &[&str] = &["bootstrap", "--organization", "First & Sons"];

/// The object on standard output, its keys registered as secrets.
fn first_keys(ended: &Ended) -> Value {
    let object: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} bytes, {}", ended.stdout.len(), ended.stderr));
    for name in ["platform_key", "admin_key"] {
        secrets::register_key(object[name].as_str().expect("a key"));
    }
    object
}

async fn serve(database: &Database) -> (Running, SocketAddr) {
    let serving = Running::start(with(database, &["serve"]));
    let address = serving.address().await;
    (serving, address)
}

async fn stop(mut serving: Running) {
    serving.signal(Signal::Term);
    let status = serving.ended().await;
    assert_eq!(status.code(), Some(0), "{:#?}", serving.lines());
}

async fn bootstrap_prints_one_object_and_its_keys_work(database: Database) {
    let ended = run(with(&database, BOOTSTRAP)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let made = first_keys(&ended);
    let names: BTreeSet<_> = made.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(names, ["admin_key", "organization_id", "platform_key"].map(str::to_owned).into());
    for key in ["platform_key", "admin_key"] {
        let secret = made[key].as_str().unwrap().rsplit_once('_').unwrap().1;
        assert!(!ended.stderr.contains(secret), "standard error shows {key}");
    }

    let again = run(with(&database, BOOTSTRAP)).await;
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert!(again.stdout.is_empty());
    assert!(again.stderr.contains("organization already"), "{}", again.stderr);

    let (serving, address) = serve(&database).await;
    for (key, role) in [("platform_key", "PLATFORM_ADMIN"), ("admin_key", "ORGANIZATION_ADMIN")] {
        let client = Client::new(address).with_key(made[key].as_str().unwrap());
        let me = client.get("/api/v1/me").await.expect(200).json();
        assert_eq!(me["role"], role, "{me}");
    }
    stop(serving).await;
}

async fn of_several_bootstraps_at_once_one_wins(database: Database) {
    // On PostgreSQL the key is brought along; beside a new embedded database it is made, once.
    if database.kind() == Kind::Postgres {
        write_master_key(&master_key_file(&database));
    }
    let all = (0..4).map(|_| run(bare(&database, BOOTSTRAP)));
    let all = futures_util::future::join_all(all).await;
    let (won, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(|ended| ended.code == Some(0));
    for ended in &lost {
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stdout.is_empty());
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    assert_eq!(won.len(), 1, "{lost:#?}");
    let made = first_keys(&won[0]);
    let names = sql::texts(&database, "SELECT name AS value FROM organizations").await;
    assert_eq!(names, ["First & Sons"]);
    let (serving, address) = serve(&database).await;
    let admin = Client::new(address).with_key(made["admin_key"].as_str().unwrap());
    Fixture::create(&admin, address).await.caller().send(Fixture::chat()).await.expect(200);
    stop(serving).await;
}

async fn a_platform_key_is_replaced_while_serving(database: Database) {
    write_master_key(&master_key_file(&database));
    let made = first_keys(&run(bare(&database, BOOTSTRAP)).await);
    let (serving, address) = serve(&database).await;
    let with = |key: &Value| Client::new(address).with_key(key.as_str().unwrap());
    with(&made["platform_key"]).get("/api/v1/organizations").await.expect(200);
    let ended = run(bare(&database, &["replace-platform-key"])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let replaced: Value = serde_json::from_str(&ended.stdout).expect("JSON on standard output");
    secrets::register_key(replaced["platform_key"].as_str().unwrap());
    with(&replaced["platform_key"]).get("/api/v1/organizations").await.expect(200);
    eventually("the old platform key is refused", async || {
        with(&made["platform_key"]).get("/api/v1/organizations").await.status == 401
    })
    .await;
    with(&made["admin_key"]).get("/api/v1/workspaces").await.expect(200);
    let log = with(&replaced["platform_key"]).get("/api/v1/audit-log").await.expect(200).json();
    let operations = log["data"].as_array().unwrap().iter().map(|event| &event["operation"]);
    assert!(operations.into_iter().any(|operation| operation == "delete_api_key"), "{log}");
    stop(serving).await;
}

async fn several_migrate_at_once(database: Database) {
    write_master_key(&master_key_file(&database));
    for _ in 0..2 {
        let all = (0..4).map(|_| run(bare(&database, &["migrate"])));
        for ended in futures_util::future::join_all(all).await {
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            assert!(ended.stdout.is_empty());
        }
        let query = "SELECT version AS value FROM __diesel_schema_migrations";
        let versions = sql::texts(&database, query).await;
        let once: BTreeSet<_> = versions.iter().collect();
        assert_eq!(once.len(), versions.len());
        assert!(!versions.is_empty());
    }
}

async fn a_newer_schema_is_refused(database: Database) {
    let ended = run(with(&database, &["migrate"])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231235959')";
    sql::execute(&database, newer).await;
    let bootstrap = BOOTSTRAP;
    for name in [&["serve"][..], &["migrate"], bootstrap, &["rotate-master-key"]] {
        let ended = run(with(&database, name)).await;
        assert_eq!(ended.code, Some(1), "{name:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("29991231235959"), "{}", ended.stderr);
        assert!(ended.stderr.contains("newer"), "{}", ended.stderr);
    }
}

async fn a_database_that_can_not_hold_all_text_is_refused(database: Database) {
    let mut url = Url::parse(database.url()).unwrap();
    let name = format!("{}_latin1", url.path().trim_start_matches('/'));
    url.set_path(&name);
    let other = database.reached_by(url.into());
    let make = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    sql::execute(&database, &make).await;
    let ended = run(with(&other, &["migrate"])).await;
    sql::execute(&database, &format!("DROP DATABASE {name}")).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("LATIN1"), "{}", ended.stderr);
    assert!(ended.stderr.contains("ENCODING 'UTF8'"), "{}", ended.stderr);
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
    let warnings = |serving: &Running| {
        let lines = serving.lines();
        lines.iter().filter(|line| line.contains("`tollgate bootstrap --organization")).count()
    };
    assert_eq!(warnings(&serving), 1, "{:#?}", serving.lines());
    stop(serving).await;

    first_keys(&run(bare(&database, BOOTSTRAP)).await);
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
        let second = Running::start(serve_with(options));
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
    let second = Running::start(serve_with(options));
    second.address().await;
    stop(second).await;
}

async fn commands_run_beside_a_server(database: Database) {
    let (serving, address) = serve(&database).await;
    let made = first_keys(&run(bare(&database, BOOTSTRAP)).await);
    for name in ["migrate", "rotate-master-key"] {
        let ended = run(bare(&database, &[name])).await;
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
    let made = first_keys(&run(with(&database, BOOTSTRAP)).await);
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
    let made = first_keys(&run(bare(&database, BOOTSTRAP)).await);
    let serving = Running::start(bare(&database, &["serve"]));
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

async fn what_was_answered_survives_a_kill(database: Database) {
    let made = first_keys(&run(with(&database, BOOTSTRAP)).await);
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

async fn openapi_prints_the_committed_document() {
    let ended = run(tollgate(&["openapi"])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let printed: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(printed == committed, "run `tollgate openapi > openapi/openapi.json`");
}

async fn help_shows_flags_variables_and_defaults_in_groups() {
    let all = run(tollgate(&["--help"])).await;
    assert_eq!(all.code, Some(0));
    let commands = [
        "serve",
        "demo",
        "bootstrap",
        "migrate",
        "replace-platform-key",
        "rotate-master-key",
        "openapi",
    ];
    for command in commands {
        assert!(all.stdout.contains(&format!("\n  {command} ")), "{command}: {}", all.stdout);
    }
    for name in ["serve", "bootstrap", "migrate", "replace-platform-key", "rotate-master-key"] {
        let help = run(tollgate(&[name, "--help"])).await;
        assert_eq!(help.code, Some(0));
        for part in [
            "\nListening:",
            "\nDatabase:",
            "\nMaster key:",
            "\nEgress:",
            "\nLimits:",
            "\nTime limits:",
            "--listen <ADDRESS>",
            "[env: TOLLGATE_LISTEN=]",
            "[default: 127.0.0.1:8080]",
            "[env: TOLLGATE_DATABASE_URL]",
            "[default: sqlite:tollgate.db]",
            "[env: TOLLGATE_MASTER_KEY]",
            "TOLLGATE_EGRESS_ALLOW",
            "TOLLGATE_TRUSTED_PROXIES",
            "TOLLGATE_ADMIN_LISTEN",
        ] {
            assert!(help.stdout.contains(part), "{name} --help lacks {part:?}: {}", help.stdout);
        }
    }
    // A value from the environment is shown, unless it may hold a secret.
    let mut command = tollgate(&["serve", "--help"]);
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";
    secrets::register(secret);
    command
        .env("TOLLGATE_LISTEN", "127.0.0.1:9")
        .env("TOLLGATE_MASTER_KEY", format!("mk {secret}"))
        .env("TOLLGATE_DATABASE_URL", format!("postgres://u:{secret}@h/d"));
    let help = run(command).await;
    assert!(help.stdout.contains("[env: TOLLGATE_LISTEN=127.0.0.1:9]"));
    assert!(!help.stdout.contains(secret));
}

async fn a_bad_value_is_refused_with_its_options_name() {
    let directory = tempfile::tempdir().unwrap();
    for (option, value) in [
        ("--listen", "nowhere"),
        ("--admin-listen", "127.0.0.1"),
        ("--trusted-proxies", "10.0.0.0/33"),
        ("--egress-allow", "10.0.0.1/8"),
        ("--egress-allow", "localhost"),
        ("--idle-timeout", "5"),
        ("--idle-timeout", "0s"),
        ("--connect-timeout", "soon"),
        ("--max-body-bytes", "32 megs"),
        ("--max-body-bytes", "0"),
        ("--max-connections", "many"),
        ("--workers", "0"),
        ("--database-url", "mysql://h/d"),
        ("--database-connections", "0"),
        ("--directory-max-stale", "0s"),
        ("--directory-max-stale", "1s"),
        ("--log-format", "fancy"),
        ("--log-filter", "info,=,=x=y"),
        ("--upstream-ca-file", "/there/is/no/such/file"),
        ("--redis-ca-file", "/there/is/no/such/file"),
        ("--no-such-option", "1"),
    ] {
        let mut command = tollgate(&["serve", option, value]);
        command.current_dir(directory.path());
        let ended = run(command).await;
        assert_eq!(ended.code, Some(2), "{option} {value}: {}", ended.stderr);
        assert!(ended.stderr.contains(option), "{option} {value}: {}", ended.stderr);
        assert!(ended.stdout.is_empty());
    }
    // From a variable too, by the option's name.
    let mut command = tollgate(&["serve"]);
    command.current_dir(directory.path()).env("TOLLGATE_IDLE_TIMEOUT", "soon");
    let ended = run(command).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--idle-timeout"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was made");
}

async fn a_bad_database_url_is_not_quoted() {
    let password = "hunter2-hunter2";
    secrets::register(password);
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("master.key");
    write_master_key(&key);
    for url in [
        format!("mysql://root:{password}@127.0.0.1/d"),
        format!("postgres://u:{password}@127.0.0.1:1/d"),
        format!("postgres://u:{password}@127.0.0.1:port/d"),
        format!("postgres://u:{password}/@127.0.0.1/d"),
        format!("postgres://u@127.0.0.1:1/d?password={password}"),
        format!("postgres://u@127.0.0.1:1/d?passwort={password}"),
        format!("postgres://u@127.0.0.1:1/d?sslmode={password}"),
        format!("postgres://u:{password}@no-such-host.invalid/d"),
    ] {
        let mut command = tollgate(&["serve", "--listen", "127.0.0.1:0", "--log-filter", "trace"]);
        command
            .env("TOLLGATE_DATABASE_URL", &url)
            .args(["--database-timeout", "2s"])
            .arg("--master-key-file")
            .arg(&key);
        let ended = run(command).await;
        assert!(matches!(ended.code, Some(1 | 2)), "{}", ended.stderr);
        assert!(!ended.stderr.contains(password), "the password is shown");
        assert!(ended.stderr.contains("database"), "{}", ended.stderr);
    }
}
