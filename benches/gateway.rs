//! `cargo bench`: what a call through Tollgate costs, beside a direct call and nginx `proxy_pass`, in
//! one table from one run. `cargo bench -- --quick` is a smoke run of a few seconds.
//!
//! The target has one core, with all its threads; load generator and upstream have another. Loads are
//! closed loops that keep the target's core busy, so its CPU time is what a request costs under
//! saturation. Targets take turns in rounds, and the medians are shown.
//!
//! | file | content |
//! | --- | --- |
//! | `gateway.rs` | the order of the run |
//! | `upstream.rs` | the upstream, a child process of one thread |
//! | `targets.rs` | starting, preparing and stopping what is measured |
//! | `payloads.rs` | requests and answers, encoded once |
//! | `client.rs` | one keep-alive connection |
//! | `measure.rs` | the loads, and what `/proc` says about a process under them |
//! | `report.rs` | the table |
//!
//! Nothing here asserts a time: numbers are for people to read, and a loaded machine is no error.
//! Only loopback addresses are used, and every load is bounded in time.
#![expect(clippy::print_stdout, reason = "the table is this program's output")]

mod client;
mod measure;
mod payloads;
mod report;
mod targets;
mod upstream;

use std::os::unix::process::CommandExt;
use std::process::Command;

use measure::{Measured, Plan};
use targets::{Limits, Target, Upstream};

/// Any failure, as text; a benchmark has no caller that would match on it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Cargo passes `--bench` from `cargo bench` only; `cargo test --benches` must not start a load.
    if !given("--bench") && !given("--upstream") {
        println!("not run: start this with `cargo bench`, or `cargo bench -- --quick`");
        return Ok(());
    }
    let core = arguments.iter().find_map(|argument| argument.strip_prefix("--target-core="));
    if given("--bench") && core.is_none() {
        return Err(start_pinned(&arguments));
    }
    let core = core.unwrap_or_default();
    let plan = if given("--quick") { Plan::quick() } else { Plan::full() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if given("--upstream") { upstream::run().await } else { run(&plan, core).await }
    })
}

/// Starts this program again on the load's core, with as many open files as the system allows: a
/// thousand idle streams are two thousand sockets. Returns only on failure.
fn start_pinned(arguments: &[String]) -> Failure {
    let start = || -> Result<std::io::Error, Failure> {
        let (load, target) = targets::cores()?;
        Ok(Command::new("sh")
            .args(["-c", r#"ulimit -n "$(ulimit -Hn)"; exec taskset -c "$@""#, "sh"])
            .arg(load.to_string())
            .arg(std::env::current_exe()?)
            .args(arguments)
            .arg(format!("--target-core={target}"))
            .exec())
    };
    start().map_or_else(|failure| failure, Into::into)
}

async fn run(plan: &Plan, core: &str) -> Result<(), Failure> {
    let upstream = Upstream::start()?;
    let mut targets = vec![Target::direct(&upstream)];
    targets.extend(Target::nginx(&upstream, core).await?);
    for limits in [Limits::None, Limits::InMemory, Limits::InRedis] {
        targets.extend(Target::tollgate(&upstream, core, limits).await?);
    }
    let mut results = Vec::new();
    for target in &targets {
        measure::check(target).await?;
        // Memory comes first, while no allocator holds pages from the loads.
        results.push(Measured::new(measure::idle_stream_bytes(target, plan).await?));
    }
    for round in 0..plan.rounds {
        // Another target begins each round, so that a drift of the machine meets all alike.
        for turn in 0..targets.len() {
            let at = (round + turn) % targets.len();
            if let (Some(target), Some(results)) = (targets.get(at), results.get_mut(at)) {
                measure::round(target, plan, results).await?;
            }
        }
    }
    report::print(&targets, &results, plan);
    Ok(())
}
