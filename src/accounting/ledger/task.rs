//! The ledger's thread: takes what has ended from the journal, passes it on, and has it written to the
//! database.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::commit::RowWriter;
use super::counts::Counts;
use super::drain_batch::DrainBatch;
use super::retention::Retention;
use super::{LedgerError, LedgerParts};
use crate::accounting::journal::{Finished, Journal};

/// How often what has ended is taken from the journal.
const COLLECT_EVERY: Duration = Duration::from_millis(250);

/// Few rows are written at once; under load rows are written together: so many, or after this time.
const FEW_ROWS: usize = 100;
const MANY_ROWS: usize = 4_000;
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// How often it is tried whether a full disk has room again.
const TRY_DISK_EVERY: Duration = Duration::from_secs(1);

type Reply = oneshot::Sender<Result<(), LedgerError>>;

/// What the thread is asked for.
pub(super) enum Command {
    /// Write everything to the database now.
    Flush(Reply),
    /// Write everything to the database now, and end.
    Close(Reply),
}

/// Starts the thread. It ends on [`Command::Close`], or when every [`super::Ledger`] is dropped.
pub(super) fn start(
    journal: Arc<Journal>,
    parts: LedgerParts,
    counts: Arc<Counts>,
    commands: mpsc::Receiver<Command>,
) -> io::Result<()> {
    // A runtime of its own, since it reads and removes files, which blocks.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let directory = journal.options().directory.clone();
    let rows = RowWriter::new(directory, parts.database.clone(), Arc::clone(&counts));
    let now = Instant::now();
    let task = Task {
        collector: Collector::new(&journal),
        journal,
        retention: Retention::new(parts.retention_days),
        parts,
        counts,
        rows,
        round: DrainBatch::default(),
        written: now,
        is_failing: false,
        disk_tried: now,
    };
    let run = move || runtime.block_on(task.run(commands));
    thread::Builder::new().name("ledger".to_owned()).spawn(run)?;
    Ok(())
}

/// Takes what has ended from the journal.
struct Collector {
    journal: Arc<Journal>,
    /// Empty; goes back to the journal for what ends next.
    list: Vec<Finished>,
    /// For the database.
    waiting: Vec<Finished>,
}

impl Collector {
    fn new(journal: &Arc<Journal>) -> Self {
        Self { journal: Arc::clone(journal), list: Vec::new(), waiting: Vec::new() }
    }

    fn collect(&mut self) {
        self.journal.exchange_finished(&mut self.list);
        self.waiting.extend(self.list.drain(..).filter(|one| !one.is_only_on_disk));
        self.list.shrink_to(MANY_ROWS);
    }

    fn take(&mut self, finished: Vec<Finished>) {
        self.waiting.extend(finished.into_iter().filter(|one| !one.is_only_on_disk));
    }

    /// Goes on collecting until the work is done: the database may be slow.
    async fn collect_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                output = &mut work => return output,
                () = tokio::time::sleep(COLLECT_EVERY) => self.collect(),
            }
        }
    }
}

struct Task {
    journal: Arc<Journal>,
    parts: LedgerParts,
    counts: Arc<Counts>,
    collector: Collector,
    rows: RowWriter,
    /// What the database has not taken yet.
    round: DrainBatch,
    /// When everything was written.
    written: Instant,
    /// Whether writing failed the last time, which is logged once.
    is_failing: bool,
    disk_tried: Instant,
    retention: Retention,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            match tokio::time::timeout(COLLECT_EVERY, commands.recv()).await {
                Ok(Some(Command::Flush(reply))) => {
                    let _ = reply.send(self.write().await);
                }
                Ok(Some(Command::Close(reply))) => {
                    let outcome = self.write().await;
                    self.close();
                    let _ = reply.send(outcome);
                    return;
                }
                Ok(None) => return self.close(),
                Err(_) => self.tick().await,
            }
        }
    }

    fn close(mut self) {
        self.journal.close();
        self.collector.collect();
    }

    async fn tick(&mut self) {
        self.collector.collect();
        let waiting = self.collector.waiting.len();
        let is_due = !(FEW_ROWS..MANY_ROWS).contains(&waiting);
        if is_due || self.written.elapsed() >= WRITE_EVERY {
            let outcome = self.write().await;
            self.log(outcome.err());
        }
        let retention = self.retention.tick(&self.parts.database, &self.parts.clock);
        self.collector.collect_during(retention).await;
    }

    /// Writes everything that has ended to the database.
    async fn write(&mut self) -> Result<(), LedgerError> {
        let outcome = self.write_rounds().await;
        self.look_for_room();
        outcome
    }

    async fn write_rounds(&mut self) -> Result<(), LedgerError> {
        // What the database did not take the last time comes first; as long as it takes nothing,
        // no more segments are made.
        self.commit().await?;
        let began = Instant::now();
        let mut sealed = self.journal.seal();
        let records = sealed.records;
        self.collector.take(std::mem::take(&mut sealed.finished));
        self.round = DrainBatch::new(std::mem::take(&mut self.collector.waiting), sealed);
        self.commit().await?;
        self.journal.compact()?;
        self.written = began;
        self.counts.drained(began, records);
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), LedgerError> {
        let commit = self.round.commit(&mut self.rows, &self.journal);
        self.collector.collect_during(commit).await
    }

    /// After a full disk.
    fn look_for_room(&mut self) {
        let settled = !self.round.has_unwritten && !self.journal.has_unwritten();
        let due = self.disk_tried.elapsed() >= TRY_DISK_EVERY;
        if due {
            self.disk_tried = Instant::now();
        }
        self.journal.recover_room(settled && due);
    }

    fn log(&mut self, error: Option<LedgerError>) {
        match error {
            Some(error) if !self.is_failing => {
                tracing::warn!(%error, "cannot write to the ledger; requests wait in the journal");
                self.is_failing = true;
            }
            None if self.is_failing => {
                tracing::info!("the ledger is written again");
                self.is_failing = false;
            }
            _ => {}
        }
    }
}
