//! Evaluations that are made here and not by a worker: verdicts on what several jobs showed.

use crate::client::{Client, Error};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::{Evaluation, Evidence, Metrics, Output, Provenance, Timings};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::{SCHEMA_VERSION, Timestamp, topology, wire};
use std::collections::BTreeMap;

/// A verdict of `kind`, with nothing that only a worker knows.
pub(crate) fn blank(
    id: JobId,
    kind: &str,
    (status, cause): (Status, Option<Cause>),
    evidence: Vec<Evidence>,
    submitted: Timestamp,
) -> Evaluation {
    let tested = matches!(cause, None | Some(Cause::Subject | Cause::Budget));
    Evaluation {
        schema: SCHEMA_VERSION,
        id,
        kind: kind.to_owned(),
        batch: None,
        status,
        cause,
        evidence,
        success_rate: tested.then_some(if status == Status::Passed { 1.0 } else { 0.0 }),
        calls: Vec::new(),
        exit_code: None,
        signal: None,
        stdout: Output::default(),
        stderr: Output::default(),
        effects: Vec::new(),
        effects_omitted: 0,
        network: Vec::new(),
        network_omitted: 0,
        processes_left: 0,
        processes_left_names: Vec::new(),
        artifacts: Vec::new(),
        metrics: Metrics::default(),
        warnings: Vec::new(),
        timings: Timings::default(),
        provenance: Provenance::default(),
        labels: BTreeMap::new(),
        replay_of: None,
        attempts: Vec::new(),
        submitted,
        started: submitted,
        finished: Timestamp::now(),
    }
}

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
