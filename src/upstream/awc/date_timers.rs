//! Keeps awc's clocks from ticking. awc makes a codec for every request, and the codec brings a
//! clock for the `Date` that it writes: a task that wakes at once, and again every half second for
//! as long as the answer lasts, although the date is written once and before that. At a thousand open
//! streams that is two thousand wake-ups a second, and for a short request it is two system calls of
//! ten.
//!
//! awc's future is therefore polled where its tasks are queued without anybody to run them. Nothing
//! else may be spawned in there: the [`Sweeper`](super::sweeper::Sweeper) is started outside. (Where
//! there is no actix `System`, tokio spawns elsewhere, and the clocks tick as ever.)

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::task::LocalSet;

/// Requests whose tasks are thrown away together.
const AT_ONCE: u32 = 64;

/// Where the tasks go. One a client.
#[derive(Debug, Default)]
pub(in crate::upstream) struct SuppressedTimers {
    tasks: RefCell<LocalSet>,
    requests: Cell<u32>,
}

impl SuppressedTimers {
    /// Polls awc's part of a request.
    pub(in crate::upstream) fn poll<F: Future>(
        &self,
        work: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let _entered = self.tasks.borrow().enter();
        work.poll(cx)
    }

    /// A request begins. Now and then the tasks of those before are thrown away, also of those that
    /// have not ended: they were never to be run.
    pub(in crate::upstream) fn begin_request(&self) {
        let requests = self.requests.get().wrapping_add(1);
        self.requests.set(requests);
        if requests.is_multiple_of(AT_ONCE) {
            drop(self.tasks.replace(LocalSet::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, task::Waker};

    use super::*;

    #[actix_web::test]
    async fn tasks_are_not_run_and_not_kept() {
        let timers = SuppressedTimers::default();
        let polls = Rc::new(Cell::new(0));
        let alive = Rc::new(());
        let mut tasks = Vec::new();
        for _ in 0..10 * AT_ONCE {
            timers.begin_request();
            let work = std::future::poll_fn(|_| {
                let (polls, alive) = (Rc::clone(&polls), Rc::clone(&alive));
                Poll::Ready(tokio::task::spawn_local(async move {
                    polls.set(polls.get() + 1);
                    std::future::pending::<()>().await;
                    drop(alive);
                }))
            });
            let mut work = std::pin::pin!(work);
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(task) = timers.poll(work.as_mut(), &mut cx) else { panic!("pending") };
            // Every other request has ended.
            if tasks.len() % 2 == 0 {
                task.abort();
            }
            tasks.push(task);
            tokio::task::yield_now().await;
        }
        assert_eq!(polls.get(), 0);
        assert!(Rc::strong_count(&alive) <= 1 + AT_ONCE as usize);
        // As the codec does when its request ends after all.
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
