//! Forty datoms: what is left out of an evaluation that has more. Pure.
//!
//! A store's opening takes time with the number of its datoms, so an evaluation has at most forty of its own: its
//! facts, its calls' and those that go with it. What names it shares with others (its worker, its image, its case) is
//! counted where it is written first, and not here. What is left out stays in the document, and `:evaluation/omitted`
//! counts it.

use super::Facts;
use evalfleet_datomic::edn::Value;

/// The most datoms of an evaluation.
pub(super) const DATOMS_MAX: usize = 40;

/// What can best be missed, first: what the document, or another fact of the same evaluation, says as well; what is
/// read of one evaluation rather than asked of many; then the smaller stretches of its time.
const LEFT_OUT: [&str; 15] = [
    "function-call/exit-code",
    "function-call/duration-us",
    "evaluation/stdout-sha256",
    "evaluation/stderr-sha256",
    "evaluation/stdout-preview",
    "evaluation/stderr-preview",
    "evaluation/net-rx-bytes",
    "evaluation/net-tx-bytes",
    "evaluation/disk-read-bytes",
    "evaluation/stdout-bytes",
    "evaluation/stderr-bytes",
    "evaluation/report-us",
    "evaluation/effects-us",
    "evaluation/claim-us",
    "evaluation/run-us",
];
const LABELS: &str = "evaluation/labels";

/// The datoms of one fact: a set is one for each member, a reference to what has a name of its own is one.
fn weight(value: &Value) -> usize {
    value.as_vector().map_or(1, <[Value]>::len)
}

fn datoms(facts: &Facts) -> usize {
    facts.0.iter().map(|(_, value)| weight(value)).sum()
}

/// An evaluation's facts with its `calls`, without what is too much beside the `others` of its transaction.
pub(super) fn fit(mut facts: Facts, mut calls: Vec<Facts>, others: &[Value]) -> Facts {
    let others: usize =
        others.iter().filter_map(Value::as_map).flatten().map(|(_, value)| weight(value)).sum();
    let total = |facts: &Facts, calls: &[Facts]| {
        datoms(facts) + calls.iter().map(|call| 1 + datoms(call)).sum::<usize>() + others
    };
    let all = total(&facts, &calls);
    if all > DATOMS_MAX {
        // One of them says how many are missing.
        let most = DATOMS_MAX - 1;
        for name in LEFT_OUT {
            if total(&facts, &calls) <= most {
                break;
            }
            let other = |(key, _): &(Value, Value)| key.as_keyword() != Some(name);
            facts.0.retain(other);
            calls.iter_mut().for_each(|call| call.0.retain(other));
        }
        while total(&facts, &calls) > most && drop_label(&mut facts) {}
        while total(&facts, &calls) > most && calls.pop().is_some() {}
        let left_out = all - total(&facts, &calls);
        facts = facts.count("evaluation/omitted", left_out as u64);
    }
    facts.many("evaluation/function-calls", calls.into_iter().map(Facts::done).collect())
}

