//! `image`: build what the VMs boot, and show what is there.

use super::args::ImageCommand;
use super::failure::Failure;
use super::templates;
use super::{Context, emit, image_import, image_ssh, print_json};
use evalfleet_images::progress::{Event, Step};
use evalfleet_images::templates::Listed;
use evalfleet_images::{BuildOptions, Image, Recipe, Store, Work, build, store};
use evalfleet_proto::status::Exit;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) async fn image(context: &Context, command: ImageCommand) -> Result<Exit, Failure> {
    match command {
        ImageCommand::Build { name, force } => {
            let images = context.settings.images_dir();
            // Minutes of work on threads of its own: building blocks.
            let built = tokio::task::spawn_blocking(move || build_image(&name, images, force)).await;
            let (image, work) = built.map_err(|error| Failure::new(Exit::Defect, error))??;
            report_build(context, &image, work)
        }
        ImageCommand::Import { file, name, channel, user, no_boot } => {
            image_import::import(context, file, name, channel, user, no_boot).await
        }
        ImageCommand::Ssh { name, argv } => image_ssh::ssh(context, &name, &argv).await,
        ImageCommand::List => list(context),
        ImageCommand::Show { name, packages } => show(context, &name, packages),
        ImageCommand::Gc { max, dry_run } => templates::gc(context, max, dry_run),
    }
}

fn build_image(name: &str, images: PathBuf, force: bool) -> Result<(Image, Work), Failure> {
    let recipe = Recipe::load(&recipe_dir(name)?).map_err(Failure::usage)?;
    let options = BuildOptions { images, agent: agent()?, force };
    let mut shown = Shown::new();
    let built = build(&recipe, &options, &mut |step, event| shown.event(step, event));
    let built = built.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    Ok((built.image, built.work))
}

/// Shows a build: a bar on a terminal, a line a step elsewhere.
struct Shown(ProgressBar);

impl Shown {
    fn new() -> Self {
        let bar = ProgressBar::new(100);
        // The template is a constant; were it wrong, the default bar would serve.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {percent:>3}% {elapsed}")
        {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn event(&mut self, step: Step, event: Event<'_>) {
        match event {
            Event::Started => {
                self.0.reset();
                self.0.set_message(step.name());
                self.0.enable_steady_tick(Duration::from_millis(200));
            }
            Event::Percent(percent) => self.0.set_position(u64::from(percent)),
            Event::Line(_) => self.0.tick(),
            Event::Skipped => self.say(&format!("{}: already there", step.name())),
            Event::Finished(took) => self.say(&format!("{}: {:.1} s", step.name(), took.as_secs_f64())),
        }
    }

    fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("  {line}"));
        if !self.0.is_hidden() {
            self.0.finish_and_clear();
        }
    }
}

/// Where the recipe of an image is: beside us when installed, or in the checkout we were built in.
fn recipe_dir(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().unwrap_or_default();
    let named = std::env::var_os("EVALFLEET_RECIPES").map(PathBuf::from);
    let beside = own.ancestors().skip(1).take(5).map(|dir| dir.join("vm-images"));
    let places: Vec<PathBuf> = named.into_iter().chain(beside).map(|dir| dir.join(name)).collect();
    let found = places.iter().find(|dir| dir.join("recipe.toml").is_file()).cloned();
    found.ok_or_else(|| {
        Failure::usage(format!("there is no recipe for an image {name:?}; looked in {}", listed(&places)))
    })
}

/// The guest agent, which goes into every image.
fn agent() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().unwrap_or_default();
    let named = std::env::var_os("EVALFLEET_AGENT").map(PathBuf::from);
    let built =
        own.ancestors().skip(1).take(4).map(|dir| dir.join("x86_64-unknown-linux-gnu/guest/evalfleet-guest"));
    let beside = own.parent().map(|dir| dir.join("evalfleet-guest"));
    let places: Vec<PathBuf> = named.into_iter().chain(built).chain(beside).collect();
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        Failure::usage(format!(
            "the guest agent is not built: run `make build`; looked in {}",
            listed(&places)
        ))
    })
}

