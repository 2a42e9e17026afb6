//! Starting, preparing and stopping what is measured.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Failure;
use crate::client::Connection;
use crate::measure::resident_bytes;
use crate::payloads::{Kind, UPSTREAM_KEY};

const MAX_START_TIME: Duration = Duration::from_secs(20);

/// The first and the last core that this process may use: for load and upstream, and for the target.
pub(crate) fn cores() -> Result<(usize, usize), Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.ok_or("/proc has no Cpus_allowed_list")?.trim();
    let cores: Vec<usize> = list.split([',', '-']).map(str::parse).collect::<Result<_, _>>()?;
    match cores[..] {
        [load, .., target] => Ok((load, target)),
        [only] => {
            println!("This machine has one core, which load and target share: the rates are low.");
            Ok((only, only))
        }
        [] => Err("/proc lists no core".into()),
    }
}

/// The program on the target's core.
fn pinned(core: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

/// A child process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_reaped = self.0.wait();
    }
}

/// The upstream; see `upstream.rs`.
pub(crate) struct Upstream {
    process: Process,
    address: SocketAddr,
}

impl Upstream {
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--upstream")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("the upstream has no output")?;
        let process = Process(child);
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port)?;
        Ok(Self { process, address: loopback(port.trim().parse()?) })
    }
}

/// Where the Redis of the last column is.
const REDIS: &str = "127.0.0.1:6379";

/// Which limits a Tollgate counts, and where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// No policy matches.
    None,
    /// A spend cap and a rate limit, in memory.
    InMemory,
    /// The same in Redis.
    InRedis,
}

impl Limits {
    fn name(self) -> &'static str {
        match self {
            Self::None => "tollgate",
            Self::InMemory => "limits",
            Self::InRedis => "redis",
        }
    }

    fn options(self) -> Vec<String> {
        match self {
            Self::None | Self::InMemory => Vec::new(),
            Self::InRedis => vec!["--redis-url".to_owned(), format!("redis://{REDIS}")],
        }
    }
}

/// One column of the table: where requests go, and the process whose CPU and memory are measured.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    pub(crate) resident_mb: f64,
    /// Stands before the configuration's name in every path.
    prefix: &'static str,
    key: String,
    /// What may read Tollgate's metrics.
    platform_key: Option<String>,
    _process: Option<Process>,
    _directory: Option<TempDir>,
}

impl Target {
    /// The upstream itself: the floor for latency, and what an answer costs before any proxy.
    pub(crate) fn direct(upstream: &Upstream) -> Self {
        Self {
            name: "direct",
            address: upstream.address,
            pid: upstream.process.0.id(),
            resident_mb: f64::NAN,
            prefix: "",
            key: UPSTREAM_KEY.to_owned(),
            platform_key: None,
            _process: None,
            _directory: None,
        }
    }

