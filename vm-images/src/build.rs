//! Builds an image, or finds that there is nothing to build.
//!
//! ```text
//!  inputs unchanged        nothing
//!  only the agent changed  root, kernel and scratch disk are linked from the current image, the rest is written
//!  anything else, --force  everything
//! ```
//!
//! All work happens in a folder of its own beside the images. An image appears complete, by a rename, or not at all;
//! a lock keeps builds of one image apart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::digest::Digest;
use crate::initramfs::{self, Module};
use crate::manifest::{self, DebianInfo, FileInfo, Inputs, KernelInfo, Manifest, Part};
use crate::preconditions::{self, Problem};
use crate::progress::{Event, Listener, Step};
use crate::recipe::Recipe;
use crate::store::{self, BUILD_PREFIX, Image, ImageRef, Lock, Store};
use crate::tool::{self, ToolSpec};
use crate::{agent, kernel, root, scratch, tree};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this host cannot build images yet:{}", listed(.0))]
    Preconditions(Vec<Problem>),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Tool(#[from] tool::Error),
    #[error("the tool `{tool}` belongs to the image `{image}`, and lies in the recipe of another")]
    ForeignTool { tool: String, image: String },
    #[error("two folders of tools have a `{0}`: which one is meant?")]
    SameTool(String),
    #[error(transparent)]
    Tree(#[from] tree::Error),
    #[error(transparent)]
    Agent(#[from] agent::Error),
    #[error(transparent)]
    Root(#[from] root::Error),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Scratch(#[from] scratch::Error),
    #[error("the current image's initramfs: {0}")]
    Initramfs(#[from] initramfs::Error),
    #[error("the disk is full at {0}: free some space and build again")]
    DiskFull(PathBuf),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// What a build is told besides its recipe.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The folder of images.
    pub images: PathBuf,
    /// The guest agent, a static program.
    pub agent: PathBuf,
    /// Builds everything, even if nothing changed: Debian's packages may be newer.
    pub force: bool,
}

/// How much there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The current image is of the same inputs.
    Nothing,
    /// The root was used again.
    Initramfs,
    Everything,
}

/// A finished build.
#[derive(Debug)]
pub struct Built {
    pub image: Image,
    pub work: Work,
}

/// Builds the image of `recipe` and makes it the current one. Blocks for as long as that takes.
pub fn build(recipe: &Recipe, options: &BuildOptions, listener: Listener<'_>) -> Result<Built, Error> {
    let store = Store::new(&options.images);
    let lock = store.lock(&recipe.spec.name)?;
    store.remove_left_overs(&recipe.spec.name, &lock)?;
    let mut build = step(Step::Inputs, listener, |_| Build::prepare(recipe, options, store, lock))?;
    if let Some(image) = build.current.take_if(|image| image.manifest.inputs.all == build.inputs.all) {
        return Ok(Built { image, work: Work::Nothing });
    }
    match build.current.take_if(|image| image.manifest.inputs.root == build.inputs.root) {
        Some(image) => build.with_root_of(&image, listener),
        None => build.everything(options, listener),
    }
}

/// A build under way.
struct Build<'a> {
    recipe: &'a Recipe,
    store: Store,
    lock: Lock,
    /// Removed with all that is in it when the build ends, well or not.
    work: tempfile::TempDir,
    inputs: Inputs,
    agent: Vec<u8>,
    tools: Vec<ToolSpec>,
    /// The image that may already be what is asked for. None if none is sound, or it is not wanted.
    current: Option<Image>,
    /// How long making the root, kernel and scratch disk took, now or when they were made.
    took: Option<Duration>,
}

impl<'a> Build<'a> {
    fn prepare(recipe: &'a Recipe, options: &BuildOptions, store: Store, lock: Lock) -> Result<Self, Error> {
        let name = &recipe.spec.name;
        let tools = tools(recipe)?;
        let agent = agent::read(&options.agent)?;
        let inputs = inputs(recipe, &agent)?;
        let reference = ImageRef { name: name.clone(), digest: None };
        let current = if options.force { None } else { store.resolve(&reference).ok() };
        let parent = store.folder().join(name);
        let work = tempfile::Builder::new().prefix(BUILD_PREFIX).tempdir_in(&parent);
        let work = work.map_err(|source| failed(&parent, source))?;
        let build = Self { recipe, store, lock, work, inputs, agent, tools, current, took: None };
        let image = build.image_folder();
        fs::create_dir(&image).map_err(|source| failed(&image, source))?;
        Ok(build)
    }

    fn everything(mut self, options: &BuildOptions, listener: Listener<'_>) -> Result<Built, Error> {
        let (spec, begun) = (&self.recipe.spec, Instant::now());
        step(Step::Preconditions, listener, |_| {
            let problems = preconditions::problems(self.recipe, &options.images);
            if problems.is_empty() { Ok(()) } else { Err(Error::Preconditions(problems)) }
        })?;
        let work = self.work.path();
        let root = step(Step::Root, listener, |listener| Ok(root::build(self.recipe, work, listener)?))?;
        let kernel = step(Step::Kernel, listener, |_| {
            let unpacked = kernel::unpack(&root.kernel_package, &work.join("kernel"), &spec.kernel.modules)?;
            self.put(Part::Kernel, &unpacked.image)?;
            self.put(Part::Vmlinux, &kernel::elf(&unpacked.image)?)?;
            Ok(unpacked)
        })?;
        step(Step::Scratch, listener, |_| Ok(scratch::write(&spec.scratch, &self.path(Part::Scratch))?))?;
        let packed = self.path(Part::Root);
        fs::rename(&root.erofs, &packed).map_err(|source| failed(&packed, source))?;
        self.put(Part::Index, root.index.to_text().as_bytes())?;
        let debian = DebianInfo { suite: spec.debian.suite.clone(), packages: root.packages };
        self.took = Some(begun.elapsed());
        self.finish(kernel.modules, kernel.release, debian, Work::Everything, listener)
    }

    fn with_root_of(mut self, image: &Image, listener: Listener<'_>) -> Result<Built, Error> {
        for skipped in [Step::Root, Step::Kernel, Step::Scratch] {
            listener(skipped, Event::Skipped);
        }
        for part in [Part::Kernel, Part::Vmlinux, Part::Root, Part::Scratch, Part::Index] {
            let (from, to) = (image.path(part), self.path(part));
            fs::hard_link(&from, &to).map_err(|source| failed(&from, source))?;
        }
        let initrd = image.path(Part::Initrd);
        let archive = fs::read(&initrd).map_err(|source| failed(&initrd, source))?;
        let entries = initramfs::read(&archive)?;
        let modules = initramfs::modules(&entries);
        let (release, debian) = (image.manifest.kernel.release.clone(), image.manifest.debian.clone());
        self.took = image.manifest.build_ms.map(Duration::from_millis);
        self.finish(modules, release, debian, Work::Initramfs, listener)
    }

    /// Writes what depends on the agent, and publishes.
    fn finish(
        mut self,
        modules: Vec<Module>,
        release: String,
        debian: DebianInfo,
        work: Work,
        listener: Listener<'_>,
    ) -> Result<Built, Error> {
        let names = modules.iter().map(|module| module.name.clone()).collect();
        let kernel = KernelInfo { release, modules: names };
        let agent = std::mem::take(&mut self.agent);
        step(Step::Initramfs, listener, |_| {
            self.put(Part::Initrd, &initramfs::write(&initramfs::entries(agent, modules)))
        })?;
        step(Step::Publish, listener, |_| {
            let tools = serde_json::to_string_pretty(&self.tools).expect("tools came from TOML and JSON");
            self.put(Part::Tools, tools.as_bytes())?;
            let manifest = self.manifest(kernel, debian)?;
            let text =
                serde_json::to_string_pretty(&manifest).expect("a manifest has nothing that JSON lacks");
            let path = self.image_folder().join(manifest::FILE_NAME);
            write(&path, text.as_bytes())?;
            let image = self.store.publish(&self.image_folder(), &manifest, &self.lock)?;
            Ok(Built { image, work })
        })
    }

    fn manifest(&self, kernel: KernelInfo, debian: DebianInfo) -> Result<Manifest, Error> {
        let folder = self.image_folder();
        let mut files = BTreeMap::new();
        for part in Part::ALL {
            let path = self.path(part);
            let sealed = || -> io::Result<FileInfo> {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o444))?;
                let file = File::open(&path)?;
                // Before the rename that publishes it: a power cut must not leave an image of empty files.
                file.sync_all()?;
                Ok(FileInfo {
                    path: part.file_name().to_owned(),
                    sha256: part.digest(&folder)?,
                    size: file.metadata()?.len(),
                    sparse: part.is_sparse(),
                })
            };
            files.insert(part, sealed().map_err(|source| failed(&path, source))?);
        }
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&folder, open).map_err(|source| failed(&folder, source))?;
        let spec = &self.recipe.spec;
        Ok(Manifest {
            format: manifest::FORMAT,
            name: spec.name.clone(),
            description: spec.description.clone(),
            digest: Manifest::digest_of(&files),
            inputs: self.inputs.clone(),
            built_at: jiff::Timestamp::now(),
            build_ms: self.took.and_then(|took| u64::try_from(took.as_millis()).ok()),
            builder: env!("CARGO_PKG_VERSION").to_owned(),
            debian,
            kernel,
            files,
            machine: spec.machine.clone(),
            scenarios: spec.scenarios.clone(),
            tools: self.tools.iter().map(|tool| tool.name.clone()).collect(),
            foreign: None,
        })
    }

    /// Where the image is put together.
    fn image_folder(&self) -> PathBuf {
        self.work.path().join("image")
    }

    fn path(&self, part: Part) -> PathBuf {
        self.image_folder().join(part.file_name())
    }

    fn put(&self, part: Part, content: &[u8]) -> Result<(), Error> {
        write(&self.path(part), content)
    }
}

