//! What `send`, the dialer and the connection know of one request in common. awc passes
//! nothing between its pool and its connections, but it calls both inside the task that awaits the
//! request, so a task-local carries it.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    time::Duration,
};

use tokio::time::Instant;

use crate::json::object::BodyPieces;
use crate::upstream::error::UpstreamError;

tokio::task_local! {
    static CURRENT: Rc<Attempt>;
}

/// One request, from `send` to the end of its response.
pub(in crate::upstream) struct Attempt {
    pub(in crate::upstream) connect_timeout: Duration,
    /// Until its connection begins to write it.
    body: Cell<Option<BodyPieces>>,
    dialed: Cell<bool>,
    connected_at: Cell<Option<Instant>>,
    response_seen: Cell<bool>,
    ended: Cell<bool>,
    failure: RefCell<Option<UpstreamError>>,
}

impl Attempt {
    pub(in crate::upstream) fn new(
        connect_timeout: Duration,
        body: Option<BodyPieces>,
    ) -> Rc<Self> {
        Rc::new(Self {
            connect_timeout,
            body: Cell::new(body),
            dialed: Cell::new(false),
            connected_at: Cell::new(None),
            response_seen: Cell::new(false),
            ended: Cell::new(false),
            failure: RefCell::new(None),
        })
    }

    /// Runs awc's part of the request with this attempt as the current one.
    pub(in crate::upstream) fn scope<F: Future>(
        self: &Rc<Self>,
        work: F,
    ) -> impl Future<Output = F::Output> {
        CURRENT.scope(Rc::clone(self), work)
    }

    /// The attempt whose request is being sent by the running task.
    pub(in crate::upstream) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(Rc::clone).ok()
    }

    /// The body that goes out behind awc's head, if awc does not write it.
    pub(in crate::upstream) fn take_body(&self) -> Option<BodyPieces> {
        self.body.take()
    }

    /// The pool had no connection: this request opens one.
    pub(in crate::upstream) fn mark_dialed(&self) {
        self.dialed.set(true);
    }

    /// Did the request go out on a connection from the pool? False as well when it never got one.
    pub(in crate::upstream) fn reused_connection(&self) -> bool {
        !self.dialed.get() && self.connected_at.get().is_some()
    }

    /// A connection is there and the first bytes of the request are on their way.
    pub(in crate::upstream) fn mark_connected(&self) {
        self.connected_at.set(Some(Instant::now()));
    }

    pub(in crate::upstream) fn connected_at(&self) -> Option<Instant> {
        self.connected_at.get()
    }

    pub(in crate::upstream) fn mark_response_seen(&self) {
        self.response_seen.set(true);
    }

    pub(in crate::upstream) fn response_seen(&self) -> bool {
        self.response_seen.get()
    }

    /// The last byte of the response has been read from the connection.
    pub(in crate::upstream) fn mark_ended(&self) {
        self.ended.set(true);
    }

    pub(in crate::upstream) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Keeps the precise error, which awc would flatten. The first one counts.
    pub(in crate::upstream) fn fail(&self, error: UpstreamError) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    pub(in crate::upstream) fn take_failure(&self) -> Option<UpstreamError> {
        self.failure.borrow_mut().take()
    }
}
