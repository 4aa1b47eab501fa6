//! From healings, and from what people decide about them, to facts. Pure.
//!
//! A healing is one entity, whatever becomes of it: each of its documents asserts what is so since, and the history has
//! what was so before.

use super::{Facts, one_of, word};
use evalfleet_datomic::edn::Value;
use evalfleet_proto::healing::{Decision, EVALUATIONS_MAX, Healing, Wanted};
use evalfleet_proto::ids::{HealingId, Sha256};

/// The facts of a healing whose full document is kept under `document`.
pub fn healing(healing: &Healing, document: Sha256) -> Value {
    let seen = healing.evidence.iter().flat_map(|one| &one.evaluations).take(EVALUATIONS_MAX);
    let evaluations = seen.map(|id| one_of("evaluation/id", id.to_string())).collect();
    let maybe = |text: &Option<String>| text.clone().unwrap_or_default();
    Facts::of("healing/id", healing.id.to_string())
        .put("healing/detector", word(healing.detector.as_str()))
        .text("healing/subject", &healing.subject)
        .put("healing/remedy", word(healing.remedy.as_str()))
        .put("healing/state", word(healing.state.as_str()))
        .put("healing/mode", word(healing.mode.as_str()))
        .put("healing/revision", Value::Int(i64::from(healing.revision)))
        .text("healing/message", &healing.message)
        .put("healing/since", Value::Inst(healing.since))
        .put("healing/found", Value::Inst(healing.found))
        .maybe("healing/applied", healing.applied.map(Value::Inst))
        .text("healing/by", &maybe(&healing.by))
        .maybe("healing/well", healing.well.map(Value::Inst))
        .maybe("healing/ended", healing.ended.map(Value::Inst))
        .text("healing/undone-by", &maybe(&healing.undone_by))
        .text("healing/held", &maybe(&healing.held))
        .maybe("healing/answered", healing.answered.map(Value::Inst))
        .many("healing/evaluations", evaluations)
        .put("healing/document", Value::Str(document.to_string()))
        .done()
}

/// That there is a healing of this id: no new fact where it is recorded.
pub fn known(id: HealingId) -> Value {
    one_of("healing/id", id.to_string())
}

/// The facts of a decision; `None` when this build does not know what is wanted.
pub fn decided(decision: &Decision) -> Option<Value> {
    if decision.wanted == Wanted::Unknown {
        return None;
    }
    let facts = Facts::of("healing/id", decision.healing.to_string())
        .put("healing/wanted", word(decision.wanted.as_str()))
        .text("healing/decided-by", &decision.by)
        .text("healing/decide-reason", &decision.reason)
        .put("healing/decided-at", Value::Inst(decision.at));
    Some(facts.done())
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::Timestamp;
    use evalfleet_proto::healing::{Detector, Evidence, Mode, OURSELVES, Remedy, State};
    use evalfleet_proto::ids::JobId;
    use std::time::Duration;

    fn one() -> Healing {
        let first: JobId = "0198c1c2-0000-7000-8000-000000000000".parse().unwrap();
        let began = Timestamp::from_second(1_750_000_000).unwrap();
        let evaluations: Vec<JobId> = (0..50).map(|nth| first.derived("one", nth)).collect();
        Healing {
            schema: 1,
            id: HealingId::of("bad_worker", "worker=w1", began, "x"),
            revision: 2,
            detector: Detector::BadWorker,
            subject: "worker=w1".to_owned(),
            remedy: Remedy::Drain,
            change: None,
            state: State::Applied,
            mode: Mode::Act,
            message: "it fails ".repeat(400),
            evidence: vec![
                Evidence::new("faults").counted(9, 10).in_evaluations(evaluations.clone()),
                Evidence::new("more").in_evaluations(evaluations),
            ],
            since: began,
            found: began,
            applied: Some(began),
            by: Some(OURSELVES.to_owned()),
            took: Some(Duration::from_millis(12)),
            well: Some(began),
            well_after: Some(Duration::from_secs(2)),
            ended: Some(began),
            undone_by: Some("me@here".to_owned()),
            held: Some("bound".to_owned()),
            answered: Some(began),
        }
    }

    #[test]
    fn a_healing_has_few_facts_and_none_that_the_store_would_refuse() {
        let facts = healing(&one(), Sha256::of(b"document"));
        let entries = facts.as_map().unwrap();
        let datoms: usize =
            entries.iter().map(|(_, value)| value.as_vector().map_or(1, <[Value]>::len)).sum();
        assert!(datoms <= 40, "{datoms}: {facts}");
        assert!(entries.iter().filter_map(|(_, value)| value.as_str()).all(|text| text.len() <= 4096));
        assert_eq!(facts.get("healing/state").and_then(Value::as_keyword), Some("applied"));
        assert_eq!(facts.get("healing/detector").and_then(Value::as_keyword), Some("bad-worker"));
        let proposed = Healing { state: State::Proposed, applied: None, by: None, ..one() };
        let facts = healing(&proposed, Sha256::of(b"document"));
        assert_eq!((facts.get("healing/applied"), facts.get("healing/by")), (None, None));
    }

    #[test]
    fn a_decision_is_told_about_its_healing() {
        let decision = Decision {
            schema: 1,
            healing: one().id,
            wanted: Wanted::Undo,
            reason: "the disk was changed".to_owned(),
            by: "me@here".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        let facts = decided(&decision).unwrap();
        assert_eq!(facts.get("healing/id").and_then(Value::as_str), Some(one().id.to_string().as_str()));
        assert_eq!(facts.get("healing/wanted").and_then(Value::as_keyword), Some("undo"));
        assert_eq!(decided(&Decision { wanted: Wanted::Unknown, ..decision }), None);
    }
}
