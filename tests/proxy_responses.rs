//! Answers with a content coding, and answers without a body.

use serde_json::json;

use crate::{
    proxy_routes::gateway_error,
    support::{
        app::TestApp,
        case::{Case, cases},
        connection::Connection,
        database::Database,
        fixture::Fixture,
        script::{Script, data},
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        an_uncompressed_error_is_searched_for_the_key,
        the_body_of_a_compressed_error_is_replaced,
        an_error_told_with_a_success_status_is_searched_for_the_key,
        an_answer_without_a_body_ends_with_its_head,
        an_empty_answer_is_relayed,
    ]
}

async fn an_uncompressed_error_is_searched_for_the_key(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for coding in ["identity", "utf-8", "Identity, identity"] {
        let quoted = format!("bad key {}", team.provider_key);
        team.upstream.push(Script::new().sized(403, &[("content-encoding", coding)], quoted));
        let answer = team.caller().send(Fixture::chat()).await.expect(403);
        assert_eq!(answer.text(), "bad key [redacted]", "{coding}");
    }
}

async fn the_body_of_a_compressed_error_is_replaced(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    for coding in ["gzip", "br", "identity, ZSTD"] {
        let quoted = format!("bad key {}", team.provider_key);
        team.upstream.push(Script::new().sized(429, &[("content-encoding", coding)], quoted));
        let answer = team.caller().send(Fixture::chat()).await.expect(429);
        assert_eq!(answer.json()["error"]["code"], "upstream_error_unreadable", "{coding}");
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    // The gateway's own errors are marked as such.
    let refused = app.anonymous().send(Fixture::chat()).await;
    gateway_error(&refused, 401, "missing_api_key");
}

async fn an_error_told_with_a_success_status_is_searched_for_the_key(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let masked = "*".repeat(team.provider_key.len());
    let error = json!({"error": {"message": format!("bad key {}", team.provider_key)}}).to_string();
    let expected = error.replace(&team.provider_key, &masked);
    team.upstream.push(Script::new().sized(200, &[], error.clone()));
    assert_eq!(team.caller().send(Fixture::chat()).await.expect(200).text(), expected);
    let (event, expected) = (data(&error), data(&expected));
    for cut in [1, event.len() / 2, event.len() - 10] {
        let (before, after) = event.split_at(cut);
        team.upstream.push(Script::sse([before.to_owned(), after.to_owned()]));
        let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
        assert_eq!(answer.text(), expected, "{cut}");
    }
}

async fn an_answer_without_a_body_ends_with_its_head(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let mut connection = Connection::open(app.address()).await.unwrap();
    for _ in 0..2 {
        team.upstream.push(Script::new().raw("HTTP/1.1 204 Nothing\r\n\r\n"));
        // On one connection, where a stray byte would be read as part of the next answer.
        let request =
            Fixture::chat().header("authorization", &format!("Bearer {}", team.caller_key));
        connection.request(&request).await.unwrap();
        let head = connection.head().await.unwrap();
        assert_eq!((head.status, head.header("transfer-encoding")), (204, None));
    }
    let settled = team.settled(&team.configuration_id, 2).await;
    for line in settled {
        line.says(&[("outcome", "failed"), ("code", "upstream_no_answer")]);
    }
}

async fn an_empty_answer_is_relayed(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.upstream.push(Script::new().sized(200, &[], ""));
    let answer = team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!((answer.text().as_str(), answer.header("content-length")), ("", Some("0")));
    team.settled_once().await.says(&[("outcome", "failed"), ("code", "upstream_no_answer")]);
    team.upstream.push(Script::json(200, &json!({"usage": null})));
    team.caller().send(Fixture::chat()).await.expect(200);
}
