//! Closes connections that have been idle in the pool for too long. awc looks at an idle
//! connection's age only when the next request to the same host takes it out, so without this the
//! sockets of hosts that nobody calls any more would stay open for good.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::guard::Line;

/// The open connections of one client.
#[derive(Debug)]
pub(super) struct Sweeper {
    keep_alive: Duration,
    lines: RefCell<Vec<Weak<Line>>>,
    running: Cell<bool>,
}

impl Sweeper {
    pub(super) fn new(keep_alive: Duration) -> Rc<Self> {
        Rc::new(Self { keep_alive, lines: RefCell::default(), running: Cell::new(false) })
    }

    /// Watches over a new connection. The task runs only while there are any.
    pub(super) fn watch(self: &Rc<Self>, line: &Rc<Line>) {
        self.lines.borrow_mut().push(Rc::downgrade(line));
        if self.running.replace(true) {
            return;
        }
        let pause = (self.keep_alive / 2).max(Duration::from_millis(50));
        let sweeper = Rc::downgrade(self);
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(sweeper) = sweeper.upgrade() else { break };
                if !sweeper.sweep(Instant::now()) {
                    sweeper.running.set(false);
                    break;
                }
            }
        });
    }

    /// Closes what has been idle too long and forgets what is gone. Is anything left?
    fn sweep(&self, now: Instant) -> bool {
        let mut lines = self.lines.borrow_mut();
        lines.retain(|line| {
            let Some(line) = line.upgrade() else { return false };
            let expired = line
                .idle_since()
                .is_some_and(|since| now.saturating_duration_since(since) > self.keep_alive);
            if expired {
                line.close();
            }
            !expired
        });
        !lines.is_empty()
    }
}
