//! `--admin-listen`: what the second port serves, and what the first no longer does.

use crate::support::{
    case::{Case, cases},
    commands::{BOOTSTRAP, command, command_with_key, first_keys, stop},
    database::Database,
    fixture::Fixture,
    http::Client,
    process::{ChildProcess, run},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![the_admin_port_alone_serves_the_management_plane]
}

async fn the_admin_port_alone_serves_the_management_plane(database: Database) {
    let made = first_keys(&run(command_with_key(&database, BOOTSTRAP)).await);
    // A free port; the callers' port is read from the output of the process.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admins = free.local_addr().unwrap();
    drop(free);
    let mut serve = command(&database, &["serve"]);
    serve.args(["--admin-listen", &admins.to_string()]);
    let serving = ChildProcess::start(serve);
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
    stop(serving).await;
}
