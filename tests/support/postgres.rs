//! A PostgreSQL server of the case's own, which may be stopped in every way that servers stop.
//!
//! It listens on a socket in its own directory: a port that it lets go of when it stops may be
//! somebody else's when it starts again. Where its translations are installed it speaks French,
//! since nothing may depend on the words in which a server says what is the matter.

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

/// What has to be installed.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// Whom the server runs as where the tests run as root, which it refuses.
const ACCOUNT: &str = "postgres";

/// As long as this file is there, recovery does not end.
const HOLD: &str = "hold";

/// How a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// `pg_ctl stop -m fast`: sessions are told and ended, and everything is written.
    Fast,
    /// `pg_ctl stop -m immediate`: the next start has to recover.
    Immediate,
    /// Every process of it by SIGKILL, as when memory runs out. The next start has to recover.
    Killed,
}

impl StopMode {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Fast, Self::Killed, Self::Immediate];
}

/// A server. Killed when dropped, and when the tests' process ends without that.
pub(crate) struct OwnPostgres {
    programs: PathBuf,
    account: Option<(u32, u32)>,
    directory: TempDir,
    life: Option<ServerRun>,
    /// What it wrote in lives that have ended.
    told: Vec<String>,
}

/// From one start to the next stop.
struct ServerRun {
    postmaster: ChildProcess,
    /// Stops the server once nobody holds the other end of its standard input.
    guard: Child,
}

impl OwnPostgres {
    /// Makes one, empty, and waits until it takes connections.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("tollgate-postgres-").tempdir().unwrap();
        let is_root = directory.path().metadata().unwrap().uid() == 0;
        let account = is_root.then(|| (id_of_account("-u"), id_of_account("-g")));
        let mut server =
            Self { programs: find_programs(), account, directory, life: None, told: Vec::new() };
        server.give_away(server.directory.path());
        let mut initdb = server.program("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        initdb.args(["--locale=C.UTF-8", "--no-sync", "-D"]).arg(server.data());
        let made = process::run(initdb).await;
        assert_eq!(made.code, Some(0), "initdb: {}{}", made.stdout, made.stderr);
        server.start_again().await;
        server
    }

    /// Its database. Its directory does not go with the server.
    pub(crate) fn database(&self) -> Database {
        Database::of_server(self.url())
    }

    /// Stops it.
    pub(crate) async fn stop(&mut self, how: StopMode) {
        let mut life = self.life.take().expect("it runs");
        let postmaster = life.postmaster.id();
        match how {
            StopMode::Fast => Signal::Int.send(&[postmaster]),
            StopMode::Immediate => Signal::Quit.send(&[postmaster]),
            StopMode::Killed => kill_with_children(postmaster),
        }
        life.postmaster.ended().await;
        self.told.extend(life.postmaster.lines());
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) async fn start_again(&mut self) {
        eventually("the case's PostgreSQL takes connections", async || {
            // Beside the last processes of one that was killed no other starts.
            if self.life.as_mut().is_none_or(|life| life.postmaster.has_ended()) {
                self.life = Some(self.begin());
            }
            tokio_postgres::connect(&self.url(), NoTls).await.is_ok()
        })
        .await;
    }

    /// Starts it, but keeps it in recovery, in which it turns everybody away, until `meanwhile` is
    /// done; then waits until it takes connections.
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

    /// Whether it has been started, and not stopped since.
    pub(crate) fn is_running(&self) -> bool {
        self.life.is_some()
    }

    /// How many lines it has written about telling somebody this SQLSTATE.
    pub(crate) fn times_told(&self, sqlstate: &str) -> usize {
        let now = self.life.as_ref().map(|life| life.postmaster.lines()).unwrap_or_default();
        self.told.iter().chain(&now).filter(|line| line.starts_with(sqlstate)).count()
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
            // Asked for the next piece of the log when recovery has come to the end of what there is.
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
        // Before its directory goes.
        if let Some(mut life) = self.life.take()
            && !life.postmaster.has_ended()
        {
            kill_with_children(life.postmaster.id());
        }
    }
}

impl Drop for ServerRun {
    fn drop(&mut self) {
        // Before somebody else may have the process id that it knows.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// The directory that has all of the programs: what `pg_config` names, of the path, or Debian's.
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

/// A number of the account's.
fn id_of_account(which: &str) -> u32 {
    let output = Command::new("id").args([which, ACCOUNT]).output().expect("id can be run");
    let number = String::from_utf8_lossy(&output.stdout).trim().parse();
    number.unwrap_or_else(|_| {
        panic!("PostgreSQL does not run as root, and there is no user {ACCOUNT:?} to run it as")
    })
}

fn kill_with_children(process: u32) {
    // Standing still, it starts no more of them.
    Signal::Stop.send(&[process]);
    Signal::Kill.send(&children_of(process).chain([process]).collect::<Vec<_>>());
}

/// The processes that a process has started and not waited for, from proc(5).
fn children_of(parent: u32) -> impl Iterator<Item = u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(move |process| {
        let id = process.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        // After the name, which may hold anything: the state, and the parent.
        let of: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (of == parent).then_some(id)
    })
}
