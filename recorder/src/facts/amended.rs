//! From an amended verdict to facts: the new verdict, and an entity that tells what was believed before, who says
//! otherwise, and why. Pure.

use super::{Facts, word};
use evalfleet_datomic::edn::Value;
use evalfleet_proto::amendment::Amendment;
use evalfleet_proto::evaluation::Verdict;

/// What the history has of an evaluation's verdict before it is amended.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The verdict.
    pub verdict: Verdict,
    /// Its rate, where it has one.
    pub success_rate: Option<f64>,
    /// Its calls, by identity, with the rate of each that has one.
    pub calls: Vec<(String, Option<f64>)>,
}

/// The facts of `amendment`. They hold only while the verdict is the one that is `held`: of two amendments at once the
/// second is refused, and made again of what the first left.
pub fn facts(amendment: &Amendment, held: &Held) -> Vec<Value> {
    let id = amendment.evaluation.to_string();
    let (from, to) = (held.verdict, amendment.to);
    let of = |identity: &str, value: &str| {
        Value::Vector(vec![Value::keyword(identity), Value::Str(value.to_owned())])
    };
    let evaluation = of("evaluation/id", &id);
    let told = Facts::of("amendment/id", amendment.name())
        .put("amendment/at", Value::Inst(amendment.at))
        .text("amendment/by", &amendment.by)
        .text("amendment/reason", &amendment.reason)
        .put("amendment/status-before", word(from.status.as_str()))
        .maybe("amendment/cause-before", from.cause.map(|cause| word(cause.as_str())))
        .put("amendment/status", word(to.status.as_str()))
        .maybe("amendment/cause", to.cause.map(|cause| word(cause.as_str())));
    let mut all = vec![
        Facts::of("evaluation/id", id).many("evaluation/amendments", vec![told.done()]).done(),
        form(
            "cas",
            &evaluation,
            "evaluation/status",
            &[word(from.status.as_str()), word(to.status.as_str())],
        ),
    ];
    let cause = |verdict: Verdict| verdict.cause.map(|cause| word(cause.as_str()));
    all.extend(changed(&evaluation, "evaluation/cause", cause(from), cause(to)));
    let rate = to.status.success_rate(to.cause).map(Value::Float);
    all.extend(changed(
        &evaluation,
        "evaluation/success-rate",
        held.success_rate.map(Value::Float),
        rate.clone(),
    ));
    for (call, before) in &held.calls {
        let call = of("function-call/id", call);
        all.extend(changed(&call, "function-call/success-rate", before.map(Value::Float), rate.clone()));
    }
    all
}

fn form(what: &str, entity: &Value, attribute: &str, values: &[Value]) -> Value {
    let head = [Value::keyword(format!("db/{what}")), entity.clone(), Value::keyword(attribute)];
    Value::Vector(head.into_iter().chain(values.iter().cloned()).collect())
}

fn changed(entity: &Value, attribute: &str, from: Option<Value>, to: Option<Value>) -> Option<Value> {
    match (from, to) {
        (from, to) if from == to => None,
        (_, Some(to)) => Some(form("add", entity, attribute, &[to])),
        (Some(from), None) => Some(form("retract", entity, attribute, &[from])),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::Timestamp;
    use evalfleet_proto::status::{Cause, Status};

    fn amendment(status: Status, cause: Option<Cause>) -> Amendment {
        Amendment {
            schema: 1,
            evaluation: "0198c1c2-0000-7000-8000-000000000000".parse().unwrap(),
            to: Verdict { status, cause },
            reason: "the disk was failing".to_owned(),
            by: "me@here".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_no_longer_holds_is_taken_back_and_the_rest_left_alone() {
        let held = Held {
            verdict: Verdict { status: Status::Failed, cause: Some(Cause::Subject) },
            success_rate: Some(0.0),
            calls: vec![("0198c1c2/call/0".to_owned(), Some(0.0))],
        };
        let text = |facts: &[Value]| facts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let blamed = text(&facts(&amendment(Status::Failed, Some(Cause::Infrastructure)), &held));
        assert!(
            blamed.contains(":db/cas [:evaluation/id") && blamed.contains(":amendment/cause-before :subject"),
            "{blamed}"
        );
        assert!(blamed.contains(":evaluation/cause :infrastructure"), "{blamed}");
        assert_eq!(
            blamed.matches(":db/retract").count(),
            2,
            "the rates: nothing was put to the test: {blamed}"
        );
        let passed = text(&facts(&amendment(Status::Passed, None), &held));
        assert!(passed.contains(":evaluation/success-rate 1.0"), "{passed}");
        assert_eq!(passed.matches(":db/retract").count(), 1, "the cause: {passed}");
        let same = facts(&amendment(Status::Failed, Some(Cause::Subject)), &held);
        assert_eq!(same.len(), 2, "only that it was said: {}", text(&same));
    }
}
