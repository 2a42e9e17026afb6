//! A PostgreSQL server for one test, which can stop it in every way that servers stop.
//!
//! It listens on a socket in its own directory, because another process could take its port while it
//! is stopped. It speaks French if its translations are installed, because nothing may depend on the
//! language of a server's messages.

use std::{
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::{
    database::Database,
    process::{self, ChildProcess, Signal},
    wait::eventually,
};

const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// The user that the server runs as if the tests run as root, which PostgreSQL refuses.
const ACCOUNT: &str = "postgres";

/// While this file exists, recovery does not end.
const HOLD: &str = "hold";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// `pg_ctl stop -m fast`: ends the sessions and writes everything.
    Fast,
    /// `pg_ctl stop -m immediate`: the next start recovers.
    Immediate,
    /// SIGKILL to all its processes, as when memory runs out: the next start recovers.
    Killed,
}

impl StopMode {
    pub(crate) const ALL: [Self; 3] = [Self::Fast, Self::Killed, Self::Immediate];
}

/// The server. Killed when dropped, or when the test process ends without dropping it.
pub(crate) struct OwnPostgres {
    programs: PathBuf,
    account: Option<(u32, u32)>,
    directory: TempDir,
    life: Option<ServerRun>,
    /// The log of earlier runs.
    earlier_lines: Vec<String>,
}

/// From a start to the next stop.
struct ServerRun {
    postmaster: ChildProcess,
    /// Stops the server when its standard input is closed.
    guard: Child,
}

impl OwnPostgres {
    /// Creates one and waits until it accepts connections.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("tollgate-postgres-").tempdir().unwrap();
        let is_root = directory.path().metadata().unwrap().uid() == 0;
        let account = is_root.then(|| (id_of_account("-u"), id_of_account("-g")));
        let mut server = Self {
            programs: find_programs(),
            account,
            directory,
            life: None,
            earlier_lines: Vec::new(),
        };
        server.give_away(server.directory.path());
        let mut initdb = server.program("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        initdb.args(["--locale=C.UTF-8", "--no-sync", "-D"]).arg(server.data());
        let made = process::run(initdb).await;
        assert_eq!(made.code, Some(0), "initdb: {}{}", made.stdout, made.stderr);
        server.start_again().await;
        server
    }

    pub(crate) fn database(&self) -> Database {
        Database::of_server(self.url())
    }

    pub(crate) async fn stop(&mut self, how: StopMode) {
        let mut life = self.life.take().expect("it runs");
        let postmaster = life.postmaster.id();
        match how {
            StopMode::Fast => Signal::Int.send(&[postmaster]),
            StopMode::Immediate => Signal::Quit.send(&[postmaster]),
            StopMode::Killed => kill_with_children(postmaster),
        }
        life.postmaster.ended().await;
        self.earlier_lines.extend(life.postmaster.lines());
    }

    /// Starts it and waits until it accepts connections.
    pub(crate) async fn start_again(&mut self) {
        eventually("the case's PostgreSQL takes connections", async || {
            // No server starts while processes of a killed one remain.
            if self.life.as_mut().is_none_or(|life| life.postmaster.has_ended()) {
                self.life = Some(self.begin());
            }
            tokio_postgres::connect(&self.url(), NoTls).await.is_ok()
        })
        .await;
    }

    /// Starts it, but keeps it in recovery, where it refuses connections, until `meanwhile` is done; then
    /// waits until it accepts connections.
    pub(crate) async fn recover(&mut self, meanwhile: impl AsyncFnOnce(&Self)) {
        for name in [HOLD, "recovery.signal"] {
            let path = self.data().join(name);
            std::fs::write(&path, "").unwrap();
            self.give_away(&path);
        }
        self.life = Some(self.begin());
        meanwhile(self).await;
        std::fs::remove_file(self.data().join(HOLD)).unwrap();
        self.start_again().await;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.life.is_some()
    }

    /// How often it has logged this SQLSTATE.
    pub(crate) fn times_told(&self, sqlstate: &str) -> usize {
        let now = self.life.as_ref().map(|life| life.postmaster.lines()).unwrap_or_default();
        self.earlier_lines.iter().chain(&now).filter(|line| line.starts_with(sqlstate)).count()
    }

    fn url(&self) -> String {
        let directory = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{directory}/postgres")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn begin(&self) -> ServerRun {
        let hold = format!("while test -e {HOLD}; do sleep 0.05; done; false");
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data());
        for (name, value) in [
            ("listen_addresses", ""),
            ("port", "5432"),
            ("unix_socket_directories", &*self.directory.path().to_string_lossy()),
            ("shared_buffers", "16MB"),
            ("log_line_prefix", "%e "),
            // Called for the next WAL segment when recovery has read all that exist.
            ("restore_command", &hold),
            ("hot_standby", "off"),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let postmaster = ChildProcess::start(command);
        let guard = Command::new("sh")
            .args(["-c", "read -r _; kill -QUIT \"$0\"", &postmaster.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell can be run");
        ServerRun { postmaster, guard }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.directory.path()).env("LANGUAGE", "fr").stdin(Stdio::null());
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    fn give_away(&self, path: &Path) {
        if let Some((user, group)) = self.account {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        // Before its directory is removed.
        if let Some(mut life) = self.life.take()
            && !life.postmaster.has_ended()
        {
            kill_with_children(life.postmaster.id());
        }
    }
}

impl Drop for ServerRun {
    fn drop(&mut self) {
        // Before another process can get the process id.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// The directory with all of the programs: from `pg_config`, the path, or Debian's.
fn find_programs() -> PathBuf {
    let named = Command::new("pg_config").arg("--bindir").output().ok();
    let named = named.map(|output| String::from_utf8_lossy(&output.stdout).trim().into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed = installed.map(|version| version.path().join("bin"));
    let mut places = named.into_iter().chain(std::env::split_paths(&path)).chain(installed);
    let found = places.find(|place| PROGRAMS.iter().all(|name| place.join(name).is_file()));
    found.unwrap_or_else(|| {
        panic!("{} are not installed: tests start PostgreSQL themselves", PROGRAMS.join(" and "))
    })
}

/// The user or group id of the account.
fn id_of_account(which: &str) -> u32 {
    let output = Command::new("id").args([which, ACCOUNT]).output().expect("id can be run");
    let number = String::from_utf8_lossy(&output.stdout).trim().parse();
    number.unwrap_or_else(|_| {
        panic!("PostgreSQL does not run as root, and there is no user {ACCOUNT:?} to run it as")
    })
}

fn kill_with_children(process: u32) {
    // While stopped, it starts no more children.
    Signal::Stop.send(&[process]);
    Signal::Kill.send(&children_of(process).chain([process]).collect::<Vec<_>>());
}

/// The child processes of a process, from proc(5).
fn children_of(parent: u32) -> impl Iterator<Item = u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(move |process| {
        let id = process.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        // After the name, which may contain anything: the state and the parent.
        let of: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (of == parent).then_some(id)
    })
}
