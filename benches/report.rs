//! The table.

use std::time::Duration;

use crate::measure::{Plan, Results, TargetResults};
use crate::targets::Target;

const LABEL: usize = 42;
const COLUMN: usize = 12;

/// One line: what it says, and how to read its number off a target.
type Row = (&'static str, fn(&TargetResults) -> f64);

const COSTS: [Row; 5] = [
    ("CPU us a request, 1 KB up, 1 KB down", |results| results.small.microseconds()),
    ("CPU us a request, 100 KB up, 1 KB down", |results| results.long_question.microseconds()),
    ("CPU us a request, 1 KB up, 100 KB down", |results| results.long_answer.microseconds()),
    ("CPU us a streamed event", |results| results.stream_event.microseconds()),
    ("memory an open idle stream, KB", |results| results.idle_stream_bytes / 1024.0),
];

pub(crate) fn print(targets: &[Target], results: &Results, plan: &Plan, nginx_installed: bool) {
    let of = |name: &str| {
        targets.iter().position(|target| target.name == name).and_then(|index| results.0.get(index))
    };
    let (direct, nginx, tollgate) = (of("direct"), of("nginx"), of("tollgate"));

    println!();
    line("", ["direct", "nginx", "tollgate", "tollgate : nginx"].map(str::to_owned));
    for (label, read) in COSTS {
        let ratio = match (nginx.map(read), tollgate.map(read)) {
            (Some(nginx), Some(tollgate)) if nginx > 0.0 => format!("{:.2}", tollgate / nginx),
            _ => "-".to_owned(),
        };
        let number = |results: Option<&TargetResults>| match results {
            Some(results) => format!("{:.1}", read(results)),
            None => "-".to_owned(),
        };
        line(label, [number(direct), number(nginx), number(tollgate), ratio]);
    }
    for (label, share) in [("median", 0.5), ("99th percentile", 0.99)] {
        let label = format!("latency at {}/s, {label}, us", plan.requests_per_second);
        let number = |results: Option<&TargetResults>| match results {
            Some(results) => microseconds(results.latency(share)),
            None => "-".to_owned(),
        };
        line(&label, [number(direct), number(nginx), number(tollgate), String::new()]);
        let added = |results: Option<&TargetResults>| match (results, direct) {
            (Some(results), Some(direct)) => {
                let (through, without) = (results.latency(share), direct.latency(share));
                format!("{:+.0}", (through.as_secs_f64() - without.as_secs_f64()) * 1e6)
            }
            _ => "-".to_owned(),
        };
        line(
            "  added to a direct call",
            [String::new(), added(nginx), added(tollgate), String::new()],
        );
    }
    let late = |results: Option<&TargetResults>| match results {
        Some(results) => results.late.to_string(),
        None => "-".to_owned(),
    };
    line("  answers later than 10 ms", [late(direct), late(nginx), late(tollgate), String::new()]);
    if let Some(results) = tollgate
        && let Some(queries) = results.database_queries
    {
        let label = format!("database queries in {} requests", results.requests);
        line(&label, [String::new(), String::new(), queries.to_string(), "expected: 0".to_owned()]);
    }

    println!();
    if !nginx_installed {
        println!("nginx: not installed, so there is nothing to compare with.");
    }
    println!(
        "CPU is user and system time of the process that answers: for \"direct\", the upstream's own.\n\
         nginx and tollgate run one worker each. {} rounds, {} connections, {} streams of {} events;\n\
         memory with {} streams open. Latency counts from the moment at which a request was due.",
        plan.rounds,
        plan.connections,
        plan.streams,
        crate::upstream::STREAM_EVENTS,
        plan.idle_streams,
    );
}

fn microseconds(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64() * 1e6)
}

fn line(label: &str, [direct, nginx, tollgate, ratio]: [String; 4]) {
    println!("{label:LABEL$}{direct:>COLUMN$}{nginx:>COLUMN$}{tollgate:>COLUMN$}{ratio:>18}");
}
