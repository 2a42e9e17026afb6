//! Takes finished requests off the workers' threads, and has each record write its log line and count
//! itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use super::request_record::RequestRecord;
use super::{Metrics, logs};

/// How long the first record of a batch waits for others: under load one wake-up then reports many
/// requests, and an idle process is not woken at all.
const BATCH_TIME: Duration = Duration::from_millis(20);

/// Records for which space is kept.
const USUALLY_WAITING: usize = 1_000;

/// Records that wait at most; further ones are reported by whoever finishes the request.
const MAX_WAITING: usize = 10_000;

/// Where finished requests go. Clones share the queue; the thread ends with the last of them.
#[derive(Clone)]
pub struct RequestReporter {
    shared: Arc<Shared>,
    _handle: Arc<Handle>,
}

struct Shared {
    metrics: Metrics,
    waiting: Mutex<Vec<RequestRecord>>,
    /// Held while records are reported, so that a flush waits for those that were taken before it.
    /// Empty then, and exchanged for the next batch, so that its space is used again.
    reporting: Mutex<Vec<RequestRecord>>,
    not_empty: Condvar,
    closed: AtomicBool,
}

struct Handle(Arc<Shared>);

impl RequestReporter {
    /// Starts the thread.
    pub fn start(metrics: Metrics) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            metrics,
            waiting: Mutex::default(),
            reporting: Mutex::default(),
            not_empty: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        let worker = Arc::clone(&shared);
        thread::Builder::new().name("requests".to_owned()).spawn(move || worker.run())?;
        Ok(Self { _handle: Arc::new(Handle(Arc::clone(&shared))), shared })
    }

    /// The metrics that requests are counted in.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Reports a finished request.
    pub fn finish(&self, record: Box<RequestRecord>) {
        let mut waiting = self.shared.waiting();
        if waiting.len() >= MAX_WAITING {
            drop(waiting);
            return self.shared.report(&mut vec![*record]);
        }
        waiting.push(*record);
        if waiting.len() == 1 {
            self.shared.not_empty.notify_one();
        }
    }

    /// Reports everything that has finished so far before it returns.
    pub fn flush(&self) {
        self.shared.report_waiting();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let waiting = self.waiting();
            let is_idle = |waiting: &mut Vec<RequestRecord>| {
                waiting.is_empty() && !self.closed.load(Ordering::Acquire)
            };
            drop(self.not_empty.wait_while(waiting, is_idle));
            if self.closed.load(Ordering::Acquire) {
                return self.report_waiting();
            }
            thread::sleep(BATCH_TIME);
            self.report_waiting();
        }
    }

    fn report_waiting(&self) {
        let mut records = self.reporting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *self.waiting(), &mut *records);
        self.report(&mut records);
        records.shrink_to(USUALLY_WAITING);
    }

    fn report(&self, records: &mut Vec<RequestRecord>) {
        logs::in_one_write(|| {
            for record in records.drain(..) {
                record.count(&self.metrics);
                record.log();
            }
        });
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<RequestRecord>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Under the lock, so that the thread is either before its check or already waiting.
        let _waiting = self.0.waiting();
        self.0.closed.store(true, Ordering::Release);
        self.0.not_empty.notify_one();
    }
}
