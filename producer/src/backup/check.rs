//! Checking a backup: it is restored into a store of its own, and that is asked.

use super::fingerprint::Fingerprint;
use super::{Checked, Error, Manifest, STORE, Shelf, file, shelf};
use crate::machine::files::secret;
use crate::machine::gateway;
use crate::machine::ports::Ports;
use evalfleet_datomic::{Client, Config, Status};
use evalfleet_proto::Timestamp;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long the store may take to open: it indexes its whole log anew.
const OPENING: Duration = Duration::from_secs(30 * 60);
const GLANCE: Duration = Duration::from_millis(200);

/// Checks a backup against what it was found to hold when it was taken or, where that is not known, only that it
/// opens and is whole.
///
/// # Errors
/// When it is not there, does not open, or holds something else.
pub async fn check(settings: &Settings, name: &str) -> Result<Manifest, Error> {
    let shelf = Shelf::of(settings);
    let manifest = shelf.find(name)?;
    let restored = read(settings, &shelf, &manifest).await?;
    let checked = match &manifest.checked {
        Some(before) if (before.digest, before.datoms) != (restored.digest, restored.datoms) => {
            let why = format!(
                "it holds {} facts of digest {}, and held {} of {} on {}",
                restored.datoms, restored.digest, before.datoms, before.digest, before.at
            );
            return Err(Error::Differs { name: name.to_owned(), why });
        }
        Some(_) | None => same(&shelf, name, &restored, &restored).await?,
    };
    shelf.note(manifest, checked)
}

/// Compares two logs, and looks for the documents that they point to.
pub(super) async fn same(
    shelf: &Shelf,
    name: &str,
    original: &Fingerprint,
    restored: &Fingerprint,
) -> Result<Checked, Error> {
    let differs = |why: String| Error::Differs { name: name.to_owned(), why };
    if original != restored {
        return Err(differs(format!(
            "restored, it has {} transactions with {} facts, and the history has {} with {}, or they say otherwise",
            restored.transactions, restored.datoms, original.transactions, original.datoms
        )));
    }
    let blobs = Blobs::in_dir(&shelf.blobs()).map_err(|error| differs(error.to_string()))?;
    for key in &restored.documents {
        blobs.get(*key).await.map_err(|error| differs(error.to_string()))?;
    }
    Ok(Checked {
        at: Timestamp::now(),
        transactions: restored.transactions,
        datoms: restored.datoms,
        digest: restored.digest,
        documents: restored.documents.len() as u64,
    })
}

/// Opens a copy of a backup by a gateway of its own, and reads its log.
pub(super) async fn read(
    settings: &Settings,
    shelf: &Shelf,
    manifest: &Manifest,
) -> Result<Fingerprint, Error> {
    let dir = tempfile::Builder::new().prefix(shelf::CHECKING).tempdir_in(shelf.dir());
    let dir = dir.map_err(file("making a folder in", shelf.dir()))?;
    let path = dir.path();
    // To open it is to write to it.
    shelf::copy_new(&shelf.path(&manifest.name).join(STORE), &path.join("datomic").join(STORE))?;
    let ports = Ports::claim(path).map_err(file("finding a port for", path))?;
    let token_file = path.join("token");
    let token = secret(&token_file).map_err(file("writing", &token_file))?;
    let command = gateway::command(settings, path, ports.gateway, &token_file)?;
    let log_path = path.join("gateway.log");
    let log = std::fs::File::create(&log_path).map_err(file("making", &log_path))?;
    // Whoever checks may be killed at it: then this one goes as well. The signal is kept over every exec.
    let mut process = tokio::process::Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&command.program)
        .args(&command.args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(file("opening", &log_path))?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(file("starting setpriv (package util-linux) and", &command.program))?;
    let store = Client::new(Config::new(format!("http://127.0.0.1:{}", ports.gateway), token))?;
    let reading = async {
        until_open(&store, &manifest.name).await?;
        Ok::<_, Error>(Fingerprint::of(&store, manifest.basis_t).await?)
    };
    let ended = |status: std::io::Result<std::process::ExitStatus>| {
        let said = std::fs::read_to_string(&log_path).unwrap_or_default();
        let last = said.lines().last().unwrap_or_default().to_owned();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        Error::Differs { name: manifest.name.clone(), why: format!("its gateway ended ({status}): {last}") }
    };
    let read = tokio::select! {
        read = reading => read,
        status = process.wait() => Err(ended(status)),
    };
    // It is a copy: nothing in it is worth a farewell.
    let _ = process.kill().await;
    read
}

/// Waits until a gateway has opened its store. One that does not open at once is not tried again, as a history at work
/// would be: nobody else has these files.
async fn until_open(store: &Client, name: &str) -> Result<(), Error> {
    let no_good = |why: String| Err(Error::Differs { name: name.to_owned(), why });
    let begun = Instant::now();
    loop {
        match store.health().await {
            Ok(health) if health.status == Status::Ready => return Ok(()),
            Ok(health) => {
                if let Some(why) = health.last_error {
                    return no_good(format!("it does not open: {why}"));
                }
            }
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        if begun.elapsed() > OPENING {
            return no_good(format!("it did not open within {} s", OPENING.as_secs()));
        }
        tokio::time::sleep(GLANCE).await;
    }
}
