//! What VMs are cloned from: which image a job means, which accelerator works, and a template that is good.

use super::Refusal;
use super::step::Kind;
use crate::named::Named;
use crate::vm::template::Timeouts;
use crate::vm::{Accelerator, Clean, Error, Jail, Machine, Strategy, Template, accelerator};
use evalfleet_images::recipe::Scenario;
use evalfleet_images::store::{self, Image, Store};
use evalfleet_proto::ids::ImageRef;
use evalfleet_proto::units::ByteSize;
use evalfleet_service::settings::{self, Settings};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many kinds a worker remembers; their files are shared and stay.
const KINDS_MAX: usize = 16;
/// After how many clones in a row that are no good their template is held to be the reason.
const STRIKES: u32 = 3;

/// A worker's templates.
#[derive(Debug)]
pub(super) struct Templates {
    store: Store,
    dir: PathBuf,
    bytes_max: ByteSize,
    qemu: settings::Qemu,
    jail: Jail,
    timeouts: Timeouts,
    known: Mutex<HashMap<Kind, (Image, Scenario)>>,
    open: tokio::sync::Mutex<Open>,
    named: tokio::sync::Mutex<Named>,
}

/// What is held while a template is made: one at a time.
#[derive(Debug)]
struct Open {
    accelerators: Vec<Accelerator>,
    templates: HashMap<Kind, Arc<Template>>,
    /// Clones in a row that were no good.
    strikes: u32,
}

impl Templates {
    pub(super) fn new(settings: &Settings, jail: Jail) -> Self {
        let qemu = settings.qemu.clone();
        let accelerators = accelerator::candidates(qemu.accelerator);
        Self {
            store: Store::new(settings.images_dir()),
            dir: settings.templates_dir(),
            bytes_max: qemu.templates_max,
            timeouts: Timeouts { boot: qemu.boot_timeout, reset: qemu.reset_timeout },
            qemu,
            jail,
            named: tokio::sync::Mutex::new(Named::new(settings)),
            known: Mutex::new(HashMap::new()),
            open: tokio::sync::Mutex::new(Open { accelerators, templates: HashMap::new(), strikes: 0 }),
        }
    }

    /// What all its VMs are locked up in.
    pub(super) fn jail(&self) -> &Jail {
        &self.jail
    }

    /// Finds out what a job means by its image and scenario; an image that the settings name is imported first.
    pub(super) async fn resolve(&self, image: &ImageRef, scenario: Option<&str>) -> Result<Kind, Refusal> {
        self.named.lock().await.provide(image).await?;
        let image = self.find(image)?;
        let scenario = match scenario {
            Some(name) => image.manifest.scenario(name).ok_or_else(|| {
                Refusal::Request(format!("the image {} has no scenario {name:?}", image.manifest.name))
            })?,
            None => image.manifest.scenarios.first().ok_or_else(|| {
                Refusal::Fault(format!("the image {} names no scenario", image.manifest.name))
            })?,
        }
        .clone();
        let kind = Kind { image: image.manifest.digest.to_string(), scenario: scenario.name.clone() };
        let mut known = self.known();
        if known.len() >= KINDS_MAX && !known.contains_key(&kind) {
            known.clear();
        }
        known.insert(kind.clone(), (image, scenario));
        Ok(kind)
    }

