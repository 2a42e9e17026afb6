//! A Redis of a test's own, and a way to it that can be held up.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::support::eventually;

/// A server that ends with this, and keeps nothing.
pub(super) struct RedisServer {
    child: Child,
    pub(super) url: String,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RedisServer {
    pub(super) async fn start() -> Self {
        // Free a moment ago; who takes it meanwhile makes the test fail, not pass.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(port.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server can be run");
        let url = format!("redis://127.0.0.1:{port}");
        let server = Self { child, url };
        eventually("redis-server answers", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        server
    }

    /// Runs a command.
    pub(super) async fn command(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let (first, rest) = words.split_first().unwrap();
        redis::cmd(first).arg(rest).query_async(&mut connection).await.unwrap()
    }
}

/// Passes bytes on to Redis, unless it is told to hold them.
pub(super) struct Way {
    pub(super) url: String,
    holding: Arc<watch::Sender<bool>>,
}

impl Way {
    pub(super) async fn to(redis: &str) -> Self {
        let target = redis.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let holding = Arc::new(watch::Sender::new(false));
        let held = holding.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let ((near_read, near_write), (far_read, far_write)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(pass(near_read, far_write, held.subscribe()));
                tokio::spawn(pass(far_read, near_write, held.subscribe()));
            }
        });
        Self { url, holding }
    }

    pub(super) fn hold(&self, hold: bool) {
        self.holding.send_replace(hold);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut holding: watch::Receiver<bool>,
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if holding.wait_for(|holding| !holding).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
    let _ = holding.wait_for(|holding| !holding).await;
}
