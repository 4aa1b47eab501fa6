//! What Datomic refuses for good: it is found among what came with it, which is recorded.

use super::Test;
use super::faults::{dead_letter, log, on_broker};
use super::pressure::{Stopped, publish, recorded, result};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::topology;
use evalfleet_tests::machine::{Machine, wait_until};

pub(crate) const ALL: &[(&str, Test)] = &[(
    "refusal::what_cannot_be_recorded_is_a_letter_and_its_neighbours_are_recorded",
    what_cannot_be_recorded_is_a_letter_and_its_neighbours_are_recorded,
)];

/// Datomic Local's strings have 4096 characters at most, and a worker's name is no text to be cut.
const TOO_LONG: usize = 5000;

fn what_cannot_be_recorded_is_a_letter_and_its_neighbours_are_recorded(machine: &Machine) {
    const RESULTS: usize = 40;
    let batch = format!("refused-{}", JobId::fresh());
    let mut results: Vec<_> = (0..RESULTS).map(|_| result(&batch, 10)).collect();
    let culprits = [7, 30].map(|at: usize| {
        results[at].provenance.worker = "w".repeat(TOO_LONG);
        results[at].id.to_string()
    });
    let recorder = machine.pid("recorder");
    // They come to it all at once, and so into one transaction.
    let stopped = Stopped::new(recorder);
    on_broker(machine, async |session| {
        for result in &results {
            publish(session, result).await.expect("confirmed");
        }
    });
    drop(stopped);
    for id in &culprits {
        let letter = dead_letter(machine, &format!("{id}/result"));
        assert_eq!(letter["reason"], "poison", "{letter}");
        let error = letter["error"].as_str().unwrap_or_default();
        assert!(error.contains("worker/id") && error.contains("5000 characters"), "{letter}");
        machine.evalfleet(&["get", id]).expect(64);
    }
    let well = (RESULTS - culprits.len()) as u64;
    wait_until("the others are recorded", || recorded(machine, &batch).0 == well);
    assert_eq!(recorded(machine, &batch).1, well, "some are recorded twice");
    wait_until("nothing is left in the queue", || {
        machine.status()["queues"][topology::RESULTS_QUEUE]["messages"] == 0
    });
    assert_eq!(machine.pid("recorder"), recorder, "it was started anew");
    assert!(log(machine, "recorder").contains("the store refuses a batch: halving it"));
}
