//! Tests of the test support: the runner, the databases, the fault proxy, child processes and the log of
//! the run.

use std::{process::Command, time::Duration};

use serde_json::json;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{
    case::{Case, CaseFuture, cases},
    database::{Database, Kind},
    fault_proxy::FaultProxy,
    logs::{self, Capture, Sink},
    process,
    runner::watch_for,
    secrets,
    wait::{eventually, within},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        plain a_logged_secret_is_found_in_every_form,
        plain misbehaves_when_told,
        plain a_run_that_logged_a_secret_or_hid_a_panic_fails,
        plain the_run_records_what_our_crates_and_others_log,
        plain a_child_process_is_read_and_signalled,
        plain a_hanging_or_failing_case_fails_by_name,
        every_case_has_a_database_of_its_own,
        postgres a_fault_proxy_resets_stalls_and_restores,
        postgres a_fault_proxy_drops_notifications,
    ]
}

/// Logs a secret in one way.
type Log = fn(&str);

async fn a_logged_secret_is_found_in_every_form() {
    // Each of its forms is different.
    let secret = "sk-\"quoted\" &\u{1} ünusual/+42";
    let sink = Sink::create("leak-self-test");
    let subscriber = tracing_subscriber::registry().with(Capture(sink.clone()));
    let ways: [(Log, &str); 8] = [
        (|secret| tracing::info!("a message with {secret}"), "as it is"),
        (|secret| tracing::info!(field = secret), "as it is"),
        (|secret| tracing::info!(field = ?secret), "in debug form"),
        (|secret| tracing::info!(field = ?Some(secret.as_bytes())), "as bytes"),
        (|secret| drop(tracing::info_span!("call", secret)), "as it is"),
        (
            |secret| {
                let span = tracing::info_span!("call", late = tracing::field::Empty);
                span.record("late", secret);
            },
            "as it is",
        ),
        (
            |secret| {
                let error = std::io::Error::other(secret.to_owned());
                tracing::warn!(error = &error as &dyn std::error::Error);
            },
            "as it is",
        ),
        (|secret| tracing::info!("{}", json!({"key": secret})), "as JSON"),
    ];
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("nothing to find, though 'sk-' and 'unusual' stand here");
        assert!(logs::leaks(&sink.read(), &[secret.to_owned()]).is_empty());
        let mut before = 0;
        for (index, (log, form)) in ways.into_iter().enumerate() {
            log(secret);
            let log = sink.read();
            let leaks =
                logs::leaks(&log[before..], &[secret.to_owned(), "another-secret".to_owned()]);
            assert!(leaks.iter().any(|leak| leak.contains(form)), "way {index}: {leaks:?}");
            assert!(leaks.iter().all(|leak| !leak.contains(secret)));
            before = log.len();
        }
    });
    for (how, form) in secrets::forms(secret) {
        assert_eq!(logs::leaks(&form, &[secret.to_owned()]).len(), 1, "{how}");
    }
    sink.remove();
}

/// Tells [`misbehaves_when_told`] what to do.
const MISBEHAVE: &str = "TOLLGATE_TEST_MISBEHAVE";

/// Does nothing, unless the next test runs it in its own process.
async fn misbehaves_when_told() {
    let secret = format!("misbehaving-{}", uuid::Uuid::now_v7());
    match std::env::var(MISBEHAVE).as_deref() {
        Ok("leak") => {
            secrets::register(&secret);
            tracing::debug!(target: "somebody_else", %secret);
        }
        Ok("panic") => drop(std::thread::spawn(|| panic!("out of sight")).join()),
        _ => {}
    }
}

async fn a_run_that_logged_a_secret_or_hid_a_panic_fails() {
    let expected = [
        ("nothing", true, "left_no_panic_unanswered ... ok"),
        ("leak", false, "logged_no_secret_that_it_used ... FAILED"),
        ("panic", false, "left_no_panic_unanswered ... FAILED"),
    ];
    for (how, success, line) in expected {
        let mut run = std::process::Command::new(std::env::current_exe().unwrap());
        run.args(["--exact", "support_runner::misbehaves_when_told"]).env(MISBEHAVE, how);
        let output = tokio::task::spawn_blocking(move || run.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("1 passed"), "{text}");
        assert!(text.contains(line), "{text}");
        assert_eq!(output.status.success(), success, "{text}");
        if let Some((_, log)) = text.split_once("everything that was logged: ") {
            std::fs::remove_file(log.trim()).unwrap();
        }
    }
}

async fn the_run_records_what_our_crates_and_others_log() {
    let id = uuid::Uuid::now_v7();
    tracing::trace!(%id, "ours");
    tracing::debug!(target: "somebody_else", %id, "theirs");
    tracing::trace!(target: "somebody_else", %id, "too fine");
    let lines = logs::lines_with(&id.to_string());
    assert_eq!(lines.len(), 2, "{lines:?}");
}

