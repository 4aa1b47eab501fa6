//! `history export`: the history as files, for other programs or for another history.

use super::args::{ExportArgs, ExportFormat};
use super::failure::Failure;
use super::import::connect;
use super::progress::Progress;
use super::{Context, emit, print_json};
use evalfleet_datomic::Point;
use evalfleet_proto::status::Exit;
use evalfleet_recorder::columns::{Row, Table};
use evalfleet_recorder::export::{Error, Export};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

pub(super) async fn export(context: &Context, args: ExportArgs) -> Result<Exit, Failure> {
    let as_of = args.as_of.as_deref().map(str::parse::<Point>).transpose().map_err(Failure::usage)?;
    let (client, blobs) = connect(context).await?;
    let export = Export::new(client, blobs, as_of);
    match (args.format, args.out.as_deref()) {
        (ExportFormat::Jsonl, None) => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            documents(&export, &mut out, Path::new("standard output")).await?;
        }
        (ExportFormat::Jsonl, Some(path)) => {
            let (beside, file) = beside(path)?;
            documents(&export, &mut BufWriter::new(file), &beside).await?;
            std::fs::rename(&beside, path).map_err(|error| unwritable(path, &error))?;
        }
        (ExportFormat::Parquet, Some(path)) => {
            let (beside, file) = beside(path)?;
            table(&export, file, &beside).await?;
            std::fs::rename(&beside, path).map_err(|error| unwritable(path, &error))?;
        }
        (ExportFormat::Parquet, None) => {
            return Err(Failure::usage("--format parquet writes a file: name it with --out"));
        }
        (ExportFormat::Gemini, None) => {
            return Err(Failure::usage(
                "--format gemini writes a file for each batch: name a folder with --out",
            ));
        }
        (ExportFormat::Gemini, Some(dir)) => batches(context, &export, dir).await?,
    }
    Ok(Exit::Passed)
}

/// A file beside the one that is asked for: whoever finds that finds all of it.
fn beside(path: &Path) -> Result<(PathBuf, File), Failure> {
    let beside = path.with_added_extension("part");
    let file = File::create(&beside).map_err(|error| unwritable(&beside, &error))?;
    Ok((beside, file))
}

/// Gives every document of the history to `take`, the oldest first.
async fn each(export: &Export, mut take: impl FnMut(Vec<u8>) -> Result<(), Failure>) -> Result<(), Failure> {
    let days = export.days().await.map_err(failed)?;
    let total: u64 = days.iter().map(|(_, count)| count).sum();
    let progress = Progress::of(usize::try_from(total).unwrap_or(usize::MAX));
    let mut count = 0_u64;
    for (day, _) in &days {
        for kept in export.of_day(day).await.map_err(failed)? {
            take(export.document(&kept).await.map_err(failed)?)?;
            count += 1;
            progress.step();
        }
    }
    progress.end();
    eprintln!("{count} evaluations of {} days", days.len());
    Ok(())
}

/// Writes every document on a line of its own.
async fn documents(export: &Export, out: &mut impl Write, place: &Path) -> Result<(), Failure> {
    each(export, |mut line| {
        line.push(b'\n');
        out.write_all(&line).map_err(|error| unwritable(place, &error))
    })
    .await?;
    out.flush().map_err(|error| unwritable(place, &error))
}

/// Writes every document as a row of a table.
async fn table(export: &Export, file: File, place: &Path) -> Result<(), Failure> {
    let unwritable = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", place.display()));
    let mut table = Table::new(file).map_err(|error| unwritable(&error))?;
    each(export, |document| match Row::of(&document) {
        Some(row) => table.push(row).map_err(|error| unwritable(&error)),
        None => Err(Failure::new(Exit::Infrastructure, "a document of the history is no evaluation's")),
    })
    .await?;
    table.end().map_err(|error| unwritable(&error))
}

/// Writes each imported batch as the file that it came from.
async fn batches(context: &Context, export: &Export, dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
    let batches = export.batches().await.map_err(failed)?;
    for batch in &batches {
        let path = dir.join(&batch.name);
        let text =
            serde_json::to_string_pretty(&batch.file).map_err(|error| Failure::new(Exit::Defect, error))?;
        std::fs::write(&path, text + "\n").map_err(|error| unwritable(&path, &error))?;
        if context.json {
            print_json(&serde_json::json!({ "file": path, "questions": batch.file.results.len() }), false)?;
        } else {
            emit(&path.display().to_string())?;
        }
    }
    eprintln!("{} batches", batches.len());
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    // Whoever closed the pipe wants no more of it.
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::usage(format!("{}: {error}", path.display()))
}

fn failed(error: Error) -> Failure {
    Failure::new(Exit::Unreachable, error)
}
