//! Counts tokens where the provider did not, on a thread of its own.
//!
//! What is counted are texts of strangers, so the work is bounded throughout: by the samples' length,
//! by a tokenizer whose time is linear in it, and by the queue, beyond which lengths have to do.

mod o200k;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::tokens::TokenUsage;
use crate::llm::text_sample::TextSample;
use o200k::count;

/// Most estimations that wait. With two samples each of at most 32 KiB they take 16 MiB.
const MOST_WAITING: usize = 256;

/// How long those that wait at shutdown may take when all that is left to do is to divide by four.
const HURRIED: Duration = Duration::from_secs(2);

/// What an estimate is made of.
#[derive(Debug, Clone)]
pub struct Estimation {
    /// What was sent.
    pub request: TextSample,
    /// What was relayed, since `reported` if there is one.
    pub answer: TextSample,
    /// What the provider reported before the answer was cut short. Its input is kept; to its output
    /// comes what was relayed after it.
    pub reported: Option<TokenUsage>,
    /// No more input than this, in tokens: what was reserved.
    pub at_most_input: u64,
    /// No more output than this, in tokens: what was reserved.
    pub at_most_output: u64,
}

impl Estimation {
    /// By the lengths alone.
    pub fn rough(&self) -> TokenUsage {
        self.usage(self.request.tokens_by_length(), self.answer.tokens_by_length())
    }

    /// By the o200k tokenizer; by the length alone where there is no text to count.
    fn counted(&self) -> TokenUsage {
        let of = |sample: &TextSample| {
            sample.tokens(count).unwrap_or_else(|_| sample.tokens_by_length())
        };
        let input = if self.reported_input().is_some() { 0 } else { of(&self.request) };
        self.usage(input, of(&self.answer))
    }

    /// An input of nothing is no report.
    fn reported_input(&self) -> Option<u64> {
        self.reported.and_then(|reported| reported.input).filter(|input| *input > 0)
    }

    /// What is estimated is bounded, what was reported is not.
    fn usage(&self, input: u64, output: u64) -> TokenUsage {
        let reported = self.reported.unwrap_or_default();
        let so_far = reported.output.unwrap_or(0);
        let room = self.at_most_output.saturating_sub(so_far);
        TokenUsage {
            input: self.reported_input().or(Some(input.min(self.at_most_input))),
            output: Some(so_far.saturating_add(output.min(room))),
            ..reported
        }
    }
}

type OnEstimated = Box<dyn FnOnce(TokenUsage) + Send>;

/// Estimates one at a time; cheap to clone.
#[derive(Debug, Clone)]
pub struct Estimator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most_waiting: usize,
    state: Mutex<State>,
    /// An estimation is over.
    over: Condvar,
    /// There is no time left to count.
    hurry: AtomicBool,
}

#[derive(Debug)]
struct State {
    worker: Worker,
    /// Estimations that have been queued and are not over.
    open: usize,
}

#[derive(Debug)]
enum Worker {
    NotStarted,
    Running(SyncSender<Job>),
    Closed,
}

struct Job {
    estimation: Estimation,
    then: OnEstimated,
    /// Dropped last, whatever happens to the job.
    _open: Open,
}

/// Counted in [`State::open`].
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open = state.open.saturating_sub(1);
        drop(state);
        self.0.over.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Estimator {
    fn default() -> Self {
        Self::with_queue(MOST_WAITING)
    }
}

impl Estimator {
    fn with_queue(most_waiting: usize) -> Self {
        let state = Mutex::new(State { worker: Worker::NotStarted, open: 0 });
        let (over, hurry) = (Condvar::new(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { most_waiting, state, over, hurry }) }
    }

    /// Estimates, and then calls `then`: on the estimator's thread, or, when too many wait already or
    /// the estimator is closed, here and now with an estimate by length. So `then` has to be quick.
    pub fn estimate(&self, estimation: Estimation, then: impl FnOnce(TokenUsage) + Send + 'static) {
        if let Some((estimation, then)) = self.queue(estimation, Box::new(then)) {
            then(estimation.rough());
        }
    }

    /// Gives back what there is no place for.
    fn queue(
        &self,
        estimation: Estimation,
        then: OnEstimated,
    ) -> Option<(Estimation, OnEstimated)> {
        let mut state = self.shared.state();
        if matches!(state.worker, Worker::NotStarted) {
            state.worker = self.start();
        }
        let Worker::Running(queue) = &state.worker else {
            return Some((estimation, then));
        };
        if state.open >= self.shared.most_waiting {
            return Some((estimation, then));
        }
        let queue = queue.clone();
        state.open += 1;
        // What is refused takes itself out of the count again, which needs the lock.
        drop(state);
        let job = Job { estimation, then, _open: Open(Arc::clone(&self.shared)) };
        let refused = queue.try_send(job).err()?;
        let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = refused;
        Some((job.estimation, job.then))
    }

    fn start(&self) -> Worker {
        let (sender, jobs) = sync_channel(self.shared.most_waiting);
        let shared = Arc::downgrade(&self.shared);
        let hurry = move || shared.upgrade().is_none_or(|s| s.hurry.load(Ordering::Relaxed));
        let worker = std::thread::Builder::new().name("token-estimates".to_owned());
        match worker.spawn(move || work(&jobs, hurry)) {
            Ok(_) => Worker::Running(sender),
            Err(error) => {
                tracing::error!(%error, "no thread to count tokens; estimates go by length alone");
                Worker::Closed
            }
        }
    }

    /// Ends the estimator: what waits is counted for as long as `within` allows and then estimated
    /// by length. Whether everything was answered. Blocks, so not for a thread that serves requests.
    pub fn close(&self, within: Duration) -> bool {
        self.shared.state().worker = Worker::Closed;
        if self.wait(within) {
            return true;
        }
        self.shared.hurry.store(true, Ordering::Relaxed);
        self.wait(HURRIED)
    }

    fn wait(&self, within: Duration) -> bool {
        let state = self.shared.state();
        let waited = self.shared.over.wait_timeout_while(state, within, |state| state.open > 0);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.open == 0
    }
}

/// Until the queue is closed and empty.
fn work(jobs: &Receiver<Job>, hurry: impl Fn() -> bool) {
    for Job { estimation, then, _open } in jobs {
        // Neither a fault in the tokenizer nor one in what follows may be the end of all estimates.
        let counted = if hurry() { None } else { catch_unwind(|| estimation.counted()).ok() };
        let usage = counted.unwrap_or_else(|| estimation.rough());
        if catch_unwind(AssertUnwindSafe(|| then(usage))).is_err() {
            tracing::error!("an estimate of tokens could not be settled");
        }
    }
}

#[cfg(test)]
mod tests;
