//! What the recorder is told that is no result: of verdicts, of alerts, of healings, and what people say of them.

use super::{Client, Error, SUBMIT_PATIENCE};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::{Timestamp, topology, wire};
use serde::Serialize;

impl Client {
    /// Tells the recorder something about `what`, which `name` names in a message to people.
    ///
    /// # Errors
    /// When the broker does not confirm the word, which then may or may not be said.
    pub(super) async fn tell_recorder<T: Serialize>(
        &self,
        (name, what): (JobId, String),
        kind: MessageType,
        word: &T,
    ) -> Result<(), Error> {
        let (envelope, body) = (Envelope::new(kind, name, Timestamp::now()), wire::encode(word));
        let publish = self.link.publish(topology::DEAD, topology::HANDLED_KEY, &envelope, &body);
        match tokio::time::timeout(SUBMIT_PATIENCE, publish).await {
            Ok(confirmed) => Ok(confirmed.map(drop)?),
            Err(_) => Err(Error::Unsaid { what, waited: SUBMIT_PATIENCE }),
        }
    }
}

/// A reason as it is recorded.
///
/// # Errors
/// When it is empty, or has more than `max` characters.
pub(super) fn reason(text: &str, max: usize) -> Result<String, Error> {
    let (text, chars) = (text.trim(), text.trim().chars().count());
    if (1..=max).contains(&chars) { Ok(text.to_owned()) } else { Err(Error::Reason { chars, max }) }
}