async fn a_child_process_is_read_and_signalled() {
    let id = uuid::Uuid::now_v7().to_string();
    let mut shell = Command::new("sh");
    // `exec`, because a child of the shell would keep its output open.
    shell.args(["-c", "echo \"$0\" at http://127.0.0.1:4321/x >&2; exec sleep 600", &id]);
    let mut child = process::ChildProcess::start(shell);
    assert_eq!(child.address().await.port(), 4321);
    assert_eq!(logs::lines_with(&id).len(), 1);
    child.signal(process::Signal::Term);
    assert_eq!(child.ended().await.code(), None);

    let mut shell = Command::new("sh");
    shell.args(["-c", "echo out; echo err >&2; exit 3"]);
    let ended = process::run(shell).await;
    assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (Some(3), "out\n", "err\n"));
}

async fn a_hanging_or_failing_case_fails_by_name() {
    let limit = Duration::from_millis(300);
    let trial = |name: &'static str, body: fn() -> CaseFuture| {
        tokio::task::spawn_blocking(move || watch_for(limit, name, body))
    };
    let hung = trial("a-hung-one", || Box::pin(std::future::pending())).await.unwrap().unwrap_err();
    assert!(hung.message().unwrap().contains("a-hung-one hung"));
    let failed = trial("a-failed-one", || Box::pin(async { panic!("for a reason") }));
    assert!(failed.await.unwrap().unwrap_err().message().unwrap().contains("for a reason"));
    // A failed assertion in a task that is not awaited fails the case.
    let unseen = trial("an-unseen-one", || {
        Box::pin(async {
            tokio::spawn(async { panic!("in a task") });
            tokio::task::yield_now().await;
        })
    });
    assert!(unseen.await.unwrap().unwrap_err().message().unwrap().contains("in a task"));
    assert!(trial("a-good-one", || Box::pin(async {})).await.unwrap().is_ok());
}

async fn every_case_has_a_database_of_its_own(database: Database) {
    match database.kind() {
        Kind::Sqlite => {
            let path = database.url().strip_prefix("sqlite:").unwrap();
            assert!(!std::path::Path::new(path).exists());
            assert!(path.starts_with(database.directory().to_str().unwrap()));
        }
        Kind::Postgres => {
            let client = database.connect().await;
            let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
            assert_eq!(client.query_one(tables, &[]).await.unwrap().get::<_, i64>(0), 0);
            let made = tokio::task::spawn_blocking(|| Database::create(Kind::Postgres)).await;
            // The database is dropped while this connection is open.
            let other = made.unwrap().unwrap().connect().await;
            eventually("a database that nobody holds is dropped", async || other.is_closed()).await;
        }
    }
}

async fn a_fault_proxy_resets_stalls_and_restores(database: Database) {
    let (proxy, through) = FaultProxy::to(&database).await;
    let (client, connection) = connect(&through).await.unwrap();
    let running = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE marks (n BIGINT)").await.unwrap();

    proxy.stall();
    let insert = client.batch_execute("INSERT INTO marks VALUES (1)");
    tokio::pin!(insert);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut insert).await.is_err());
    proxy.restore();
    within(Duration::from_secs(5), "what was stalled goes on", insert).await.unwrap();

    proxy.reset_connections();
    let broken = within(Duration::from_secs(5), "what is open breaks", running).await.unwrap();
    assert!(broken.is_err());
    assert!(connect(&through).await.is_err());
    proxy.restore();
    let (client, connection) = connect(&through).await.unwrap();
    tokio::spawn(connection);
    let count = client.query_one("SELECT count(*) FROM marks", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}

async fn a_fault_proxy_drops_notifications(database: Database) {
    let (proxy, through) = FaultProxy::to(&database).await;
    let (client, mut connection) = connect(&through).await.unwrap();
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                let _ = heard.send(notification.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN news").await.unwrap();
    let teller = database.connect().await;
    for (deaf, news) in [(false, "one"), (true, "lost"), (false, "three")] {
        if deaf {
            proxy.drop_notifications()
        } else {
            proxy.restore()
        }
        teller.batch_execute(&format!("NOTIFY news, '{news}'")).await.unwrap();
        // A notification arrives before the answer to a later query.
        client.batch_execute("SELECT 1").await.unwrap();
    }
    let mut all = Vec::new();
    eventually("the news", async || {
        while let Ok(news) = hearing.try_recv() {
            all.push(news);
        }
        all.len() >= 2
    })
    .await;
    assert_eq!(all, ["one", "three"]);
}

type Connected = (
    tokio_postgres::Client,
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>,
);

async fn connect(database: &Database) -> Result<Connected, tokio_postgres::Error> {
    tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await
}
