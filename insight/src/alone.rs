//! What only one process of a state directory does at a time.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// How often it is tried again.
const TICK: Duration = Duration::from_secs(5);

/// Waits until no other process does it, and keeps others from it while the file is open. `undone` says in the log what
/// is not done as long as the file cannot be made.
pub(crate) async fn alone(path: &Path, undone: &str) -> File {
    loop {
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        // Held by the open file: it ends with the process, however that ends.
        let opened = made.and_then(|()| File::options().create(true).append(true).open(path));
        match opened.and_then(|file| file.try_lock().map(|()| file).map_err(Into::into)) {
            Ok(file) => return file,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::warn!(%error, path = %path.display(), "{undone}"),
        }
        tokio::time::sleep(TICK).await;
    }
}
