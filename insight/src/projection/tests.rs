//! Random histories: what was kept up transaction by transaction equals what is made anew.

use super::*;
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Datom, Point, Transaction};
use evalfleet_proto::Timestamp;
use proptest::prelude::*;

fn datom(entity: i64, attribute: &str, value: impl Into<Value>) -> Datom {
    Datom { entity, attribute: attribute.to_owned(), value: value.into(), added: true }
}

fn gone(datom: Datom) -> Datom {
    Datom { added: false, ..datom }
}

fn at(t: u64) -> Timestamp {
    Timestamp::from_second(1_750_000_000 + t as i64 * 600).unwrap()
}

fn transaction(t: u64, datoms: Vec<Datom>) -> Transaction {
    Transaction { t, tx_instant: at(t), datoms }
}

/// One evaluation with its call and its worker, as the recorder writes them.
fn job(entity: i64, id: &str, t: u64, cause: Option<&str>, batch: Option<i64>) -> Vec<Datom> {
    let (call, worker) = (entity + 1, entity + 2);
    let status = if cause.is_some() { "failed" } else { "passed" };
    let mut datoms = vec![
        datom(entity, "evaluation/kind", Value::keyword("function-call")),
        datom(entity, "evaluation/id", id),
        datom(entity, "evaluation/status", Value::keyword(status)),
        datom(entity, "evaluation/timestamp", at(t)),
        datom(entity, "evaluation/function-calls", call),
        datom(entity, "evaluation/worker", worker),
        datom(entity, "evaluation/wall-us", 1000 * t as i64),
        datom(call, "function-call/id", format!("{id}/call/0")),
        datom(call, "function-call/name", if t.is_multiple_of(2) { "even" } else { "odd" }),
        datom(worker, "worker/id", format!("worker-{}", t % 3)),
    ];
    if cause != Some("infrastructure") {
        datoms.push(datom(call, "function-call/success-rate", f64::from(u8::from(cause.is_none()))));
    }
    datoms.extend(cause.map(|cause| datom(entity, "evaluation/cause", Value::keyword(cause))));
    datoms.extend(batch.map(|batch| datom(entity, "evaluation/batch", batch)));
    datoms
}

fn batch(entity: i64, id: &str, model: Option<&str>) -> Vec<Datom> {
    let mut datoms = vec![
        datom(entity, "evaluation/id", id),
        datom(entity, "evaluation/kind", Value::keyword("batch")),
        datom(entity, "evaluation/timestamp", at(1)),
    ];
    datoms.extend(model.map(|model| datom(entity, "evaluation/model", model)));
    datoms
}

fn counts(world: &World, moment: Option<Point>) -> Counts {
    world.summary(world.at(moment).unwrap(), |summary| summary.all.total)
}

#[test]
fn an_evaluation_counts_once_it_is_recorded_and_no_sooner() {
    let mut world = World::new(1000);
    world.apply(&transaction(5, job(100, "a", 5, None, None)));
    world.apply(&transaction(7, job(200, "b", 7, Some("subject"), None)));
    assert_eq!(counts(&world, None).raw().passed, 1);
    assert_eq!(counts(&world, None).total(), 2);
    for (moment, expected) in [(Point::T(4), 0), (Point::T(5), 1), (Point::T(6), 1), (Point::Time(at(7)), 2)]
    {
        assert_eq!(counts(&world, Some(moment)).total(), expected, "{moment:?}");
    }
    let now = world.at(None).unwrap();
    let newest: Vec<_> = world.by_time(now, None).map(|(_, row)| row.id.to_string()).collect();
    assert_eq!(newest, ["b", "a"]);
    let odd = world.symbols().find("odd").unwrap();
    assert_eq!(world.having(Field::Tool, odd, now).count(), 2);
    assert_eq!(world.find("b", world.at(Some(Point::T(5))).unwrap()), None);
}

