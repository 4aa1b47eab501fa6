//! What healings say to people. Pure.

use evalfleet_analytics::rate::Tally;
use evalfleet_proto::units::ByteSize;
use std::time::Duration;

/// The most characters of an error that evidence shows.
const ERROR_MAX: usize = 300;

/// A worker that is worse than its peers.
pub(super) fn bad_worker(worker: &str, own: Tally, peers: Tally, chance: f64) -> String {
    format!(
        "{} of {} tries of {worker} ended in a fault of ours, against {} of {} of all other workers: as much comes by \
         chance {}. It is to take no more jobs; what broke there is tried again elsewhere.",
        own.failed(),
        own.tries,
        peers.failed(),
        peers.tries,
        rarely(chance)
    )
}

/// A tool that breaks what it runs in.
pub(super) fn poison_tool(tool: &str, own: Tally, others: Tally, workers: usize, chance: f64) -> String {
    format!(
        "{} of {} calls of {tool} were given up after faults of ours, on {workers} workers, against {} of {} of all \
         other jobs: as much comes by chance {}. It is not to be called until somebody has looked at it.",
        own.failed(),
        own.tries,
        others.failed(),
        others.tries,
        rarely(chance)
    )
}

/// An image that turned bad; the tallies are those of before and since.
pub(super) fn bad_image(name: &str, (old, new): (Tally, Tally), tools: usize, chance: f64) -> String {
    format!(
        "{} of {} jobs in the image {name} were bad since it was built anew, against {} of {} before, by the same \
         tools, of which {tools} do worse: as much comes by chance {}. Its name is to mean the image of before.",
        new.failed(),
        new.tries,
        old.failed(),
        old.tries,
        rarely(chance)
    )
}

/// A part that ended.
pub(super) fn dead_part(name: &str, how: &str) -> String {
    format!("{name} ended unexpectedly ({how}). The supervisor starts it again.")
}

/// A queue that stands still.
pub(super) fn stuck_queue(name: &str, waiting: u32, since: Duration, unable: usize) -> String {
    let unable = if unable == 0 { String::new() } else { format!(", and {unable} can make no VM") };
    format!(
        "{waiting} jobs wait in {name}, and for {} s no worker was heard to do anything{unable}. `evalfleet status` and \
         `evalfleet doctor` say more.",
        since.as_secs()
    )
}

/// A recorder that does not record.
pub(super) fn silent_recorder(waiting: u32, since: Duration) -> String {
    format!(
        "{waiting} results wait to be recorded, and for {} s nothing was. Nothing is lost: they stay in their queue. \
         `evalfleet status` shows the recorder and the gateway.",
        since.as_secs()
    )
}

/// A disk without room.
pub(super) fn full_disk(path: &str, free: u64, size: u64) -> String {
    format!(
        "Of the disk of {path}, {} of {} are free. `evalfleet image gc` and `evalfleet history retain` make room.",
        ByteSize(free),
        ByteSize(size)
    )
}

/// A template that failed.
pub(super) fn bad_template(key: &str, why: &str) -> String {
    format!("The template {key} failed: {}. A worker that needs it makes it anew.", cut(why))
}

/// The beginning of a digest.
pub(super) fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

/// How often something comes by chance.
fn rarely(chance: f64) -> String {
    let once_in = (1.0 / chance.max(1e-9)).min(1e9);
    if once_in >= 1e6 {
        "less than once in a million times".to_owned()
    } else {
        format!("once in {once_in:.0} times")
    }
}

/// The beginning of an error.
pub(super) fn cut(error: &str) -> String {
    error.char_indices().nth(ERROR_MAX).map_or(error, |(end, _)| &error[..end]).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_worker_is_named_with_its_numbers() {
        let said = bad_worker("w2", Tally { passed: 1, tries: 9 }, Tally { passed: 40, tries: 40 }, 2.0e-8);
        assert!(said.starts_with("8 of 9 tries of w2 ") && said.contains("0 of 40"), "{said}");
        assert!(said.contains("once in a million"), "{said}");
        assert_eq!(rarely(0.0002), "once in 5000 times");
    }
}
