//! What all routes share.

use crate::dead::Dead;
use crate::desk::Desk;
use crate::fleet::Fleet;
use crate::history::History;
use crate::live::Live;
use crate::problem::Problem;
use crate::projection::follow::Projection;
use crate::projection::{At, TooEarly, World};
use crate::view::insights::{Insights, insights};
use crate::view::queues::{self, Queue};
use evalfleet::replay::refusal::{self, Refusal};
use evalfleet_datomic::Point;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use std::collections::VecDeque;
use std::sync::{Arc, RwLockReadGuard};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How many moments' insights are remembered.
const INSIGHTS_MAX: usize = 8;
/// Insights of now may be so old: they take a while to find.
const INSIGHTS_AGE: Duration = Duration::from_secs(5);
/// How many evaluations they rest on.
const INSIGHTS_ROWS: usize = 25_000;
/// How long one waits for a projection that has not yet read the log.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all routes share.
#[derive(Debug)]
pub struct App {
    /// The store, for what the projection has not.
    pub history: History,
    /// The projection.
    pub projection: Projection,
    /// The dead letters.
    pub dead: Dead,
    /// What happens now.
    pub live: Live,
    /// The parts of this fleet.
    pub fleet: Fleet,
    /// What is done for those who may.
    pub desk: Desk,
    /// Ends streams.
    pub stop: CancellationToken,
    insights: Mutex<VecDeque<(u64, Instant, Arc<Insights>)>>,
}

impl App {
    /// What routes share from now on.
    pub fn new(
        history: History,
        projection: Projection,
        live: Live,
        fleet: Fleet,
        desk: Desk,
        stop: CancellationToken,
    ) -> Self {
        let dead = Dead::new(history.clone());
        Self { history, projection, dead, live, fleet, desk, stop, insights: Mutex::default() }
    }

    /// Waits until the log was read once, for a while.
    ///
    /// # Errors
    /// Says how far it is when that takes too long.
    pub async fn ready(&self) -> Result<(), Problem> {
        let mut progress = self.projection.progress();
        let ready = tokio::time::timeout(PATIENCE, progress.wait_for(|progress| progress.ready)).await;
        if matches!(ready, Ok(Ok(_))) {
            return Ok(());
        }
        let progress = self.projection.progress().borrow().clone();
        let error = progress.error.map_or(String::new(), |error| format!(": {error}"));
        Err(Problem::unavailable(format!(
            "the history is being read, transaction {} so far{error}",
            progress.basis_t
        )))
    }

    /// Looks at a moment of the projection.
    ///
    /// # Errors
    /// When the log was not read yet, or what is kept does not go back that far.
    pub async fn look<R>(
        &self,
        moment: Option<Point>,
        at: impl FnOnce(&World, At) -> R,
    ) -> Result<R, Problem> {
        self.ready().await?;
        let world = self.projection.read();
        let moment = resolve(&world, moment)?;
        Ok(at(&world, moment))
    }

    /// What waits at the broker; none when it does not answer.
    pub async fn queues(&self) -> Option<Vec<Queue>> {
        let depths = self.fleet.queues().await?;
        let taken = {
            let world = self.projection.read();
            world.at(None).map_or_else(|_| queues::Taken::new(), |now| queues::taken(&world, now))
        };
        Some(queues::queues(depths, &taken, Timestamp::now()))
    }

    /// An evaluation of one job, and what was kept of that job.
    ///
    /// # Errors
    /// When there is none, its job is not to be had, or the store does not answer.
    pub async fn kept(&self, id: JobId) -> Result<(Evaluation, Vec<u8>), Problem> {
        let refused = |refusal: Refusal| Problem::misfit(refusal.to_string());
        let document = self.history.evaluation(&id.to_string(), None).await?.what;
        let original: Evaluation =
            serde_json::from_value(document).map_err(|_| Problem::misfit(format!("{id} is of no job")))?;
        let key = refusal::key(&original).map_err(refused)?;
        let kept = self.history.blob(key).await.map_err(|problem| {
            if problem.is_passing() { problem } else { refused(Refusal::Lost { id, why: problem.detail }) }
        })?;
        Ok((original, kept))
    }

    /// What stands out at a moment.
    ///
    /// # Errors
    /// As [`App::look`].
    pub async fn insights(&self, moment: Option<Point>) -> Result<Arc<Insights>, Problem> {
        self.ready().await?;
        // One at a time: whoever comes meanwhile finds it made.
        let mut known = self.insights.lock().await;
        let (at, frozen) = {
            let world = self.projection.read();
            let at = resolve(&world, moment)?;
            let fits =
                |(t, made, _): &&(u64, Instant, _)| *t == at.t || (at.now && made.elapsed() < INSIGHTS_AGE);
            if let Some((_, _, insights)) = known.iter().find(fits) {
                return Ok(insights.clone());
            }
            (at, world.frozen(at, INSIGHTS_ROWS))
        };
        let found = tokio::task::spawn_blocking(move || insights(&frozen, at)).await;
        let found = Arc::new(found.map_err(|error| Problem::damaged(error.to_string()))?);
        known.truncate(INSIGHTS_MAX - 1);
        known.push_front((at.t, Instant::now(), found.clone()));
        Ok(found)
    }
}

fn resolve(world: &RwLockReadGuard<'_, World>, moment: Option<Point>) -> Result<At, Problem> {
    world.at(moment).map_err(|early: TooEarly| {
        Problem::bad_request(format!("{early}; as_of must be {} or later", early.kept_from))
    })
}

/// Now, in milliseconds since 1970.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