/// Takes the last label away, if there is one.
fn drop_label(facts: &mut Facts) -> bool {
    let labels = facts.0.iter_mut().find(|(key, _)| key.as_keyword() == Some(LABELS));
    let Some((_, Value::Vector(labels))) = labels else { return false };
    let dropped = labels.pop().is_some();
    if labels.is_empty() {
        facts.0.retain(|(key, _)| key.as_keyword() != Some(LABELS));
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::super::evaluation;
    use super::*;
    use evalfleet_proto::Timestamp;
    use evalfleet_proto::effect::{Change, Effect, ObjectType};
    use evalfleet_proto::evaluation::{
        Call, Evaluation, Evidence, Metrics, Output, Provenance, Source, Timings,
    };
    use evalfleet_proto::ids::{JobId, Sha256};
    use evalfleet_proto::status::{Cause, Status};
    use proptest::prelude::*;
    use std::time::Duration;

    /// Every datom that a transaction of these maps writes, counted from the maps alone; names that are shared with
    /// other evaluations left out.
    fn written(maps: &[Value]) -> usize {
        let of_item = |item: &Value| {
            if item.as_map().is_some() { 1 + written(std::slice::from_ref(item)) } else { 1 }
        };
        let of_value = |value: &Value| value.as_vector().map_or(1, |items| items.iter().map(of_item).sum());
        maps.iter().flat_map(|map| map.as_map().unwrap()).map(|(_, value)| of_value(value)).sum::<usize>()
    }

    fn has(maps: &[Value], name: &str) -> bool {
        maps[0].get(&format!("evaluation/{name}")).is_some()
    }

    fn output(bytes: u64) -> Output {
        Output {
            text: "o".repeat(bytes.min(40) as usize),
            bytes,
            sha256: (bytes > 40).then(|| Sha256::of(b"o")),
            truncated: bytes > 40,
        }
    }

    fn effect(change: Change, expected: bool) -> Effect {
        Effect {
            path: "/workspace/a".to_owned(),
            change,
            object: ObjectType::File,
            size: 1,
            mode: "0644".to_owned(),
            uid: 0,
            gid: 0,
            sha256: None,
            target: None,
            renamed_from: None,
            content: None,
            expected,
        }
    }

    fn call(name: &str, rate: Option<f64>) -> Call {
        Call {
            name: name.to_owned(),
            success_rate: rate,
            exit_code: Some(1),
            value: None,
            duration: Duration::from_millis(5),
        }
    }

    /// An evaluation of which there is as much of everything as is said.
    fn of(
        ended: (Status, Option<Cause>),
        calls: Vec<Call>,
        labels: usize,
        bytes: [u64; 2],
        changes: &[Change],
        measured: bool,
    ) -> Evaluation {
        let now = Timestamp::from_second(1_750_000_000).unwrap();
        let evidence = vec![Evidence::new(Source::Host, "seen")];
        let mut made = Evaluation::blank(
            JobId::from_key("k"),
            "function_call",
            ended,
            evidence,
            now - Duration::from_secs(1),
        );
        made.finished = now;
        made.calls = calls;
        made.exit_code = Some(1);
        made.replay_of = Some(JobId::from_key("before"));
        [made.stdout, made.stderr] = bytes.map(output);
        made.effects = changes.iter().map(|change| effect(*change, false)).collect();
        let own = ["suite", "case", "run", "model"].map(str::to_owned);
        let names = own.into_iter().chain((0..labels).map(|index| format!("label{index}")));
        made.labels = names.map(|name| (name, "value".to_owned())).collect();
        let time = Duration::from_millis(3);
        if measured {
            made.metrics = Metrics {
                wall: time,
                cpu_user: time,
                cpu_system: time,
                memory_peak_bytes: 1,
                disk_read_bytes: 1,
                disk_written_bytes: 1,
                net_rx_bytes: 1,
                net_tx_bytes: 1,
                ..Metrics::default()
            };
            made.timings = Timings { queued: time, claim: time, run: time, effects: time, report: time };
        }
        made.provenance = Provenance {
            worker: "w1".to_owned(),
            host: "h1".to_owned(),
            image: Some("sha256:1".to_owned()),
            accelerator: Some("tcg".to_owned()),
            attempt: 1,
            ..Provenance::default()
        };
        made
    }

    fn facts(made: &Evaluation) -> Vec<Value> {
        evaluation(made, Sha256::of(b"document"))
    }

    const ALL: [Change; 4] = [Change::Created, Change::Changed, Change::Deleted, Change::Replaced];

    #[test]
    fn what_a_job_usually_leaves_is_recorded_whole() {
        let failed = (Status::Failed, Some(Cause::Subject));
        let facts = facts(&of(failed, vec![call("read", Some(0.0))], 0, [20, 0], &ALL[..1], false));
        assert!(written(&facts) <= DATOMS_MAX && !has(&facts, "omitted"), "{facts:?}");
        assert!(has(&facts, "stdout-preview"));
    }

    #[test]
    fn what_is_too_much_goes_in_the_order_in_which_it_is_missed_least() {
        let failed = (Status::Failed, Some(Cause::Subject));
        let most = facts(&of(failed, vec![call("read", Some(0.0))], 9, [99, 99], &ALL, true));
        assert_eq!(written(&most), DATOMS_MAX, "{most:?}");
        for name in [
            "status",
            "cause",
            "success-rate",
            "day",
            "document",
            "wall-us",
            "effects-unexpected",
            "case",
            "labels",
            "function-calls",
        ] {
            assert!(has(&most, name), "{name} is missed: {most:?}");
        }
        assert!(!has(&most, "stdout-sha256") && !has(&most, "report-us"));
        // The last that goes is what is asked for most.
        let fewer = facts(&of(failed, vec![call("read", Some(0.0))], 1, [20, 0], &ALL[..1], true));
        assert_eq!(written(&fewer), DATOMS_MAX, "{fewer:?}");
        assert!(has(&fewer, "report-us") && has(&fewer, "stdout-bytes") && !has(&fewer, "stdout-preview"));
        assert_eq!(fewer[0].get("evaluation/omitted").and_then(Value::as_int), Some(6));
    }

    #[test]
    fn cases_of_a_tool_are_one_sum_however_many_they_are() {
        let calls =
            (0..50).map(|index| call("tool", [Some(1.0), Some(0.5), Some(0.0), None][index % 4])).collect();
        let facts = facts(&of((Status::Failed, Some(Cause::Subject)), calls, 2, [0, 0], &[], true));
        assert!(written(&facts) <= DATOMS_MAX);
        let made = facts[0].get("evaluation/function-calls").and_then(Value::as_vector).unwrap();
        assert_eq!(made.len(), 1);
        let number = |name: &str| made[0].get(name).and_then(Value::as_int);
        // 13 passed whole, 13 in part, 12 not at all, 12 were not run.
        assert_eq!((number("function-call/count"), number("function-call/failures")), (Some(38), Some(25)));
        let rate = made[0].get("function-call/success-rate").and_then(Value::as_float).unwrap();
        assert!((rate - 19.5 / 38.0).abs() < 1e-12, "{rate}");
    }

    proptest! {
        #[test]
        fn no_evaluation_has_more_than_forty(
            ended in prop::sample::select(vec![
                (Status::Passed, None),
                (Status::Failed, Some(Cause::Subject)),
                (Status::TimedOut, Some(Cause::Budget)),
                (Status::Dead, Some(Cause::Infrastructure)),
                (Status::Cancelled, Some(Cause::Harness)),
            ]),
            calls in prop::collection::vec((0_u8..12, prop::option::of(0.0..=1.0)), 0..20),
            labels in 0_usize..20,
            bytes in [0_u64..100, 0_u64..100],
            changes in prop::sample::subsequence(ALL.to_vec(), 0..=4),
            measured in any::<bool>(),
        ) {
            let calls = calls.iter().map(|(name, rate)| call(&format!("f{name}"), *rate)).collect();
            let made = of(ended, calls, labels, bytes, &changes, measured);
            let recorded = facts(&made);
            let all = written(&recorded);
            prop_assert!(all <= DATOMS_MAX, "{} datoms: {:?}", all, recorded);
            // Nothing is left out for nothing.
            prop_assert!(!has(&recorded, "omitted") || all > DATOMS_MAX - 10, "{} datoms: {:?}", all, recorded);
            prop_assert_eq!(&recorded, &facts(&made), "the same result, the same facts");
        }
    }
}
