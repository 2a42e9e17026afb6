//! The loads, and what `/proc` says about the process under them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::Connection;
use crate::payloads::Kind;
use crate::targets::Target;
use crate::upstream::STREAM_EVENTS;

/// `USER_HZ`, the unit of the CPU times in `/proc`: 100 on every architecture that Linux has today.
const TICKS_PER_SECOND: f64 = 100.0;
/// No single load takes longer, however slow its target is.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// How much of everything.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
    pub(crate) small_requests: usize,
    pub(crate) large_requests: usize,
    pub(crate) streams: usize,
    pub(crate) idle_streams: usize,
    pub(crate) requests_per_second: u32,
    pub(crate) paced_for: Duration,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Self {
            rounds: 5,
            connections: 16,
            small_requests: 15_000,
            large_requests: 3_000,
            streams: 48,
            idle_streams: 1_000,
            requests_per_second: 1_000,
            paced_for: Duration::from_secs(3),
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            rounds: 1,
            small_requests: 2_000,
            large_requests: 300,
            streams: 16,
            idle_streams: 100,
            paced_for: Duration::from_millis(500),
            ..Self::full()
        }
    }
}

/// CPU time and what it was spent on, summed over the rounds.
#[derive(Clone, Default)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) units: usize,
}

impl Cost {
    pub(crate) fn microseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.units.max(1) as f64
    }

    fn add(&mut self, (cpu, units): (Duration, usize)) {
        self.cpu += cpu;
        self.units += units;
    }
}

/// Everything measured about one target.
#[derive(Clone, Default)]
pub(crate) struct TargetResults {
    pub(crate) small: Cost,
    pub(crate) long_question: Cost,
    pub(crate) long_answer: Cost,
    pub(crate) stream_event: Cost,
    pub(crate) idle_stream_bytes: f64,
    /// Sorted, one list a round.
    latencies: Vec<Vec<Duration>>,
    pub(crate) late: usize,
    pub(crate) database_queries: Option<u64>,
    pub(crate) requests: usize,
}

impl TargetResults {
    /// The latency that this share of the requests stayed under: the middle one of the rounds, so that
    /// a stall of the machine in one of them does not become the target's.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        let at =
            |sorted: &Vec<Duration>| sorted.get((sorted.len() as f64 * share) as usize).copied();
        let mut rounds: Vec<Duration> = self.latencies.iter().filter_map(at).collect();
        rounds.sort_unstable();
        rounds.get(rounds.len() / 2).copied().unwrap_or_default()
    }
}

/// One entry a target, in the order of the columns.
pub(crate) struct Results(pub(crate) Vec<TargetResults>);

impl Results {
    pub(crate) fn new(targets: usize) -> Self {
        Self(vec![TargetResults::default(); targets])
    }

    pub(crate) fn idle_stream_bytes(&mut self, index: usize, bytes: f64) {
        if let Some(results) = self.0.get_mut(index) {
            results.idle_stream_bytes = bytes;
        }
    }
}

/// Every kind once, read whole: a fast wrong answer must not become a good number.
pub(crate) fn check(target: &Target) -> Result<(), Failure> {
    for kind in [Kind::Small, Kind::LongQuestion, Kind::LongAnswer, Kind::Stream] {
        let answer = Connection::open(target.address)?.ask(&target.request(kind))?;
        let text = String::from_utf8_lossy(&answer.body);
        let right = match kind {
            Kind::Stream => {
                text.matches("\"content\":\" word\"").count() == STREAM_EVENTS
                    && text.contains("data: [DONE]")
                    // Nobody asked for the usage here, whoever asks the upstream for it.
                    && !text.contains("\"usage\":{")
            }
            Kind::LongAnswer => text.len() > 90_000 && text.contains("\"finish_reason\":\"stop\""),
            _ => text.contains("\"finish_reason\":\"stop\""),
        };
        if answer.status != 200 || !right {
            let shown: String = text.chars().take(400).collect();
            return Err(
                format!("{}, {}: {} {shown}", target.name, kind.name(), answer.status).into()
            );
        }
    }
    Ok(())
}

/// Fills pools and caches before anything counts.
pub(crate) fn warm_up(target: &Target, plan: &Plan) -> Result<(), Failure> {
    for kind in [Kind::Small, Kind::LongQuestion, Kind::LongAnswer] {
        closed_loop(target, kind, plan.connections, plan.connections * 20)?;
    }
    Ok(())
}

