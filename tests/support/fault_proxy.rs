//! The line between the gateway and its PostgreSQL or Redis, which a test may cut, stall and mend
//! without touching the server that other tests use.

use std::net::SocketAddr;

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_postgres::config::Host;
use url::Url;

use super::database::Database;

/// What the line does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Passes everything.
    Whole,
    /// Passes everything but PostgreSQL's notifications.
    Deaf,
    /// Passes nothing and says nothing: a network that swallows packets.
    Stalled,
    /// Resets what is open and what is opened.
    Severed,
}

/// What passes, as far as the line understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// What a PostgreSQL server says.
    Postgres,
    /// Anything else.
    Other,
}

/// A forwarder on a port of its own. It runs on the case's runtime and ends when dropped.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    /// How often everything that was open then has died.
    dead: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// A whole line to `database`, and the database as reached by it.
    pub(crate) async fn to(database: &Database) -> (Self, Database) {
        let config: tokio_postgres::Config = database.url().parse().unwrap();
        let host = config.get_hosts().first().cloned().unwrap_or(Host::Tcp("localhost".to_owned()));
        let port = config.get_ports().first().copied().unwrap_or(5432);

        let link = Self::open(host, port, Speech::Postgres).await;
        let mut url = Url::parse(database.url()).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(link.address.port())).unwrap();
        // The line reads along for notifications, and a socket's path in the query must not win.
        url.set_query(Some("sslmode=disable"));
        (link, database.reached_by(url.into()))
    }

    /// A whole line to a server of any other kind, and its URL as reached by it.
    pub(crate) async fn to_url(url: &str) -> (Self, String) {
        let mut url = Url::parse(url).unwrap();
        let host = Host::Tcp(url.host_str().expect("a host").to_owned());
        let link = Self::open(host, url.port().expect("a port"), Speech::Other).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(link.address.port())).unwrap();
        (link, url.into())
    }

    async fn open(host: Host, port: u16, speech: Speech) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = watch::Sender::new(Line::Whole);
        let dead = watch::Sender::new(0);
        let ways = (line.subscribe(), dead.subscribe());
        let accepting = tokio::spawn(accept(listener, (host, port, speech), ways));
        Self { address, line, dead, accepting }
    }

    /// Breaks every connection and refuses new ones.
    pub(crate) fn sever(&self) {
        self.line.send_replace(Line::Severed);
    }

    /// Passes nothing more, without a sign.
    pub(crate) fn stall(&self) {
        self.line.send_replace(Line::Stalled);
    }

    /// Loses notifications, and only those.
    pub(crate) fn lose_notifications(&self) {
        self.line.send_replace(Line::Deaf);
    }

    /// Passes nothing more on what is open, for good and without a sign; what is opened from now on
    /// is passed: a server that died with its machine and came back elsewhere.
    pub(crate) fn strand(&self) {
        self.dead.send_modify(|dead| *dead += 1);
    }

    /// Passes everything again.
    pub(crate) fn restore(&self) {
        self.line.send_replace(Line::Whole);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What the line does, and how often it was stranded.
type Ways = (watch::Receiver<Line>, watch::Receiver<usize>);

async fn accept(listener: TcpListener, server: (Host, u16, Speech), ways: Ways) {
    let (host, port, speech) = server;
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        near.set_nodelay(true).unwrap();
        let (host, line) = (host.clone(), ways.clone());
        connections.spawn(async move {
            let connected = match host {
                Host::Tcp(host) => match TcpStream::connect((host.as_str(), port)).await {
                    Ok(far) => {
                        let _ = far.set_nodelay(true);
                        forward(near, far, speech, line).await
                    }
                    Err(error) => Err(error),
                },
                Host::Unix(directory) => {
                    match UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await {
                        Ok(far) => forward(near, far, speech, line).await,
                        Err(error) => Err(error),
                    }
                }
            };
            // A server that is not there shows as a closed connection; the test will notice.
            drop(connected);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Passes bytes both ways until a side closes or the line is cut.
async fn forward(
    mut near: TcpStream,
    far: impl AsyncRead + AsyncWrite,
    speech: Speech,
    ways: Ways,
) -> std::io::Result<()> {
    let (mut line, mut dead) = ways;
    let born = *dead.borrow_and_update();
    let (mut far_reader, mut far_writer) = tokio::io::split(far);
    let (mut near_reader, mut near_writer) = near.split();
    let (up_line, down_line) = (line.clone(), line.clone());
    let passing = async {
        tokio::select! {
            _ = pass(&mut near_reader, &mut far_writer, up_line, Speech::Other) => {}
            _ = pass(&mut far_reader, &mut near_writer, down_line, speech) => {}
        }
    };
    let stranded = async { dead.wait_for(|dead| *dead > born).await.is_ok() };
    let severed = async { line.wait_for(|line| *line == Line::Severed).await.is_ok() };
    let end = tokio::select! {
        biased;
        true = severed => End::Severed,
        true = stranded => End::Stranded,
        () = passing => End::Closed,
    };
    match end {
        End::Severed => near.set_zero_linger()?,
        // Both sides stay open, and neither hears of the other again.
        End::Stranded => std::future::pending().await,
        End::Closed => {}
    }
    Ok(())
}

/// How a connection's passing ended.
enum End {
    Severed,
    Stranded,
    Closed,
}

/// Passes bytes one way. What PostgreSQL says is taken apart into messages (a byte, a length that
/// counts itself, the rest), so that notifications (`A`) can be left out.
async fn pass(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    mut line: watch::Receiver<Line>,
    speech: Speech,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    while reader.read_buf(&mut buffer).await? > 0 {
        // The sender is gone only with the whole link.
        let _ = line.wait_for(|line| *line != Line::Stalled).await;
        if speech == Speech::Other {
            writer.write_all(&buffer.split()).await?;
            continue;
        }
        while let Some(length) = message(&buffer) {
            if buffer[0] == b'A' && *line.borrow() == Line::Deaf {
                buffer.advance(length);
            } else {
                writer.write_all(&buffer.split_to(length)).await?;
            }
        }
    }
    Ok(())
}

/// The length of the first message, when all of it is there.
fn message(buffer: &BytesMut) -> Option<usize> {
    let length = buffer.get(1..5)?;
    let length = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
    (buffer.len() >= length).then_some(length)
}
