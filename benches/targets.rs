//! Starting, preparing and stopping what is measured.

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
use crate::payloads::{Kind, UPSTREAM_KEY};

const START_PATIENCE: Duration = Duration::from_secs(20);

/// A child that does not outlive this program's interest in it.
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

/// What a Tollgate counts, and where.
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

/// One column of the table: where to send requests, and whose CPU and memory they cost.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
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
            prefix: "",
            key: UPSTREAM_KEY.to_owned(),
            platform_key: None,
            _process: None,
            _directory: None,
        }
    }

    /// nginx as somebody would set it up before a model provider, without access log. `None` where it
    /// is not installed.
    pub(crate) fn nginx(upstream: &Upstream) -> Result<Option<Self>, Failure> {
        let Some(program) = ["nginx", "/usr/sbin/nginx"]
            .into_iter()
            .find(|program| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok())
        else {
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
        let child = Command::new(program)
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&configuration)
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()?;
        let pid = child.id();
        let process = Process(child);
        wait_until("nginx listens", &log, || Connection::open(address).map(drop))?;
        Ok(Some(Self {
            name: "nginx",
            address,
            pid,
            prefix: "",
            key: "the-key-of-no-one".to_owned(),
            platform_key: None,
            _process: Some(process),
            _directory: Some(directory),
        }))
    }

    /// Tollgate with one worker and its defaults otherwise, on a new SQLite database. `None` where
    /// it should count in a Redis that is not there.
    pub(crate) fn tollgate(upstream: &Upstream, limits: Limits) -> Result<Option<Self>, Failure> {
        if limits == Limits::InRedis && TcpStream::connect(REDIS).is_err() {
            return Ok(None);
        }
        let directory = tempfile::tempdir()?;
        let database = format!("sqlite:{}", directory.path().join("tollgate.db").display());
        let log = directory.path().join("output.log");
        let address = free_address()?;
        let command = |name: &str| -> Result<Command, Failure> {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
            command
                .arg(name)
                .args(["--database-url", &database, "--master-key-file"])
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
        let pid = child.id();
        let process = Process(child);
        wait_until("tollgate is ready", &log, || {
            call(address, "GET", "/readyz", "", None).map(drop)
        })?;
        let key = prepare(address, text(&made, "admin_key")?, upstream.address)
            .map_err(|error| format!("{error}\n{}", tail(&log)))?;
        if limits != Limits::None {
            make_limits(address, &made).map_err(|error| format!("{error}\n{}", tail(&log)))?;
        }
        Ok(Some(Self {
            name: limits.name(),
            address,
            pid,
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

    /// How many queries Tollgate has sent to its database; `None` for the other targets.
    pub(crate) fn database_queries(&self) -> Result<Option<u64>, Failure> {
        const COUNTER: &str = "tollgate_database_queries_total";
        let Some(key) = &self.platform_key else {
            return Ok(None);
        };
        let request = encode("GET", "/metrics", key, None);
        let answer = Connection::open(self.address)?.ask(&request)?;
        let text = String::from_utf8_lossy(&answer.body);
        let series: Vec<f64> = text
            .lines()
            .filter(|line| line.starts_with(COUNTER))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        if answer.status != 200 || series.is_empty() {
            return Err(format!("/metrics answered {} without {COUNTER}", answer.status).into());
        }
        Ok(Some(series.iter().sum::<f64>() as u64))
    }
}

/// Workspace, secret, one configuration a kind, and the caller's key, which is returned.
fn prepare(address: SocketAddr, admin_key: &str, upstream: SocketAddr) -> Result<String, Failure> {
    let create =
        |method: &str, path: &str, body: Value| call(address, method, path, admin_key, Some(&body));
    let workspace =
        create("POST", "/api/v1/workspaces", json!({"name": "Bench", "handle": "bench"}))?;
    let workspace = format!("/api/v1/workspaces/{}", text(&workspace, "id")?);
    let secret = json!({"value": UPSTREAM_KEY});
    create("PUT", &format!("{workspace}/secrets/UPSTREAM_KEY"), secret)?;
    for kind in Kind::ALL {
        let configuration = json!({
            "name": kind.name(),
            "provider": "openai_compatible",
            "base_url": format!("http://{upstream}/{}/v1", kind.name()),
            "model": "bench-model",
            "api_key_name": "UPSTREAM_KEY",
        });
        create("POST", &format!("{workspace}/model-configurations"), configuration)?;
    }
    let key = json!({"name": "bench", "role": "GATEWAY_CALLER"});
    let key = create("POST", &format!("{workspace}/api-keys"), key)?;
    Ok(text(&key, "key")?.to_owned())
}

/// A price, and a spend cap and a rate limit that hold for every request and stop none.
fn make_limits(address: SocketAddr, made: &Value) -> Result<(), Failure> {
    let admin_key = text(made, "admin_key")?;
    let everybody = json!([{"key": "organization_id", "value": text(made, "organization_id")?}]);
    let price = json!({
        "provider": "openai_compatible", "model": "bench-model",
        "price": {"input": 1.25, "output": 10},
    });
    call(address, "POST", "/api/v1/model-prices", admin_key, Some(&price))?;
    let rate = json!({"metric": "requests", "window": "minute", "value": 1_000_000_000});
    for (policy_type, config) in [
        ("spend_cap", json!({"window": "monthly", "limit_usd": 100_000_000})),
        ("rate_limit", json!({"version": 1, "limits": [rate]})),
    ] {
        let policy = json!({
            "name": policy_type, "policy_type": policy_type,
            "subject_matchers": everybody, "config": config,
        });
        call(address, "POST", "/api/v1/gateway-policies", admin_key, Some(&policy))?;
    }
    Ok(())
}

/// One call of the management plane.
fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    key: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let body = body.map(|body| body.to_string().into_bytes());
    let answer = Connection::open(address)?.ask(&encode(method, path, key, body.as_deref()))?;
    let body = String::from_utf8_lossy(&answer.body);
    if !(200..300).contains(&answer.status) {
        return Err(format!("{method} {path} answered {}: {body}", answer.status).into());
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

/// nginx at its best for each load: plain answers through buffers in memory, streams without any.
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

/// An address that nobody listens on. Somebody else may take it first; the run then fails and says so.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(loopback(0))?.local_addr()?)
}

fn wait_until(
    what: &str,
    log: &Path,
    mut ready: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + START_PATIENCE;
    while let Err(error) = ready() {
        if Instant::now() > deadline {
            return Err(format!("waited in vain until {what}: {error}\n{}", tail(log)).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The end of a child's log, for the message that says why it is of no use.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
