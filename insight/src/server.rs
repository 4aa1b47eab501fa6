//! The server: the app, what keeps it up to date, who may ask, and its end.

use crate::access::Access;
use crate::api::{App, router};
use evalfleet_datomic::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// Serves until `stop`, then finishes what is under way.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    client: Client,
    access: Access,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let followed = tokio::spawn({
        let (app, stop) = (app.clone(), stop.clone());
        async move { app.projection.follow(&client, LOOK, &stop).await }
    });
    let recorded = tokio::spawn({
        let (app, stop) = (app.clone(), stop.clone());
        async move { app.live.tell_recorded(&app.projection, &stop).await }
    });
    let events = tokio::spawn({
        let (app, stop) = (app.clone(), stop.clone());
        async move { app.live.tell_events(app.fleet.link(), &stop).await }
    });
    let dead = tokio::spawn({
        let (app, stop) = (app.clone(), stop.clone());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = app.dead.warm_up() => {}
            }
        }
    });
    let router = router(app, access);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned()).await;
    stop.cancel();
    for task in [followed, recorded, events, dead] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task of the API ended badly");
        }
    }
    served
}