/// The tools of all of a recipe's folders, sorted by name.
fn tools(recipe: &Recipe) -> Result<Vec<ToolSpec>, Error> {
    let image = &recipe.spec.name;
    let mut tools = Vec::new();
    for folder in recipe.tools() {
        tools.extend(ToolSpec::load_all(&folder)?);
    }
    for tool in &mut tools {
        if tool.image.is_empty() {
            tool.image.clone_from(image);
        } else if tool.image != *image {
            return Err(Error::ForeignTool { tool: tool.name.clone(), image: tool.image.clone() });
        }
    }
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    match tools.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(Error::SameTool(pair[0].name.clone())),
        None => Ok(tools),
    }
}

/// Digests of everything that decides what an image holds.
fn inputs(recipe: &Recipe, agent: &[u8]) -> Result<Inputs, Error> {
    let spec = &recipe.spec;
    let digests = |folders: Vec<PathBuf>| -> Result<Vec<Digest>, tree::Error> {
        folders.iter().map(|folder| tree::digest(folder)).collect()
    };
    let root = json!([
        manifest::FORMAT,
        env!("CARGO_PKG_VERSION"),
        root::PACK,
        spec.debian,
        spec.root,
        spec.kernel,
        spec.scratch,
        digests(recipe.tools())?,
        digests(recipe.workspace().into_iter().collect())?,
        digests(recipe.repositories().map(|(_, folder)| folder).collect())?,
    ]);
    let root = Digest::of(root.to_string().as_bytes());
    let all = json!([root, Digest::of(agent), spec.name, spec.description, spec.machine, spec.scenarios]);
    Ok(Inputs { all: Digest::of(all.to_string().as_bytes()), root })
}

/// Runs one step between its two events.
fn step<T>(
    step: Step,
    listener: Listener<'_>,
    work: impl FnOnce(Listener<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let begun = Instant::now();
    listener(step, Event::Started);
    let done = work(listener)?;
    listener(step, Event::Finished(begun.elapsed()));
    Ok(done)
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    fs::write(path, content).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::StorageFull {
        Error::DiskFull(path)
    } else {
        Error::File { path, source }
    }
}
