//! The Redis that tests share, each with its own ids, and servers that a test may empty or kill.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::wait::eventually;

/// The URL of the Redis that tests share.
pub(crate) const REDIS_URL: &str = "TOLLGATE_TEST_REDIS_URL";

/// The Redis that tests share; each test uses only its own ids.
pub(crate) fn shared_url() -> String {
    let given = std::env::var(REDIS_URL).ok().filter(|url| !url.trim().is_empty());
    given.unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned())
}

/// A server for one test. Killed when dropped.
pub(crate) struct OwnRedis {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl OwnRedis {
    /// Starts an empty one, and waits until it has run long enough for a gateway to use it at once.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Free now; it is unlikely that another process takes it before the server does.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &free.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Self { child, address: free, _directory: directory };
        let waits = async || redis.uptime().await.is_some_and(|seconds| seconds >= 3);
        eventually("the case's Redis has run for a while", waits).await;
        redis
    }

    /// The value for `--redis-url`.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Deletes everything.
    pub(crate) async fn flush(&self) {
        let done = self.ask("FLUSHALL").await;
        assert_eq!(done.as_deref(), Some("+OK\r\n"));
    }

    async fn uptime(&self) -> Option<u64> {
        let info = self.ask("INFO server").await?;
        info.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:"))?.parse().ok()
    }

    /// Sends a command without quoted words, and returns the beginning of the answer.
    async fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        let mut answer = [0; 4_096];
        let length = stream.read(&mut answer).await.ok().filter(|length| *length > 0)?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
