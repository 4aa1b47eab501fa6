//! Looks at what the history does not tell: what names of images mean, which tools are in quarantine, how parts, queues,
//! disks and templates of this machine are.
//!
//! What cannot be read stays as it was seen last.

use super::seen::{Disk, List, Part, Seen, Tag, Waiting};
use crate::fleet::Fleet;
use evalfleet::machine::{Kind, Machine};
use evalfleet::toolbox::Quarantine;
use evalfleet_images::store::Store;
use evalfleet_images::templates::{State, Templates};
use evalfleet_proto::Timestamp;
use evalfleet_service::settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The most images, and the most templates, that are looked at.
const FILES_MAX: usize = 1000;
/// Of what is free on a disk, so little is hardly anything; what counts is in the rule.
const HARDLY: f64 = 0.05;

/// What looks.
#[derive(Debug, Clone)]
pub struct Senses {
    state_dir: PathBuf,
    images: Store,
    templates: Templates,
    quarantine: Quarantine,
    disks: BTreeSet<PathBuf>,
}

/// What was seen on this machine.
struct Looked {
    tags: Option<Vec<Tag>>,
    quarantined: Option<List>,
    parts: Vec<Part>,
    workers: Vec<String>,
    disks: Vec<Disk>,
    failed_templates: Option<BTreeMap<String, (Timestamp, String)>>,
}

impl Senses {
    /// Looks at the machine that `settings` describe.
    pub fn of(settings: &Settings) -> Self {
        let state_dir = settings.state_dir();
        Self {
            images: Store::new(settings.images_dir()),
            templates: Templates::new(settings.templates_dir()),
            quarantine: Quarantine::in_dir(&state_dir),
            disks: [state_dir.clone(), settings.images_dir(), settings.templates_dir(), settings.blobs_dir()]
                .into(),
            state_dir,
        }
    }

    /// Looks.
    pub async fn look(&self, seen: &mut Seen, fleet: &Fleet) {
        let this = self.clone();
        let Ok(looked) = tokio::task::spawn_blocking(move || this.files()).await else { return };
        if let Some(tags) = looked.tags {
            seen.tags = tags;
        }
        seen.quarantined = looked.quarantined.or(seen.quarantined.take());
        seen.failed_templates =
            looked.failed_templates.unwrap_or_else(|| std::mem::take(&mut seen.failed_templates));
        seen.parts = looked.parts;
        let unable = |worker: String| {
            let said = fleet.worker(&worker)?;
            let supply = &said["supply"];
            let why = supply["why"].as_str().unwrap_or("it does not say why").to_owned();
            (supply["able"] == false).then_some((worker, why))
        };
        seen.unable = looked.workers.into_iter().filter_map(unable).collect();
        let before = std::mem::take(&mut seen.disks);
        let since =
            |disk: &Disk| before.iter().find(|one| one.path == disk.path).and_then(|one| one.full_since);
        seen.disks = looked.disks;
        for disk in &mut seen.disks {
            disk.full_since = disk.full_since.map(|now| since(disk).unwrap_or(now));
        }
        if let Some(queues) = fleet.queues().await {
            let now = Timestamp::now();
            let waiting = queues.into_iter().filter(|queue| queue.messages > 0).map(|queue| {
                let since = seen.waiting.get(&queue.name).map_or(now, |waiting| waiting.since);
                (queue.name, Waiting { messages: queue.messages, since })
            });
            seen.waiting = waiting.collect();
        }
    }

    fn files(&self) -> Looked {
        let machine = Machine::read(&self.state_dir);
        let parts = machine.map_or(Vec::new(), |machine| machine.parts);
        let workers = parts.iter().filter(|part| part.kind == Kind::Worker).map(|part| part.name.clone());
        Looked {
            tags: self.tags(),
            quarantined: self.quarantined(),
            workers: workers.collect(),
            parts: parts
                .into_iter()
                .map(|part| Part {
                    state: part.state.as_str().to_owned(),
                    since: part.since,
                    restarts: part.restarts,
                    last_end: part.detail["last_end"].as_str().map(str::to_owned),
                    name: part.name,
                })
                .collect(),
            disks: self.disks(),
            failed_templates: self.failed_templates(),
        }
    }

    fn tags(&self) -> Option<Vec<Tag>> {
        let at = Timestamp::now();
        let images =
            self.images.list().inspect_err(|error| tracing::debug!(%error, "no images are seen")).ok()?;
        let digest = |digest: &dyn std::fmt::Display| format!("sha256:{digest}");
        let mut tags: Vec<Tag> = Vec::new();
        for image in images.iter().filter(|image| image.current).take(FILES_MAX) {
            let name = &image.manifest.name;
            let of_name = images.iter().filter(|other| other.manifest.name == *name && !other.current);
            let others = of_name.map(|other| digest(&other.manifest.digest)).collect();
            tags.push(Tag { name: name.clone(), current: digest(&image.manifest.digest), others, at });
        }
        Some(tags)
    }

    fn quarantined(&self) -> Option<List> {
        let at = Timestamp::now();
        let all = self
            .quarantine
            .all()
            .inspect_err(|error| tracing::debug!(%error, "no quarantine is seen"))
            .ok()?;
        Some(List { tools: all.into_keys().collect(), at })
    }

    fn failed_templates(&self) -> Option<BTreeMap<String, (Timestamp, String)>> {
        let all = self
            .templates
            .list()
            .inspect_err(|error| tracing::debug!(%error, "no templates are seen"))
            .ok()?;
        let failed = all.into_iter().filter(|one| one.state == State::Failed).take(FILES_MAX);
        Some(failed.filter_map(|one| Some((one.key, (one.last_use?, one.error?)))).collect())
    }

    /// The disks of our folders, each once.
    fn disks(&self) -> Vec<Disk> {
        let (mut known, mut disks, now) = (BTreeSet::new(), Vec::new(), Timestamp::now());
        for path in &self.disks {
            let (Ok(stat), Ok(disk)) = (rustix::fs::stat(path), rustix::fs::statvfs(path)) else { continue };
            if !known.insert(stat.st_dev) {
                continue;
            }
            let (free, size) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
            let full = (free as f64) <= size as f64 * HARDLY;
            let path = path.display().to_string();
            disks.push(Disk { path, free, size, full_since: full.then_some(now) });
        }
        disks
    }
}
