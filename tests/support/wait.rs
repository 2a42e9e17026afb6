//! Waiting for something that will come true, and the only place in the tests that may sleep.
//!
//! A test never sleeps to let time pass: it names what it waits for. Where the other side can say
//! so (a [`watch`](tokio::sync::watch) in the scripted upstream, a pause in a script) wait for that
//! instead; this is for what can only be asked about, such as an answer of the gateway's API.

use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a slow machine; only a failure takes this long.
const DEADLINE: Duration = Duration::from_secs(20);

/// Short beside the two seconds that the gateway's own promises are made of.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds, and fails the case, naming `what`, if it never does.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    eventually_within(DEADLINE, what, condition).await;
}

/// The same with a deadline that is part of the contract under test ("within two seconds").
/// Returns how long it took.
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

/// Bounds a wait whose end the other side announces. Fails the case, naming `what`.
pub(crate) async fn within<T>(deadline: Duration, what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(deadline, wait).await {
        Ok(value) => value,
        Err(_) => panic!("not within {deadline:?}: {what}"),
    }
}
