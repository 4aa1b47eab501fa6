//! Evaluations that are made here and not by a worker: verdicts on what several jobs showed.

use crate::client::{Client, Error};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::{Timestamp, topology, wire};

/// Sends a verdict to be recorded, until the broker holds it.
///
/// # Errors
/// When the broker cannot take it.
pub(crate) async fn publish(client: &Client, evaluation: &Evaluation) -> Result<(), Error> {
    let envelope = Envelope::new(MessageType::Result, evaluation.id, Timestamp::now());
    let key = topology::job_key(evaluation.id);
    client.link().publish(topology::RESULTS, &key, &envelope, &wire::encode(evaluation)).await?;
    Ok(())
}
