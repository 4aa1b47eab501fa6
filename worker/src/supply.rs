//! The supply of clean VMs: one active, one spare, never more.
//!
//! While a job runs in the active VM, its successor is made. When a job comes for another image, the
//! spare gives way first, so that a worker never has more than two QEMUs.

use crate::vm::template::Timeouts;
use crate::vm::{Accelerator, Clean, Error, Machine, Template, accelerator};
use evalfleet_images::store::{self, Image, Store};
use evalfleet_proto::ids::{ImageRef, WorkerId};
use evalfleet_service::settings::Settings;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How many templates a worker remembers; their files are shared and stay.
const TEMPLATES_MAX: usize = 16;

/// Why there is no VM for a job.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The job asks for what there is not: its own fault.
    #[error("{0}")]
    Request(String),
    /// Our fault: try again, or elsewhere.
    #[error("{0}")]
    Fault(String),
}

/// A VM for a job, and what waiting for it cost.
#[derive(Debug)]
pub struct Supplied {
    /// The VM.
    pub clean: Clean,
    /// How much of making it the job waited for.
    pub waited: Duration,
}

/// What a spare is a spare of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    image: String,
    scenario: String,
}

struct Spare {
    key: Key,
    made: JoinHandle<Result<Clean, Error>>,
}

/// A worker's supply.
#[derive(Debug)]
pub struct Supply {
    store: Store,
    templates_dir: PathBuf,
    vms_dir: PathBuf,
    machine: Machine,
    accelerators: Vec<Accelerator>,
    timeouts: Timeouts,
    templates: HashMap<Key, Arc<Template>>,
    spare: Option<Spare>,
    made: u64,
}

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spare").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Supply {
    /// A supply for the worker `name`.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(settings: &Settings, name: &WorkerId) -> Result<Self, Error> {
        let vms_dir = settings.state_dir().join("vms").join(name.as_str());
        // What a killed predecessor of the same name left; its QEMUs died with it.
        let _ = std::fs::remove_dir_all(&vms_dir);
        std::fs::create_dir_all(&vms_dir).map_err(Error::host(format!("making {}", vms_dir.display())))?;
        let qemu = &settings.qemu;
        let accelerators = accelerator::candidates(qemu.accelerator);
        Ok(Self {
            store: Store::new(settings.images_dir()),
            templates_dir: settings.templates_dir(),
            vms_dir,
            machine: Machine {
                binary: qemu.binary.clone(),
                accelerator: accelerators.first().copied().unwrap_or(Accelerator::Tcg),
                machine: qemu.machine.clone(),
                memory: qemu.memory,
                cpus: qemu.cpus,
            },
            accelerators,
            timeouts: Timeouts { boot: qemu.boot_timeout, reset: qemu.reset_timeout },
            templates: HashMap::new(),
            spare: None,
            made: 0,
        })
    }

    /// Makes the template and the first VM of `image`, so that the first job need not wait.
    ///
    /// # Errors
    /// When there is no such image, or no VM can be made of it.
    pub async fn warm_up(&mut self, image: &ImageRef) -> Result<Arc<Template>, Refusal> {
        let template = self.template(image, None).await?;
        self.prepare(&template, key(&template, None));
        Ok(template)
    }

    /// Gives a clean VM of `image`, the spare if it is one.
    ///
    /// # Errors
    /// When there is no such image, or no VM can be made of it.
    pub async fn clean(&mut self, image: &ImageRef, scenario: Option<&str>) -> Result<Supplied, Refusal> {
        let begun = Instant::now();
        let template = self.template(image, scenario).await?;
        let key = key(&template, scenario);
        if self.spare.as_ref().is_none_or(|spare| spare.key != key) {
            self.discard().await;
            self.prepare(&template, key.clone());
        }
        let clean = match self.take_spare().await {
            Ok(clean) => clean,
            // What became of a spare while it waited is no reason to fail a job: it gets another.
            Err(error) => {
                tracing::warn!(%error, "the spare VM is no good: making another");
                self.prepare(&template, key);
                self.take_spare().await.map_err(|error| Refusal::Fault(error.to_string()))?
            }
        };
        Ok(Supplied { clean, waited: begun.elapsed() })
    }

    /// Waits for the spare and sees that it is alive.
    async fn take_spare(&mut self) -> Result<Clean, Error> {
        let spare = self.spare.take().ok_or_else(|| Error::Qemu("no VM was made".to_owned()))?;
        let made =
            spare.made.await.map_err(|error| Error::Qemu(format!("making a VM ended early: {error}")))?;
        let mut clean = made?;
        match clean.ended() {
            None => Ok(clean),
            Some(how) => Err(Error::Qemu(format!("ended while it waited: {how}"))),
        }
    }

    /// Begins the next VM, of the same kind as the one that is at work.
    pub fn prepare_next(&mut self, template: &Arc<Template>, scenario: Option<&str>) {
        if self.spare.is_none() {
            self.prepare(template, key(template, scenario));
        }
    }

    /// Ends the spare, if there is one.
    pub async fn discard(&mut self) {
        let Some(spare) = self.spare.take() else { return };
        if let Ok(Ok(clean)) = spare.made.await
            && let Err(error) = clean.destroy().await
        {
            tracing::warn!(%error, "a spare VM was not put away");
        }
    }

    fn prepare(&mut self, template: &Arc<Template>, key: Key) {
        self.made += 1;
        let run_dir = self.vms_dir.join(self.made.to_string());
        let (template, limit) = (template.clone(), self.timeouts.reset);
        let made = tokio::spawn(async move { Clean::prepare(template, &run_dir, "job", limit).await });
        self.spare = Some(Spare { key, made });
    }

    async fn template(&mut self, image: &ImageRef, scenario: Option<&str>) -> Result<Arc<Template>, Refusal> {
        let image = self.resolve(image)?;
        let scenario = match scenario {
            Some(name) => image.manifest.scenario(name).ok_or_else(|| {
                Refusal::Request(format!("the image {} has no scenario {name:?}", image.manifest.name))
            })?,
            None => image.manifest.scenarios.first().ok_or_else(|| {
                Refusal::Fault(format!("the image {} names no scenario", image.manifest.name))
            })?,
        }
        .clone();
        let key = Key { image: image.manifest.digest.to_string(), scenario: scenario.name.clone() };
        if let Some(template) = self.templates.get(&key).filter(|template| template.exists()) {
            return Ok(template.clone());
        }
        let template = self.make_template(image, &scenario).await?;
        if self.templates.len() >= TEMPLATES_MAX {
            self.templates.clear();
        }
        self.templates.insert(key, template.clone());
        Ok(template)
    }

    fn resolve(&self, image: &ImageRef) -> Result<Image, Refusal> {
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

    /// Tries the accelerators in turn; the one that works stays.
    async fn make_template(
        &mut self,
        image: Image,
        scenario: &evalfleet_images::recipe::Scenario,
    ) -> Result<Arc<Template>, Refusal> {
        let mut last = "there is no accelerator".to_owned();
        for accelerator in self.accelerators.clone() {
            let machine = Machine { accelerator, ..self.machine.clone() };
            match Template::ensure(
                &self.templates_dir,
                image.clone(),
                scenario,
                machine.clone(),
                self.timeouts,
            )
            .await
            {
                Ok(template) => {
                    self.accelerators = vec![accelerator];
                    self.machine = machine;
                    return Ok(template);
                }
                Err(error) => {
                    last = error.to_string();
                    if accelerator == Accelerator::Kvm && self.accelerators.len() > 1 {
                        tracing::warn!(%error, "KVM opens here but no VM boots in it: falling back to emulation, which is much slower");
                    }
                }
            }
        }
        Err(Refusal::Fault(last))
    }
}

fn key(template: &Template, scenario: Option<&str>) -> Key {
    let manifest = &template.image().manifest;
    let first = || manifest.scenarios.first().map(|scenario| scenario.name.clone()).unwrap_or_default();
    Key { image: manifest.digest.to_string(), scenario: scenario.map_or_else(first, ToOwned::to_owned) }
}
