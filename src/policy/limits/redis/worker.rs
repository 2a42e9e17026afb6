//! A worker's own connection, in addition to the shared one.
//!
//! It is used while the shared connection is up and leads to the same run of the server, and it is
//! closed with that. While there is none, the worker's calls use the shared one.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::connection::{Address, Connection};

/// How long a connect may take, and the pause before the next try.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Worker {
    /// The shared connection that `own` adds to.
    shared: Weak<Connection>,
    own: Option<Arc<Connection>>,
}

thread_local! {
    /// None if this thread is not a worker's.
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// Declares this thread a worker's.
pub(super) fn attach() {
    WORKER.set(Some(Worker::default()));
}

/// The runtime of this thread, if it is a worker's.
pub(super) fn runtime() -> Option<Handle> {
    with_worker(|_| ())?;
    Handle::try_current().ok()
}

/// This worker's own connection, in addition to the shared one. The first call starts to connect.
pub(super) fn connection(
    address: &Arc<Address>,
    shared: &Arc<Connection>,
) -> Option<Arc<Connection>> {
    with_worker(|worker| {
        if !std::ptr::eq(worker.shared.as_ptr(), Arc::as_ptr(shared)) {
            *worker = Worker { shared: Arc::downgrade(shared), own: None };
            tokio::spawn(keep_connected(address.clone(), worker.shared.clone()));
        }
        worker.own.as_ref().filter(|own| !own.is_closed()).cloned()
    })?
}

/// None on other threads, and while the thread ends.
fn with_worker<T>(read: impl FnOnce(&mut Worker) -> T) -> Option<T> {
    WORKER.try_with(|worker| worker.try_borrow_mut().ok()?.as_mut().map(read)).ok()?
}

/// Keeps a connection as long as the shared one is the current one.
async fn keep_connected(address: Arc<Address>, shared: Weak<Connection>) {
    let set_own = |own: Option<Arc<Connection>>| {
        with_worker(|worker| {
            let is_current = worker.shared.ptr_eq(&shared);
            if is_current {
                worker.own = own;
            }
            is_current
        })
    };
    loop {
        let connecting = tokio::time::timeout(RETRY, address.connect()).await;
        let Some(current) = shared.upgrade().filter(|current| !current.is_closed()) else { return };
        if let Ok(Ok(own)) = connecting
            && own.run_id == current.run_id
        {
            let own = Arc::new(own);
            let (own_closed, shared_closed) = (own.closed(), current.closed());
            drop(current);
            if set_own(Some(own.clone())) != Some(true) {
                return;
            }
            tokio::select! {
                () = own_closed => {}
                () = shared_closed => own.close(),
            }
            if set_own(None) != Some(true) {
                return;
            }
        } else {
            drop(current);
        }
        tokio::time::sleep(RETRY).await;
    }
}
