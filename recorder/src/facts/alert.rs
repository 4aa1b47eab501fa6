//! From alerts, and from what people say of them, to facts. Pure.
//!
//! An alert is one entity, whatever becomes of it: each of its documents asserts what is so since, and the history has
//! what was so before.

use super::{Facts, one_of, word};
use evalfleet_datomic::edn::Value;
use evalfleet_proto::alert::{Alert, Judgement, Said};
use evalfleet_proto::ids::{AlertId, Sha256};

/// The facts of an alert whose full document is kept under `document`.
pub fn alert(alert: &Alert, document: Sha256) -> Value {
    let evaluations = alert.evaluations.iter().map(|id| one_of("evaluation/id", id.to_string())).collect();
    let culprit = alert.culprit.as_ref().map(|culprit| format!("{}={}", culprit.attribute, culprit.value));
    Facts::of("alert/id", alert.id.to_string())
        .put("alert/kind", word(alert.kind.as_str()))
        .put("alert/severity", word(alert.severity.as_str()))
        .text("alert/subject", &alert.subject)
        .put("alert/state", word(alert.state.as_str()))
        .put("alert/revision", Value::Int(i64::from(alert.revision)))
        .text("alert/message", &alert.message)
        .put("alert/since", Value::Inst(alert.since))
        .put("alert/suspected", Value::Inst(alert.suspected))
        .maybe("alert/timestamp", alert.confirmed.map(Value::Inst))
        .maybe("alert/closed", alert.closed.map(Value::Inst))
        .maybe("alert/dismissal", alert.dismissed.map(|why| word(why.as_str())))
        .text("alert/culprit", &culprit.unwrap_or_default())
        .count("alert/reruns", u64::from(alert.cost.reruns))
        .time("alert/worker-us", alert.cost.worker)
        .many("alert/cases", alert.cases.iter().map(|case| Value::Str(super::cut(case))).collect())
        .many("alert/evaluations", evaluations)
        .put("alert/document", Value::Str(document.to_string()))
        .done()
}

/// That there is an alert of this id: no new fact where it is recorded.
pub fn known(id: AlertId) -> Value {
    one_of("alert/id", id.to_string())
}

/// The facts of a judgement; `None` when this build does not know what was said.
pub fn judged(judgement: &Judgement) -> Option<Value> {
    if judgement.said == Said::Unknown {
        return None;
    }
    let facts = Facts::of("alert/id", judgement.alert.to_string())
        .put("alert/judgement", word(judgement.said.as_str()))
        .text("alert/judged-by", &judgement.by)
        .text("alert/judge-reason", &judgement.reason)
        .put("alert/judged-at", Value::Inst(judgement.at));
    Some(facts.done())
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::Timestamp;
    use evalfleet_proto::alert::{Cost, Culprit, Kind, Level, Severity, State};
    use evalfleet_proto::ids::JobId;

    fn one() -> Alert {
        let first: JobId = "0198c1c2-0000-7000-8000-000000000000".parse().unwrap();
        Alert {
            schema: 1,
            id: AlertId::of(first, "failing", "tool=x"),
            revision: 1,
            kind: Kind::Failing,
            severity: Severity::Critical,
            subject: "tool=x".to_owned(),
            cases: vec!["s/c1".to_owned()],
            state: State::Confirming,
            message: "it fails ".repeat(400),
            since: Timestamp::UNIX_EPOCH,
            suspected: Timestamp::UNIX_EPOCH,
            confirmed: None,
            confirmed_by: None,
            closed: None,
            dismissed: None,
            before: Level::default(),
            after: Level::default(),
            accelerator: None,
            suspect: None,
            evaluations: (0..20).map(|nth| first.derived("one", nth)).collect(),
            reruns: Vec::new(),
            culprit: Some(Culprit { attribute: "version".into(), value: "b".into(), before: "a".into() }),
            cost: Cost::default(),
            judgement: None,
        }
    }

    #[test]
    fn an_alert_has_few_facts_and_none_that_the_store_would_refuse() {
        let facts = alert(&one(), Sha256::of(b"document"));
        let entries = facts.as_map().unwrap();
        let datoms: usize =
            entries.iter().map(|(_, value)| value.as_vector().map_or(1, <[Value]>::len)).sum();
        assert!(datoms <= 40, "{datoms}: {facts}");
        assert!(entries.iter().filter_map(|(_, value)| value.as_str()).all(|text| text.len() <= 4096));
        assert_eq!(facts.get("alert/state").and_then(Value::as_keyword), Some("confirming"));
        assert_eq!(facts.get("alert/culprit").and_then(Value::as_str), Some("version=b"));
        assert_eq!(facts.get("alert/timestamp"), None, "nobody was told yet");
    }

    #[test]
    fn a_judgement_is_told_about_its_alert() {
        let judgement = Judgement {
            schema: 1,
            alert: one().id,
            said: Said::Wrong,
            reason: "the disk was full".to_owned(),
            by: "me@here".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        let facts = judged(&judgement).unwrap();
        assert_eq!(facts.get("alert/id").and_then(Value::as_str), Some(one().id.to_string().as_str()));
        assert_eq!(facts.get("alert/judgement").and_then(Value::as_keyword), Some("wrong"));
        assert_eq!(judged(&Judgement { said: Said::Unknown, ..judgement }), None);
    }
}
