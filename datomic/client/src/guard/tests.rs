//! What people may ask, and what they are told when it cannot work.

use super::{Question, check};
use crate::message::Point;

const FIRST: &str = r#";; Query: Find all evaluation runs for flash-exp
(d/q '[:find ?eval-id ?success-rate ?timestamp
       :where
       [?e :evaluation/id ?eval-id]
       [?e :evaluation/model "gemini-2.0-flash-exp"]
       [?e :evaluation/success-rate ?success-rate]
       [?e :evaluation/timestamp ?timestamp]]
     db)"#;

const SECOND: &str = r#"(d/q '[:find ?date ?avg-success
       :keys date avg-success
       :where
       [?e :evaluation/timestamp ?timestamp]
       [?e :evaluation/success-rate ?rate]
       [(java.time.LocalDate/from ?timestamp) ?date]]
     (d/as-of db #inst "2025-07-31"))"#;

const THIRD: &str = r#"(d/q '[:find ?function-name (avg ?success-rate)
       :where
       [?e :evaluation/function-calls ?fc]
       [?fc :function-call/name ?function-name]
       [?fc :function-call/success-rate ?success-rate]
       [(< ?success-rate 0.5)]]
     db)"#;

fn accepted(text: &str, arguments: &[&str]) -> Question {
    match check(text, arguments) {
        Ok(question) => question,
        Err(refusal) => panic!("{text}: {refusal}"),
    }
}

#[test]
fn the_first_and_third_queries_run_as_written() {
    assert_eq!(
        accepted(FIRST, &[]).query().to_string(),
        "{:find [?eval-id ?success-rate ?timestamp], :in [$], :where [[?e :evaluation/id ?eval-id] \
         [?e :evaluation/model \"gemini-2.0-flash-exp\"] [?e :evaluation/success-rate ?success-rate] \
         [?e :evaluation/timestamp ?timestamp]]}"
    );
    let third = accepted(THIRD, &[]);
    assert!(third.query().to_string().contains("[?function-name (avg ?success-rate)]"));
}

#[test]
fn they_run_without_the_wrapper_too() {
    let bare = FIRST
        .split_once('\'')
        .and_then(|(_, rest)| rest.rsplit_once("]"))
        .map(|(query, _)| format!("{query}]"));
    let bare = bare.expect("the query within");
    assert_eq!(accepted(&bare, &[]), accepted(FIRST, &[]));
}

#[test]
fn the_second_query_is_answered_with_the_one_that_was_meant() {
    let message = check(SECOND, &[]).expect_err("?avg-success is never bound").to_string();
    assert!(message.starts_with("?avg-success is never bound"), "{message}");
    assert!(
        message.contains("[:find ?date (avg ?rate) :keys date avg-success :with ?e :where "),
        "{message}"
    );
    let meant = message.split_once("; write ").map(|(_, query)| query).expect("the query that was meant");
    let question = accepted(meant, &[]);
    assert_eq!(question.view().as_of, Some(Point::Time("2025-07-31T00:00:00Z".parse().expect("a time"))));
    assert_eq!(
        question.query().to_string(),
        "{:find [?date (avg ?rate)], :keys [date avg-success], :with [?e], :in [$], :where [\
         [?e :evaluation/timestamp ?timestamp] [?e :evaluation/success-rate ?rate] \
         [(evalfleet.gateway.day/day ?timestamp) ?date]]}"
    );
}

#[test]
fn an_unbound_variable_without_a_guess_is_named() {
    let message = check("[:find ?x :where [?e :evaluation/id ?id]]", &[]).expect_err("unbound").to_string();
    assert!(message.starts_with("?x is never bound: bind it"), "{message}");
    for text in [
        "[:find ?id :with ?f :where [?e :evaluation/id ?id]]",
        "[:find (avg ?x) :where [?e :evaluation/id ?id]]",
        "[:find ?x :where [?e :evaluation/id ?id] (not [?e :evaluation/key ?x])]",
        "[:find ?x :where [?e :evaluation/id ?id] (or-join [?e] [?e :evaluation/key ?x])]",
    ] {
        assert!(check(text, &[]).expect_err(text).to_string().contains("is never bound"), "{text}");
    }
}

