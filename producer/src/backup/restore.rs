//! Putting a backup in the place of the history, on this machine or on an empty one.

use super::{Error, Manifest, STORE, Shelf, contents, file, shelf};
use crate::machine::record::{Asked, Lock};
use evalfleet_proto::Timestamp;
use evalfleet_service::settings::Settings;
use std::path::PathBuf;

/// Puts a backup in the place of the history. What was there is moved aside, and its new path given.
///
/// # Errors
/// When the fleet is up, there is no such backup, or disk or bucket do not take it: then the history is as it was.
pub async fn restore(settings: &Settings, name: &str) -> Result<(Manifest, Option<PathBuf>), Error> {
    let (shelf, state_dir) = (Shelf::of(settings), settings.state_dir());
    let manifest = shelf.find(name)?;
    let Asked::Got(_lock) = Lock::ask(&state_dir).map_err(file("locking", &state_dir))? else {
        return Err(Error::Up { dir: state_dir });
    };
    // What facts point to first: they are only added to.
    contents::bring_back(settings, &shelf.blobs()).await?;
    let (place, coming) = (state_dir.join("datomic"), state_dir.join("datomic.restoring"));
    match std::fs::remove_dir_all(&coming) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file("removing", &coming)(error));
        }
        Ok(()) | Err(_) => {}
    }
    shelf::copy_new(&shelf.path(name).join(STORE), &coming.join(STORE))?;
    let aside = state_dir.join(format!("datomic.before-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    let aside = match std::fs::rename(&place, &aside) {
        Ok(()) => Some(aside),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(file("moving aside", &place)(error)),
    };
    std::fs::rename(&coming, &place).map_err(file("moving into place", &coming))?;
    Ok((manifest, aside))
}
