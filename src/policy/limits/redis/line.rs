//! The line to Redis: its deadline, and its breaker. A call never waits for a connection to be made
//! anew: while the line is down it fails at once, and the keeper alone tries whether Redis is back.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use redis::{ErrorKind, FromRedisValue, RedisError, ScriptInvocation};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::connect::{Address, Connected};
use super::keys::Scripts;
use super::worker;
use crate::telemetry::Metrics;

/// So many calls in a row that fail open the breaker.
const FAILURES: u32 = 3;

/// For how long nothing more is counted in a run that is another than the last: so that every
/// replica has reached it too, and put back what lives there.
const GATHERING: Duration = Duration::from_secs(1);

/// A server that has run for fewer seconds, as it counts them itself, may not have been reached by
/// every replica yet: at least gathering, and a try to reach it. Its whole seconds are up to one more
/// than have passed.
const YOUNG: u64 = 3;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not sent.
    NotSent,
    /// It was sent, and Redis may have done it or may do it still.
    Unanswered(String),
    /// Redis says that it could not.
    Error(String),
}

enum State {
    /// The first connection is being made.
    Connecting,
    Up(Arc<Connected>),
    Down,
}

/// The line to Redis.
pub(super) struct Line {
    address: Arc<Address>,
    deadline: Duration,
    state: watch::Sender<State>,
    failures: AtomicU32,
    /// The run that it led to last, and when that opened.
    last_run: Mutex<Option<(String, Instant)>>,
    /// Wakes the keeper.
    wake: Arc<Notify>,
    metrics: Metrics,
}

impl Line {
    pub(super) fn new(
        address: Address,
        deadline: Duration,
        wake: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        let state = watch::Sender::new(State::Connecting);
        metrics.counters_up(false);
        let (failures, last_run) = (AtomicU32::new(0), Mutex::default());
        let address = Arc::new(address);
        Self { address, deadline, state, failures, last_run, wake, metrics }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// Waits until it is up.
    pub(super) async fn up(&self) {
        let mut state = self.state.subscribe();
        // An error is that the line is gone, which it is not while this borrows it.
        let _ = state.wait_for(|state| matches!(state, State::Up(_))).await;
    }

    /// Runs a script within the deadline. It is made for the run of the server that it goes to.
    pub(super) async fn call<'s, T: FromRedisValue>(
        &self,
        script: impl FnOnce(&str) -> ScriptInvocation<'s>,
    ) -> Result<T, Failure> {
        self.send(script, false).await
    }

