//! Calls to Redis: their deadline, and the breaker. No call waits for a reconnect: while Redis is down
//! calls fail at once, and only the background task tries to connect.
//!
//! There is one shared connection, driven by the background thread. Workers have connections of their
//! own as well, since two thread switches cost more than a call does. The shared connection alone
//! decides whether Redis is up and which run of the server is used.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use redis::{ErrorKind, FromRedisValue, RedisError, ScriptInvocation};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::connection::{Address, Connection};
use super::scripts::Scripts;
use super::worker;
use crate::telemetry::Metrics;

/// Failed calls in a row that open the breaker.
const MAX_FAILURES: u32 = 3;

/// How long nothing is reserved after the server's run has changed, so that every replica has
/// reconnected and restored its open reservations.
const RESTORE_TIME: Duration = Duration::from_secs(1);

/// A server with an uptime of fewer seconds may not have been reached by every replica yet. Covers
/// [`RESTORE_TIME`] and a reconnect; the uptime is rounded up.
const YOUNG: u64 = 3;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    NotSent,
    /// It was sent and may still be executed.
    Unanswered(String),
    /// Redis answered with an error.
    Error(String),
}

enum State {
    /// The first connect is under way.
    Connecting,
    Up(Arc<Connection>),
    Down,
}

/// Redis, as all threads see it.
pub(super) struct Client {
    address: Arc<Address>,
    deadline: Duration,
    state: watch::Sender<State>,
    failures: AtomicU32,
    /// The run that was used last, and when it opened.
    last_run: Mutex<Option<(String, Instant)>>,
    /// Wakes the background task.
    wake: Arc<Notify>,
    metrics: Metrics,
}

impl Client {
    pub(super) fn new(
        address: Address,
        deadline: Duration,
        wake: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        metrics.counters_up(false);
        Self {
            address: Arc::new(address),
            deadline,
            state: watch::Sender::new(State::Connecting),
            failures: AtomicU32::new(0),
            last_run: Mutex::default(),
            wake,
            metrics,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// Waits until Redis is up.
    pub(super) async fn up(&self) {
        let mut state = self.state.subscribe();
        // Fails only if the sender is gone, which `self` owns.
        let _ = state.wait_for(|state| matches!(state, State::Up(_))).await;
    }

    /// Waits until the shared connection is closed; forever if there is none.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let closed = match &*self.state.borrow() {
            State::Up(shared) => Some(shared.closed()),
            _ => None,
        };
        async move {
            match closed {
                Some(closed) => closed.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Runs a script within the deadline. It is made for the run of the server that it is sent to.
    pub(super) async fn call<'s, T: FromRedisValue>(
        &self,
        script: impl FnOnce(&str) -> ScriptInvocation<'s>,
    ) -> Result<T, Failure> {
        self.send(script, false).await
    }

    /// Like [`call`](Self::call), for reservations: not sent while replicas restore theirs.
    pub(super) async fn call_to_reserve<'s, T: FromRedisValue>(
        &self,
        script: impl FnOnce(&str) -> ScriptInvocation<'s>,
    ) -> Result<T, Failure> {
        self.send(script, true).await
    }

    async fn send<'s, T: FromRedisValue>(
        &self,
        script: impl FnOnce(&str) -> ScriptInvocation<'s>,
        reserves: bool,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + self.deadline;
        let Ok(Some(shared)) = tokio::time::timeout_at(deadline, self.shared()).await else {
            self.metrics.counter_call("unavailable");
            return Err(Failure::NotSent);
        };
        if reserves && Instant::now() < shared.opens_at {
            return Err(Failure::NotSent);
        }
        let own = worker::connection(&self.address, &shared);
        let used = own.as_ref().unwrap_or(&shared);
        let script = script(&used.run_id);
        let mut commands = used.commands.clone();
        let mut call = pin!(script.invoke_async(&mut commands));
        let mut answer = tokio::time::timeout_at(deadline, &mut call).await.ok();
        if answer.is_none() && own.is_some() {
            // This thread may have been busy past the deadline and not have read the answer yet.
            tokio::task::yield_now().await;
            answer = call.as_mut().now_or_never();
        }
        let (outcome, failure, lost) = match answer {
            Some(Ok(value)) => {
                if own.is_none() {
                    self.failures.store(0, Ordering::Relaxed);
                }
                self.metrics.counter_call("ok");
                return Ok(value);
            }
            Some(Err(error)) => {
                let failure = match error.kind() {
                    ErrorKind::Server(_) | ErrorKind::Extension => Failure::Error(message(&error)),
                    _ => Failure::Unanswered(message(&error)),
                };
                ("unavailable", failure, error.is_unrecoverable_error())
            }
            None => {
                let failure = format!("no answer within {:?}", self.deadline);
                ("deadline", Failure::Unanswered(failure), false)
            }
        };
        self.metrics.counter_call(outcome);
        match &own {
            // A worker's connection is given up at its first failure. That says nothing about the
            // shared one, just as an answer on it does not.
            Some(own) => own.close(),
            None => self.count_failure(&shared, lost),
        }
        Err(failure)
    }

