//! The templates that were made of images: how they are, and their removal.

use super::failure::Failure;
use super::image_gc;
use super::{Context, emit, print_json};
use evalfleet_images::templates::{Listed, Record, State, Templates};
use evalfleet_images::{Image, Store};
use evalfleet_proto::Timestamp;
use evalfleet_proto::status::Exit;
use evalfleet_proto::units::ByteSize;
use serde_json::{Value, json};
use std::time::Duration;

fn books(context: &Context) -> Templates {
    Templates::new(context.settings.templates_dir())
}

/// All templates of this machine, the last used first.
pub(super) fn all(context: &Context) -> Result<Vec<Listed>, Failure> {
    books(context).list().map_err(|error| unreadable(context, &error))
}

/// Those of one image.
pub(super) fn of<'l>(made: &'l [Listed], image: &'l Image) -> impl Iterator<Item = &'l Listed> {
    made.iter().filter(|template| is_of(template, image))
}

/// Whether a template was made of this image.
pub(super) fn is_of(template: &Listed, image: &Image) -> bool {
    template.record.as_ref().is_some_and(|record| record.image == image.manifest.digest.to_string())
}

/// One template as people read it.
pub(super) fn line(template: &Listed) -> String {
    let made_of = template.record.as_ref().map_or_else(String::new, |record| {
        format!("{} {} {} qemu {}", record.scenario, record.strategy, record.accelerator, record.qemu)
    });
    let used = template.last_use.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(at)));
    let error = template.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    let state = template.state.as_str();
    format!(
        "    {:<16}  {:>7.1} MiB  {state:<8}  used {used:<12} {made_of}{error}",
        template.key,
        mebibytes(template.bytes)
    )
}

/// One template as programs read it.
pub(super) fn document(template: &Listed) -> Value {
    let record = template.record.as_ref();
    let made = record.map(|record| record.made);
    json!({
        "key": template.key, "digest": record.map(|record| format!("sha256:{}", record.digest)), "state": template.state,
        "bytes": template.bytes, "made": made, "age_s": made.map(|at| since(at).as_secs()), "last_use": template.last_use,
        "image": record.map(|record| format!("sha256:{}", record.image)),
        "scenario": record.map(|record| &record.scenario), "strategy": record.map(|record| &record.strategy),
        "accelerator": record.map(|record| &record.accelerator), "qemu": record.map(|record| &record.qemu),
        "machine": record.map(|record| &record.machine), "cpu": record.map(|record| &record.cpu),
        "cpus": record.map(|record| record.cpus), "memory": record.map(|record| record.memory), "error": template.error,
    })
}

/// `image gc`
pub(super) fn gc(context: &Context, max: Option<ByteSize>, dry_run: bool) -> Result<Exit, Failure> {
    let max = max.unwrap_or(context.settings.qemu.templates_max);
    let images = Store::new(context.settings.images_dir()).list();
    let images = images.map_err(|error| Failure::new(Exit::Usage, error))?;
    let digests: Vec<String> = images.iter().map(|image| image.manifest.digest.to_string()).collect();
    let keep = |record: &Record| digests.contains(&record.image);
    let books = books(context);
    let gone = if dry_run { books.would_go(max.bytes(), &keep) } else { books.gc(max.bytes(), &keep) };
    let gone = gone.map_err(|error| unreadable(context, &error))?;
    for template in &gone {
        if context.json {
            print_json(&document(template), false)?;
        } else {
            emit(&line(template))?;
        }
    }
    let bytes: u64 = gone.iter().map(|template| template.bytes).sum();
    let verb = if dry_run { "would be removed" } else { "removed" };
    eprintln!("{} templates, {:.1} MiB {verb}", gone.len(), mebibytes(bytes));
    let left = all(context)?;
    if let Some(held) = left.iter().find(|template| template.state == State::InUse)
        && max.bytes() == 0
        && !dry_run
    {
        eprintln!("those in use stay, such as {}: `evalfleet down` first", held.key);
    }
    let stays = |template: &&Listed| !gone.iter().any(|going| going.key == template.key);
    let records = left.iter().filter(stays).filter_map(|template| template.record.as_ref());
    image_gc::sweep(context, &records.map(|record| record.image.as_str()).collect(), dry_run)
}

fn unreadable(context: &Context, error: &std::io::Error) -> Failure {
    let dir = context.settings.templates_dir();
    Failure::new(Exit::Unreachable, format!("the templates in {}: {error}", dir.display()))
}

pub(super) fn since(at: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default()
}

/// To the minute, which is as much as anybody wants to know.
pub(super) fn age(at: Timestamp) -> String {
    let seconds = since(at).as_secs();
    let rounded = if seconds < 60 { seconds } else { seconds / 60 * 60 };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
