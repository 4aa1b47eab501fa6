//! What must never reach Datomic: ways to make a query, an argument or a pattern call something.

use proptest::prelude::*;

use super::{check, check_pattern};
use crate::edn::{Value, parse};

/// Clauses that a query may not hold.
const CLAUSES: &[&str] = &[
    "[(slurp \"/etc/passwd\") ?x]",
    "[(clojure.core/slurp \"/etc/passwd\") ?x]",
    "[(load-string \"(System/exit 0)\") ?x]",
    "[(eval ?id) ?x]",
    "[(read-string ?id) ?x]",
    "[(System/exit 0)]",
    "[(System/getenv \"HOME\") ?x]",
    "[(java.lang.System/exit 0) ?x]",
    "[(java.lang.Runtime/getRuntime) ?x]",
    "[(.exec ?id \"id\") ?x]",
    "[(.getClass ?id) ?x]",
    "[(java.io.File. \"/\") ?x]",
    "[(ground (slurp \"/etc/passwd\")) ?x]",
    "[(ground [(slurp \"/etc/passwd\")]) ?x]",
    "[(ground [[[1]]]) ?x]",
    "[(ground {:a (slurp \"x\")}) ?x]",
    "[(ground #{1}) ?x]",
    "[(ground slurp) ?x]",
    "[(ground 1 2) ?x]",
    "[(+ 1 (System/exit 0)) ?x]",
    "[(+ [1] 2) ?x]",
    "[(< ?id (slurp \"x\"))]",
    "[(= ?id [1 2])]",
    "[(< ?id 1) ?x]",
    "[(get-else $ ?e :evaluation/key (slurp \"x\")) ?x]",
    "[(get-else $ ?e ?attribute \"x\") ?x]",
    "[(get-else $other ?e :evaluation/key \"x\") ?x]",
    "[(missing? $ ?e ?attribute)]",
    "[(tuple ?e (slurp \"x\")) ?x]",
    "[(untuple [1 2]) [?x ?y]]",
    "[(fulltext $ :evaluation/error \"x\") [[?x ?y]]]",
    "[(q [:find ?y :where [?y :evaluation/id]] $) ?x]",
    "[(datomic.api/q \"[:find ?y :where [(slurp \\\"x\\\") ?y]]\" $) ?x]",
    "[(d/q ?id $) ?x]",
    "[(get-some $ ?e :evaluation/id) ?x]",
    "[(tx-ids ?log 1 2) [?x ...]]",
    "[(tx-data ?log ?t) [[?x]]]",
    "[(identity ?id) ?x]",
    "[(apply ?id) ?x]",
    "[(?id 1) ?x]",
    "[(:evaluation/id ?e) ?x]",
    "[(\"slurp\" ?e) ?x]",
    "[((slurp) ?e) ?x]",
    "[() ?x]",
    "[(java.time.LocalDate/from \"x\") ?x]",
    "[(java.time.LocalDate/now) ?x]",
    "[(java.time.LocalDate/parse ?id) ?x]",
    "[(java.time.LocalDate/from ?id ?id) ?x]",
    "[(evalfleet.gateway.day/other ?id) ?x]",
    "[(evalfleet.gateway.main/-main) ?x]",
    "[(< ?id 1) [?x (slurp \"x\")]]",
    "[(+ ?id 1) (slurp \"x\")]",
    "[(+ ?id 1) slurp]",
    "[(+ ?id 1) ?x ?y]",
    "[?e ?attribute ?v]",
    "[?e _ ?v]",
    "[?e slurp ?v]",
    "[?e \"evaluation/id\" ?v]",
    "[?e :id ?v]",
    "[?e :evaluation/_batch ?v]",
    "[?e :evaluation/id slurp]",
    "[?e :evaluation/id (slurp \"x\")]",
    "[?e :evaluation/id nil]",
    "[?e :evaluation/id {:a 1}]",
    "[?e :evaluation/id [1 2]]",
    "[?e :evaluation/id \\a]",
    "[?e :evaluation/id 1M]",
    "[?e :evaluation/id ##Inf]",
    "[[:evaluation/id \"x\"] :evaluation/model ?x]",
    "[(slurp \"x\") :evaluation/model ?x]",
    "[$other ?e :evaluation/id ?x]",
    "[?a.b :evaluation/id ?x]",
    "[?a/b :evaluation/id ?x]",
    "[? :evaluation/id ?x]",
    "[?e :evaluation/id ?x ?tx ?op ?more]",
    "[?e]",
    "[]",
    "?e",
    "\"[(slurp)]\"",
    "(slurp \"/etc/passwd\")",
    "(not [(slurp \"/etc/passwd\")])",
    "(not)",
    "(not (not [(slurp \"x\")]))",
    "(or [?e :evaluation/id ?x] [(slurp ?x)])",
    "(or (and [?e :evaluation/id ?x] [(load-string ?x)]))",
    "(and [?e :evaluation/id ?x])",
    "(or-join [?e] (and [(slurp ?e)]))",
    "(or-join [slurp] [?e :evaluation/id])",
    "(or-join (slurp) [?e :evaluation/id])",
    "(not-join [?e] [(slurp ?e)])",
    "(not-join [] [?e :evaluation/id])",
    "($ not [?e :evaluation/id])",
    "(undeclared ?e)",
    "(clojure.core/eval ?e)",
];

