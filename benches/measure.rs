//! The loads, and what `/proc` says about the process under them.

use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::Failure;
use crate::client::Connection;
use crate::payloads::Kind;
use crate::targets::Target;
use crate::upstream::STREAM_EVENTS;

/// `USER_HZ`, the unit of the CPU times in `/proc`: 100 on every architecture that Linux supports.
const TICKS_PER_SECOND: f64 = 100.0;
/// An answer that takes longer ends the run.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(20);
/// Connections of the load at a fixed rate.
const PACED_CLIENTS: u32 = 16;
pub(crate) const REQUESTS_PER_SECOND: u32 = 1_000;

/// The size of a run.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) load_time: Duration,
    pub(crate) idle_streams: usize,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Self { rounds: 5, load_time: Duration::from_secs(3), idle_streams: 1_000 }
    }

    pub(crate) fn quick() -> Self {
        Self { rounds: 1, load_time: Duration::from_millis(400), idle_streams: 100 }
    }
}

/// What one load took of a target.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) answers: usize,
    cpu: Duration,
    wall: Duration,
}

impl Load {
    pub(crate) fn cpu_microseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answers.max(1) as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answers as f64 / self.wall.as_secs_f64()
    }

    /// The share of its core that the target used.
    pub(crate) fn utilization(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Everything measured about one target, a value a round.
pub(crate) struct Measured {
    pub(crate) idle_stream_bytes: f64,
    /// In the order of [`Kind::LOADS`].
    pub(crate) loads: [Vec<Load>; Kind::LOADS.len()],
    /// Sorted.
    latencies: Vec<Vec<Duration>>,
    pub(crate) database_queries: Option<u64>,
}

impl Measured {
    pub(crate) fn new(idle_stream_bytes: f64) -> Self {
        Self {
            idle_stream_bytes,
            loads: Default::default(),
            latencies: Vec::new(),
            database_queries: None,
        }
    }

    /// The latency that this share of the requests did not exceed, in microseconds.
    pub(crate) fn latency(&self, share: f64) -> f64 {
        let at = |round: &Vec<Duration>| round.get((round.len() as f64 * share) as usize).copied();
        median(self.latencies.iter().filter_map(at).map(|latency| latency.as_secs_f64() * 1e6))
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Reads one answer of each kind whole: a fast wrong answer must not become a good number.
pub(crate) async fn check(target: &Target) -> Result<(), Failure> {
    for kind in Kind::LOADS {
        let mut connection = Connection::open(target.address).await?;
        let (status, text) = limited(connection.fetch(&target.request(kind))).await?;
        let right = match kind {
            Kind::Stream => {
                text.matches("\"content\":\" word\"").count() == STREAM_EVENTS
                    && text.contains("data: [DONE]")
                    // The caller did not ask for it.
                    && !text.contains("\"usage\":{")
            }
            Kind::LongAnswer => text.len() > 90_000 && text.contains("\"finish_reason\":\"stop\""),
            _ => text.contains("\"finish_reason\":\"stop\""),
        };
        if status != 200 || !right {
            let shown: String = text.chars().take(400).collect();
            return Err(format!("{}, {}: {status} {shown}", target.name, kind.name()).into());
        }
    }
    Ok(())
}

/// One turn of one target: each load once.
pub(crate) async fn round(
    target: &Target,
    plan: &Plan,
    results: &mut Measured,
) -> Result<(), Failure> {
    let queries = target.database_queries().await?;
    for (kind, loads) in Kind::LOADS.into_iter().zip(&mut results.loads) {
        let load = closed_loop(target, kind, plan.load_time).await;
        loads.push(load.map_err(|error| format!("{}, {}: {error}", target.name, kind.name()))?);
    }
    if let (Some(before), Some(after)) = (queries, target.database_queries().await?) {
        *results.database_queries.get_or_insert(0) += after - before;
    }
    let mut latencies = paced(target, plan.load_time).await?;
    latencies.sort_unstable();
    results.latencies.push(latencies);
    Ok(())
}

/// Each client sends its next request when the last one is answered.
async fn closed_loop(target: &Target, kind: Kind, time: Duration) -> Result<Load, Failure> {
    let request = target.request(kind);
    let open = || async {
        let mut connection = Connection::open(target.address).await?;
        limited(connection.send(&request)).await?;
        Ok::<_, Failure>(connection)
    };
    let connections = try_join_all((0..kind.clients()).map(|_| open())).await?;
    let (began, cpu) = (Instant::now(), cpu_time(target.pid)?);
    let client = async |mut connection: Connection| {
        let mut answers = 0;
        while began.elapsed() < time {
            connection.send(&request).await?;
            answers += 1;
        }
        Ok::<usize, Failure>(answers)
    };
    let answers = try_join_all(connections.into_iter().map(client));
    let answers = tokio::time::timeout(time + MAX_ANSWER_TIME, answers).await??.into_iter().sum();
    let (wall, cpu) = (began.elapsed(), cpu_time(target.pid)?.saturating_sub(cpu));
    Ok(Load { answers, cpu, wall })
}

/// Requests at a fixed rate whatever the answers do. One that had to wait for its connection is timed
/// from the moment at which it was due.
async fn paced(target: &Target, time: Duration) -> Result<Vec<Duration>, Failure> {
    let request = target.request(Kind::Small);
    let gap = Duration::from_secs(1) / REQUESTS_PER_SECOND;
    let turns = time.as_millis() as u32 * REQUESTS_PER_SECOND / 1_000 / PACED_CLIENTS;
    let start = Instant::now() + Duration::from_millis(100);
    let client = async |index: u32| {
        let mut connection = Connection::open(target.address).await?;
        let mut latencies = Vec::new();
        for turn in 0..turns {
            let due = start + gap * (index + turn * PACED_CLIENTS);
            let waited = due < Instant::now();
            tokio::time::sleep_until(due.into()).await;
            // A timer that fires late is not the target's fault.
            let began = if waited { due } else { Instant::now() };
            limited(connection.send(&request)).await?;
            latencies.push(began.elapsed());
        }
        Ok::<_, Failure>(latencies)
    };
    Ok(try_join_all((0..PACED_CLIENTS).map(client)).await?.concat())
}

/// By how much one open stream that sends nothing increases the target's memory.
pub(crate) async fn idle_stream_bytes(target: &Target, plan: &Plan) -> Result<f64, Failure> {
    let request = target.request(Kind::Idle);
    let open = async |count: usize| {
        let mut connections = Vec::new();
        for _ in 0..count {
            let mut connection = Connection::open(target.address).await?;
            limited(connection.begin(&request)).await?;
            connections.push(connection);
        }
        Ok::<_, Failure>(connections)
    };
    // The first ones pay for what exists once.
    let _first = open(10).await?;
    let before = resident_bytes(target.pid)?;
    let _open = open(plan.idle_streams).await?;
    Ok((resident_bytes(target.pid)? - before) / plan.idle_streams as f64)
}

async fn limited<T>(answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(MAX_ANSWER_TIME, answer).await?
}

/// User and system time of all threads of a process, those that ended included.
fn cpu_time(pid: u32) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything.
    let fields = text.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = times.filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

pub(crate) fn resident_bytes(pid: u32) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .ok_or("/proc has no VmRSS")?;
    Ok(kilobytes * 1024.0)
}