fn listed(places: &[PathBuf]) -> String {
    places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn report_build(context: &Context, image: &Image, work: Work) -> Result<Exit, Failure> {
    let done = match work {
        Work::Nothing => "nothing to do, it is up to date",
        Work::Initramfs => "built around the root that was there",
        Work::Everything => "built",
    };
    if context.json {
        let mut document = document(image);
        document["work"] = Value::from(done);
        print_json(&document, true)?;
    } else {
        eprintln!("{}: {done}", image.manifest.name);
        emit(&format!("{}@sha256:{}", image.manifest.name, image.manifest.digest))?;
    }
    Ok(Exit::Passed)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let images = Store::new(context.settings.images_dir()).list().map_err(failed)?;
    let made = templates::all(context)?;
    for image in &images {
        if context.json {
            print_json(&with_templates(image, &made), false)?;
        } else {
            let manifest = &image.manifest;
            let current = if image.current { "*" } else { " " };
            emit(&format!(
                "{current} {:<16} {:.16}  {:>7.1} MiB  built {} ago  {}",
                manifest.name,
                manifest.digest.to_string(),
                mebibytes(image),
                templates::age(manifest.built_at),
                manifest.description
            ))?;
            emit(&format!("    scenarios: {}", scenarios(image).join(", ")))?;
            for template in templates::of(&made, image) {
                emit(&templates::line(template))?;
            }
        }
    }
    let orphans: Vec<_> = made
        .iter()
        .filter(|template| !images.iter().any(|image| templates::is_of(template, image)))
        .collect();
    if !orphans.is_empty() && !context.json {
        emit("templates of no image that is here; `evalfleet image gc` removes them")?;
        for template in orphans {
            emit(&templates::line(template))?;
        }
    }
    if images.is_empty() && !context.json {
        eprintln!("no image is here; make one with `evalfleet image build base`");
    }
    Ok(Exit::Passed)
}

fn show(context: &Context, name: &str, packages: bool) -> Result<Exit, Failure> {
    let reference = name.parse().map_err(Failure::usage)?;
    let image = Store::new(context.settings.images_dir()).resolve(&reference).map_err(failed)?;
    image.verify().map_err(failed)?;
    if packages {
        let manifest = &image.manifest;
        if context.json {
            print_json(&manifest.debian.packages, true)?;
        } else {
            emit(manifest.packages_text().trim_end())?;
        }
        return Ok(Exit::Passed);
    }
    print_json(&with_templates(&image, &templates::all(context)?), true)?;
    Ok(Exit::Passed)
}

fn with_templates(image: &Image, made: &[Listed]) -> Value {
    let mut document = document(image);
    document["templates"] = templates::of(made, image).map(templates::document).collect();
    document
}

pub(super) fn document(image: &Image) -> Value {
    let manifest = &image.manifest;
    let mut document = json!({
        "name": manifest.name, "description": manifest.description, "digest": format!("sha256:{}", manifest.digest),
        "current": image.current, "folder": folder(&image.folder), "built_at": manifest.built_at, "suite": manifest.debian.suite,
        "packages": manifest.debian.packages.len(), "kernel": manifest.kernel.release, "mebibytes": mebibytes(image),
        "scenarios": scenarios(image), "tools": manifest.tools, "build_ms": manifest.build_ms,
        "memory_min": manifest.machine.memory_min, "age_s": templates::since(manifest.built_at).as_secs(),
    });
    if let Some(foreign) = &manifest.foreign {
        document["foreign"] = json!({
            "source": foreign.source, "source_sha256": format!("sha256:{}", foreign.source_sha256),
            "channel": foreign.channel.as_str(), "user": foreign.user,
        });
    }
    document
}

fn scenarios(image: &Image) -> Vec<&str> {
    image.manifest.scenarios.iter().map(|scenario| scenario.name.as_str()).collect()
}

fn folder(path: &Path) -> String {
    path.display().to_string()
}

/// What the image takes on the disk; its scratch disk is nearly all hole.
pub(super) fn mebibytes(image: &Image) -> f64 {
    let files = image.manifest.files.values().filter(|file| !file.sparse);
    let bytes: u64 = files.map(|file| file.size).sum();
    (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0
}

pub(super) fn failed(error: store::Error) -> Failure {
    Failure::new(Exit::Usage, error)
}
