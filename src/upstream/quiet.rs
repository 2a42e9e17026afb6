//! Keeps awc's clocks from ticking. awc makes a codec for every request, and the codec brings a
//! clock for the `Date` of answers, which a client never writes: a task that wakes at once, and
//! again every half second for as long as the answer lasts. At a thousand open streams that is two
//! thousand wake-ups a second, and for a short request it is two system calls of ten.
//!
//! awc's future is therefore polled where its tasks are queued without anybody to run them. Nothing
//! else may be spawned in there: the [`Sweeper`](super::sweeper::Sweeper) is started outside.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::task::LocalSet;

/// Requests between two looks at the queue, which takes some sixty tasks at a look: it stays as
/// short as the number of open answers, whatever the rate.
const LOOK_EVERY: u32 = 16;

/// Where the tasks go. One a client.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    tasks: RefCell<LocalSet>,
    requests: Cell<u32>,
}

impl Quiet {
    /// Polls awc's part of a request.
    pub(super) fn poll<F: Future>(
        &self,
        work: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let _entered = self.tasks.borrow().enter();
        work.poll(cx)
    }

    /// A request begins. Now and then the tasks of those that have ended are let go; the others are
    /// run on the occasion, which does no harm.
    pub(super) fn begin_request(&self) {
        let requests = self.requests.get().wrapping_add(1);
        self.requests.set(requests);
        if requests.is_multiple_of(LOOK_EVERY) {
            let mut nobody = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut *self.tasks.borrow_mut()).poll(&mut nobody);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[actix_web::test]
    async fn tasks_are_not_run_and_the_ended_ones_are_let_go() {
        let quiet = Quiet::default();
        let polls = Rc::new(Cell::new(0));
        let alive = Rc::new(());
        for _ in 0..10 * LOOK_EVERY {
            quiet.begin_request();
            let (polls, alive) = (Rc::clone(&polls), Rc::clone(&alive));
            let work = std::future::poll_fn(|_| {
                let (polls, alive) = (Rc::clone(&polls), Rc::clone(&alive));
                let task = tokio::task::spawn_local(async move {
                    polls.set(polls.get() + 1);
                    std::future::pending::<()>().await;
                    drop(alive);
                });
                task.abort();
                Poll::Ready(())
            });
            let mut work = std::pin::pin!(work);
            let mut cx = Context::from_waker(Waker::noop());
            assert!(quiet.poll(work.as_mut(), &mut cx).is_ready());
            tokio::task::yield_now().await;
        }
        assert_eq!(polls.get(), 0);
        assert!(Rc::strong_count(&alive) <= 1 + LOOK_EVERY as usize);
    }
}
