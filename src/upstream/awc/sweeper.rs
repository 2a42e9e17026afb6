//! Closes connections that have been idle in the pool for too long. awc looks at an idle
//! connection's age only when the next request to the same host takes it out, so without this the
//! sockets of hosts that nobody calls any more would stay open for good.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::response_validator::SharedTransport;

/// The open connections of one client.
#[derive(Debug)]
pub(in crate::upstream) struct Sweeper {
    keep_alive: Duration,
    lines: RefCell<Vec<Weak<SharedTransport>>>,
}

impl Sweeper {
    /// Starts sweeping, until the client is gone. It is not started when there is something to
    /// sweep, since nothing may be spawned there (see [`super::date_timers`]).
    pub(in crate::upstream) fn start(keep_alive: Duration) -> Rc<Self> {
        let sweeper = Rc::new(Self { keep_alive, lines: RefCell::default() });
        let pause = (keep_alive / 2).max(Duration::from_millis(50));
        let swept = Rc::downgrade(&sweeper);
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(sweeper) = swept.upgrade() else { break };
                sweeper.sweep(Instant::now());
            }
        });
        sweeper
    }

    /// Watches over a new connection.
    pub(in crate::upstream) fn watch(&self, line: &Rc<SharedTransport>) {
        self.lines.borrow_mut().push(Rc::downgrade(line));
    }

    /// Closes what has been idle too long and forgets what is gone.
    fn sweep(&self, now: Instant) {
        self.lines.borrow_mut().retain(|line| {
            let Some(line) = line.upgrade() else { return false };
            let expired = line
                .idle_since()
                .is_some_and(|since| now.saturating_duration_since(since) > self.keep_alive);
            if expired {
                line.close();
            }
            !expired
        });
    }
}
