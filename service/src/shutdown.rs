//! Ending well: the first SIGTERM or SIGINT asks a part to drain, the second ends it.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Gives a token that the first SIGTERM or SIGINT cancels; the second ends the process with the code
/// that shells give an interrupted one.
///
/// # Errors
/// When the process may not handle signals.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tracing::info!("asked to stop: finishing what is under way (ask again to stop at once)");
        cancel.cancel();
        next().await;
        std::process::exit(130);
    });
    Ok(token)
}
