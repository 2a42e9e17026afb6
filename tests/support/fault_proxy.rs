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
enum Mode {
    Forward,
    /// Forwards everything but PostgreSQL's notifications.
    DropNotifications,
    /// Forwards nothing and closes nothing, like a network that drops packets.
    Stall,
    /// Resets open and new connections.
    Reset,
}

/// The protocol of the bytes in one direction, as far as the proxy parses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Messages of a PostgreSQL server.
    Postgres,
    Other,
}

/// The proxy, on its own port. It runs on the test's runtime and ends when dropped.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// How often open connections were abandoned.
    abandoned: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts one for `database`, and returns the database at its address.
    pub(crate) async fn to(database: &Database) -> (Self, Database) {
        let config: tokio_postgres::Config = database.url().parse().unwrap();
        let host = config.get_hosts().first().cloned().unwrap_or(Host::Tcp("localhost".to_owned()));
        let port = config.get_ports().first().copied().unwrap_or(5432);

        let proxy = Self::open(host, port, Protocol::Postgres).await;
        let mut url = Url::parse(database.url()).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.address.port())).unwrap();
        // The proxy parses messages, so no TLS; and a socket path in the query must not win.
        url.set_query(Some("sslmode=disable"));
        (proxy, database.reached_by(url.into()))
    }

    /// Starts one for another kind of server, and returns the URL at its address.
    pub(crate) async fn to_url(url: &str) -> (Self, String) {
        let mut url = Url::parse(url).unwrap();
        let host = Host::Tcp(url.host_str().expect("a host").to_owned());
        let proxy = Self::open(host, url.port().expect("a port"), Protocol::Other).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.address.port())).unwrap();
        (proxy, url.into())
    }

    async fn open(host: Host, port: u16, protocol: Protocol) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(Mode::Forward);
        let abandoned = watch::Sender::new(0);
        let state = (mode.subscribe(), abandoned.subscribe());
        let accepting = tokio::spawn(accept(listener, (host, port, protocol), state));
        Self { address, mode, abandoned, accepting }
    }

    /// Resets every connection, new ones included.
    pub(crate) fn reset_connections(&self) {
        self.mode.send_replace(Mode::Reset);
    }

    /// Stops forwarding without closing anything.
    pub(crate) fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// Drops notifications and forwards everything else.
    pub(crate) fn drop_notifications(&self) {
        self.mode.send_replace(Mode::DropNotifications);
    }

    /// Stops forwarding on open connections for good, without closing them, but forwards new ones:
    /// like a server whose machine died and that was started on another.
    pub(crate) fn abandon_connections(&self) {
        self.abandoned.send_modify(|abandoned| *abandoned += 1);
    }

    /// Forwards everything again.
    pub(crate) fn restore(&self) {
        self.mode.send_replace(Mode::Forward);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What the proxy does, and how often connections were abandoned.
type State = (watch::Receiver<Mode>, watch::Receiver<usize>);

async fn accept(listener: TcpListener, server: (Host, u16, Protocol), state: State) {
    let (host, port, protocol) = server;
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        near.set_nodelay(true).unwrap();
        let (host, mode) = (host.clone(), state.clone());
        connections.spawn(async move {
            let connected = match host {
                Host::Tcp(host) => match TcpStream::connect((host.as_str(), port)).await {
                    Ok(far) => {
                        let _ = far.set_nodelay(true);
                        forward(near, far, protocol, mode).await
                    }
                    Err(error) => Err(error),
                },
                Host::Unix(directory) => {
                    match UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await {
                        Ok(far) => forward(near, far, protocol, mode).await,
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
    protocol: Protocol,
    state: State,
) -> std::io::Result<()> {
    let (mut mode, mut abandoned) = state;
    let born = *abandoned.borrow_and_update();
    let (mut far_reader, mut far_writer) = tokio::io::split(far);
    let (mut near_reader, mut near_writer) = near.split();
    let (up_mode, down_mode) = (mode.clone(), mode.clone());
    let passing = async {
        tokio::select! {
            _ = pass(&mut near_reader, &mut far_writer, up_mode, Protocol::Other) => {}
            _ = pass(&mut far_reader, &mut near_writer, down_mode, protocol) => {}
        }
    };
    let is_abandoned = async { abandoned.wait_for(|abandoned| *abandoned > born).await.is_ok() };
    let is_reset = async { mode.wait_for(|mode| *mode == Mode::Reset).await.is_ok() };
    let end = tokio::select! {
        biased;
        true = is_reset => End::Reset,
        true = is_abandoned => End::Abandoned,
        () = passing => End::Closed,
    };
    match end {
        End::Reset => near.set_zero_linger()?,
        // Both sides stay open, and nothing is forwarded any more.
        End::Abandoned => std::future::pending().await,
        End::Closed => {}
    }
    Ok(())
}

/// How forwarding ended.
enum End {
    Reset,
    Abandoned,
    Closed,
}

/// Forwards bytes one way. Bytes of a PostgreSQL server are split into messages (a byte, a length
/// that includes itself, the rest), so that notifications (`A`) can be dropped.
async fn pass(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    mut mode: watch::Receiver<Mode>,
    protocol: Protocol,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    while reader.read_buf(&mut buffer).await? > 0 {
        // The sender is dropped only with the whole proxy.
        let _ = mode.wait_for(|mode| *mode != Mode::Stall).await;
        if protocol == Protocol::Other {
            writer.write_all(&buffer.split()).await?;
            continue;
        }
        while let Some(length) = message(&buffer) {
            if buffer[0] == b'A' && *mode.borrow() == Mode::DropNotifications {
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
