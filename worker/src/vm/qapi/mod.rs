//! QEMU's two JSON protocols: the one folder that names qapi.
//!
//! [`qmp`] speaks to QEMU itself, [`qga`] to the QEMU guest agent that a foreign image may run.

pub(in crate::vm) mod qga;
pub(in crate::vm) mod qmp;

use futures::Sink;
use qapi::futures::QapiService;
use qapi::{Command, Execute};
use std::io;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Puts one command at a time, and none after one that was never answered.
///
/// Neither protocol has to number its answers. The crate counts all that have no number as number 0, and panics
/// when there are two: the end of the worker, at the word of a guest that keeps silent.
struct Asker<W> {
    service: QapiService<W>,
    /// Whether the command before this one is without an answer: it was late, or nobody waits for it any more.
    unanswered: Mutex<bool>,
}

/// Why a command came to nothing.
enum Unanswered {
    /// It was answered so.
    Refused(String),
    /// There was no answer in time.
    Late,
}

impl<W> Asker<W> {
    fn new(service: QapiService<W>) -> Self {
        Self { service, unanswered: Mutex::new(false) }
    }

    async fn ask<C: Command>(&self, command: C, limit: Duration) -> Result<C::Ok, Unanswered>
    where
        W: Sink<Execute<C, u32>, Error = io::Error> + Unpin,
    {
        let mut unanswered = self.unanswered.lock().await;
        if *unanswered {
            return Err(Unanswered::Refused("the command before it was never answered".to_owned()));
        }
        // Also when this is dropped meanwhile.
        *unanswered = true;
        let answer = timeout(limit, self.service.execute(command)).await.map_err(|_| Unanswered::Late)?;
        *unanswered = false;
        answer.map_err(|error| Unanswered::Refused(error.to_string()))
    }
}