#[test]
fn a_corrected_verdict_is_seen_as_it_was_believed_then() {
    let mut world = World::new(1000);
    world.apply(&transaction(5, job(100, "a", 5, Some("subject"), None)));
    let correction = vec![
        gone(datom(100, "evaluation/cause", Value::keyword("subject"))),
        datom(100, "evaluation/cause", Value::keyword("infrastructure")),
    ];
    world.apply(&transaction(9, correction));
    assert_eq!((counts(&world, None).subject, counts(&world, None).infrastructure), (0, 1));
    assert_eq!(counts(&world, Some(Point::T(8))).subject, 1);
    let then = world.at(Some(Point::T(8))).unwrap();
    assert_eq!(world.find("a", then).unwrap().cause, Some(evalfleet_proto::status::Cause::Subject));
}

#[test]
fn a_part_has_the_model_of_its_batch_however_late_that_comes() {
    let mut world = World::new(1000);
    let stub = vec![datom(50, "evaluation/id", "b1")];
    world.apply(&transaction(5, [job(100, "a", 5, None, Some(50)), stub].concat()));
    let now = world.at(None).unwrap();
    assert_eq!(world.find("a", now).unwrap().model, None);
    assert_eq!(world.find("a", now).unwrap().batch, world.symbols().find("b1"));
    world.apply(&transaction(6, batch(50, "b1", Some("gemini"))[1..].to_vec()));
    world.apply(&transaction(7, job(200, "c", 7, None, Some(50))));
    let gemini = world.symbols().find("gemini");
    let now = world.at(None).unwrap();
    for id in ["a", "c"] {
        assert_eq!(world.find(id, now).unwrap().model, gemini, "{id}");
    }
    assert_eq!(world.summary(now, |summary| summary.models[&gemini.unwrap()].total.passed), 2);
    // The batch is no evaluation of its own in any rate.
    assert_eq!(counts(&world, None).total(), 2);
}

#[test]
fn beyond_the_bound_the_oldest_go_and_their_moments_are_refused() {
    let mut world = World::new(3);
    for t in 1..=5_u64 {
        world.apply(&transaction(t, job(t as i64 * 100, &format!("e{t}"), t, None, None)));
    }
    assert_eq!((world.kept(), counts(&world, None).total()), (3, 3));
    assert!(world.at(Some(Point::T(2))).is_err());
    assert_eq!(counts(&world, Some(Point::T(4))).total(), 2);
    assert_eq!(world.find("e1", world.at(None).unwrap()), None);
}

proptest! {
    #[test]
    fn every_moment_equals_the_history_up_to_it(
        steps in prop::collection::vec((0_usize..4, 0_i64..12, any::<bool>()), 1..40),
        bound in 4_usize..60,
    ) {
        const CAUSES: [Option<&str>; 4] = [None, Some("subject"), Some("infrastructure"), Some("budget")];
        let mut log = vec![transaction(1, batch(50, "b1", None))];
        for (index, (cause, number, is_part)) in steps.iter().enumerate() {
            let t = index as u64 + 2;
            let entity = 100 + number * 10;
            let known = log.iter().any(|one| one.datoms.iter().any(|datom| datom.entity == entity));
            log.push(transaction(t, match (known, cause) {
                (true, 3) => vec![datom(50, "evaluation/model", "gemini")],
                (true, _) => vec![datom(entity, "evaluation/cause", Value::keyword("harness"))],
                (false, _) => job(entity, &format!("e{number}"), t, CAUSES[*cause], is_part.then_some(50)),
            }));
        }
        let mut whole = World::new(1000);
        log.iter().for_each(|transaction| whole.apply(transaction));
        for end in 1..=log.len() {
            let mut part = World::new(1000);
            log[..end].iter().for_each(|transaction| part.apply(transaction));
            let then = whole.at(Some(Point::T(log[end - 1].t))).unwrap();
            // Symbols are numbered in the order of their coming, which is the same for both.
            whole.summary(then, |summary| assert_eq!(summary, part.current_summary()));
        }
        // What is kept up under a bound equals what its rows come to.
        let mut bounded = World::new(bound);
        for transaction in &log {
            bounded.apply(transaction);
            let now = bounded.at(None).unwrap();
            let mut anew = Summary::default();
            bounded.rows(now).for_each(|row| anew.add(row));
            prop_assert_eq!(bounded.current_summary(), &anew);
            prop_assert!(bounded.kept() <= bound);
        }
    }
}
