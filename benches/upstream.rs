//! The upstream: a child process with one thread. It knows just enough HTTP to answer the requests of
//! this benchmark, and refuses a wrong key.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;
use crate::payloads::{Kind, UPSTREAM_KEY, stream_chunk, stream_end, usage_chunk};

/// Events in a stream, the last one (`[DONE]`) not counted.
pub(crate) const STREAM_EVENTS: usize = 100;
const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
const REFUSAL: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
const UNKNOWN: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

struct Answers {
    plain: HashMap<&'static str, Vec<u8>>,
    chunk: Vec<u8>,
    usage: Vec<u8>,
    end: Vec<u8>,
}

/// Prints the port, then answers until the parent closes its end of standard input.
pub(crate) async fn run() -> Result<(), Failure> {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        let _parent_is_gone = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
    let answers = Arc::new(Answers {
        plain: Kind::ALL.iter().map(|kind| (kind.name(), kind.answer())).collect(),
        chunk: stream_chunk(),
        usage: usage_chunk(),
        end: stream_end(),
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        // A connection that fails is noticed at its other end.
        tokio::spawn(serve(stream, Arc::clone(&answers)));
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<Answers>) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        let Some(request) = read_request(&mut stream, &mut buffer).await? else {
            return Ok(());
        };
        if !request.authorized {
            stream.write_all(REFUSAL).await?;
        } else if request.kind == Kind::Stream.name() {
            send_stream(&mut stream, &answers, request.wants_usage).await?;
        } else if request.kind == Kind::Idle.name() {
            stream.write_all(STREAM_HEAD).await?;
            stream.write_all(&answers.chunk).await?;
            // Open until the other side leaves.
            stream.read_u8().await?;
        } else if let Some(answer) = answers.plain.get(request.kind.as_str()) {
            stream.write_all(answer).await?;
        } else {
            stream.write_all(UNKNOWN).await?;
        }
        buffer.drain(..request.length);
    }
}

async fn send_stream(
    stream: &mut TcpStream,
    answers: &Answers,
    usage: bool,
) -> Result<(), Failure> {
    stream.write_all(STREAM_HEAD).await?;
    // Each event is a write of its own, as providers do it.
    for _ in 0..STREAM_EVENTS {
        stream.write_all(&answers.chunk).await?;
    }
    if usage {
        stream.write_all(&answers.usage).await?;
    }
    stream.write_all(&answers.end).await?;
    Ok(())
}

struct Request {
    kind: String,
    authorized: bool,
    wants_usage: bool,
    length: usize,
}

/// `None` when the other side closed between two requests.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Result<Option<Request>, Failure> {
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            let (head, rest) = buffer.split_at(end + 4);
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Request::new(&mut headers);
            parsed.parse(head)?;
            let header = |name: &str| {
                parsed
                    .headers
                    .iter()
                    .find(|header| header.name.eq_ignore_ascii_case(name))
                    .and_then(|header| str::from_utf8(header.value).ok())
            };
            let body: usize = header("content-length").unwrap_or("0").parse()?;
            if let Some(body) = rest.get(..body) {
                return Ok(Some(Request {
                    kind: parsed
                        .path
                        .and_then(|path| path.split('/').nth(1))
                        .unwrap_or("")
                        .to_owned(),
                    authorized: header("authorization")
                        .and_then(|value| value.strip_prefix("Bearer "))
                        == Some(UPSTREAM_KEY),
                    wants_usage: body.len() < 2048
                        && memchr::memmem::find(body, b"\"include_usage\":true").is_some(),
                    length: head.len() + body.len(),
                }));
            }
            buffer.reserve(head.len() + body - buffer.len());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
