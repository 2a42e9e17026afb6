//! A connection to Redis, over TLS where the URL says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, InfoDict, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, ServerErrorKind,
};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::RedisSetupError;
use crate::config::RedisUrl;
use crate::crypto::tls_client_config;

/// Commands that may wait to be written.
const MAX_QUEUED: usize = 1_024;

/// The run id of a server that does not report it. A restart of such a server is not noticed.
const UNKNOWN_RUN: &str = "-";

/// Where Redis is.
pub(super) struct Address {
    info: ConnectionInfo,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection, used by any number of calls at once. The thread that made it does its I/O.
pub(super) struct Connection {
    pub(super) commands: MultiplexedConnection,
    /// Identifies the server's process: every start and every replica has another.
    pub(super) run_id: String,
    /// In seconds, if the server reports it.
    pub(super) uptime: Option<u64>,
    /// Nothing is reserved before.
    pub(super) opens_at: Instant,
    driver: AbortHandle,
    is_closed: AtomicBool,
    /// Its sender ends with the connection.
    ended: watch::Receiver<()>,
}

impl Connection {
    /// Fails every call that waits for an answer.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.driver.abort();
    }

    /// Whether either side has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed) || self.ended.has_changed().is_err()
    }

    /// Waits until it is closed.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // Nothing is ever sent: the error is the end.
            let _ = ended.changed().await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl Address {
    /// Parses the URL. No error contains the URL, which may contain a password.
    pub(super) fn new(url: &RedisUrl, ca_pem: Option<&[u8]>) -> Result<Self, RedisSetupError> {
        let config = tls_client_config(ca_pem)?;
        Self::with(url, config).map_err(RedisSetupError::Url)
    }

    fn with(url: &RedisUrl, config: ClientConfig) -> Result<Self, RedisError> {
        // The redis crate's own TLS features would bring a second cryptography library.
        let plain = url.expose().strip_prefix("rediss://").map(|rest| format!("redis://{rest}"));
        let info = match &plain {
            Some(plain) => plain.as_str().into_connection_info()?,
            None => url.expose().into_connection_info()?,
        };
        let tls = match (plain, info.addr()) {
            (Some(_), ConnectionAddr::Tcp(host, _)) => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                let name =
                    name.map_err(|_| invalid("the host of the Redis URL is no host name"))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            _ => None,
        };
        Ok(Self { info, tls })
    }

    /// Connects. A task on this thread's runtime does the connection's I/O.
    pub(super) async fn connect(&self) -> Result<Connection, RedisError> {
        let settings = self.info.redis_settings();
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.trim_matches(['[', ']']), *port)).await?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    Some((connector, name)) => {
                        let stream = connector.connect(name.clone(), stream).await?;
                        start(settings, stream).await
                    }
                    None => start(settings, stream).await,
                }
            }
            ConnectionAddr::Unix(path) => start(settings, UnixStream::connect(path).await?).await,
            _ => Err(invalid("this kind of Redis URL is not supported")),
        }
    }
}

async fn start<S>(settings: &RedisConnectionInfo, stream: S) -> Result<Connection, RedisError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // The caller keeps the deadlines.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(MAX_QUEUED);
    let (commands, driver) =
        MultiplexedConnection::new_with_config(settings, stream, config).await?;
    let (ending, ended) = watch::channel(());
    let driving = tokio::spawn(async move {
        let _ending = ending;
        driver.await;
    });
    let mut connection = Connection {
        commands,
        run_id: UNKNOWN_RUN.to_owned(),
        uptime: None,
        opens_at: Instant::now(),
        driver: driving.abort_handle(),
        is_closed: AtomicBool::new(false),
        ended,
    };
    if let Some(info) = server_info(&mut connection.commands).await? {
        connection.uptime = info.get("uptime_in_seconds");
        if let Some(run_id) = info.get::<String>("run_id").filter(|id| is_plain(id)) {
            connection.run_id = run_id;
        }
    }
    if connection.run_id == UNKNOWN_RUN {
        tracing::warn!("Redis does not tell its run_id (INFO server); lost writes go unnoticed");
    }
    Ok(connection)
}

/// `INFO server`; none if the server will never answer it: a proxy may not know the command, a user may
/// not be allowed it. Other errors fail the connection: the next replica might get an answer, and all
/// replicas have to know the same run.
async fn server_info(
    connection: &mut MultiplexedConnection,
) -> Result<Option<InfoDict>, RedisError> {
    match redis::cmd("INFO").arg("server").query_async(connection).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if is_unsupported(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_unsupported(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            error.detail().is_some_and(|detail| detail.starts_with("unknown command"))
        }
        _ => false,
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric())
}

fn invalid(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_unsupported_its_run_is_used_without() {
        let unsupported = |answer: &[u8]| {
            let value = redis::parse_redis_value(answer).unwrap();
            is_unsupported(&value.extract_error().unwrap_err())
        };
        assert!(unsupported(b"-NOPERM this user has no permissions to run the 'info' command\r\n"));
        assert!(unsupported(
            b"-ERR unknown command 'INFO', with args beginning with: 'server'\r\n"
        ));
        assert!(!unsupported(b"-ERR max number of clients reached\r\n"));
        assert!(!unsupported(b"-LOADING Redis is loading the dataset in memory\r\n"));
        assert!(!unsupported(b"-BUSY Redis is busy running a script\r\n"));
    }
}
