//! Verdicts that turned out to be wrong: the recorder is told what they are now, by whom and why.

use super::{Client, Error, told};
use crate::person;
use evalfleet_proto::amendment::{Amendment, REASON_CHARS_MAX};
use evalfleet_proto::envelope::MessageType;
use evalfleet_proto::evaluation::Verdict;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::Status;
use evalfleet_proto::{SCHEMA_VERSION, Timestamp};

impl Client {
    /// Amends the verdict of a recorded evaluation. Nothing is erased: the history has both verdicts, each as of
    /// its time, with the author and the reason of the new one. Rates and lists count the new one.
    ///
    /// Of an evaluation that is not recorded nothing comes; look before with [`crate::api::Api::recorded`]. To say it
    /// again makes a second amendment, which changes nothing.
    ///
    /// # Errors
    /// When the verdict breaks a rule, or is none that can be given afterwards (`cancelled`, `expired`, `dead`); when
    /// `reason` is empty or has more than [`REASON_CHARS_MAX`] characters; when the broker does not confirm the word,
    /// which then may or may not be said.
    pub async fn amend(&self, id: JobId, to: Verdict, reason: &str) -> Result<(), Error> {
        let wrong = |why: &'static str| Err(Error::Verdict { verdict: to, why });
        if let Some(rule) = to.broken_rule() {
            return wrong(rule);
        }
        if matches!(to.status, Status::Cancelled | Status::Expired | Status::Dead) {
            return wrong("that is for the fleet to say, when it happens");
        }
        let (reason, at) = (told::reason(reason, REASON_CHARS_MAX)?, Timestamp::now());
        let amendment =
            Amendment { schema: SCHEMA_VERSION, evaluation: id, to, reason, by: person::who(), at };
        self.tell_recorder((id, format!("the verdict of {id}")), MessageType::Amendment, &amendment).await
    }
}
