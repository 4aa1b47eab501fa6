//! Words to all workers, which stay in a log for those that are not there yet.

use super::{Client, Error, SUBMIT_PATIENCE};
use evalfleet_proto::control::{Control, REASON_CHARS_MAX};
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::{topology, wire};

impl Client {
    /// Says `word` under `key`; `what` tells what it is about, should nobody confirm it.
    pub(super) async fn say(
        &self,
        key: &str,
        envelope: &Envelope,
        word: &Control,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let body = wire::encode(word);
        let publish = self.link.publish(topology::CONTROL, key, envelope, &body);
        match tokio::time::timeout(SUBMIT_PATIENCE, publish).await {
            Ok(confirmed) => Ok(confirmed.map(drop)?),
            Err(_) => Err(Error::Unsaid { what: what(), waited: SUBMIT_PATIENCE }),
        }
    }
}

/// A reason, as long as it may be.
pub(super) fn within_bound(reason: Option<&str>) -> Result<Option<String>, Error> {
    let chars = reason.map_or(0, |reason| reason.chars().count());
    if chars > REASON_CHARS_MAX {
        return Err(Error::Reason { chars, max: REASON_CHARS_MAX });
    }
    Ok(reason.map(str::to_owned))
}