#[test]
fn accepts_what_the_grammar_lists() {
    for text in [
        "{:find [?id] :where [[?e :evaluation/id ?id]]}",
        "[:find ?id . :where [?e :evaluation/id ?id]]",
        "[:find [?id ...] :where [?e :evaluation/id ?id]]",
        "[:find [?id ?r] :where [?e :evaluation/id ?id] [?e :evaluation/success-rate ?r]]",
        "[:find (count ?e) (max 3 ?r) (median ?r) :where [?e :evaluation/success-rate ?r]]",
        "[:find (pull ?e [* :evaluation/id [:evaluation/model :as \"m\" :default \"none\"] \
         {:evaluation/function-calls [*]} {[:evaluation/_batch :limit 5] [:evaluation/id]} {:evaluation/batch 2}]) \
         :where [?e :evaluation/id]]",
        "[:find ?id :where [$ ?e :evaluation/id ?id ?tx true] [?tx :db/txInstant ?at] [(> ?at #inst \"2025\")]]",
        "[:find ?id :where [?e :evaluation/id ?id] (not [?e :evaluation/model _]) (not-join [?e] [?e :evaluation/batch ?b])]",
        "[:find ?id :where [?e :evaluation/id ?id] (or [?e :evaluation/status :failed] \
         (and [?e :evaluation/status :passed] [?e :evaluation/attempt 2]))]",
        "[:find ?x :where [?e :evaluation/id ?id] (or-join [?e ?x] [?e :evaluation/key ?x])]",
        "[:find ?a ?b ?c :where [?e :evaluation/total ?n] [?e :evaluation/passed ?p] [(/ ?p ?n) ?a] [(mod ?n 2) ?b] \
         [(get-else $ ?e :evaluation/key \"none\") ?c] [(missing? $ ?e :evaluation/error)] [(!= ?p ?n)]]",
        "[:find ?x ?y :where [(ground [[1 :a] [2 :b]]) [[?x ?y]]]]",
        "[:find ?x :where [?e :evaluation/id ?id] [(tuple ?e ?id) ?t] [(untuple ?t) [_ ?x]] [(count ?id) ?n] [(<= 1 ?n 9)]]",
        "(d/q '{:find [?id] :where [[?e :evaluation/id ?id]]} (d/history (d/since db 1000)))",
        "(datomic.api/q [:find ?id :where [?e :evaluation/id ?id]] (d/as-of (d/db conn) #inst \"2025-07-31T06:00\"))",
    ] {
        accepted(text, &[]);
    }
}

#[test]
fn accepts_inputs_and_rules() {
    accepted(
        "(d/q '[:find ?id :in $ ?m :where [?e :evaluation/model ?m] [?e :evaluation/id ?id]] db \"m\")",
        &[],
    );
    accepted("[:find ?e :in $ [?id ...] :where [?e :evaluation/id ?id]]", &["[\"a\" \"b\"]"]);
    accepted(
        "[:find ?e :in $ [[?id ?n]] :where [?e :evaluation/id ?id] [?e :evaluation/total ?n]]",
        &["[[\"a\" 1]]"],
    );
    accepted("[:find ?r :in $ ?e :where [?e :evaluation/success-rate ?r]]", &["[:evaluation/id \"a\"]"]);
    let question = accepted(
        "[:find ?id :in $ % :where [?e :evaluation/id ?id] (slurp ?e)]",
        &["[[(slurp ?e) [?e :evaluation/status :failed]] [(slurp [?e]) (slurp ?e)]]"],
    );
    let sent = format!("{} {:?}", question.query(), question.arguments());
    assert!(!sent.contains("slurp"), "a rule's name is not sent: {sent}");
}

#[test]
fn names_what_is_wrong_with_a_shape() {
    for (text, part) in [
        ("[:find ?x]", ":where: is missing"),
        ("[:where [?e :evaluation/id]]", ":find: is missing"),
        ("[:find ?e :find ?e :where [?e :evaluation/id]]", "stands twice"),
        ("[:find ?e :keys a b :where [?e :evaluation/id]]", "2 names for 1 columns"),
        ("[:find ?e . :keys a :where [?e :evaluation/id]]", "1 names for 0 columns"),
        ("[:find ?e :in $ ?x :where [?e :evaluation/id ?x]]", "names 1 inputs"),
        ("[:find ?e :in ?x :where [?e :evaluation/id ?x]]", "begins with $"),
        ("[:find ?e :where [?e :evaluation/id]", "not EDN"),
        ("(d/q '[:find ?e :where [?e :evaluation/id]] (d/as-of db \"yesterday\"))", "yesterday"),
    ] {
        let message = check(text, &[]).expect_err(text).to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
    assert!(check("[:find ?e :in $ ?x :where [?e :evaluation/id ?x]]", &["[1"]).is_err());
}
