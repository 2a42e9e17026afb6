//! The callers' connections: when they end, and how answers end on them.

use bytes::Bytes;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::{BodyEnd, Connection, ReadError},
    database::Database,
    fixture::{Fixture, question},
    http::Request,
    wait::{DEADLINE, within},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        an_unfinished_body_does_not_hold_its_connection,
        a_body_without_end_is_not_read_after_its_answer,
        a_connection_is_used_again_after_a_body_in_chunks,
        callers_of_http_1_0_get_no_chunks,
    ]
}

/// Waits for the answer to a request whose body does not end, and for the end of the connection.
async fn refused(mut connection: Connection) -> u16 {
    let answer = within(DEADLINE, "an answer", connection.answer()).await.unwrap();
    within(DEADLINE, "the end of the connection", connection.closed()).await;
    answer.status
}

async fn an_unfinished_body_does_not_hold_its_connection(database: Database) {
    let app = TestApp::with(&database, &["--body-timeout", "300ms"]).await;
    let team = app.workspace().await;
    let (nobody, caller) = (app.anonymous(), team.caller());
    for (client, method, target, status) in [
        (&nobody, "POST", "/v1/chat/completions", 401),
        (&nobody, "POST", "/openai/v1/chat/completions", 401),
        (&nobody, "POST", "/api/v1/workspaces", 401),
        (&nobody, "POST", "/nowhere", 404),
        (&nobody, "GET", "/healthz", 200),
        (&nobody, "HEAD", "/", 200),
        (&caller, "GET", "/v1/models", 200),
        (&caller, "POST", &Fixture::route("files"), 501),
        (&caller, "POST", &Fixture::route("chat/completions"), 408),
    ] {
        let chunked = Request::new(method, target).header("transfer-encoding", "chunked");
        for (request, begin) in
            [(chunked, "40\r\n{"), (Request::new(method, target).promising(64), "{")]
        {
            let mut connection = client.open(request).await.unwrap();
            connection.send(begin).await.unwrap();
            assert_eq!(refused(connection).await, status, "{method} {target} {begin:?}");
        }
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
}

async fn a_body_without_end_is_not_read_after_its_answer(database: Database) {
    let app = TestApp::start(&database).await;
    let request = Request::new("POST", "/v1/messages").header("transfer-encoding", "chunked");
    let mut connection = app.anonymous().open(request).await.unwrap();
    let chunk = format!("2000\r\n{}\r\n", "a".repeat(0x2000));
    let sending = async {
        while connection.send(&chunk).await.is_ok() {}
        connection.closed().await
    };
    let end = within(DEADLINE, "the end of the connection", sending).await;
    assert!(matches!(end, ReadError::Closed | ReadError::Reset), "{end:?}");
}

async fn a_connection_is_used_again_after_a_body_in_chunks(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let chunks: Vec<Bytes> =
        question(false).to_string().into_bytes().chunks(16).map(Bytes::copy_from_slice).collect();
    let request = Request::new("POST", &Fixture::route("chat/completions"))
        .header("content-type", "application/json")
        .bearer(&team.caller_key)
        .chunked(chunks);
    let mut connection = Connection::open(team.caller().address()).await.unwrap();
    for _ in 0..3 {
        connection.request(&request).await.unwrap();
        let answer = within(DEADLINE, "an answer", connection.answer()).await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
}

async fn callers_of_http_1_0_get_no_chunks(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let (head, mut now) = team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    let (sent, _) = within(DEADLINE, "the end of the stream", now.events()).await;
    let (body, key) = (question(true).to_string(), &team.caller_key);
    let request = format!(
        "POST {} HTTP/1.0\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: keep-alive\r\n\r\n{body}",
        Fixture::route("chat/completions"),
        body.len(),
    );
    let mut old = Connection::open(team.caller().address()).await.unwrap();
    old.send(request).await.unwrap();
    let head = within(DEADLINE, "an answer", old.head()).await.unwrap();
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    let (events, end) = within(DEADLINE, "the end of the stream", old.events()).await;
    assert_eq!(end, BodyEnd::UntilClose);
    let data = |events: &[crate::support::connection::Event]| {
        events.iter().map(|event| event.data.clone()).collect::<Vec<_>>()
    };
    assert_eq!(data(&events), data(&sent));
    assert!(!events.is_empty());
}