/// Whole texts that are no question.
const TEXTS: &[&str] = &[
    "\"[:find ?e :where [?e :evaluation/id]]\"",
    "(slurp \"/etc/passwd\")",
    "(d/q \"[:find ?e :where [?e :evaluation/id]]\" db)",
    "(d/q '[:find ?e :where [?e :evaluation/id]] (d/db (slurp \"x\")))",
    "(d/q '[:find ?e :where [?e :evaluation/id]] (d/with db [[:db/add 1 :db/doc \"x\"]]))",
    "(d/q '[:find ?e :where [?e :evaluation/id]] (d/filter db slurp))",
    "(d/q '[:find ?e :where [?e :evaluation/id]] (d/as-of db (slurp \"x\")))",
    "(d/q '[:find ?e :where [?e :evaluation/id]] (d/as-of (d/as-of db 1) 2))",
    "(d/q '[:find ?e :where [?e :evaluation/id]] other)",
    "(d/transact conn [[:db/add 1 :db/doc \"x\"]])",
    "(do (d/q '[:find ?e :where [?e :evaluation/id]] db))",
    "#=(System/exit 0)",
    "[:find ?e :where [?e :evaluation/id #=(slurp \"x\")]]",
    "[:find ?e :where [?e :evaluation/id #db/fn {:lang :clojure}]]",
    "[:find ?e :where ^{:a 1} [?e :evaluation/id]]",
    "[:find ?e :where @[?e :evaluation/id]]",
    "[:find (slurp ?e) :where [?e :evaluation/id]]",
    "[:find (clojure.core/eval ?e) :where [?e :evaluation/id]]",
    "[:find (rand ?e) :where [?e :evaluation/id]]",
    "[:find (sample 3 ?e) :where [?e :evaluation/id]]",
    "[:find (max (slurp \"x\") ?e) :where [?e :evaluation/id]]",
    "[:find (sum (avg ?e)) :where [?e :evaluation/id]]",
    "[:find (java.util.Date. ?e) :where [?e :evaluation/id]]",
    "[:find (pull $ ?e [*]) :where [?e :evaluation/id]]",
    "[:find (pull ?e ?pattern) :in $ ?pattern :where [?e :evaluation/id]]",
    "[:find (pull ?e pattern) :where [?e :evaluation/id]]",
    "[:find slurp :where [?e :evaluation/id]]",
    "[:find \"x\" :where [?e :evaluation/id]]",
    "[:find ?e :keys a/b :where [?e :evaluation/id]]",
    "[:find ?e :keys (slurp) :where [?e :evaluation/id]]",
    "[:find ?e :with (slurp) :where [?e :evaluation/id]]",
    "[:find ?e :in $ $other :where [?e :evaluation/id]]",
    "[:find ?e :timeout 5 :where [?e :evaluation/id]]",
    "{:find [?e] :where [[?e :evaluation/id]] :args [1]}",
    "{:find (slurp) :where [[?e :evaluation/id]]}",
    "{\"find\" [?e] :where [[?e :evaluation/id]]}",
    "[?e :where [?e :evaluation/id]]",
];

