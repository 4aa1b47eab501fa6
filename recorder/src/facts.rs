//! From an evaluation to facts: the maps of one transaction. Pure.
//!
//! An evaluation is at most forty datoms: what queries ask for, the least asked for left out ([`fit`]). The full
//! document stays in the blob store under the hash that `:evaluation/document` holds. Every component has an
//! identity derived from the job's, so that recording the same result again adds nothing. What is absent is not
//! written.

pub mod alert;
pub mod amended;
pub mod dead;
pub mod healing;

mod fit;

use crate::history::{Imported, Question};
use evalfleet_datomic::edn::Value;
use evalfleet_proto::Timestamp;
use evalfleet_proto::effect::{Change, Effect};
use evalfleet_proto::evaluation::{Call, Evaluation, Output};
use evalfleet_proto::ids::{JobId, Lane, Sha256};
use evalfleet_proto::status::{Cause, Status};
use std::time::Duration;

/// Texts longer than this are cut: Datomic Local takes 4096 characters, people read fewer.
const TEXT_MAX: usize = 1000;
/// How many labels of an evaluation become facts besides those with attributes of their own.
const LABELS_MAX: usize = 8;

/// A map under construction.
struct Facts(Vec<(Value, Value)>);

impl Facts {
    fn of(identity: &str, value: impl Into<String>) -> Self {
        Self(vec![(Value::keyword(identity), Value::Str(value.into()))])
    }

    fn put(mut self, attribute: &str, value: Value) -> Self {
        self.0.push((Value::keyword(attribute), value));
        self
    }

    fn maybe(self, attribute: &str, value: Option<Value>) -> Self {
        match value {
            Some(value) => self.put(attribute, value),
            None => self,
        }
    }

    fn text(self, attribute: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.put(attribute, Value::Str(cut(value))) }
    }

    fn count(self, attribute: &str, value: u64) -> Self {
        if value == 0 {
            self
        } else {
            self.put(attribute, Value::Int(i64::try_from(value).unwrap_or(i64::MAX)))
        }
    }

    fn time(self, attribute: &str, value: Duration) -> Self {
        self.count(attribute, value.as_micros() as u64)
    }

    fn many(self, attribute: &str, values: Vec<Value>) -> Self {
        if values.is_empty() { self } else { self.put(attribute, Value::Vector(values)) }
    }

    /// The event time, and its day in UTC.
    fn at(self, time: Timestamp) -> Self {
        self.put("evaluation/timestamp", Value::Inst(time))
            .put("evaluation/day", Value::Str(time.strftime("%Y-%m-%d").to_string()))
    }

    fn done(self) -> Value {
        Value::Map(self.0)
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|letter| *letter != '\0').take(TEXT_MAX).collect()
}

/// A word as Datomic's people write it: `timed_out` is `:timed-out`.
fn word(word: &str) -> Value {
    Value::keyword(word.replace('_', "-"))
}

fn one_of(identity: &str, value: impl Into<String>) -> Value {
    Facts::of(identity, value).done()
}

/// That there is a job of this id: no new fact where its result is recorded.
pub fn known(id: JobId) -> Value {
    one_of("evaluation/id", id.to_string())
}

/// The facts of one evaluation whose document is kept under `document`.
pub fn evaluation(evaluation: &Evaluation, document: Sha256) -> Vec<Value> {
    let id = evaluation.id.to_string();
    let label = |name: &str| evaluation.labels.get(name).filter(|value| !value.is_empty());
    let place = &evaluation.provenance;
    let worker = Facts::of("worker/id", place.worker.clone()).text("worker/host", &place.host).done();
    let suite_case = |case: &String| format!("{}/{case}", label("suite").map_or("", String::as_str));
    // A job of a batch leaves the model to the batch, so that a query by model lists runs, not their parts.
    let model = label("model").filter(|_| evaluation.batch.is_none());
    let lane = place.lane.as_ref().filter(|lane| **lane != Lane::default_lane());
    let facts = Facts::of("evaluation/id", id.clone())
        .put("evaluation/kind", word(&evaluation.kind))
        .put("evaluation/status", word(evaluation.status.as_str()))
        .maybe("evaluation/cause", evaluation.cause.map(|cause| word(cause.as_str())))
        .maybe("evaluation/success-rate", evaluation.success_rate.map(Value::Float))
        .maybe("evaluation/model", model.map(|model| Value::Str(cut(model))))
        .at(evaluation.finished)
        .put("evaluation/document", Value::Str(document.to_string()))
        .maybe("evaluation/job", place.job.map(|job| Value::Str(job.to_string())))
        .put("evaluation/attempt", Value::Int(i64::from(place.attempt)))
        .put("evaluation/worker", worker)
        .maybe("evaluation/image", place.image.clone().map(|digest| one_of("image/digest", digest)))
        .maybe("evaluation/accelerator", place.accelerator.as_deref().map(word))
        .maybe("evaluation/lane", lane.map(|lane| Value::keyword(lane.to_string())))
        .maybe(
            "evaluation/batch",
            evaluation.batch.as_ref().map(|batch| one_of("evaluation/id", batch.to_string())),
        )
        .maybe("evaluation/run", label("run").map(|run| one_of("run/id", cut(run))))
        .maybe("evaluation/suite", label("suite").map(|suite| one_of("suite/name", cut(suite))))
        .maybe("evaluation/case", label("case").map(|case| one_of("case/id", cut(&suite_case(case)))))
        .maybe("evaluation/replay-of", evaluation.replay_of.map(|of| one_of("evaluation/id", of.to_string())))
        .maybe("evaluation/exit-code", evaluation.exit_code.map(|code| Value::Int(i64::from(code))))
        .maybe("evaluation/signal", evaluation.signal.map(|signal| Value::Int(i64::from(signal))))
        .text("evaluation/error", evaluation.evidence.first().map_or("", |evidence| &evidence.message))
        .many("evaluation/labels", labels(evaluation));
    let facts = outputs(measures(facts, evaluation), "stdout", &evaluation.stdout);
    let facts = effects(outputs(facts, "stderr", &evaluation.stderr), &evaluation.effects);
    // An entity without an identity: it is made anew each time, and Datomic lets only one be.
    let mut others = vec![one_of("record/of", evaluation.id.to_string())];
    if evaluation.status == Status::Dead {
        others.push(dead::joined(evaluation));
    }
    let mut all = vec![fit::fit(facts, calls(&id, &evaluation.calls), &others).done()];
    all.append(&mut others);
    all
}

