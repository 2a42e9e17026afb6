//! The real binary as a child process: commands that end, and a server that is sent signals.
//!
//! What a child writes to standard error joins the record of the run, and so the search for secrets.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use super::{logs, wait::eventually};

/// The binary, with nothing of the environment's `TOLLGATE_` settings.
pub(crate) fn tollgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOLLGATE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// Runs a command to its end, without holding up the case's thread.
pub(crate) async fn run(mut command: Command) -> Ended {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let stderr = text(&output.stderr);
    stderr.lines().for_each(|line| logs::append("command", line));
    Ended { code: output.status.code(), stdout: text(&output.stdout), stderr }
}

/// A signal that a test sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    /// Please end.
    Term,
    /// As Ctrl-C.
    Int,
    /// Please end at once.
    Quit,
    /// Stand still.
    Stop,
    /// End, without being asked.
    Kill,
}

impl Signal {
    /// Sends it to processes, all of which have to be there.
    pub(crate) fn send(self, processes: &[u32]) {
        let name = match self {
            Self::Term => "-TERM",
            Self::Int => "-INT",
            Self::Quit => "-QUIT",
            Self::Stop => "-STOP",
            Self::Kill => "-KILL",
        };
        let processes = processes.iter().map(u32::to_string);
        let sent = Command::new("kill").arg(name).args(processes).status().unwrap();
        assert!(sent.success(), "the signal was not sent");
    }
}

/// A child that goes on running. Killed when dropped.
pub(crate) struct ChildProcess {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl ChildProcess {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (sender, lines) = watch::channel(Vec::new());
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let both = sender.clone();
        let readers = vec![
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    both.send_modify(|lines| lines.push(line));
                }
            }),
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    logs::append("server", &line);
                    sender.send_modify(|lines| lines.push(line));
                }
            }),
        ];
        Self { child, lines, readers }
    }

    /// Waits for a line that `find` finds something in, from the first one on. Fails the case, with
    /// all that was written, when the child ends without one.
    pub(crate) async fn line<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let mut lines = self.lines.clone();
        let found = lines.wait_for(|lines| lines.iter().any(|line| find(line).is_some())).await;
        let found = found.ok().and_then(|lines| lines.iter().find_map(|line| find(line)));
        found.unwrap_or_else(|| panic!("no {what}: {:#?}", self.lines.borrow()))
    }

    /// The first address on 127.0.0.1, with a port, that the child wrote of: where it listens.
    pub(crate) async fn address(&self) -> SocketAddr {
        self.line("listening address", |line| {
            let at = line.find("127.0.0.1:")?;
            let rest = &line[at..];
            let end = rest.char_indices().find(|(_, c)| !c.is_ascii_digit() && !".:".contains(*c));
            let address: SocketAddr =
                rest[..end.map_or(rest.len(), |(end, _)| end)].parse().ok()?;
            (address.port() != 0).then_some(address)
        })
        .await
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory that it holds, in bytes (`VmRSS`, proc(5)).
    pub(crate) fn resident(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the child runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("it has memory");
        kib.trim().parse::<usize>().unwrap() * 1024
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        signal.send(&[self.id()]);
    }

    /// Ends it at once (SIGKILL).
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end, and for all that it wrote to be read.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the child ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status.expect("it has ended")
    }

    /// All lines so far, of both streams.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