/// Arguments for `:in $ ?x`.
const ARGUMENTS: &[&str] = &[
    "(slurp \"/etc/passwd\")",
    "slurp",
    "[(slurp \"x\")]",
    "[[(slurp)]]",
    "[[[1]]]",
    "{:a 1}",
    "nil",
    "#=(+ 1 2)",
    "'x",
    "[nil]",
    "\\a",
    "1 2",
    "",
];

/// Arguments for `:in $ %`, with a call of `(r ?e)`.
const RULES: &[&str] = &[
    "[[(r ?e) [(slurp \"/etc/passwd\") ?x]]]",
    "[[(r ?e) [(ground (slurp \"x\")) ?x]]]",
    "[[(r ?e) (not [(System/exit 0)])]]",
    "[[(r ?e) [?e ?attribute]]]",
    "[[(r ?e) (clojure.core/eval ?e)]]",
    "[[(r ?e ?x) [?e :evaluation/id ?x]]]",
    "[[(r (slurp)) [?e :evaluation/id]]]",
    "[[(r ?e)]]",
    "[[r [?e :evaluation/id]]]",
    "[[(a.b/r ?e) [?e :evaluation/id]]]",
    "[[(not ?e) [?e :evaluation/id]]]",
    "[[(r ?e) [?e :evaluation/id]] [(r ?e ?x) [?e :evaluation/id ?x]]]",
    "\"[[(r ?e) [(slurp)]]]\"",
    "[]",
    "(slurp \"rules\")",
];

const PATTERNS: &[&str] = &[
    "[[:evaluation/id :xform clojure.core/slurp]]",
    "[[:evaluation/id :xform \"clojure.core/slurp\"]]",
    "[{[:evaluation/batch :xform f] [*]}]",
    "[(xform :evaluation/id slurp)]",
    "[(limit :evaluation/labels 5)]",
    "[(slurp \"x\")]",
    "[slurp]",
    "[[:evaluation/id :default (slurp \"x\")]]",
    "[[:evaluation/id :as slurp]]",
    "[[:evaluation/id :limit nil]]",
    "[[:evaluation/id :as]]",
    "[{:evaluation/batch 1000}]",
    "[{:evaluation/batch (slurp)}]",
    "[[]]",
    "[]",
    "\"[*]\"",
    "*",
];

fn refused(text: &str, arguments: &[&str]) {
    if let Ok(question) = check(text, arguments) {
        panic!("{text} {arguments:?} went through as {}", question.query());
    }
}

#[test]
fn refuses_every_clause_on_the_list_wherever_it_stands() {
    for clause in CLAUSES {
        refused(&format!("[:find ?id :where [?e :evaluation/id ?id] {clause}]"), &[]);
        refused(
            &format!("[:find ?id :where [?e :evaluation/id ?id] (not [?e :evaluation/key \"x\"] {clause})]"),
            &[],
        );
        refused(&format!("{{:find [?id] :where [(or (and [?e :evaluation/id ?id] {clause}))]}}"), &[]);
        refused(
            "[:find ?id :in $ % :where [?e :evaluation/id ?id] (r ?e)]",
            &[&format!("[[(r ?e) [?e :evaluation/id] {clause}]]")],
        );
    }
}

