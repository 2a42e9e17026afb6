//! The caller's body: the model is replaced, everything else is unchanged.

use bytes::Bytes;
use serde_json::json;

use crate::{
    proxy_routes::gateway_error,
    support::{
        app::TestApp,
        case::{Case, cases},
        connection::Connection,
        database::Database,
        fixture::{Fixture, question},
        http::Request,
        openai::{self, Usage},
        script::{Pause, Script},
        wait::{DEADLINE, within},
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_model_is_replaced_in_place,
        unknown_fields_are_passed_on_byte_for_byte,
        default_parameters_fill_missing_fields,
        ambiguous_and_malformed_bodies_are_refused,
        fields_that_choose_another_model_are_refused,
        nesting_is_limited,
        large_bodies_pass_byte_for_byte,
        a_compressed_answer_is_relayed_as_it_is,
        a_compressed_body_is_decoded,
        undecodable_bodies_are_refused,
        a_body_that_decodes_to_more_than_the_limit_gets_413,
        bodies_of_pipelined_requests_are_read,
        what_changes_while_a_body_comes_holds_for_it,
    ]
}

fn chat(body: impl Into<Bytes>) -> Request {
    let request = Request::new("POST", &Fixture::route("chat/completions"));
    request.header("content-type", "application/json").body(body)
}

