//! The real binary as a child process: commands that end, and servers that get signals.
//!
//! Standard error of a child becomes part of the run's log, which is searched for secrets.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use super::{logs, wait::eventually};

/// The binary without the environment's `TOLLGATE_` variables.
pub(crate) fn tollgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOLLGATE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end without blocking the test's thread.
pub(crate) async fn run(mut command: Command) -> Ended {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let stderr = text(&output.stderr);
    stderr.lines().for_each(|line| logs::append("command", line));
    Ended { code: output.status.code(), stdout: text(&output.stdout), stderr }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Term,
    Int,
    Hup,
    Quit,
    Stop,
    Kill,
}

impl Signal {
    /// Sends it to processes, all of which must exist.
    pub(crate) fn send(self, processes: &[u32]) {
        let name = match self {
            Self::Term => "-TERM",
            Self::Int => "-INT",
            Self::Hup => "-HUP",
            Self::Quit => "-QUIT",
            Self::Stop => "-STOP",
            Self::Kill => "-KILL",
        };
        let processes = processes.iter().map(u32::to_string);
        let sent = Command::new("kill").arg(name).args(processes).status().unwrap();
        assert!(sent.success(), "the signal was not sent");
    }
}

/// A running child process. Killed when dropped.
pub(crate) struct ChildProcess {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl ChildProcess {
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

    /// Returns what `find` finds in the first matching line, and waits for that line. Fails the test if
    /// the child ends without one.
    pub(crate) async fn line<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let mut lines = self.lines.clone();
        let found = lines.wait_for(|lines| lines.iter().any(|line| find(line).is_some())).await;
        let found = found.ok().and_then(|lines| lines.iter().find_map(|line| find(line)));
        found.unwrap_or_else(|| panic!("no {what}: {:#?}", self.lines.borrow()))
    }

    /// The first address on 127.0.0.1 with a port in the child's output.
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

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes (`VmRSS`, proc(5)).
    pub(crate) fn resident(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the child runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("it has memory");
        kib.trim().parse::<usize>().unwrap() * 1024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal.send(&[self.id()]);
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended and all its output was read.
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

    /// All output lines so far.
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