/// The frames of the attacks let a harmless form through, so it is the attack that is refused.
#[test]
fn the_frames_of_the_attacks_are_sound() {
    let call = "[:find ?id :in $ % :where [?e :evaluation/id ?id] (r ?e)]";
    for (text, arguments) in [
        ("[:find ?id :where [?e :evaluation/id ?id] [(< ?id \"x\")]]", vec![]),
        (
            "[:find ?id :where [?e :evaluation/id ?id] (not [?e :evaluation/key \"x\"] [(< ?id \"x\")])]",
            vec![],
        ),
        ("{:find [?id] :where [(or (and [?e :evaluation/id ?id] [(< ?id \"x\")]))]}", vec![]),
        (call, vec!["[[(r ?e) [?e :evaluation/id] [(< ?e 1)]]]"]),
        ("[:find ?e :in $ ?x :where [?e :evaluation/id ?x]]", vec!["\"x\""]),
        ("[:find (pull ?e [:evaluation/id]) :where [?e :evaluation/id]]", vec![]),
    ] {
        assert!(check(text, &arguments).is_ok(), "{text}");
    }
}

#[test]
fn refuses_every_text_argument_rule_and_pattern_on_the_list() {
    TEXTS.iter().for_each(|text| refused(text, &[]));
    for argument in ARGUMENTS {
        refused("[:find ?e :in $ ?x :where [?e :evaluation/id ?x]]", &[argument]);
    }
    for rules in RULES {
        refused("[:find ?e :in $ % :where [?e :evaluation/id] (r ?e)]", &[rules]);
    }
    for pattern in PATTERNS {
        assert!(check_pattern(pattern).is_err(), "{pattern}");
        refused(&format!("[:find (pull ?e {pattern}) :where [?e :evaluation/id]]"), &[]);
    }
}

#[test]
fn the_message_names_the_form() {
    let message =
        check("[:find ?x :where [(slurp \"/etc/passwd\") ?x]]", &[]).expect_err("a call").to_string();
    assert!(message.starts_with("refused: [(slurp \"/etc/passwd\") ?x]: not a function"), "{message}");
}

#[test]
fn bounds_clauses_depth_and_size() {
    let clauses = "[?e :evaluation/id] ".repeat(101);
    assert!(
        check(&format!("[:find ?e :where {clauses}]"), &[])
            .expect_err("many")
            .to_string()
            .contains("100 clauses")
    );
    let deep = format!("{}[?e :evaluation/id]{}", "(not ".repeat(200), ")".repeat(200));
    refused(&format!("[:find ?e :where {deep}]"), &[]);
    refused(&format!("[:find ?e :where [?e :evaluation/id \"{}\"]]", "x".repeat(70_000)), &[]);
    let nested = "(not [?e :evaluation/id] [?e :evaluation/key]) ".repeat(40);
    refused(&format!("[:find ?e :where [?e :evaluation/id] {nested}]"), &[]);
}

/// All that may stand in a sent query beside variables, labels and our own names for rules.
const LISTED: &[&str] = &[
    "$",
    "%",
    "_",
    "...",
    ".",
    "*",
    "not",
    "or",
    "and",
    "not-join",
    "or-join",
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "/",
    "quot",
    "mod",
    "count",
    "get-else",
    "missing?",
    "ground",
    "tuple",
    "untuple",
    "sum",
    "avg",
    "count-distinct",
    "min",
    "max",
    "median",
    "variance",
    "stddev",
    "distinct",
    "pull",
    "evalfleet.gateway.day/day",
];

fn symbols(value: &Value, out: &mut Vec<String>) {
    out.extend(value.as_symbol().map(str::to_owned));
    value.children().into_iter().for_each(|child| symbols(child, out));
}

