//! A Redis of a test's own, and a proxy to it that can be paused.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::support::eventually;
use crate::domain::ids::OrganizationId;

/// A Redis server that ends with this value. It saves only on command.
pub(super) struct RedisServer {
    child: Child,
    pub(super) port: u16,
    pub(super) url: String,
    directory: TempDir,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl RedisServer {
    /// A server with an uptime at which replicas no longer wait for each other.
    pub(super) async fn start() -> Self {
        let server = Self::start_with(&[]).await;
        eventually("redis-server has run for a while", async || server.uptime().await >= 3).await;
        server
    }

    /// One that has just been started.
    pub(super) async fn start_with(options: &[&str]) -> Self {
        let port = free_port().await;
        let directory = tempfile::tempdir().unwrap();
        let child = spawn(port, directory.path(), options);
        let url = format!("redis://127.0.0.1:{port}");
        let server = Self { child, port, url, directory };
        server.answers().await;
        server
    }

    /// As by SIGKILL, and started with what was last saved.
    pub(super) async fn die_and_start_again(&mut self) {
        self.kill();
        self.child = spawn(self.port, self.directory.path(), &[]);
        self.answers().await;
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn answers(&self) {
        eventually("redis-server answers", async || {
            TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        })
        .await;
    }

    /// Replicates another server, and has all that it has.
    pub(super) async fn follow(&self, other: &Self) {
        self.command(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]).await;
        eventually("the replica follows", async || {
            self.info("replication").await.contains("master_link_status:up")
        })
        .await;
    }

    /// Forgets everything, and from then on can do nothing for these organizations.
    pub(super) async fn empty_and_spoil(&self, organizations: &[OrganizationId]) {
        // In one step, so that no generation begins in between.
        let script = "redis.call('FLUSHALL')
            for _, key in ipairs(KEYS) do redis.call('RPUSH', key, 'no generation') end";
        let count = organizations.len().to_string();
        let keys: Vec<_> = organizations.iter().map(|id| format!("tg:{{{id}}}:g")).collect();
        let mut words = vec!["EVAL", script, &count];
        words.extend(keys.iter().map(String::as_str));
        self.command(&words).await;
    }

    /// A section of what it says of itself.
    pub(super) async fn info(&self, section: &str) -> String {
        redis::from_redis_value(self.command(&["INFO", section]).await).unwrap()
    }

    /// For how many seconds it says that it has run.
    async fn uptime(&self) -> u64 {
        let server = self.info("server").await;
        let uptime = server.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:"));
        uptime.unwrap().trim().parse().unwrap()
    }

    /// How often it has run a command.
    pub(super) async fn calls(&self, command: &str) -> u64 {
        let stats = self.info("commandstats").await;
        let name = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// The keys whose names match.
    pub(super) async fn keys(&self, pattern: &str) -> Vec<String> {
        redis::from_redis_value(self.command(&["KEYS", pattern]).await).unwrap()
    }

    pub(super) async fn command(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let (first, rest) = words.split_first().unwrap();
        redis::cmd(first).arg(rest).query_async(&mut connection).await.unwrap()
    }
}

/// Free a moment ago; who takes it meanwhile makes the test fail, not pass.
pub(super) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, directory: &Path, options: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
        .arg(directory)
        .args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"])
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server can be run")
}

/// A TCP proxy in front of Redis that can hold bytes back.
pub(super) struct Proxy {
    pub(super) url: String,
    holding: Arc<watch::Sender<bool>>,
    connections: Arc<Mutex<Vec<Passing>>>,
}

/// One connection: what holds it, and what passes its bytes.
type Passing = (watch::Sender<bool>, [AbortHandle; 2]);

impl Proxy {
    pub(super) async fn to(redis: &str) -> Self {
        let target = redis.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let holding = Arc::new(watch::Sender::new(false));
        let pauses = holding.clone();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let made = connections.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let ((near_read, near_write), (far_read, far_write)) =
                    (near.into_split(), far.into_split());
                let own = watch::Sender::new(false);
                let subscriptions = || [pauses.subscribe(), own.subscribe()];
                let there = tokio::spawn(pass(near_read, far_write, subscriptions()));
                let back = tokio::spawn(pass(far_read, near_write, subscriptions()));
                let passing = [there.abort_handle(), back.abort_handle()];
                made.lock().unwrap().push((own, passing));
            }
        });
        Self { url, holding, connections }
    }

    /// How many connections were made.
    pub(super) fn count(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Holds one connection, by its place among all that were made.
    pub(super) fn hold_one(&self, place: usize) {
        self.connections.lock().unwrap()[place].0.send_replace(true);
    }

    /// Cuts one.
    pub(super) fn cut_one(&self, place: usize) {
        for passing in &self.connections.lock().unwrap()[place].1 {
            passing.abort();
        }
    }

    pub(super) fn hold(&self, hold: bool) {
        self.holding.send_replace(hold);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut holding: [watch::Receiver<bool>; 2],
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if released(&mut holding).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = released(&mut holding).await;
}

async fn released(holding: &mut [watch::Receiver<bool>; 2]) -> Result<(), watch::error::RecvError> {
    for one in holding {
        one.wait_for(|holding| !holding).await?;
    }
    Ok(())
}
