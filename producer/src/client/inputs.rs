//! Large inputs: in the blob store rather than in the job's message. The worker fetches them and looks at their hash.

use super::Error;
use evalfleet_proto::job::{Content, INLINE_BYTES_MAX, Job, Task};
use evalfleet_service::blobs::Deferred;

/// Whether everything of the job's own that is in its message has room there.
pub(super) fn fit(job: &Job) -> bool {
    let inline: usize = contents(job).map(inline_bytes).sum();
    inline == 0 || inline <= room(job)
}

/// Moves what has no room in the job's message to the blob store: files first come, first kept in the message, and
/// the standard input last.
pub(super) async fn refer(job: &mut Job, blobs: &Deferred) -> Result<(), Error> {
    if fit(job) {
        return Ok(());
    }
    let mut room = room(job);
    let stdin = match &mut job.task {
        Task::Command(command) => command.stdin.as_mut(),
        Task::FunctionCall(_) | Task::Unknown => None,
    };
    for content in job.files.iter_mut().map(|file| &mut file.content).chain(stdin) {
        let Content::Inline(bytes) = content else { continue };
        if let Some(left) = room.checked_sub(bytes.len()) {
            room = left;
            continue;
        }
        let (length, bytes) = (bytes.len() as u64, std::mem::take(bytes));
        *content = Content::Blob { sha256: blobs.get().await?.put(bytes).await?, bytes: length };
    }
    Ok(())
}

/// What the arguments of a call leave: they always travel in the message.
fn room(job: &Job) -> usize {
    let arguments = match &job.task {
        Task::FunctionCall(call) => call.args.to_string().len(),
        Task::Command(_) | Task::Unknown => 0,
    };
    INLINE_BYTES_MAX.saturating_sub(arguments)
}

fn contents(job: &Job) -> impl Iterator<Item = &Content> {
    let stdin = match &job.task {
        Task::Command(command) => command.stdin.as_ref(),
        Task::FunctionCall(_) | Task::Unknown => None,
    };
    job.files.iter().map(|file| &file.content).chain(stdin)
}

fn inline_bytes(content: &Content) -> usize {
    match content {
        Content::Inline(bytes) => bytes.len(),
        Content::Blob { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::Timestamp;
    use evalfleet_proto::ids::Sha256;
    use evalfleet_proto::submission::{Defaults, Submission};
    use evalfleet_proto::wire;
    use evalfleet_service::settings::{Layers, Settings};

    fn job(document: &serde_json::Value) -> Job {
        let defaults = Defaults { image: "base".parse().unwrap(), now: Timestamp::UNIX_EPOCH };
        Submission::from_json(&document.to_string()).unwrap().into_job(&defaults).unwrap()
    }

    #[tokio::test]
    async fn what_has_no_room_travels_by_its_hash_and_the_rest_in_the_message() {
        let dir = tempfile::tempdir().unwrap();
        let environment = vec![("EVALFLEET_STATE__DIR".to_owned(), dir.path().display().to_string())];
        let settings = Settings::from_layers(&Layers { environment, ..Layers::default() }).unwrap();
        let blobs = Deferred::new(&settings);
        let (small, large) = ("s".repeat(1000), "l".repeat(INLINE_BYTES_MAX));
        let mut little = job(&serde_json::json!({"kind": "command", "argv": ["cat"], "stdin": small}));
        let before = little.clone();
        refer(&mut little, &blobs).await.unwrap();
        assert_eq!(little, before);
        assert!(!settings.blobs_dir().exists(), "the store is not opened where nobody needs it");

        let files = serde_json::json!([{"path": "/a", "text": small}, {"path": "/b", "text": large}]);
        let mut much =
            job(&serde_json::json!({"kind": "command", "argv": ["cat"], "stdin": small, "files": files}));
        assert!(!fit(&much));
        refer(&mut much, &blobs).await.unwrap();
        assert!(fit(&much) && wire::encode(&much).len() < 4000);
        let kept: Vec<u64> = contents(&much).map(|content| inline_bytes(content) as u64).collect();
        assert_eq!(kept, [1000, 0, 1000]);
        let (key, bytes) = (Sha256::of(large.as_bytes()), large.len() as u64);
        assert_eq!(much.files[1].content, Content::Blob { sha256: key, bytes });
        assert_eq!(blobs.get().await.unwrap().get(key).await.unwrap(), large.into_bytes());
    }
}