fn measures(facts: Facts, evaluation: &Evaluation) -> Facts {
    let (used, spent) = (&evaluation.metrics, &evaluation.timings);
    let duration: Duration =
        evaluation.finished.duration_since(evaluation.submitted).try_into().unwrap_or(Duration::ZERO);
    facts
        .time("evaluation/wall-us", used.wall)
        .time("evaluation/cpu-user-us", used.cpu_user)
        .time("evaluation/cpu-system-us", used.cpu_system)
        .count("evaluation/memory-peak-bytes", used.memory_peak_bytes)
        .count("evaluation/disk-read-bytes", used.disk_read_bytes)
        .count("evaluation/disk-written-bytes", used.disk_written_bytes)
        .count("evaluation/net-rx-bytes", used.net_rx_bytes)
        .count("evaluation/net-tx-bytes", used.net_tx_bytes)
        .time("evaluation/duration-us", duration)
        .time("evaluation/queued-us", spent.queued)
        .time("evaluation/claim-us", spent.claim)
        .time("evaluation/run-us", spent.run)
        .time("evaluation/effects-us", spent.effects)
        .time("evaluation/report-us", spent.report)
        .time(
            "evaluation/reset-us",
            evaluation.provenance.reset.as_ref().map_or(Duration::ZERO, |reset| reset.took),
        )
}

fn outputs(facts: Facts, stream: &str, output: &Output) -> Facts {
    if output.bytes == 0 {
        return facts;
    }
    facts
        .count(&format!("evaluation/{stream}-bytes"), output.bytes)
        .maybe(&format!("evaluation/{stream}-sha256"), output.sha256.map(|hash| Value::Str(hash.to_string())))
        .text(&format!("evaluation/{stream}-preview"), &output.text)
}

fn effects(facts: Facts, effects: &[Effect]) -> Facts {
    let count = |change: Change| effects.iter().filter(|effect| effect.change == change).count() as u64;
    facts
        .count("evaluation/effects-created", count(Change::Created))
        .count("evaluation/effects-changed", count(Change::Changed))
        .count("evaluation/effects-deleted", count(Change::Deleted))
        .count("evaluation/effects-replaced", count(Change::Replaced))
        .count(
            "evaluation/effects-unexpected",
            effects.iter().filter(|effect| !effect.expected).count() as u64,
        )
}

/// One component for each function: calls of the same one, as the cases of a tool are, are summed.
fn calls(id: &str, made: &[Call]) -> Vec<Facts> {
    let mut functions: Vec<(&str, Vec<&Call>)> = Vec::new();
    for call in made {
        match functions.iter_mut().find(|(name, _)| *name == call.name) {
            Some((_, own)) => own.push(call),
            None => functions.push((&call.name, vec![call])),
        }
    }
    let component = |(index, (name, own)): (usize, &(&str, Vec<&Call>))| {
        sum_of_calls(
            Facts::of("function-call/id", format!("{id}/call/{index}")).text("function-call/name", name),
            own,
        )
    };
    functions.iter().enumerate().map(component).collect()
}

