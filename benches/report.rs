//! The table.

use std::time::Duration;

use crate::measure::{Plan, Results, TargetResults};
use crate::targets::Target;

const LABEL: usize = 42;
const COLUMN: usize = 15;

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
    let columns: Vec<&TargetResults> = results.0.iter().take(targets.len()).collect();
    let of = |name: &str| {
        targets
            .iter()
            .position(|target| target.name == name)
            .and_then(|at| columns.get(at).copied())
    };
    let (direct, nginx) = (of("direct"), of("nginx"));
    // What all that is on costs: the last of them.
    let fullest = targets
        .iter()
        .rposition(|target| target.name == "limits")
        .or_else(|| targets.iter().position(|target| target.name == "tollgate"));
    let fullest = fullest.and_then(|at| columns.get(at).copied());

    println!();
    let names = targets.iter().map(|target| target.name.to_owned());
    line("", names.chain(["limits : nginx".to_owned()]));
    for (label, read) in COSTS {
        let ratio = match (nginx.map(read), fullest.map(read)) {
            (Some(nginx), Some(fullest)) if nginx > 0.0 => format!("{:.2}", fullest / nginx),
            _ => "-".to_owned(),
        };
        let numbers = columns.iter().map(|results| format!("{:.1}", read(results)));
        line(label, numbers.chain([ratio]));
    }
    for (label, share) in [("median", 0.5), ("99th percentile", 0.99)] {
        let label = format!("latency at {}/s, {label}, us", plan.requests_per_second);
        line(&label, columns.iter().map(|results| microseconds(results.latency(share))));
        let added = |results: &&TargetResults| match direct {
            Some(direct) => {
                let (through, without) = (results.latency(share), direct.latency(share));
                format!("{:+.0}", (through.as_secs_f64() - without.as_secs_f64()) * 1e6)
            }
            None => "-".to_owned(),
        };
        line("  added to a direct call", columns.iter().map(added));
    }
    line("  answers later than 10 ms", columns.iter().map(|results| results.late.to_string()));
    line(
        "database queries that requests caused",
        columns.iter().map(|results| match results.database_queries {
            Some(queries) => queries.to_string(),
            None => "-".to_owned(),
        }),
    );

    println!();
    if !nginx_installed {
        println!("nginx: not installed, so there is nothing to compare with.");
    }
    println!(
        "CPU is user and system time of the process that answers: for \"direct\", the upstream's own;\n\
         Redis' own is not counted. nginx and tollgate run one worker each, the journal and the ledger\n\
         on. \"limits\": one spend cap and one rate limit match every request, counted in memory;\n\
         \"redis\": the same, counted in Redis. A new cap reads the ledger once for each window.\n\
         {} rounds, {} connections, {} streams of {} events; memory with {} streams open.\n\
         Latency counts from the moment at which a request was due.",
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

fn line(label: &str, cells: impl IntoIterator<Item = String>) {
    let cells: String = cells.into_iter().map(|cell| format!("{cell:>COLUMN$}")).collect();
    println!("{label:LABEL$}{cells}");
}
