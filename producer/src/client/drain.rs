//! Draining workers: who takes no jobs for a while.

use super::words::within_bound;
use super::{Client, Error};
use evalfleet_proto::Timestamp;
use evalfleet_proto::control::Control;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::{JobId, WorkerId};

impl Client {
    /// Has a worker, or all where none is named, finish the job that it has and take none until it is told to
    /// resume. Its jobs stay in their queues, where others take them.
    ///
    /// The last word to a worker stands; it is in a log for two days, and one that starts later than that does not
    /// hear of it. Nobody checks that there is such a worker: it may be one that is yet to start.
    ///
    /// # Errors
    /// When `reason` has more than [`REASON_CHARS_MAX`](evalfleet_proto::control::REASON_CHARS_MAX) characters; or
    /// when the broker does not confirm the word, which then may or may not be said.
    pub async fn drain(&self, worker: Option<&WorkerId>, reason: Option<&str>) -> Result<(), Error> {
        let reason = within_bound(reason)?;
        self.say_to(worker, &Control::Drain { worker: worker.cloned(), reason }).await
    }

    /// Has a worker, or all where none is named, take jobs again.
    ///
    /// # Errors
    /// When the broker does not confirm the word, which then may or may not be said.
    pub async fn resume(&self, worker: Option<&WorkerId>) -> Result<(), Error> {
        self.say_to(worker, &Control::Resume { worker: worker.cloned() }).await
    }

    async fn say_to(&self, worker: Option<&WorkerId>, word: &Control) -> Result<(), Error> {
        // It is about no job: its message has a name of its own.
        let envelope = Envelope::new(MessageType::Control, JobId::fresh(), Timestamp::now());
        let what = || worker.map_or_else(|| "all workers".to_owned(), |worker| format!("worker {worker}"));
        self.say("drain", &envelope, word, what).await
    }
}