    /// The same, for what would count more: not sent while replicas gather at a server that was
    /// started.
    pub(super) async fn call_when_open<'s, T: FromRedisValue>(
        &self,
        script: impl FnOnce(&str) -> ScriptInvocation<'s>,
    ) -> Result<T, Failure> {
        self.send(script, true).await
    }

    async fn send<'s, T: FromRedisValue>(
        &self,
        script: impl FnOnce(&str) -> ScriptInvocation<'s>,
        when_open: bool,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + self.deadline;
        let Ok(Some(line)) = tokio::time::timeout_at(deadline, self.connected()).await else {
            self.metrics.counter_call("unavailable");
            return Err(Failure::NotSent);
        };
        if when_open && Instant::now() < line.opens {
            return Err(Failure::NotSent);
        }
        let own = worker::connection(&self.address, &line);
        let is_own = own.is_some();
        let mut connection = own.unwrap_or_else(|| line.connection.clone());
        let script = script(&line.run);
        let mut call = pin!(script.invoke_async(&mut connection));
        let mut answer = tokio::time::timeout_at(deadline, &mut call).await.ok();
        if answer.is_none() && is_own {
            // A worker that was held up itself may have the answer, and not have read it yet.
            tokio::task::yield_now().await;
            answer = call.as_mut().now_or_never();
        }
        match answer {
            Some(Ok(value)) => {
                if !is_own {
                    self.failures.store(0, Ordering::Relaxed);
                }
                self.metrics.counter_call("ok");
                Ok(value)
            }
            Some(Err(error)) => {
                self.metrics.counter_call("unavailable");
                let lost = error.is_unrecoverable_error();
                self.failed_on(&line, is_own, lost);
                Err(match error.kind() {
                    ErrorKind::Server(_) | ErrorKind::Extension => Failure::Error(said(&error)),
                    _ => Failure::Unanswered(said(&error)),
                })
            }
            None => {
                self.metrics.counter_call("deadline");
                self.failed_on(&line, is_own, false);
                Err(Failure::Unanswered(format!("no answer within {:?}", self.deadline)))
            }
        }
    }

    /// A failure on a worker's own connection is no sign of the line's: the one must not be taken down
    /// for the other, nor an answer on the one hide that the other is silent.
    fn failed_on(&self, line: &Arc<Connected>, is_own: bool, lost: bool) {
        if is_own {
            worker::leave();
        } else {
            self.failed(line, lost);
        }
    }

    /// The connection, if there is one; waits for the first to be made.
    async fn connected(&self) -> Option<Arc<Connected>> {
        if let State::Up(connected) = &*self.state.borrow() {
            return Some(connected.clone());
        }
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| !matches!(state, State::Connecting)).await.ok()?;
        match &*state {
            State::Up(connected) => Some(connected.clone()),
            _ => None,
        }
    }

    /// Counts a failure. The line goes down with its connection, or when too many have failed.
    fn failed(&self, used: &Arc<Connected>, lost: bool) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if !lost && failures < FAILURES {
            return;
        }
        let went_down = self.state.send_if_modified(|state| {
            let own = matches!(state, State::Up(current) if Arc::ptr_eq(current, used));
            if own {
                *state = State::Down;
            }
            own
        });
        if went_down {
            // Who still waits on it need not wait to the end.
            used.close();
            self.metrics.counters_up(false);
            tracing::warn!("the counters in Redis can't be reached");
            self.wake.notify_one();
        }
    }

    /// Goes down if Redis has closed the connection. Who asks nothing would not see it, and has to be
    /// back in time.
    pub(super) fn go_down_if_over(&self) {
        let over = match &*self.state.borrow() {
            State::Up(connected) if connected.is_over() => Some(connected.clone()),
            _ => None,
        };
        if let Some(connected) = over {
            self.failed(&connected, true);
        }
    }

    /// When the run that a connection leads to is open to what would count more.
    fn opening_of(&self, connected: &Connected) -> Instant {
        let mut last_run = self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
        let opens = match &*last_run {
            Some((last, opens)) if *last == connected.run => *opens,
            Some(_) => {
                tracing::warn!("Redis was started, or is another one: its counters are rebuilt");
                Instant::now() + GATHERING
            }
            // This process was started with it, and others may have been there before.
            None if connected.uptime.is_some_and(|uptime| uptime < YOUNG) => {
                Instant::now() + GATHERING
            }
            None => Instant::now(),
        };
        *last_run = Some((connected.run.clone(), opens));
        opens
    }

    /// Tries to come up: connects, and loads the scripts, which shows that Redis answers.
    pub(super) async fn come_up(&self, scripts: &Scripts) -> bool {
        let most = self.deadline.max(Duration::from_secs(1));
        let trying = tokio::time::timeout(most, async {
            let mut connected = self.address.connect(&self.wake).await?;
            for script in scripts.all() {
                script.load_async(&mut connected.connection.clone()).await?;
            }
            connected.opens = self.opening_of(&connected);
            Ok::<_, RedisError>(connected)
        });
        match trying.await {
            Ok(Ok(connected)) => {
                self.failures.store(0, Ordering::Relaxed);
                self.state.send_replace(State::Up(Arc::new(connected)));
                self.metrics.counters_up(true);
                tracing::info!("the counters in Redis are reached");
                true
            }
            failed => {
                let first = self.state.send_if_modified(|state| {
                    let first = matches!(state, State::Connecting);
                    *state = State::Down;
                    first
                });
                if first {
                    let why = match failed {
                        Ok(Err(error)) => said(&error),
                        _ => format!("no answer within {most:?}"),
                    };
                    tracing::warn!(error = why, "the counters in Redis can't be reached");
                }
                false
            }
        }
    }
}

/// Redis' own words, without what was sent.
fn said(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
        None => error.to_string(),
    }
}