    /// nginx as it is usually set up before a model provider, without access log. `None` where it is
    /// not installed.
    pub(crate) async fn nginx(upstream: &Upstream, core: &str) -> Result<Option<Self>, Failure> {
        let Some(program) = ["nginx", "/usr/sbin/nginx"]
            .into_iter()
            .find(|program| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok())
        else {
            println!("nginx is not installed, so there is nothing to compare with.");
            return Ok(None);
        };
        let directory = tempfile::tempdir()?;
        let address = free_address()?;
        let configuration = directory.path().join("nginx.conf");
        std::fs::write(
            &configuration,
            nginx_configuration(directory.path(), address, upstream.address),
        )?;
        let log = directory.path().join("output.log");
        let child = pinned(core, program)
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&configuration)
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()?;
        let process = Process(child);
        wait_until("nginx listens", &log, async || Connection::open(address).await.map(drop))
            .await?;
        Ok(Some(Self {
            name: "nginx",
            address,
            pid: process.0.id(),
            resident_mb: resident_bytes(process.0.id())? / 1e6,
            prefix: "",
            key: "not-a-key".to_owned(),
            platform_key: None,
            _process: Some(process),
            _directory: Some(directory),
        }))
    }

    /// Tollgate with one worker and its defaults otherwise, on a new SQLite database. `None` where
    /// it should count in a Redis that is not there.
    pub(crate) async fn tollgate(
        upstream: &Upstream,
        core: &str,
        limits: Limits,
    ) -> Result<Option<Self>, Failure> {
        if limits == Limits::InRedis && TcpStream::connect(REDIS).is_err() {
            return Ok(None);
        }
        let directory = tempfile::tempdir()?;
        let database = format!("sqlite:{}", directory.path().join("tollgate.db").display());
        let log = directory.path().join("output.log");
        let address = free_address()?;
        let command = |name: &str| -> Result<Command, Failure> {
            let mut command = pinned(core, env!("CARGO_BIN_EXE_tollgate"));
            command
                .args([name, "--database-url", &database, "--master-key-file"])
                .arg(directory.path().join("master.key"))
                .stderr(File::options().create(true).append(true).open(&log)?);
            Ok(command)
        };

        let made = command("bootstrap")?.args(["--organization", "bench"]).output()?;
        if !made.status.success() {
            return Err(format!("`tollgate bootstrap` failed:\n{}", tail(&log)).into());
        }
        let made: Value = serde_json::from_slice(&made.stdout)?;
        let child = command("serve")?
            .args(["--workers", "1", "--egress-allow", "127.0.0.0/8", "--listen"])
            .arg(address.to_string())
            .args(limits.options())
            .stdout(Stdio::null())
            .spawn()?;
        let process = Process(child);
        let ready = async || call(address, "GET", "/readyz", "", None).await.map(drop);
        wait_until("tollgate is ready", &log, ready).await?;
        let resident_mb = resident_bytes(process.0.id())? / 1e6;
        let prepared = async {
            let key = prepare(address, text(&made, "admin_key")?, upstream.address).await?;
            if limits != Limits::None {
                make_limits(address, &made).await?;
            }
            Ok::<_, Failure>(key)
        };
        let key = prepared.await.map_err(|error| format!("{error}\n{}", tail(&log)))?;
        Ok(Some(Self {
            name: limits.name(),
            address,
            pid: process.0.id(),
            resident_mb,
            prefix: "/providers",
            key,
            platform_key: Some(text(&made, "platform_key")?.to_owned()),
            _process: Some(process),
            _directory: Some(directory),
        }))
    }

    /// A request of this kind to this target, ready to be written to a socket.
    pub(crate) fn request(&self, kind: Kind) -> Vec<u8> {
        let path = format!("{}/{}/v1/chat/completions", self.prefix, kind.name());
        encode("POST", &path, &self.key, Some(&kind.question()))
    }

    /// The transactions that requests have caused so far; `None` for other targets than Tollgate.
    pub(crate) async fn database_queries(&self) -> Result<Option<u64>, Failure> {
        const COUNTER: &str = "tollgate_database_request_transactions_total ";
        let Some(key) = &self.platform_key else {
            return Ok(None);
        };
        let request = encode("GET", "/metrics", key, None);
        let (status, text) = Connection::open(self.address).await?.fetch(&request).await?;
        match text.lines().find_map(|line| line.strip_prefix(COUNTER)?.parse().ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(format!("/metrics answered {status} without {COUNTER}").into()),
        }
    }
}

/// Creates workspace, secret, one configuration a kind, and the caller's key, which is returned.
async fn prepare(
    address: SocketAddr,
    admin_key: &str,
    upstream: SocketAddr,
) -> Result<String, Failure> {
    let create = async |method: &str, path: &str, body: Value| {
        call(address, method, path, admin_key, Some(&body)).await
    };
    let workspace = json!({"name": "Bench", "handle": "bench"});
    let workspace = create("POST", "/api/v1/workspaces", workspace).await?;
    let workspace = format!("/api/v1/workspaces/{}", text(&workspace, "id")?);
    let secret = json!({"value": UPSTREAM_KEY});
    create("PUT", &format!("{workspace}/secrets/UPSTREAM_KEY"), secret).await?;
    for kind in Kind::ALL {
        let configuration = json!({
            "name": kind.name(),
            "provider": "openai_compatible",
            "base_url": format!("http://{upstream}/{}/v1", kind.name()),
            "model": "bench-model",
            "api_key_name": "UPSTREAM_KEY",
        });
        create("POST", &format!("{workspace}/model-configurations"), configuration).await?;
    }
    let key = json!({"name": "bench", "role": "GATEWAY_CALLER"});
    let key = create("POST", &format!("{workspace}/api-keys"), key).await?;
    Ok(text(&key, "key")?.to_owned())
}

