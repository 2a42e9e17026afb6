//! `cargo bench`: what a call through Tollgate costs, beside a direct call and nginx `proxy_pass`,
//! in one table from one run. `cargo bench -- --quick` is a smoke run of a few seconds;
//! `cargo bench -- --baseline` leaves Tollgate out, to see how steady the machine is.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `gateway.rs` | the order of the run |
//! | `upstream.rs` | the upstream, a child process of one thread |
//! | `targets.rs` | starting, preparing and stopping what is measured |
//! | `payloads.rs` | requests and answers, encoded once |
//! | `client.rs` | one keep-alive connection, with as little parsing as will do |
//! | `measure.rs` | the loads, and what `/proc` says about a process under them |
//! | `report.rs` | the table |
//!
//! Nothing here asserts a time: numbers are for people to read, and a loaded machine is no error.
//! Only loopback addresses are used, and every load is bounded in count and in time.
#![expect(clippy::print_stdout, reason = "the table is this program's output")]

mod client;
mod measure;
mod payloads;
mod report;
mod targets;
mod upstream;

use std::os::unix::process::CommandExt;
use std::process::Command;

use measure::{Plan, Results};
use targets::{Limits, Target, Upstream};

/// Whatever went wrong, in words; a benchmark has no caller that would match on it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if given("--upstream") {
        return upstream::run();
    }
    // Cargo passes `--bench` from `cargo bench` only; `cargo test --benches` must not start a load.
    if !given("--bench") {
        println!("not run: start this with `cargo bench`, or `cargo bench -- --quick`");
        return Ok(());
    }
    if !given("--limits-raised") {
        return Err(with_raised_limits(&arguments));
    }
    let plan = if given("--quick") { Plan::quick() } else { Plan::full() };
    run(&plan, given("--baseline"))
}

/// Starts this program again with as many open files as the system allows: a thousand idle streams
/// are two thousand sockets in a gateway, and the usual soft limit is 1,024. Returns only on failure.
fn with_raised_limits(arguments: &[String]) -> Failure {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    Command::new("sh")
        .args(["-c", r#"ulimit -n "$(ulimit -Hn)"; exec "$@""#, "sh"])
        .arg(program)
        .args(arguments)
        .arg("--limits-raised")
        .exec()
        .into()
}

fn run(plan: &Plan, baseline: bool) -> Result<(), Failure> {
    let upstream = Upstream::start()?;
    let mut targets = vec![Target::direct(&upstream)];
    let nginx = Target::nginx(&upstream)?;
    let nginx_installed = nginx.is_some();
    targets.extend(nginx);
    if !baseline {
        for limits in [Limits::None, Limits::InMemory, Limits::InRedis] {
            targets.extend(Target::tollgate(&upstream, limits)?);
        }
    }

    let mut results = Results::new(targets.len());
    for target in &targets {
        measure::check(target)?;
    }
    // Memory comes first, while no allocator holds pages left over from the loads.
    for (index, target) in targets.iter().enumerate() {
        results.idle_stream_bytes(index, measure::idle_streams(target, plan)?);
    }
    for target in &targets {
        measure::warm_up(target, plan)?;
    }
    for round in 0..plan.rounds {
        // A different target goes first in each round, and each meets the machine's moods alike.
        for turn in 0..targets.len() {
            let index = (round + turn) % targets.len();
            if let Some(target) = targets.get(index) {
                measure::round(target, plan, &mut results, index)?;
            }
        }
    }
    report::print(&targets, &results, plan, nginx_installed);
    Ok(())
}
