//! Runs each case on its own thread and actix system, and then checks the whole run: no secret was
//! logged, and no panic went unnoticed.

use std::{
    panic::PanicHookInfo,
    process::ExitCode,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};

use super::{
    case::{Body, Case, CaseFuture},
    database::{self, Database, Kind},
    logs, secrets,
};

/// After this time a case counts as hung; passing cases are far below it.
const HUNG: Duration = Duration::from_secs(300);

const STACK: usize = 8 << 20;

/// Runs the cases that the command line selects.
pub(crate) fn run(cases: Vec<Case>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Cases mostly wait for sockets and disks.
    let cores = thread::available_parallelism().map_or(2, usize::from);
    arguments.test_threads.get_or_insert((cores * 2).min(8));

    let postgres = database::postgres_url().is_some();
    if !postgres && !arguments.list {
        eprintln!(
            "PostgreSQL was not tried: set {}=postgres://USER:PASSWORD@HOST/DATABASE (a role that may \
             create databases) to run every case on it too.",
            database::POSTGRES_URL
        );
    }
    logs::install();
    std::panic::set_hook(Box::new(note_panic));

    let trials = cases.into_iter().flat_map(|case| trials(case, postgres)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        logs::run().remove();
        return ExitCode::SUCCESS;
    }
    database::drop_leftovers();

    let leaks = logs::leaks(&logs::run().read(), &secrets::used());
    let clean = check("the_run::logged_no_secret_that_it_used", &leaks)
        & check("the_run::left_no_panic_unanswered", &unanswered());
    if clean && !conclusion.has_failed() {
        logs::run().remove();
        return ExitCode::SUCCESS;
    }
    println!("\neverything that was logged: {}", logs::run().path().display());
    ExitCode::from(101)
}

/// Prints the result of a check in the form of a test result.
fn check(name: &str, problems: &[String]) -> bool {
    let verdict = if problems.is_empty() { "ok" } else { "FAILED" };
    println!("test {name} ... {verdict}");
    for problem in problems {
        println!("    {problem}");
    }
    problems.is_empty()
}

/// The trials of a case: one per database.
fn trials(case: Case, postgres: bool) -> Vec<Trial> {
    let title = case.title();
    let on = |kind: Kind, body: fn(Database) -> CaseFuture| {
        let name = format!("{title}::{}", kind.name());
        Trial::test(name.clone(), move || {
            let database = Database::create(kind).map_err(Failed::from)?;
            watch(&name, move || body(database))
        })
    };
    match case.body {
        Body::Plain(body) => {
            let name = title.clone();
            vec![Trial::test(title.clone(), move || watch(&name, body))]
        }
        Body::Postgres(body) if postgres => vec![on(Kind::Postgres, body)],
        Body::Postgres(_) => Vec::new(),
        Body::Both(body) if postgres => vec![on(Kind::Sqlite, body), on(Kind::Postgres, body)],
        Body::Both(body) => vec![on(Kind::Sqlite, body)],
    }
}

/// Runs a case on a thread with its name. A case fails if its thread panics, also in a task that is
/// not awaited.
fn watch(name: &str, body: impl FnOnce() -> CaseFuture + Send + 'static) -> Result<(), Failed> {
    watch_for(HUNG, name, body)
}

/// The same with a given time limit.
pub(crate) fn watch_for(
    limit: Duration,
    name: &str,
    body: impl FnOnce() -> CaseFuture + Send + 'static,
) -> Result<(), Failed> {
    let (alive, ended) = mpsc::channel::<()>();
    let thread =
        thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || {
            // Dropped at the end of the case, which ends the wait below.
            let _alive = alive;
            actix_rt::System::new().block_on(body());
        })?;
    if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
        return Err(format!("{name} hung: it had not ended after {limit:?}").into());
    }
    let ended_well = thread.join().is_ok();
    let panics = panics_of(name);
    match panics.is_empty() && ended_well {
        true => Ok(()),
        false => Err(panics.join("\n").into()),
    }
}

struct Panic {
    thread: String,
    message: String,
    answered: bool,
}

static PANICS: Mutex<Vec<Panic>> = Mutex::new(Vec::new());

fn note_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let literal = payload.downcast_ref::<&str>().copied();
    let message = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("a panic without a message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current().name().unwrap_or("a thread without a name").to_owned();
    let panic = Panic { thread, message: format!("{message}\n  at {place}"), answered: false };
    PANICS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(panic);
}

/// Panics on the thread `name` and on threads named after it (`NAME/gateway`).
fn panics_of(name: &str) -> Vec<String> {
    let mut panics = PANICS.lock().unwrap();
    let mine = panics.iter_mut().filter(|panic| {
        panic.thread.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    mine.map(|panic| {
        panic.answered = true;
        panic.message.clone()
    })
    .collect()
}

/// Panics for which no case has failed: on a worker thread, or after the case had ended.
fn unanswered() -> Vec<String> {
    let panics = PANICS.lock().unwrap();
    let mine = panics.iter().filter(|panic| !panic.answered);
    mine.map(|panic| format!("thread {:?}: {}", panic.thread, panic.message)).collect()
}
