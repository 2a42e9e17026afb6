//! The table.

use crate::measure::{Load, Measured, Plan, REQUESTS_PER_SECOND, median};
use crate::payloads::Kind;
use crate::targets::Target;
use crate::upstream::STREAM_EVENTS;

const LABEL: usize = 44;
const COLUMN: usize = 16;

pub(crate) fn print(targets: &[Target], results: &[Measured], plan: &Plan) {
    println!();
    line("", targets.iter().map(|target| target.name.to_owned()));
    let resident = targets.iter().map(|target| format!("{:.0}", target.resident_mb));
    line("resident before the first request, MB", resident);
    for (at, kind) in Kind::LOADS.into_iter().enumerate() {
        // A stream is counted by its events.
        let events = if kind == Kind::Stream { STREAM_EVENTS as f64 } else { 1.0 };
        let value = |measured: &Measured, read: fn(&Load) -> f64| {
            measured.loads.get(at).map_or(f64::NAN, |loads| median(loads.iter().map(read)))
        };
        let unit = if kind == Kind::Stream { "events" } else { "requests" };
        let rates = results.iter().map(|measured| {
            let idle = value(measured, Load::utilization) < 0.85;
            let mark = if idle { "+" } else { "" };
            format!("{:.0}{mark}", value(measured, Load::per_second) * events)
        });
        line(&format!("{}: {unit} a second", kind.label()), rates);
        let cpu = |measured| value(measured, Load::cpu_microseconds) / events;
        let nginx = targets.iter().zip(results).find(|(target, _)| target.name == "nginx");
        let nginx = nginx.map_or(f64::NAN, |(_, measured)| cpu(measured));
        let costs = results.iter().map(|measured| {
            let cpu = cpu(measured);
            format!("{cpu:.1} ({:.2})", cpu / nginx)
        });
        line("  CPU us each (times nginx)", costs);
    }
    let memory =
        results.iter().map(|measured| format!("{:.1}", measured.idle_stream_bytes / 1024.0));
    line("memory of an open idle stream, KB", memory);
    for (label, share) in [("median", 0.5), ("99th percentile", 0.99)] {
        let direct = results.first().map_or(f64::NAN, |direct| direct.latency(share));
        let latencies = results.iter().map(|measured| {
            let latency = measured.latency(share);
            format!("{latency:.0} ({:+.0})", latency - direct)
        });
        line(&format!("latency at {REQUESTS_PER_SECOND}/s, {label}, us (added)"), latencies);
    }
    let queries = results.iter().map(|measured| {
        measured.database_queries.map_or("-".to_owned(), |queries| queries.to_string())
    });
    line("database transactions that requests caused", queries);
    println!(
        "\nMedians of {} rounds. Each target has one core for all its threads, load and upstream have another.\n\
         +: the target used under 85 % of its core, so its rate is not its limit; compare CPU.\n\
         CPU is user and system time of the target's process; for \"direct\" that is the upstream, which shares\n\
         its core with the load. nginx and tollgate run one worker each; tollgate authenticates, logs and writes\n\
         the ledger. \"limits\": one spend cap and one rate limit match every request, counted in memory;\n\
         \"redis\": counted in Redis, whose own CPU is not included. {} streams were open for the memory.",
        plan.rounds, plan.idle_streams,
    );
}

fn line(label: &str, cells: impl IntoIterator<Item = String>) {
    let cells: String = cells.into_iter().map(|cell| format!("{cell:>COLUMN$}")).collect();
    println!("{label:LABEL$}{cells}");
}