    /// The shared connection, if Redis is up. Waits for the first connect.
    async fn shared(&self) -> Option<Arc<Connection>> {
        if let State::Up(shared) = &*self.state.borrow() {
            return Some(shared.clone());
        }
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| !matches!(state, State::Connecting)).await.ok()?;
        match &*state {
            State::Up(shared) => Some(shared.clone()),
            _ => None,
        }
    }

    /// Redis counts as down when the shared connection is lost, or after too many failures in a row.
    fn count_failure(&self, used: &Arc<Connection>, lost: bool) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if !lost && failures < MAX_FAILURES {
            return;
        }
        let went_down = self.state.send_if_modified(|state| {
            let is_current = matches!(state, State::Up(shared) if Arc::ptr_eq(shared, used));
            if is_current {
                *state = State::Down;
            }
            is_current
        });
        if went_down {
            used.close();
            self.metrics.counters_up(false);
            tracing::warn!("lost the connection to Redis; spend caps cannot be checked by it");
            self.wake.notify_one();
        }
    }

    /// Goes down if Redis has closed the shared connection. Without calls, nothing else would notice.
    pub(super) fn go_down_if_closed(&self) {
        let closed = match &*self.state.borrow() {
            State::Up(shared) if shared.is_closed() => Some(shared.clone()),
            _ => None,
        };
        if let Some(shared) = closed {
            self.count_failure(&shared, true);
        }
    }

    /// When reservations may begin in the run that a connection leads to.
    fn opens_at(&self, connection: &Connection) -> Instant {
        let mut last_run = self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
        let opens_at = match &*last_run {
            Some((last, opens_at)) if *last == connection.run_id => *opens_at,
            Some(_) => {
                tracing::warn!("Redis run_id changed; rebuilding counters from the ledger");
                Instant::now() + RESTORE_TIME
            }
            // This process may have started together with Redis, unlike other replicas.
            None if connection.uptime.is_some_and(|uptime| uptime < YOUNG) => {
                Instant::now() + RESTORE_TIME
            }
            None => Instant::now(),
        };
        *last_run = Some((connection.run_id.clone(), opens_at));
        opens_at
    }

    /// Tries to reach Redis: connects, and loads the scripts, which shows that Redis answers.
    pub(super) async fn connect(&self, scripts: &Scripts) -> bool {
        let max_wait = self.deadline.max(Duration::from_secs(1));
        let connecting = tokio::time::timeout(max_wait, async {
            let mut connection = self.address.connect().await?;
            for script in scripts.all() {
                script.load_async(&mut connection.commands).await?;
            }
            connection.opens_at = self.opens_at(&connection);
            Ok::<_, RedisError>(connection)
        });
        let why = match connecting.await {
            Ok(Ok(connection)) => {
                self.failures.store(0, Ordering::Relaxed);
                self.state.send_replace(State::Up(Arc::new(connection)));
                self.metrics.counters_up(true);
                tracing::info!("connected to Redis");
                return true;
            }
            Ok(Err(error)) => message(&error),
            Err(_) => format!("no answer within {max_wait:?}"),
        };
        let is_first = self.state.send_if_modified(|state| {
            let is_first = matches!(state, State::Connecting);
            *state = State::Down;
            is_first
        });
        if is_first {
            tracing::warn!(error = why, "cannot connect to Redis; retrying");
        }
        false
    }
}

/// Redis' own words, without what was sent.
fn message(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
        None => error.to_string(),
    }
}