/// Creates a price, and a spend cap and a rate limit that match every request and block none.
async fn make_limits(address: SocketAddr, made: &Value) -> Result<(), Failure> {
    let admin_key = text(made, "admin_key")?;
    let matchers = json!([{"key": "organization_id", "value": text(made, "organization_id")?}]);
    let price = json!({
        "provider": "openai_compatible", "model": "bench-model",
        "price": {"input": 1.25, "output": 10},
    });
    call(address, "POST", "/api/v1/model-prices", admin_key, Some(&price)).await?;
    let rate = json!({"metric": "requests", "window": "minute", "value": 1_000_000_000});
    for (policy_type, config) in [
        ("spend_cap", json!({"window": "monthly", "limit_usd": 100_000_000})),
        ("rate_limit", json!({"version": 1, "limits": [rate]})),
    ] {
        let policy = json!({
            "name": policy_type, "policy_type": policy_type,
            "subject_matchers": matchers, "config": config,
        });
        call(address, "POST", "/api/v1/gateway-policies", admin_key, Some(&policy)).await?;
    }
    Ok(())
}

/// One call of the management plane.
async fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    key: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let body = body.map(|body| body.to_string().into_bytes());
    let request = encode(method, path, key, body.as_deref());
    let (status, body) = Connection::open(address).await?.fetch(&request).await?;
    if !(200..300).contains(&status) {
        return Err(format!("{method} {path} answered {status}: {body}").into());
    }
    Ok(serde_json::from_str(&body).unwrap_or_default())
}

fn encode(method: &str, path: &str, key: &str, body: Option<&[u8]>) -> Vec<u8> {
    let body = body.unwrap_or_default();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {key}\r\n\
         Accept: application/json\r\nUser-Agent: tollgate-bench\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, Failure> {
    value
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("the answer has no {field}: {value}").into())
}

/// The fastest nginx for each load: plain answers through buffers in memory, streams without any.
/// One process, as Tollgate has one worker.
fn nginx_configuration(directory: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    let location = |kind: Kind| {
        let buffering = if kind.streams() {
            "proxy_buffering off;"
        } else {
            "proxy_buffering on; proxy_buffers 32 8k; proxy_max_temp_file_size 0;"
        };
        format!(
            "location /{}/ {{
               proxy_pass http://model;
               proxy_http_version 1.1;
               proxy_set_header Connection \"\";
               proxy_set_header Authorization \"Bearer {UPSTREAM_KEY}\";
               proxy_read_timeout 600s;
               {buffering}
             }}\n",
            kind.name()
        )
    };
    format!(
        "daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 16384;
         pid {directory}/nginx.pid; error_log stderr error;
         events {{ worker_connections 8192; }}
         http {{
           access_log off; tcp_nodelay on;
           keepalive_requests 100000000; keepalive_timeout 300s;
           client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
           fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
           client_max_body_size 32m; client_body_buffer_size 256k;
           upstream model {{
             server {upstream}; keepalive 128; keepalive_requests 100000000;
           }}
           server {{
             listen {listen};
             {locations}
           }}
         }}\n",
        directory = directory.display(),
        locations = Kind::ALL.map(location).concat(),
    )
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// An address that nobody listens on. Another program may take it first; then the run fails.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(loopback(0))?.local_addr()?)
}

async fn wait_until(
    what: &str,
    log: &Path,
    ready: impl AsyncFn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + MAX_START_TIME;
    while let Err(error) = ready().await {
        if Instant::now() > deadline {
            return Err(format!("waited in vain until {what}: {error}\n{}", tail(log)).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The end of a child's log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
