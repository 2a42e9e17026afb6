//! A TCP proxy between the gateway and its PostgreSQL or Redis that can reset, stall and restore
//! connections without disturbing the server, which other tests use.

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

/// What the proxy does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Forwards everything.
    Whole,
    /// Forwards everything but PostgreSQL's notifications.
    Deaf,
    /// Forwards nothing and closes nothing, like a network that drops packets.
    Stalled,
    /// Resets open and new connections.
    Severed,
}

/// The protocol of the bytes in one direction, as far as the proxy parses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// Messages of a PostgreSQL server.
    Postgres,
    Other,
}

/// The proxy, on its own port. It runs on the test's runtime and ends when dropped.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    /// How often open connections were abandoned.
    dead: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts one for `database`, and returns the database at its address.
    pub(crate) async fn to(database: &Database) -> (Self, Database) {
        let config: tokio_postgres::Config = database.url().parse().unwrap();
        let host = config.get_hosts().first().cloned().unwrap_or(Host::Tcp("localhost".to_owned()));
        let port = config.get_ports().first().copied().unwrap_or(5432);

        let link = Self::open(host, port, Speech::Postgres).await;
        let mut url = Url::parse(database.url()).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(link.address.port())).unwrap();
        // The proxy parses messages, so no TLS; and a socket path in the query must not win.
        url.set_query(Some("sslmode=disable"));
        (link, database.reached_by(url.into()))
    }

    /// Starts one for another kind of server, and returns the URL at its address.
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

    /// Resets every connection, new ones included.
    pub(crate) fn sever(&self) {
        self.line.send_replace(Line::Severed);
    }

    /// Stops forwarding without closing anything.
    pub(crate) fn stall(&self) {
        self.line.send_replace(Line::Stalled);
    }

    /// Drops notifications and forwards everything else.
    pub(crate) fn lose_notifications(&self) {
        self.line.send_replace(Line::Deaf);
    }

    /// Stops forwarding on open connections for good, without closing them, but forwards new ones:
    /// like a server whose machine died and that was started on another.
    pub(crate) fn strand(&self) {
        self.dead.send_modify(|dead| *dead += 1);
    }

    /// Forwards everything again.
    pub(crate) fn restore(&self) {
        self.line.send_replace(Line::Whole);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What the proxy does, and how often connections were abandoned.
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
            // If the server is unreachable, the connection is closed, which the test will notice.
            drop(connected);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Forwards bytes both ways until a side closes or the proxy resets or abandons the connection.
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
        // Both sides stay open, and nothing is forwarded any more.
        End::Stranded => std::future::pending().await,
        End::Closed => {}
    }
    Ok(())
}

/// How forwarding ended.
enum End {
    Severed,
    Stranded,
    Closed,
}

/// Forwards bytes one way. Bytes of a PostgreSQL server are split into messages (a byte, a length
/// that includes itself, the rest), so that notifications (`A`) can be dropped.
async fn pass(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    mut line: watch::Receiver<Line>,
    speech: Speech,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    while reader.read_buf(&mut buffer).await? > 0 {
        // The sender is dropped only with the whole proxy.
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

/// The length of the first message, if it is complete.
fn message(buffer: &BytesMut) -> Option<usize> {
    let length = buffer.get(1..5)?;
    let length = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
    (buffer.len() >= length).then_some(length)
}
