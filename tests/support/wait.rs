//! Waiting for a condition, and the only place in the tests that sleeps.
//!
//! A test never sleeps to let time pass: it names what it waits for. If the other side can signal it (a
//! [`watch`](tokio::sync::watch) in the scripted upstream, a pause in a script), wait for the signal;
//! this is for what can only be polled, such as the gateway's API.

use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a slow machine: only failing tests wait this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Short compared with the two seconds in which changes reach other replicas.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds, and fails the test, naming `what`, if it does not.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    eventually_within(DEADLINE, what, condition).await;
}

/// The same with a deadline that is under test. Returns how long it took.
pub(crate) async fn eventually_within(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> Duration {
    let began = Instant::now();
    loop {
        if condition().await {
            return began.elapsed();
        }
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Limits the time of `wait`; fails the test, naming `what`, if it is exceeded.
pub(crate) async fn within<T>(deadline: Duration, what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(deadline, wait).await {
        Ok(value) => value,
        Err(_) => panic!("not within {deadline:?}: {what}"),
    }
}
