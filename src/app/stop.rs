//! The signals that stop a process.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::StartError;

/// Exit code after a signal that cut open requests off.
pub const INTERRUPTED: i32 = 130;

/// Two futures: the first resolves at the first SIGTERM, Ctrl-C or SIGHUP and means drain; the second at
/// the second one and means stop now. A third one ends the process on the spot. SIGHUP stays ignored where
/// the process was started so.
pub fn stop_signals() -> Result<(impl Future<Output = ()>, impl Future<Output = ()>), StartError> {
    let mut kinds = vec![SignalKind::terminate(), SignalKind::interrupt()];
    if !ignores_hangup() {
        kinds.push(SignalKind::hangup());
    }
    let mut signals = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()?;
    let (drain, draining) = oneshot::channel::<()>();
    let (stop_now, stopping) = oneshot::channel::<()>();
    actix_web::rt::spawn(async move {
        for sender in [drain, stop_now] {
            any_of(&mut signals).await;
            let _ = sender.send(());
        }
        any_of(&mut signals).await;
        std::process::exit(INTERRUPTED);
    });
    Ok((async { drop(draining.await) }, async { drop(stopping.await) }))
}

async fn any_of(signals: &mut [Signal]) {
    let mut one =
        |cx: &mut Context<'_>| signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
    poll_fn(|cx| if one(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does: the mask of proc(5), where there is
/// one.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 != 0)
}
