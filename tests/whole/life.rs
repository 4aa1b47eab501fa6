//! A job's life, as its submitter sees it.

use super::Test;
use evalfleet_proto::ids::JobId;
use evalfleet_tests::machine::{Machine, wait_until};

pub(crate) const ALL: &[(&str, Test)] =
    &[("life::a_key_given_twice_is_one_job_and_one_record", a_key_given_twice_is_one_job_and_one_record)];

/// Both messages are run, as a job is that is delivered twice; the second result is passed over, and is
/// not taken for one that cannot be recorded.
fn a_key_given_twice_is_one_job_and_one_record(machine: &Machine) {
    let key = format!("twice-{}", JobId::fresh());
    let document = format!(r#"{{"kind": "command", "argv": ["sh", "-c", "echo $RANDOM"], "key": "{key}"}}"#);
    let both = machine.evalfleet_with(&format!("{document}\n{document}\n"), &["submit", "-"]).expect(0);
    let ids: Vec<&str> = both.out.lines().collect();
    assert_eq!((ids.len(), ids[0]), (2, ids[1]), "{both:?}");
    let first = machine.recorded(ids[0]);
    let log = || std::fs::read_to_string(machine.state().join("logs/worker-1.log")).unwrap_or_default();
    wait_until("both were run", || log().matches(&format!("evaluated job={}", ids[0])).count() == 2);
    wait_until("both results were read", || {
        machine.status()["queues"]["eval.results.recorder"]["messages"] == 0
    });
    assert_eq!(machine.recorded(ids[0]), first, "the first result stands");
    let query = format!(
        "(d/q '[:find ?e ?document ?tx :where [?e :evaluation/id \"{}\"] [?e :evaluation/document ?document ?tx]] (d/history db))",
        ids[0]
    );
    assert_eq!(machine.count(&query), 1, "recorded more than once");
    let letters = machine.evalfleet(&["dead", "list", "--json"]).expect(0);
    assert!(!letters.out.contains(ids[0]), "{letters:?}");
}
