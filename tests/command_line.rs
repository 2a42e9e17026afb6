//! The commands of the real binary: output, exit codes and side effects.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use url::Url;

use crate::support::{
    app::{master_key_file, write_master_key},
    case::{Case, cases},
    commands::{BOOTSTRAP, command, command_with_key, first_keys, serve, stop},
    database::{Database, Kind},
    fixture::Fixture,
    http::Client,
    process::{ChildProcess, Signal, run, tollgate},
    secrets, sql,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        bootstrap_prints_one_object_and_its_keys_work,
        one_of_several_concurrent_bootstraps_succeeds,
        a_platform_key_is_replaced_while_serving,
        concurrent_migrations_succeed,
        a_newer_schema_is_refused,
        postgres a_database_without_full_unicode_is_refused,
        plain openapi_prints_the_committed_document,
        plain help_shows_flags_variables_and_defaults_in_groups,
        plain a_bad_value_is_refused_with_the_name_of_its_option,
        plain a_bad_database_url_is_not_quoted,
        plain the_demo_sends_one_prompt_in_three_formats,
        plain a_closed_terminal_stops_the_demo,
    ]
}

async fn bootstrap_prints_one_object_and_its_keys_work(database: Database) {
    let ended = run(command_with_key(&database, BOOTSTRAP)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let made = first_keys(&ended);
    let names: BTreeSet<_> = made.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(names, ["admin_key", "organization_id", "platform_key"].map(str::to_owned).into());
    for key in ["platform_key", "admin_key"] {
        let secret = made[key].as_str().unwrap().rsplit_once('_').unwrap().1;
        assert!(!ended.stderr.contains(secret), "standard error shows {key}");
    }

    let again = run(command_with_key(&database, BOOTSTRAP)).await;
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

async fn one_of_several_concurrent_bootstraps_succeeds(database: Database) {
    // On PostgreSQL the key must exist; with a new SQLite database it is created once.
    if database.kind() == Kind::Postgres {
        write_master_key(&master_key_file(&database));
    }
    let all = (0..4).map(|_| run(command(&database, BOOTSTRAP)));
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
    let made = first_keys(&run(command(&database, BOOTSTRAP)).await);
    let (serving, address) = serve(&database).await;
    let with = |key: &Value| Client::new(address).with_key(key.as_str().unwrap());
    with(&made["platform_key"]).get("/api/v1/organizations").await.expect(200);
    let ended = run(command(&database, &["replace-platform-key"])).await;
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

async fn concurrent_migrations_succeed(database: Database) {
    write_master_key(&master_key_file(&database));
    for _ in 0..2 {
        let all = (0..4).map(|_| run(command(&database, &["migrate"])));
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
    let ended = run(command_with_key(&database, &["migrate"])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231235959')";
    sql::execute(&database, newer).await;
    let bootstrap = BOOTSTRAP;
    for name in [&["serve"][..], &["migrate"], bootstrap, &["rotate-master-key"]] {
        let ended = run(command_with_key(&database, name)).await;
        assert_eq!(ended.code, Some(1), "{name:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("29991231235959"), "{}", ended.stderr);
        assert!(ended.stderr.contains("newer"), "{}", ended.stderr);
    }
}

async fn a_database_without_full_unicode_is_refused(database: Database) {
    let mut url = Url::parse(database.url()).unwrap();
    let name = format!("{}_latin1", url.path().trim_start_matches('/'));
    url.set_path(&name);
    let other = database.reached_by(url.into());
    let make = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    sql::execute(&database, &make).await;
    let ended = run(command_with_key(&other, &["migrate"])).await;
    sql::execute(&database, &format!("DROP DATABASE {name}")).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("LATIN1"), "{}", ended.stderr);
    assert!(ended.stderr.contains("ENCODING 'UTF8'"), "{}", ended.stderr);
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
    // A value from the environment is shown unless it may contain a secret.
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

async fn a_bad_value_is_refused_with_the_name_of_its_option() {
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
    // Also from a variable, by the option's name.
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

async fn the_demo_sends_one_prompt_in_three_formats() {
    let demo = ChildProcess::start(tollgate(&["demo", "--listen", "127.0.0.1:0"]));
    let end = "Call it with curl";
    demo.line("the end of the demonstration", |line| (line == end).then_some(())).await;
    let lines = demo.lines();
    for (path, model) in [
        ("/v1/chat/completions", "custom/demo-messages"),
        ("/v1/responses", "custom/demo-messages"),
        ("/v1/messages", "custom/demo"),
    ] {
        let call = format!("  POST {path}, model {model}");
        let at = lines.iter().position(|line| *line == call);
        let at = at.unwrap_or_else(|| panic!("no {call}: {lines:#?}"));
        let answer = &lines[at + 1];
        assert!(
            answer.starts_with("  < ") && answer.ends_with("You said: Who are you?"),
            "{answer}"
        );
    }
}

async fn a_closed_terminal_stops_the_demo() {
    let demo = tollgate(&["demo", "--listen", "127.0.0.1:0"]);
    for (start, stop) in
        [("--default-signal=HUP", Signal::Hup), ("--ignore-signal=HUP", Signal::Term)]
    {
        let mut command = Command::new("env");
        command.arg(start).arg(demo.get_program()).args(demo.get_args());
        let mut demo = ChildProcess::start(command);
        let end = "Call it with curl";
        demo.line("the end of the demonstration", |line| (line == end).then_some(())).await;
        if matches!(stop, Signal::Term) {
            // As after `nohup`.
            demo.signal(Signal::Hup);
            demo.signal(Signal::Hup);
        }
        demo.signal(stop);
        let status = demo.ended().await;
        assert_eq!(status.code(), Some(0), "{start}: {:#?}", demo.lines());
        let removed =
            |line: &String| line.starts_with("Stopped; ") && line.ends_with(" was removed.");
        assert!(demo.lines().iter().any(removed), "{start}: {:#?}", demo.lines());
    }
}
