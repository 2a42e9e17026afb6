//! `--admin-listen`: what the second port serves, and what the first no longer does.

use serde_json::Value;

use crate::support::{
    app::{master_key_file, options, write_master_key},
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::Client,
    process::{ChildProcess, Signal, run, tollgate},
    secrets,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![the_admin_port_alone_serves_the_management_plane]
}

async fn the_admin_port_alone_serves_the_management_plane(database: Database) {
    write_master_key(&master_key_file(&database));
    let mut bootstrap = tollgate(&["bootstrap", "--organization", "First"]);
    bootstrap.args(options(&database));
    let made: Value = serde_json::from_str(&run(bootstrap).await.stdout).unwrap();
    for name in ["platform_key", "admin_key"] {
        secrets::register_key(made[name].as_str().unwrap());
    }
    // A free port; the callers' port is read from the output of the process.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admins = free.local_addr().unwrap();
    drop(free);
    let mut serve = tollgate(&["serve"]);
    serve.args(options(&database)).args(["--admin-listen", &admins.to_string()]);
    let mut serving = ChildProcess::start(serve);
    let callers = serving.address().await;

    let admin = Client::new(admins).with_key(made["admin_key"].as_str().unwrap());
    let team = Fixture::create(&admin, callers).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(team.caller_at(admins).send(Fixture::chat()).await.status, 404, "no callers here");
    let metrics = Client::new(admins).get("/metrics").await.expect(200);
    assert!(metrics.text().contains("tollgate_proxy_requests_total"), "no key is needed here");

    let outside = Client::new(callers);
    outside.get("/healthz").await.expect(200);
    outside.get("/readyz").await.expect(200);
    let with_key = Client::new(callers).with_key(made["platform_key"].as_str().unwrap());
    for path in ["/metrics", "/api/v1/me", "/openapi.json", "/docs"] {
        assert_eq!(with_key.get(path).await.status, 404, "{path}");
    }
    serving.signal(Signal::Term);
    assert_eq!(serving.ended().await.code(), Some(0));
}
