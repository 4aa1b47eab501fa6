//! Alerts: the recorder is told of each, and of what people say of it.

use super::{Client, Error, SUBMIT_PATIENCE};
use crate::person;
use evalfleet_proto::alert::{Alert, Judgement, REASON_CHARS_MAX, Said};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::AlertId;
use evalfleet_proto::{SCHEMA_VERSION, Timestamp, topology, wire};

impl Client {
    /// Tells the recorder how an alert stands now. To say the same again adds nothing.
    ///
    /// # Errors
    /// When the broker does not confirm the word, which then may or may not be said.
    pub async fn tell_of(&self, alert: &Alert) -> Result<(), Error> {
        self.say_of(alert.id, MessageType::Alert, &wire::encode(alert)).await
    }

    /// Says whether an alert was right. The last word counts, and the history has all of them.
    ///
    /// # Errors
    /// When `reason` is empty or has more than [`REASON_CHARS_MAX`] characters, or the broker does not confirm the
    /// word, which then may or may not be said.
    pub async fn judge(&self, alert: AlertId, said: Said, reason: &str) -> Result<(), Error> {
        let (reason, chars) = (reason.trim().to_owned(), reason.trim().chars().count());
        if !(1..=REASON_CHARS_MAX).contains(&chars) {
            return Err(Error::Reason { chars, max: REASON_CHARS_MAX });
        }
        let (by, at) = (person::who(), Timestamp::now());
        let judgement = Judgement { schema: SCHEMA_VERSION, alert, said, reason, by, at };
        self.say_of(alert, MessageType::Judgement, &wire::encode(&judgement)).await
    }

    async fn say_of(&self, alert: AlertId, kind: MessageType, body: &[u8]) -> Result<(), Error> {
        let envelope = Envelope::new(kind, alert.message(), Timestamp::now());
        let publish = self.link.publish(topology::DEAD, topology::HANDLED_KEY, &envelope, body);
        match tokio::time::timeout(SUBMIT_PATIENCE, publish).await {
            Ok(confirmed) => Ok(confirmed.map(drop)?),
            Err(_) => Err(Error::Unsaid { what: format!("the alert {alert}"), waited: SUBMIT_PATIENCE }),
        }
    }
}
