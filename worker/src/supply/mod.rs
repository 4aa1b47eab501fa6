//! The supply of clean VMs: one active, one spare, never more.
//!
//! [`step`] decides, purely; [`task`] owns the VMs and does it; [`templates`] gives what they are cloned
//! from; [`status`] says how it goes. While a job runs in the active VM its successor is made, once there
//! is [`room`](crate::room) for that on the machine. When a job comes for another image, the spare gives way first. A
//! spare that dies while it waits is noticed and replaced, and a worker that can make no VM takes no jobs
//! until it can.

pub mod step;

mod task;
mod templates;

pub mod status;

pub use status::Status;
pub use step::Counts;

use crate::room;
use crate::vm::{Clean, Error, Jail, Template};
use evalfleet_proto::ids::{ImageRef, WorkerId};
use evalfleet_service::settings::Settings;
use std::sync::Arc;
use std::time::Duration;
use task::{Request, Task};
use templates::Templates;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

/// How many requests may wait for the task, which answers at once.
const REQUESTS_MAX: usize = 16;

/// Why there is no VM for a job.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The job asks for what there is not: its own fault.
    #[error("{0}")]
    Request(String),
    /// Our fault: try again, or elsewhere.
    #[error("{0}")]
    Fault(String),
    /// This worker can make no VM at all: the job is better off in its queue.
    #[error("this worker can make no VM: {0}")]
    Unable(String),
}

/// A VM for a job, and what waiting for it cost.
#[derive(Debug)]
pub struct Supplied {
    /// The VM.
    pub clean: Clean,
    /// How long the job waited for it.
    pub waited: Duration,
}

/// A worker's supply. Its VMs go when it is dropped.
#[derive(Debug)]
pub struct Supply {
    templates: Arc<Templates>,
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
    /// Waits until there is room for the next VM.
    put_off: Option<AbortOnDropHandle<()>>,
}

impl Supply {
    /// A supply for the worker `name`. Within a runtime: its task begins at once.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(settings: &Settings, name: &WorkerId) -> Result<Self, Error> {
        let vms_dir = settings.state_dir().join("vms").join(name.as_str());
        // What a killed predecessor of the same name left; its QEMUs died with it.
        let _ = std::fs::remove_dir_all(&vms_dir);
        std::fs::create_dir_all(&vms_dir).map_err(Error::host(format!("making {}", vms_dir.display())))?;
        // Emulation asks for huge pages for its translations: a spare would hold all that may be, not what is.
        // Every process that this one starts inherits it.
        if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
            tracing::debug!(%error, "QEMU may take huge pages");
        }
        let templates = Arc::new(Templates::new(settings, Jail::find(&settings.qemu, &vms_dir)?));
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let (tell, status) = watch::channel(Status::default());
        let told = status::Board::new(settings, name, tell);
        tokio::spawn(Task::new(templates.clone(), vms_dir, settings.qemu.reset_timeout, told).serve(asked));
        Ok(Self { templates, requests, status, put_off: None })
    }

    /// Makes the template of `image`, and begins a VM of it, so that the first job need not wait. The first
    /// image that is asked for is the one this worker is there for.
    ///
    /// # Errors
    /// When there is no such image, or no template can be made of it.
    pub async fn warm_up(&mut self, image: &ImageRef) -> Result<Arc<Template>, Refusal> {
        let kind = self.templates.resolve(image, None).await?;
        let template = Box::pin(self.templates.get(&kind)).await;
        let template = template.map_err(|error| Refusal::Fault(error.to_string()))?;
        self.ask(Request::Wanted(kind)).await?;
        Ok(template)
    }

    /// Gives a clean VM of `image`, the spare if it is one.
    ///
    /// # Errors
    /// When there is no such image, or no VM can be made of it.
    pub async fn clean(&mut self, image: &ImageRef, scenario: Option<&str>) -> Result<Supplied, Refusal> {
        let kind = self.templates.resolve(image, scenario).await?;
        // What was put off is asked for now.
        self.put_off = None;
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Claim(kind, answer)).await?;
        answered.await.unwrap_or_else(|_| Err(Refusal::Fault("the supply of VMs ended".to_owned())))
    }

    /// The job has begun: its successor may be made, as soon as there is room for that, or the job has ended.
    pub fn prepare_next(&mut self) {
        let requests = self.requests.clone();
        let later = async move {
            room::found().await;
            // A supply that is gone makes none, which the next job will hear.
            let _ = requests.send(Request::Working).await;
        };
        self.put_off = Some(AbortOnDropHandle::new(tokio::spawn(later)));
    }

    /// Ends the spare, if there is one, and makes none until it is asked again.
    pub async fn discard(&mut self) {
        let (answer, answered) = oneshot::channel();
        if self.ask(Request::Discard(answer)).await.is_ok() {
            let _ = answered.await;
        }
    }

    /// Its status says from now on that the worker takes no jobs, for this reason; or that it does. Its VMs stay.
    pub async fn tell_drained(&mut self, why: Option<&str>) {
        // A supply that is gone has no status.
        let _ = self.ask(Request::Drained(why.map(str::to_owned))).await;
    }

    /// What its VMs are locked up in.
    pub fn jail(&self) -> &Jail {
        self.templates.jail()
    }

    /// How it goes, whenever it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    async fn ask(&self, request: Request) -> Result<(), Refusal> {
        let asked = self.requests.send(request).await;
        asked.map_err(|_| Refusal::Fault("the supply of VMs ended".to_owned()))
    }
}
