//! Connecting to Redis, over TLS where the URL says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, InfoDict, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, ServerErrorKind,
};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::RedisSetupError;
use crate::config::RedisUrl;
use crate::crypto::tls_client_config;

/// Commands that may wait to be written: as many as there are requests under way, within reason.
const WAITING: usize = 1_024;

/// Where Redis is, and how it is spoken to.
pub(super) struct Address {
    info: ConnectionInfo,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What stands for the run of a server that does not tell it. One that was started again is taken for
/// the same then.
const UNTOLD: &str = "-";

/// A connection, and the task that drives it, which ends with this.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    /// Which run of which server this leads to: another after every start, and of every replica.
    pub(super) run: String,
    /// For how many seconds that had lasted; none if the server does not tell.
    pub(super) uptime: Option<u64>,
    /// From when on it is open to what would count more.
    pub(super) opens: Instant,
    pub(super) driver: AbortHandle,
    /// What drives the connections that end with this one.
    along: Mutex<Vec<AbortHandle>>,
}

impl Connected {
    /// Every call that waits for an answer fails.
    pub(super) fn close(&self) {
        self.driver.abort();
        for driver in self.along().drain(..) {
            driver.abort();
        }
    }

    /// From now on the other ends with this one.
    pub(super) fn take_along(&self, other: &Self) {
        let mut along = self.along();
        along.retain(|driver| !driver.is_finished());
        along.push(other.driver.clone());
        drop(along);
        if self.is_over() {
            other.close();
        }
    }

    fn along(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.along.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ended: Redis has closed it.
    pub(super) fn is_over(&self) -> bool {
        self.driver.is_finished()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.close();
    }
}

impl Address {
    /// Reads the URL. What it says of an error never holds the URL, which may hold a password.
    pub(super) fn new(url: &RedisUrl, ca_pem: Option<&[u8]>) -> Result<Self, RedisSetupError> {
        let config = tls_client_config(ca_pem)?;
        Self::with(url, config).map_err(RedisSetupError::Url)
    }

    fn with(url: &RedisUrl, config: ClientConfig) -> Result<Self, RedisError> {
        // The crate would speak TLS only with features that bring a second set of cryptography along.
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

    /// Connects, and leaves the connection to a task of the runtime that this is called on. `over` is
    /// told when it ends.
    pub(super) async fn connect(&self, over: &Arc<Notify>) -> Result<Connected, RedisError> {
        let settings = self.info.redis_settings();
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.trim_matches(['[', ']']), *port)).await?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    Some((connector, name)) => {
                        let stream = connector.connect(name.clone(), stream).await?;
                        drive(settings, stream, over).await
                    }
                    None => drive(settings, stream, over).await,
                }
            }
            ConnectionAddr::Unix(path) => {
                drive(settings, UnixStream::connect(path).await?, over).await
            }
            _ => Err(invalid("this kind of Redis URL is not supported")),
        }
    }
}

/// Tells that a connection has ended, however it did. It does so while its task ends: who looks
/// whether that is over has to be on the same thread.
struct Over(Arc<Notify>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn drive<S>(
    settings: &RedisConnectionInfo,
    stream: S,
    over: &Arc<Notify>,
) -> Result<Connected, RedisError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // Deadlines are kept by the caller.
    let config =
        AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(WAITING);
    let (connection, driver) =
        MultiplexedConnection::new_with_config(settings, stream, config).await?;
    let over = Over(over.clone());
    let driving = tokio::spawn(async move {
        let _over = over;
        driver.await;
    });
    let mut connected = Connected {
        connection,
        run: UNTOLD.to_owned(),
        uptime: None,
        opens: Instant::now(),
        driver: driving.abort_handle(),
        along: Mutex::default(),
    };
    if let Some(info) = info(&mut connected.connection).await? {
        connected.uptime = info.get("uptime_in_seconds");
        if let Some(run) = info.get::<String>("run_id").filter(|run| is_word(run)) {
            connected.run = run;
        }
    }
    if connected.run == UNTOLD {
        tracing::warn!(
            "Redis does not tell its run (INFO server): if it loses writes, that is not noticed"
        );
    }
    Ok(connected)
}

/// What the server says of itself. None if it never tells: a proxy may not know the command, a user
/// may not be allowed it. Whatever else fails may not fail for the next replica, and all have to know
/// the same run.
async fn info(connection: &mut MultiplexedConnection) -> Result<Option<InfoDict>, RedisError> {
    match redis::cmd("INFO").arg("server").query_async(connection).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if never_tells(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn never_tells(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            error.detail().is_some_and(|detail| detail.starts_with("unknown command"))
        }
        _ => false,
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric())
}

fn invalid(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_never_tells_its_run_is_used_without() {
        let never = |answer: &[u8]| {
            let value = redis::parse_redis_value(answer).unwrap();
            never_tells(&value.extract_error().unwrap_err())
        };
        assert!(never(b"-NOPERM this user has no permissions to run the 'info' command\r\n"));
        assert!(never(b"-ERR unknown command 'INFO', with args beginning with: 'server'\r\n"));
        assert!(!never(b"-ERR max number of clients reached\r\n"));
        assert!(!never(b"-LOADING Redis is loading the dataset in memory\r\n"));
        assert!(!never(b"-BUSY Redis is busy running a script\r\n"));
    }
}