    fn find(&self, image: &ImageRef) -> Result<Image, Refusal> {
        let reference = image
            .to_string()
            .parse()
            .map_err(|error: store::NotAReference| Refusal::Request(error.to_string()))?;
        let found = self.store.resolve(&reference).map_err(|error| match error {
            store::Error::Missing(_) | store::Error::NoSuchDigest { .. } | store::Error::Ambiguous { .. } => {
                Refusal::Request(error.to_string())
            }
            store::Error::File { .. } | store::Error::Damaged { .. } | store::Error::Locked(_) => {
                Refusal::Fault(error.to_string())
            }
        })?;
        found.check().map_err(|error| Refusal::Fault(error.to_string()))?;
        Ok(found)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Kind, (Image, Scenario)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a clean VM. One that is not what its template is says that the template is not good: its files
    /// are compared with what they were, and what is damaged is made anew for the next try. Once `wanted` is
    /// cancelled a job waits for it.
    pub(super) async fn clone_of(
        &self,
        kind: &Kind,
        run_dir: &Path,
        limit: Duration,
        wanted: CancellationToken,
    ) -> Result<Clean, Error> {
        let template = Box::pin(self.get(kind)).await?;
        let limit = if template.machine().strategy == Strategy::ColdBoot {
            limit.max(self.timeouts.boot)
        } else {
            limit
        };
        let made = sound(Clean::prepare(template.clone(), run_dir, "job", limit, wanted).await).await;
        match &made {
            Ok(_) => {
                self.open.lock().await.strikes = 0;
                template.touch();
            }
            Err(error) => self.doubt(kind, &template, error).await,
        }
        made
    }

    /// Gives the template of a kind, making it if there is none that is good.
    pub(super) async fn get(&self, kind: &Kind) -> Result<Arc<Template>, Error> {
        let known = self.known().get(kind).cloned();
        let (image, scenario) =
            known.ok_or_else(|| Error::Qemu("the image was forgotten: ask again".to_owned()))?;
        let mut open = self.open.lock().await;
        if let Some(template) = open.templates.get(kind) {
            match template.spoiled() {
                None => return Ok(template.clone()),
                Some(why) => {
                    tracing::warn!(template = %template.digest(), why, "a template is not what it was");
                    open.templates.remove(kind);
                }
            }
        }
        let template = self.ensure(&mut open.accelerators, image, &scenario).await?;
        if open.templates.len() >= KINDS_MAX {
            open.templates.clear();
        }
        open.templates.insert(kind.clone(), template.clone());
        Ok(template)
    }

    /// Has the template looked at anew before it is used again; if its clones are no good again and again
    /// although its files are what they were, it is thrown away.
    async fn doubt(&self, kind: &Kind, template: &Arc<Template>, error: &Error) {
        let mut open = self.open.lock().await;
        if open.templates.get(kind).is_some_and(|known| Arc::ptr_eq(known, template)) {
            open.templates.remove(kind);
        }
        match error {
            Error::NotClean(_) | Error::Qmp { .. } | Error::Agent(_) => open.strikes += 1,
            // No word about the template: a full disk, a busy host.
            Error::Host { .. } | Error::TimedOut { .. } | Error::Qemu(_) | Error::Jail(_) => {}
        }
        if open.strikes >= STRIKES {
            open.strikes = 0;
            tracing::warn!(template = %template.digest(), %error, "clones of a template are no good: making it anew");
            template.throw_away(&format!("{STRIKES} clones in a row were no good: {error}"));
        }
    }

    /// Tries the accelerators in turn; the one that works stays.
    async fn ensure(
        &self,
        accelerators: &mut Vec<Accelerator>,
        image: Image,
        scenario: &Scenario,
    ) -> Result<Arc<Template>, Error> {
        let version = accelerator::qemu_version(&self.qemu.binary).await?;
        let strategy = Strategy::choose(self.qemu.strategy, &version)?;
        let mut last = Error::Qemu("there is no accelerator".to_owned());
        for accelerator in accelerators.clone() {
            let machine =
                Machine { jail: self.jail.clone(), ..Machine::new(&self.qemu, accelerator, strategy) };
            let ensured = Template::ensure(
                &self.dir,
                self.bytes_max,
                image.clone(),
                scenario,
                machine,
                version.clone(),
                self.timeouts,
            );
            match Box::pin(ensured).await {
                Ok(template) => {
                    *accelerators = vec![accelerator];
                    return Ok(template);
                }
                // A file of the host is no word about the accelerator.
                Err(error @ Error::Host { .. }) => return Err(error),
                Err(error) => {
                    if accelerator == Accelerator::Kvm && accelerators.len() > 1 {
                        tracing::warn!(%error, "KVM opens here but no VM boots in it: falling back to emulation, which is much slower");
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }
}

/// Sees that the template of a new clone is what it was when the clone was begun: else part of the clone is
/// of the one, and part of the other.
async fn sound(made: Result<Clean, Error>) -> Result<Clean, Error> {
    let clean = made?;
    match clean.template().changed() {
        None => Ok(clean),
        Some(why) => {
            clean.destroy().await?;
            Err(Error::NotClean(why))
        }
    }
}
