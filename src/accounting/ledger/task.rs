//! The thread that drains the journal.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::counts::Counts;
use super::drain::Drain;
use super::retention::Retention;
use super::{LedgerError, LedgerParts};
use crate::accounting::journal::Journal;

/// How long what has ended waits for the next transaction.
const DRAIN_EVERY: Duration = Duration::from_millis(250);

/// How often a full disk is tried.
const TRY_DISK_EVERY: Duration = Duration::from_secs(1);

type Reply = oneshot::Sender<Result<(), LedgerError>>;

/// What the thread is asked for.
pub(super) enum Command {
    /// Drain now.
    Flush(Reply),
    /// Drain now, and end.
    Close(Reply),
}

/// Starts the thread. It ends when it is told to, or when nobody can ask any more.
pub(super) fn start(
    journal: Arc<Journal>,
    parts: LedgerParts,
    counts: Arc<Counts>,
    commands: mpsc::Receiver<Command>,
) -> io::Result<()> {
    // A runtime of its own, since it reads and removes files, which blocks.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let drain = Drain::new(
        journal.options().directory.clone(),
        parts.database.clone(),
        Arc::clone(&counts),
    );
    let retention = Retention::new(parts.retention_days);
    let now = Instant::now();
    let task = Task { journal, parts, counts, drain, retention, fails: false, disk_tried: now };
    let run = move || runtime.block_on(task.run(commands));
    thread::Builder::new().name("ledger".to_owned()).spawn(run)?;
    Ok(())
}

struct Task {
    journal: Arc<Journal>,
    parts: LedgerParts,
    counts: Arc<Counts>,
    drain: Drain,
    retention: Retention,
    /// Whether draining failed the last time, which is said once.
    fails: bool,
    disk_tried: Instant,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            match tokio::time::timeout(DRAIN_EVERY, commands.recv()).await {
                Ok(Some(Command::Flush(reply))) => {
                    let _ = reply.send(self.drain().await);
                }
                Ok(Some(Command::Close(reply))) => {
                    let outcome = self.drain().await;
                    self.journal.close();
                    let _ = reply.send(outcome);
                    return;
                }
                Ok(None) => {
                    self.journal.close();
                    return;
                }
                Err(_) => {
                    let outcome = self.drain().await;
                    self.tell(outcome.err());
                    self.retention.tick(&self.parts.database, &self.parts.clock).await;
                }
            }
        }
    }

    async fn drain(&mut self) -> Result<(), LedgerError> {
        let outcome = self.drain_journal().await;
        self.look_for_room();
        outcome
    }

    async fn drain_journal(&mut self) -> Result<(), LedgerError> {
        let nobody = &mut async |_| {};
        // What the database did not take the last time comes first; as long as it takes nothing,
        // no more segments are made.
        self.drain.commit(nobody).await?;
        let began = Instant::now();
        let written = self.journal.seal();
        for (number, len) in written.sealed {
            self.drain.add(number, len, true);
        }
        let (number, len) = written.current;
        self.drain.add(number, len, false);
        self.drain.unwritten.extend(written.unwritten);
        while self.drain.read_segment(nobody).await? {
            // Room for what begins, however much is still to come.
            self.journal.forget(self.drain.remove_done()?);
            self.look_for_room();
        }
        self.drain.take_unwritten(nobody).await?;
        self.journal.forget(self.drain.remove_done()?);
        self.drain.compact(&self.journal)?;
        self.journal.forget(self.drain.remove_done()?);
        self.counts.drained(began, written.records);
        Ok(())
    }

    /// After a full disk.
    fn look_for_room(&mut self) {
        let settled = self.drain.unwritten.is_empty() && !self.journal.has_unwritten();
        let due = self.disk_tried.elapsed() >= TRY_DISK_EVERY;
        if due {
            self.disk_tried = Instant::now();
        }
        self.journal.recover_room(settled && due);
    }

    fn tell(&mut self, error: Option<LedgerError>) {
        match error {
            Some(error) if !self.fails => {
                tracing::warn!(%error, "the journal can't be drained; it keeps what it holds");
                self.fails = true;
            }
            None if self.fails => {
                tracing::info!("the journal is drained again");
                self.fails = false;
            }
            _ => {}
        }
    }
}