/// One turn of one target: every load once.
pub(crate) fn round(
    target: &Target,
    plan: &Plan,
    results: &mut Results,
    index: usize,
) -> Result<(), Failure> {
    let Some(results) = results.0.get_mut(index) else {
        return Ok(());
    };
    let queries = target.database_queries()?;
    let mut load = |kind, connections, requests| {
        let before = cpu_time(target.pid)?;
        let answered = closed_loop(target, kind, connections, requests)?;
        results.requests += answered;
        Ok::<_, Failure>((cpu_time(target.pid)?.saturating_sub(before), answered))
    };
    let small = load(Kind::Small, plan.connections, plan.small_requests)?;
    let long_question = load(Kind::LongQuestion, plan.connections, plan.large_requests)?;
    let long_answer = load(Kind::LongAnswer, plan.connections, plan.large_requests)?;
    let (cpu, streams) = load(Kind::Stream, plan.streams, plan.streams)?;
    results.small.add(small);
    results.long_question.add(long_question);
    results.long_answer.add(long_answer);
    results.stream_event.add((cpu, streams * STREAM_EVENTS));
    if let (Some(before), Some(after)) = (queries, target.database_queries()?) {
        *results.database_queries.get_or_insert(0) += after - before;
    }

    let mut paced = paced(target, plan)?;
    paced.sort_unstable();
    results.late += paced.iter().filter(|latency| **latency > Duration::from_millis(10)).count();
    results.latencies.push(paced);
    Ok(())
}

/// As many requests as the connections get through, one after the other on each. Returns how many.
fn closed_loop(
    target: &Target,
    kind: Kind,
    connections: usize,
    requests: usize,
) -> Result<usize, Failure> {
    let request = target.request(kind);
    let started = AtomicUsize::new(0);
    let answered = AtomicUsize::new(0);
    let deadline = Instant::now() + LOAD_LIMIT;
    on_threads(connections, |_| {
        let mut connection = Connection::open(target.address)?;
        while started.fetch_add(1, Ordering::Relaxed) < requests && Instant::now() < deadline {
            connection.drive(&request)?;
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
    .map_err(|error| format!("{}, {}: {error}", target.name, kind.name()))?;
    Ok(answered.into_inner())
}

/// Requests at a fixed rate whatever the answers do, each timed from the moment at which it was due,
/// so that a stall counts against every request that it delayed.
fn paced(target: &Target, plan: &Plan) -> Result<Vec<Duration>, Failure> {
    let request = target.request(Kind::Small);
    let gap = Duration::from_secs(1) / plan.requests_per_second;
    let connections = u32::try_from(plan.connections)?;
    let turns = plan.paced_for.as_millis() as u32 * plan.requests_per_second / 1_000 / connections;
    // Time for the threads to start and to connect.
    let start = Instant::now() + Duration::from_millis(100);
    let parts = on_threads(plan.connections, |index| {
        let mut connection = Connection::open(target.address)?;
        let first = start + gap * u32::try_from(index)?;
        let mut latencies = Vec::new();
        for turn in 0..turns {
            let due = first + gap * connections * turn;
            wait_for(due);
            connection.drive(&request)?;
            latencies.push(due.elapsed());
        }
        Ok(latencies)
    })
    .map_err(|error| format!("{}, paced: {error}", target.name))?;
    Ok(parts.into_iter().flatten().collect())
}

/// Sleeps, then spins through what a sleep may overrun.
fn wait_for(due: Instant) {
    const OVERRUN: Duration = Duration::from_micros(100);
    std::thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(OVERRUN));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

/// What the target's memory grows by for one open stream that says nothing.
pub(crate) fn idle_streams(target: &Target, plan: &Plan) -> Result<f64, Failure> {
    let request = target.request(Kind::Idle);
    let open = |count: usize| -> Result<Vec<Connection>, Failure> {
        (0..count)
            .map(|_| {
                let mut connection = Connection::open(target.address)?;
                connection.begin(&request)?;
                Ok(connection)
            })
            .collect()
    };
    // The first ones pay for what exists once.
    let _first = open(10)?;
    let before = resident_bytes(target.pid)?;
    let _open = open(plan.idle_streams)
        .map_err(|error| format!("{}, idle streams: {error}", target.name))?;
    let after = resident_bytes(target.pid)?;
    Ok((after - before) / plan.idle_streams as f64)
}

fn on_threads<T: Send>(
    threads: usize,
    work: impl Fn(usize) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let work = &work;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|index| scope.spawn(move || work(index))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread of the load generator panicked")?)
            .collect()
    })
}

/// User and system time of all threads of a process, those that ended included.
fn cpu_time(pid: u32) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything.
    let fields = text.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

fn resident_bytes(pid: u32) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .ok_or("/proc tells no VmRSS")?;
    Ok(kilobytes * 1024.0)
}