fn is_listed(symbol: &str) -> bool {
    let plain = |name: &str| !name.contains(['/', '.']);
    LISTED.contains(&symbol)
        || symbol.strip_prefix('?').is_some_and(plain)
        || symbol.strip_prefix("rule-").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Pieces that make queries close to the grammar, and the ways out of it.
fn piece() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec![
        "?e",
        "?x",
        "?y",
        "?e/x",
        "?e.x",
        "_",
        "$",
        "%",
        "1",
        "0.5",
        "\"s\"",
        ":evaluation/id",
        ":a",
        "nil",
        "slurp",
        "clojure.core/slurp",
        "System/exit",
        ".exec",
        "+",
        "<",
        "=",
        "ground",
        "count",
        "tuple",
        "get-else",
        "missing?",
        "not",
        "or",
        "and",
        "or-join",
        "not-join",
        "pull",
        "avg",
        "r",
        "java.time.LocalDate/from",
        "...",
        "*",
        ".",
        "#inst \"2025\"",
        ":xform",
        ":limit",
    ]);
    atom.prop_map(str::to_owned).prop_recursive(4, 40, 5, |inner| {
        let items = prop::collection::vec(inner, 0..5).prop_map(|items| items.join(" "));
        prop_oneof![
            3 => items.clone().prop_map(|items| format!("[{items}]")),
            3 => items.clone().prop_map(|items| format!("({items})")),
            1 => items.clone().prop_map(|items| format!("[(< {items})]")),
            1 => items.clone().prop_map(|items| format!("[(ground {items}) ?y]")),
            1 => items.clone().prop_map(|items| format!("[(+ {items}) ?y]")),
            1 => items.clone().prop_map(|items| format!("(not {items})")),
            1 => items.clone().prop_map(|items| format!("(or [?e :evaluation/id ?x] (and [?e :a/b] {items}))")),
            1 => items.prop_map(|items| format!("[?e :evaluation/id {items}]")),
        ]
    })
}

fn accepted_is_listed(text: &str, rules: &str) -> Result<(), TestCaseError> {
    let Ok(question) = check(text, &[rules]) else { return Ok(()) };
    let mut query = parse(&question.query().to_string()).expect("our own print");
    if let Value::Map(entries) = &mut query {
        // Labels are the gateway's to use and are never Datomic's to see.
        entries.retain(|(key, _)| key.as_keyword() != Some("keys"));
    }
    let mut found = Vec::new();
    symbols(&query, &mut found);
    for argument in question.arguments() {
        symbols(&parse(&argument.to_string()).expect("our own print"), &mut found);
    }
    for symbol in found {
        prop_assert!(is_listed(&symbol), "{symbol} in {query}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_accepted_holds_listed_symbols_only(
        clauses in prop::collection::vec(piece(), 0..3),
        find in prop_oneof![4 => Just("?x".to_owned()), 1 => piece()],
        body in prop::collection::vec(piece(), 1..3),
    ) {
        let clauses = clauses.join(" ");
        let body = body.join(" ");
        accepted_is_listed(
            &format!("[:find {find} :keys a :in $ % :where [?e :evaluation/id ?x] (r ?e) {clauses}]"),
            "[[(r ?e) [?e :evaluation/id]]]",
        )?;
        accepted_is_listed(
            "[:find ?x :keys a :in $ % :where [?e :evaluation/id ?x] (r ?e)]",
            &format!("[[(r ?e) [?e :evaluation/id ?x] {body}]]"),
        )?;
    }

    #[test]
    fn what_is_accepted_is_accepted_again_unchanged(clauses in prop::collection::vec(piece(), 0..3)) {
        let text = format!("[:find ?x :where [?e :evaluation/id ?x] {}]", clauses.join(" "));
        if let Ok(question) = check(&text, &[]) {
            let again = check(&question.query().to_string(), &[]).expect("it was accepted before");
            prop_assert_eq!(again.query(), question.query());
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = check(&text, &[]);
        let _ = check_pattern(&text);
    }
}