async fn the_model_is_replaced_in_place(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for (sent, arrived) in [
        (r#"{"model":"mine","n":1}"#, r#"{"model":"gpt-test","n":1}"#),
        (r#"{ "n" : 1 , "model" : {"a":[1]} }"#, r#"{ "n" : 1 , "model" : "gpt-test" }"#),
        (r#"{"mod\u0065l":null}"#, r#"{"mod\u0065l":"gpt-test"}"#),
        (r#"{"n":1}"#, r#"{"n":1,"model":"gpt-test"}"#),
        ("{}", r#"{"model":"gpt-test"}"#),
        (" {\n} \n", " {\n\"model\":\"gpt-test\"} \n"),
        (r#"{"model":"gpt-test"}"#, r#"{"model":"gpt-test"}"#),
    ] {
        team.caller().send(chat(sent)).await.expect(200);
        let body = team.upstream.last_request().body.clone();
        assert_eq!(String::from_utf8_lossy(&body), arrived, "{sent}");
    }
}

async fn unknown_fields_are_passed_on_byte_for_byte(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let sent = concat!(
        "\n{\"zeta\":1e400,\"a\":1.0,\"b\":-0,\"c\":123456789012345678901234567890,",
        "\t\"text\":\"\\u00e9\\ud83d\\ude00 \\/ é\u{2028}\",\r\n\"nested\":{\"model\":\"x\",",
        "\"dup\":1,\"dup\":2},\"empty\":\"\",\"nobody_knows_yet\":[null, true ,false],",
        "\"model\":\"M\",\"stream\":false}  "
    );
    let expected = sent.replace("\"M\"", "\"gpt-test\"");
    for route in ["chat/completions", "responses"] {
        for chunked in [false, true] {
            let request = Request::new("POST", &Fixture::route(route));
            let request = match chunked {
                false => request.body(sent),
                true => request.chunked(sent.as_bytes().chunks(7).map(Bytes::copy_from_slice)),
            };
            team.caller().send(request).await.expect(200);
            let received = team.upstream.last_request();
            assert_eq!(String::from_utf8_lossy(&received.body), expected);
            let length = expected.len().to_string();
            assert_eq!(received.header("content-length"), Some(length.as_str()));
        }
    }
}

async fn default_parameters_fill_missing_fields(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let defaults = json!({"default_parameters": {"temperature": 0.25, "stop": ["a"], "seed": 7}});
    team.configure("defaults", defaults).await;
    let route = "/providers/defaults/v1/chat/completions";
    let sent = json!({"temperature": 1, "seed": null, "messages": []});
    team.caller().post_json(route, &sent).await.expect(200);
    let arrived = team.upstream.last_request().json();
    assert_eq!(
        arrived,
        json!({"temperature": 1, "seed": null, "messages": [], "stop": ["a"], "model": "gpt-test"})
    );
    let request = Request::new("POST", route).body(r#"{"Temperature":1}"#);
    gateway_error(&team.caller().send(request).await, 400, "ambiguous_field");
}

async fn ambiguous_and_malformed_bodies_are_refused(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for (body, code, param) in [
        (&br#"{"a":1,"b":2,"a":1}"#[..], "duplicate_field", Some("a")),
        (br#"{"model":"x","mod\u0065l":"y"}"#, "duplicate_field", Some("model")),
        (br#"{"Model":"x"}"#, "ambiguous_field", Some("Model")),
        (br#"{"STREAM":true,"stream":false}"#, "ambiguous_field", Some("STREAM")),
        ("{\"\u{17f}tream\":true}".as_bytes(), "ambiguous_field", Some("\u{17f}tream")),
        (br#"{"Max_Tokens":1}"#, "ambiguous_field", Some("Max_Tokens")),
        (
            br#"{"stream":true,"stream_options":7}"#,
            "invalid_stream_options",
            Some("stream_options"),
        ),
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"{\"a\":1,}", "invalid_json", None),
        (b"{} {}", "invalid_json", None),
        (b"{\"a\":\"\xff\"}", "invalid_json", None),
        (b"[{}]", "not_a_json_object", None),
        (b"null", "not_a_json_object", None),
        (b"\"{}\"", "not_a_json_object", None),
    ] {
        let answer = team.caller().send(chat(body)).await;
        gateway_error(&answer, 400, code);
        assert_eq!(answer.json()["error"]["param"].as_str(), param);
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
    // A request without a body.
    let none = Request::new("POST", &Fixture::route("responses"));
    gateway_error(&team.caller().send(none).await, 400, "invalid_json");
}

async fn fields_that_choose_another_model_are_refused(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for (body, field) in [
        (r#"{"models":["vendor/huge"],"route":"fallback"}"#, "models"),
        (r#"{"MODELS":["vendor/huge"]}"#, "MODELS"),
        (r#"{"f\u0061llbacks":[{"model":"huge"}]}"#, "fallbacks"),
        (r#"{"preset":"cheap"}"#, "preset"),
        (r#"{"plugins":[{"id":"web"}]}"#, "plugins"),
        (r#"{"provider":{"order":["dear"]}}"#, "provider"),
        (r#"{"prompt":{"id":"pmpt_1"}}"#, "prompt"),
        (r#"{"extra_body":{"models":["vendor/huge"]}}"#, "extra_body.models"),
        (r#"{"tools":[{"type":"advisor","model":"huge"}]}"#, "tools.model"),
    ] {
        let answer = team.caller().send(chat(body)).await;
        gateway_error(&answer, 400, "model_override");
        assert_eq!(answer.json()["error"]["param"], field, "{body}");
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
    // What an administrator sets goes up, and so does what says nothing.
    let routed = json!({"default_parameters": {"models": ["vendor/other"]}});
    team.configure("routed", routed).await;
    let sent = json!({"messages": [], "plugins": [], "preset": null, "prompt": "text"});
    team.caller().post_json("/providers/routed/v1/chat/completions", &sent).await.expect(200);
    assert_eq!(team.upstream.last_request().json()["models"], json!(["vendor/other"]));
}

async fn nesting_is_limited(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    // The object is the first level.
    let nested = |levels: usize, open: &str, close: &str| {
        format!("{{\"x\":{}{}}}", open.repeat(levels - 1), close.repeat(levels - 1))
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        // The innermost object needs a value.
        let fill = |body: String| body.replace("\"a\":}", "\"a\":1}");
        team.caller().send(chat(fill(nested(128, open, close)))).await.expect(200);
        for levels in [129, 100_000] {
            let answer = team.caller().send(chat(fill(nested(levels, open, close)))).await;
            gateway_error(&answer, 400, "json_too_deep");
        }
    }
    // Brackets in text do not count.
    let text = format!("{{\"x\":\"{}\"}}", "[".repeat(1000));
    team.caller().send(chat(text)).await.expect(200);
}

async fn large_bodies_pass_byte_for_byte(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let start = "{\"messages\":[{\"role\":\"user\",\"content\":\"";
    let end = "\"}],\"model\":\"gpt-test\"}";
    for size in [16 * 1024, 16 * 1024 + 1, 100_000, 1 << 20, 32 << 20] {
        let text: String = ('a'..='z').cycle().take(size - start.len() - end.len()).collect();
        let body = Bytes::from([start, &text, end].concat());
        assert_eq!(body.len(), size);
        let pieces = body.chunks(60_000).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        let request = Request::new("POST", &Fixture::route("chat/completions"));
        for request in [request.clone().body(body.clone()), request.chunked(pieces)] {
            team.caller().send(request).await.expect(200);
            assert!(team.upstream.last_request().body == body, "{size} bytes, unchanged");
        }
    }
}

async fn a_compressed_answer_is_relayed_as_it_is(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    // An empty object in gzip.
    let bytes =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    // A compressed error would be replaced, because it cannot be searched for the key.
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    team.upstream.push(Script::new().sized(200, &headers, &bytes[..]));
    let answer = team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.body, &bytes[..]);
    assert_eq!(team.upstream.last_request().header("accept-encoding"), Some("identity"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Brotli of `{"n":1}`, stored: a metablock without compression and an empty last one.
const BROTLI: &[u8] = b"\x60\x00\x10{\"n\":1}\x03";

/// A frame of zstd that holds nothing of the body (RFC 8878, section 3.1.2).
const SKIPPABLE: &[u8] = b"\x5e\x2a\x4d\x18\x03\x00\x00\x00abc";

fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;

    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn a_compressed_body_is_decoded(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let large = format!("{{\"text\":\"{}\"}}", "lorem ipsum ".repeat(30_000));
    let small = r#"{"n":1}"#;
    for (coding, body, decoded) in [
        ("gzip", gzip(small.as_bytes()), small),
        ("GZIP", [gzip(&small.as_bytes()[..3]), gzip(&small.as_bytes()[3..])].concat(), small),
        ("x-gzip", gzip(large.as_bytes()), &large),
        ("zstd", zstd(small.as_bytes()), small),
        ("zstd", zstd(large.as_bytes()), &large),
        ("zstd", [zstd(&small.as_bytes()[..3]), zstd(&small.as_bytes()[3..])].concat(), small),
        ("zstd", [SKIPPABLE, &zstd(small.as_bytes()), SKIPPABLE, SKIPPABLE].concat(), small),
        ("br", BROTLI.to_vec(), small),
        ("zstd, gzip", gzip(&zstd(large.as_bytes())), &large),
        ("deflate", zlib(large.as_bytes()), &large),
        ("identity", small.as_bytes().to_vec(), small),
    ] {
        let request = Request::new("POST", &Fixture::route("chat/completions"));
        let request = request.header("content-encoding", coding).body(body);
        team.caller().send(request).await.expect(200);
        let received = team.upstream.last_request();
        assert_eq!(received.header("content-encoding"), None, "{coding}");
        let expected = format!("{},\"model\":\"gpt-test\"}}", decoded.trim_end_matches('}'));
        assert!(received.body == expected, "{coding}");
    }
}

async fn undecodable_bodies_are_refused(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let whole = gzip(br#"{"n":1}"#);
    let cut = whole[..whole.len() - 4].to_vec();
    // A frame of zstd that declares a window of 2 GB.
    let wide = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00".to_vec();
    for (coding, body, status, code) in [
        ("compress", whole.clone(), 415, "unsupported_content_encoding"),
        ("gzip, gzip, gzip", whole.clone(), 415, "unsupported_content_encoding"),
        ("zstd", whole.clone(), 400, "undecodable_body"),
        ("br", whole.clone(), 400, "undecodable_body"),
        ("deflate", whole, 400, "undecodable_body"),
        ("gzip", cut, 400, "undecodable_body"),
        ("gzip", br#"{"n":1}"#.to_vec(), 400, "undecodable_body"),
        ("zstd", wide.clone(), 400, "undecodable_body"),
        ("zstd", SKIPPABLE[..9].to_vec(), 400, "undecodable_body"),
        ("zstd", [&zstd(b"{}"), &b"more"[..]].concat(), 400, "undecodable_body"),
        ("br", [BROTLI, b"more"].concat(), 400, "undecodable_body"),
        ("br", [BROTLI, &[0; 100_000]].concat(), 400, "undecodable_body"),
        ("br", BROTLI[..BROTLI.len() - 1].to_vec(), 400, "undecodable_body"),
        ("deflate", [&zlib(b"{}"), &b"more"[..]].concat(), 400, "undecodable_body"),
        ("gzip", [&gzip(b"{}"), &b"more"[..]].concat(), 400, "undecodable_body"),
        ("gzip", gzip(b"[]"), 400, "not_a_json_object"),
    ] {
        let request = chat(body).header("content-encoding", coding);
        let answer = team.caller().send(request).await;
        gateway_error(&answer, status, code);
        let accepted = (status == 415).then_some("gzip, deflate, br, zstd");
        assert_eq!(answer.header("accept-encoding"), accepted, "{coding}");
        let named = format!("Content-Encoding '{coding}'");
        assert!(status != 415 || answer.text().contains(&named), "{}", answer.text());
    }
    // It may well be what it says to be.
    let answer = team.caller().send(chat(wide).header("content-encoding", "zstd")).await;
    assert!(answer.text().contains("window that is too large"), "{}", answer.text());
    assert_eq!(team.upstream.seen().accepted(), 0);
}

async fn a_body_that_decodes_to_more_than_the_limit_gets_413(database: Database) {
    let app = TestApp::with(&database, &["--max-body-bytes", "1000000"]).await;
    let team = app.workspace().await;
    let bomb = format!("{{\"text\":\"{}\"}}", "a".repeat(50_000_000));
    for (coding, body) in [
        ("gzip", gzip(bomb.as_bytes())),
        ("zstd", zstd(bomb.as_bytes())),
        ("gzip, gzip", gzip(&gzip(bomb.as_bytes()))),
        ("zstd, gzip", gzip(&SKIPPABLE.repeat(200_000))),
    ] {
        assert!(body.len() < 100_000);
        let answer = team.caller().send(chat(body).header("content-encoding", coding)).await;
        gateway_error(&answer, 413, "body_too_large");
    }
    let within = format!("{{\"text\":\"{}\"}}", "a".repeat(999_000));
    let request = chat(gzip(within.as_bytes())).header("content-encoding", "gzip");
    team.caller().send(request).await.expect(200);
}

/// The second request comes while the first is answered: its body with its head, or after that answer.
async fn bodies_of_pipelined_requests_are_read(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let json = r#"{"messages":[],"model":"gpt-test"}"#;
    let encoded = gzip(json.as_bytes());
    let variants = [("identity", json.as_bytes()), ("gzip", &encoded)];
    for ((coding, body), is_late) in
        variants.into_iter().flat_map(|one| [(one, false), (one, true)])
    {
        let pause = Pause::new();
        let held = Script::new().wait(&pause).and(openai::chat_completion("first", Usage::USUAL));
        team.upstream.push(held);
        let count = team.upstream.seen().requests.len();
        let mut connection = team.caller().open(Fixture::chat()).await.unwrap();
        team.upstream.request(count).await;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nContent-Encoding: \
             {coding}\r\nContent-Length: {}\r\n\r\n",
            Fixture::route("chat/completions"),
            team.caller_key,
            body.len()
        );
        connection.send(head).await.unwrap();
        if !is_late {
            connection.send(body).await.unwrap();
        }
        pause.release_all();
        let first = within(DEADLINE, "the first answer", connection.answer()).await.unwrap();
        assert!(first.expect(200).text().contains("first"), "{coding} {is_late}");
        if is_late {
            connection.send(body).await.unwrap();
        }
        let second = within(DEADLINE, "the second answer", connection.answer()).await.unwrap();
        second.expect(200);
        assert_eq!(team.upstream.last_request().body, json, "{coding} {is_late}");
    }
}

async fn what_changes_while_a_body_comes_holds_for_it(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    let body = question(false).to_string();
    // The gateway has looked up the key and the configuration when it asks for the body.
    let begun = async || {
        let request = Request::new("POST", &Fixture::route("chat/completions"))
            .header("content-type", "application/json")
            .header("expect", "100-continue")
            .promising(body.len());
        let mut connection = team.caller().open(request).await.unwrap();
        let head = within(DEADLINE, "100 Continue", connection.head()).await.unwrap();
        assert_eq!(head.status, 100);
        connection
    };
    let end = async |mut connection: Connection| {
        connection.send(&body).await.unwrap();
        within(DEADLINE, "an answer", connection.answer()).await.unwrap()
    };

    let connection = begun().await;
    team.put_secret(Fixture::SECRET, "sk-of-this-moment").await;
    assert_eq!(end(connection).await.status, 200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.header("authorization"), Some("Bearer sk-of-this-moment"));

    let connection = begun().await;
    app.admin().delete(&team.configuration_path()).await.expect(204);
    gateway_error(&end(connection).await, 404, "unknown_configuration");

    team.configure(Fixture::CONFIGURATION, json!({})).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    let connection = begun().await;
    let key = team.path(&format!("api-keys/{}", team.caller_key_id));
    app.admin().delete(&key).await.expect(204);
    gateway_error(&end(connection).await, 401, "revoked_api_key");
    assert_eq!(team.upstream.seen().requests.len(), 3);
}
