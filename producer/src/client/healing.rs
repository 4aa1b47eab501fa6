//! Healings: the recorder is told of each, and of what people decide about it.

use super::{Client, Error, told};
use crate::person;
use evalfleet_proto::envelope::MessageType;
use evalfleet_proto::healing::{Decision, Healing, REASON_CHARS_MAX, Wanted};
use evalfleet_proto::ids::{HealingId, JobId};
use evalfleet_proto::{SCHEMA_VERSION, Timestamp};

impl Client {
    /// Tells the recorder how a healing stands now. To say the same again adds nothing.
    ///
    /// # Errors
    /// When the broker does not confirm the word, which then may or may not be said.
    pub async fn tell_of_healing(&self, healing: &Healing) -> Result<(), Error> {
        self.tell_recorder(named(healing.id), MessageType::Healing, healing).await
    }

    /// Decides about a healing: that it be done, or taken back. Whoever heals does so once that is recorded; the last
    /// word counts, and the history has all of them.
    ///
    /// # Errors
    /// When `reason` is empty or has more than [`REASON_CHARS_MAX`] characters, or the broker does not confirm the
    /// word, which then may or may not be said.
    pub async fn decide(&self, healing: HealingId, wanted: Wanted, reason: &str) -> Result<(), Error> {
        let reason = told::reason(reason, REASON_CHARS_MAX)?;
        let (by, at) = (person::who(), Timestamp::now());
        let decision = Decision { schema: SCHEMA_VERSION, healing, wanted, reason, by, at };
        self.tell_recorder(named(healing), MessageType::Decision, &decision).await
    }
}

fn named(healing: HealingId) -> (JobId, String) {
    (healing.message(), format!("the healing {healing}"))
}