fn sum_of_calls(facts: Facts, own: &[&Call]) -> Facts {
    let rates: Vec<f64> = own.iter().filter_map(|call| call.success_rate).collect();
    let mean = (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64);
    let facts = facts
        .maybe("function-call/success-rate", mean.map(Value::Float))
        .time("function-call/duration-us", own.iter().map(|call| call.duration).sum())
        .maybe(
            "function-call/exit-code",
            own.last().and_then(|call| call.exit_code).map(|code| Value::Int(i64::from(code))),
        );
    if own.len() == 1 {
        return facts;
    }
    // Those that were not put to the test have no rate, and do not count beside those that have one.
    let count = if rates.is_empty() { own.len() } else { rates.len() };
    facts
        .count("function-call/count", count as u64)
        .count("function-call/failures", rates.iter().filter(|rate| **rate < 1.0).count() as u64)
}

fn labels(evaluation: &Evaluation) -> Vec<Value> {
    const OWN: [&str; 4] = ["model", "run", "suite", "case"];
    let others = evaluation.labels.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    others.take(LABELS_MAX).map(|(name, value)| Value::Str(cut(&format!("{name}={value}")))).collect()
}

/// What a batch of jobs has come to so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Jobs recorded.
    pub total: u64,
    /// Those that passed.
    pub passed: u64,
    /// Those that failed for no fault of theirs.
    pub infrastructure: u64,
}

/// The facts of a batch whose jobs have come to `sum`.
///
/// They hold only if the batch's total still is `before`: who counted earlier and is written later, is not.
pub fn batch(id: &str, before: Option<u64>, sum: Sum, model: Option<&str>, now: Timestamp) -> [Value; 2] {
    let tested = sum.total.saturating_sub(sum.infrastructure);
    let rate = |of: u64| (of > 0).then(|| Value::Float(sum.passed as f64 / of as f64));
    let count = |count: u64| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
    let identity = Value::Vector(vec![Value::keyword("evaluation/id"), Value::Str(id.to_owned())]);
    let total = Value::Vector(vec![
        Value::keyword("db/cas"),
        identity,
        Value::keyword("evaluation/total"),
        before.map_or(Value::Nil, count),
        count(sum.total),
    ]);
    let facts = Facts::of("evaluation/id", id)
        .put("evaluation/kind", word("batch"))
        .maybe("evaluation/success-rate", rate(sum.total))
        .maybe("evaluation/success-rate-adjusted", rate(tested))
        .maybe("evaluation/model", model.map(|model| Value::Str(cut(model))))
        .at(now)
        .put("evaluation/passed", count(sum.passed))
        .put("evaluation/failed", count(sum.total - sum.passed))
        .put("evaluation/infrastructure-faults", count(sum.infrastructure))
        .done();
    [facts, total]
}

/// The facts of an imported batch: the batch itself, its functions, its questions.
pub fn imported(batch: &Imported) -> Vec<Value> {
    let causes = batch.file.results.iter().map(Question::cause);
    let faults = causes.filter(|cause| *cause == Some(Cause::Infrastructure)).count() as u64;
    let calls = batch.functions.iter().enumerate().map(|(index, (name, tally))| {
        Facts::of("function-call/id", format!("{}/call/{index}", batch.id))
            .text("function-call/name", name)
            .put("function-call/success-rate", Value::Float(tally.rate()))
            .count("function-call/count", tally.calls)
            .count("function-call/failures", tally.calls - tally.successes)
            .done()
    });
    let whole = Facts::of("evaluation/id", batch.id.clone())
        .put("evaluation/kind", word("batch"))
        .put("evaluation/success-rate", Value::Float(batch.file.success_rate))
        .maybe("evaluation/success-rate-adjusted", batch.adjusted_rate.map(Value::Float))
        .text("evaluation/model", &batch.file.model)
        .at(batch.at)
        .put("evaluation/total", Value::Int(batch.file.total_questions as i64))
        .put("evaluation/passed", Value::Int(batch.file.successful as i64))
        .put("evaluation/failed", Value::Int(batch.file.failed as i64))
        .put("evaluation/infrastructure-faults", Value::Int(faults as i64))
        .put(
            "evaluation/labels",
            Value::Vector(vec![Value::Str(cut(&format!("batch_id={}", batch.file.batch_id)))]),
        )
        .many("evaluation/function-calls", calls.collect())
        .done();
    // Questions carry no rate and no time of their own: queries over rates list batches, not their parts.
    let questions = batch.file.results.iter().map(|question| {
        let status = if question.success { "passed" } else { "failed" };
        let tools = |tools: &[String]| tools.iter().map(|tool| Value::Str(cut(tool))).collect();
        Facts::of("evaluation/id", format!("{}/{}", batch.id, question.question_id))
            .put("evaluation/kind", word("question"))
            .put("evaluation/batch", one_of("evaluation/id", batch.id.clone()))
            .put("evaluation/status", word(status))
            .maybe("evaluation/cause", question.cause().map(|cause| word(cause.as_str())))
            .text("evaluation/question", &question.question)
            .many("evaluation/expected-tools", tools(&question.expected_tools))
            .many("evaluation/actual-tools", tools(&question.actual_tools))
            .time("evaluation/response-us", Duration::from_millis(question.response_time_ms))
            .text("evaluation/error", question.error.as_deref().unwrap_or(""))
            .done()
    });
    std::iter::once(whole).chain(questions).collect()
}
