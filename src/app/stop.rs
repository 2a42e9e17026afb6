//! The signals that stop a process.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::StartError;

/// Exit code after a signal that cut open requests off.
pub const INTERRUPTED: i32 = 130;

/// Two futures: the first resolves at the first SIGTERM or Ctrl-C and means drain; the second at the
/// second one and means stop now. A third one ends the process on the spot.
pub fn stop_signals() -> Result<(impl Future<Output = ()>, impl Future<Output = ()>), StartError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (drain, draining) = oneshot::channel::<()>();
    let (stop_now, stopping) = oneshot::channel::<()>();
    actix_web::rt::spawn(async move {
        for sender in [drain, stop_now] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = sender.send(());
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(INTERRUPTED);
    });
    Ok((async { drop(draining.await) }, async { drop(stopping.await) }))
}
