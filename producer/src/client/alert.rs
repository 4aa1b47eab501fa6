//! Alerts: the recorder is told of each, and of what people say of it.

use super::{Client, Error, told};
use crate::person;
use evalfleet_proto::alert::{Alert, Judgement, REASON_CHARS_MAX, Said};
use evalfleet_proto::envelope::MessageType;
use evalfleet_proto::ids::{AlertId, JobId};
use evalfleet_proto::{SCHEMA_VERSION, Timestamp};

impl Client {
    /// Tells the recorder how an alert stands now. To say the same again adds nothing.
    ///
    /// # Errors
    /// When the broker does not confirm the word, which then may or may not be said.
    pub async fn tell_of(&self, alert: &Alert) -> Result<(), Error> {
        self.tell_recorder(named(alert.id), MessageType::Alert, alert).await
    }

    /// Says whether an alert was right. The last word counts, and the history has all of them.
    ///
    /// # Errors
    /// When `reason` is empty or has more than [`REASON_CHARS_MAX`] characters, or the broker does not confirm the
    /// word, which then may or may not be said.
    pub async fn judge(&self, alert: AlertId, said: Said, reason: &str) -> Result<(), Error> {
        let reason = told::reason(reason, REASON_CHARS_MAX)?;
        let (by, at) = (person::who(), Timestamp::now());
        let judgement = Judgement { schema: SCHEMA_VERSION, alert, said, reason, by, at };
        self.tell_recorder(named(alert), MessageType::Judgement, &judgement).await
    }
}

fn named(alert: AlertId) -> (JobId, String) {
    (alert.message(), format!("the alert {alert}"))
}
