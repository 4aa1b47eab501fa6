//! Running evaluations again, so that a suspicion is confirmed before anyone is told.

use crate::api::App;
use crate::problem::Problem;
use evalfleet_proto::ids::{AlertId, JobId};

/// Runs evaluations again.
pub trait Rerun: Send + Sync {
    /// Has the job of the evaluation `of` run again as the job `id`, with the label [`super::sighting::LABEL`]. Asked for
    /// twice, it is one job.
    ///
    /// # Errors
    /// When it cannot be run again, or not now ([`Problem::is_passing`]): says why.
    fn rerun(&self, alert: AlertId, of: JobId, id: JobId)
    -> impl Future<Output = Result<(), Problem>> + Send;
}

/// Runs them again as their jobs were kept, in the very image that they ran in.
#[derive(Debug)]
pub struct Kept<'a> {
    app: &'a App,
}

impl<'a> Kept<'a> {
    /// Out of the history that `app` has at hand, and by its desk.
    pub fn new(app: &'a App) -> Self {
        Self { app }
    }
}

impl Rerun for Kept<'_> {
    async fn rerun(&self, alert: AlertId, of: JobId, id: JobId) -> Result<(), Problem> {
        let (original, kept) = self.app.kept(of).await?;
        self.app.desk.rerun(&original, &kept, alert, id).await
    }
}
