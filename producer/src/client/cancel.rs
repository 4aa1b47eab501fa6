//! Calling jobs off.

use super::words::within_bound;
use super::{Client, Error};
use evalfleet_proto::Timestamp;
use evalfleet_proto::control::Control;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::{BatchId, JobId};

impl Client {
    /// Calls a job off, wherever it is: queued, waiting for its next try, running, or not submitted yet.
    /// It ends as `cancelled`, with `reason` in its evidence, unless it is done before the word reaches
    /// its worker. A queued job is reported when a worker comes to it.
    ///
    /// The word stands for two days. To say it again does no harm, and neither does dropping the future:
    /// it was said, or it was not.
    ///
    /// # Errors
    /// When `reason` has more than [`REASON_CHARS_MAX`](evalfleet_proto::control::REASON_CHARS_MAX) characters; or when the broker does not confirm
    /// the word, which then may or may not be said.
    pub async fn cancel(&self, id: JobId, reason: Option<&str>) -> Result<(), Error> {
        let reason = within_bound(reason)?;
        let envelope = Envelope::new(MessageType::Control, id, Timestamp::now());
        self.say("cancel", &envelope, &Control::Cancel { job: id, reason }, || id.to_string()).await
    }

    /// Calls all jobs of a batch off that were submitted until now, as [`Client::cancel`] does. Jobs that
    /// are submitted later under the same name run.
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub async fn cancel_batch(&self, batch: &BatchId, reason: Option<&str>) -> Result<(), Error> {
        let reason = within_bound(reason)?;
        let until = Timestamp::now();
        // It is about no one job: its message has a name of its own.
        let mut envelope = Envelope::new(MessageType::Control, JobId::fresh(), until);
        envelope.batch = Some(batch.to_string());
        let word = Control::CancelBatch { batch: batch.clone(), until, reason };
        self.say("cancel", &envelope, &word, || format!("the batch {batch}")).await
    }
}
