//! A connection of each worker's own. The line's lives on another thread, and to be woken there and
//! back costs more than the question does. So a worker that has said that it is one gets a second
//! connection, which it drives itself.
//!
//! Whether Redis is up, and which run of it counts, is the line's to say: a worker's connection
//! stands beside the line's, is used while that is, and ends with it. One that leads to another run
//! is not used, and one that fails is left at once; while there is none, the line's is.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connect::{Address, Connected};

/// How long a connection may take to be made, and how long before that is tried again.
const PATIENCE: Duration = Duration::from_secs(1);

/// What this worker has.
#[derive(Default)]
struct Here {
    /// The line's connection that the own one stands beside.
    beside: Weak<Connected>,
    own: Option<Own>,
}

struct Own {
    connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Own {
    fn of(connected: &Connected) -> Self {
        let connection = connected.connection.clone();
        Self { connection, driver: connected.driver.clone() }
    }
}

thread_local! {
    /// Nothing where the thread is no worker's.
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Says that this thread is a worker's: whoever asks here can drive a connection here.
pub(super) fn attach() {
    HERE.set(Some(Here::default()));
}

/// Where a worker's background work runs, if this is one.
pub(super) fn runtime() -> Option<Handle> {
    with(|_| ())?;
    Handle::try_current().ok()
}

/// This worker's own connection, if there is one beside the line's. The first who asks has it made.
pub(super) fn connection(
    address: &Arc<Address>,
    line: &Arc<Connected>,
) -> Option<MultiplexedConnection> {
    with(|here| {
        if !std::ptr::eq(here.beside.as_ptr(), Arc::as_ptr(line)) {
            *here = Here { beside: Arc::downgrade(line), own: None };
            tokio::spawn(keep(address.clone(), here.beside.clone()));
        }
        here.own.as_ref().map(|own| own.connection.clone())
    })?
}

/// The own connection has failed. It is left, and whoever waits on it still need not wait to the end;
/// the next question goes by the line, which decides what that means.
pub(super) fn leave() {
    with(|here| {
        if let Some(own) = here.own.take() {
            own.driver.abort();
        }
    });
}

/// Nothing while the thread ends, too.
fn with<T>(look: impl FnOnce(&mut Here) -> T) -> Option<T> {
    HERE.try_with(|here| here.try_borrow_mut().ok()?.as_mut().map(look)).ok()?
}

/// Makes the connection, again when it has ended, as long as the line's is the same.
async fn keep(address: Arc<Address>, beside: Weak<Connected>) {
    let place = |own: Option<&Connected>| {
        with(|here| {
            let same = here.beside.ptr_eq(&beside);
            if same {
                here.own = own.map(Own::of);
            }
            same
        })
    };
    while beside.strong_count() > 0 {
        // Another each time: what was not used tells of its end as well.
        let over = Arc::new(Notify::new());
        let made = tokio::time::timeout(PATIENCE, address.connect(&over)).await;
        if let (Ok(Ok(own)), Some(line)) = (made, beside.upgrade())
            && own.run == line.run
        {
            line.take_along(&own);
            drop(line);
            if place(Some(&own)) != Some(true) {
                return;
            }
            over.notified().await;
            if place(None) != Some(true) {
                return;
            }
        }
        tokio::time::sleep(PATIENCE).await;
    }
}
