//! Whatever the guard lets through is of the grammar that it documents, which a second reader checks that shares no
//! code with it: on questions of the grammar, on the same after hostile hands were at them, and on the fuzzer's corpus.

#[expect(unreachable_pub, reason = "the fuzzer's crate exports it")]
#[path = "../../../tests/fuzz/src/guard.rs"]
mod walker;

use evalfleet_datomic::edn::parse;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use std::path::Path;

fn put(text: &str) -> bool {
    walker::guard(text.as_bytes())
}

fn one_of(words: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

fn constant() -> impl Strategy<Value = String> {
    one_of(&[
        "1",
        "-7",
        "0.5",
        "\"s\"",
        "\"\\u0028\\n)\"",
        ":passed",
        ":a.b/c",
        "true",
        "#inst \"2025-07-31\"",
        "#uuid \"0198c1c2-0000-7000-8000-000000000000\"",
    ])
}

fn attribute() -> impl Strategy<Value = String> {
    one_of(&[":evaluation/id", ":evaluation/status", ":function-call/name", ":a.b/c-d?"])
}

/// What hangs together with `?e`, so that no two halves multiply.
fn operand() -> impl Strategy<Value = String> {
    prop_oneof![one_of(&["?e", "?a"]), constant()]
}

fn pattern() -> impl Strategy<Value = String> {
    let flat = prop_oneof![
        Just("[*]".to_owned()),
        attribute().prop_map(|name| format!("[:db/id {name}]")),
        (attribute(), constant())
            .prop_map(|(name, value)| format!("[[{name} :as \"x\" :limit 5 :default {value}]]")),
    ];
    flat.prop_recursive(3, 8, 1, |inner| {
        (inner, one_of(&["...", "3"])).prop_map(|(inner, levels)| {
            format!("[{{:a/b {inner} [:a/_c :limit 9] {inner}}} {{:a/d {levels}}}]")
        })
    })
}

fn clause() -> impl Strategy<Value = String> {
    let flat = prop_oneof![
        (attribute(), constant()).prop_map(|(name, value)| format!("[?e {name} {value}]")),
        (attribute(), one_of(&["?b", "_"]))
            .prop_map(|(name, value)| format!("[$ ?e {name} {value} ?tx true]")),
        (one_of(&["=", "!=", "<", "<=", ">", ">="]), operand(), operand())
            .prop_map(|(name, one, other)| format!("[({name} {one} {other})]")),
        (one_of(&["+", "-", "*", "/", "quot", "mod", "tuple"]), operand(), operand())
            .prop_map(|(name, one, other)| format!("[({name} {one} {other}) ?c]")),
        attribute().prop_map(|name| format!("[(missing? $ ?e {name})]")),
        (attribute(), constant()).prop_map(|(name, value)| format!("[(get-else $ ?e {name} {value}) ?c]")),
        constant().prop_map(|value| format!("[(ground [[1 {value}] [2 3]]) [[?p ?q]]]")),
        Just("[(java.time.LocalDate/from ?a) ?day]".to_owned()),
        Just("[(count ?a) ?n]".to_owned()),
        constant().prop_map(|value| format!("(r ?e {value})")),
    ];
    flat.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|clause| format!("(not [?e :a/b] {clause})")),
            inner.clone().prop_map(|clause| format!("(not-join [?e ?a] {clause})")),
            (inner.clone(), inner.clone())
                .prop_map(|(one, other)| format!("(or (and [?e :a/b ?a] {one}) {other})")),
            (inner.clone(), inner)
                .prop_map(|(one, other)| format!("(or-join [[?e] ?a] {one} (and {other} [?e :a/b]))")),
        ]
    })
}

/// A question with its arguments, as the fuzzer's target reads them.
fn question() -> impl Strategy<Value = String> {
    let find = prop_oneof![
        one_of(&["?a", "?a .", "[?a ...]", "[?e ?a]", "(count ?e) (max 3 ?a)", "?a :keys name"]),
        pattern().prop_map(|pattern| format!("(pull ?e {pattern}) ?a")),
    ];
    let clauses = || prop::collection::vec(clause(), 0..4).prop_map(|clauses| clauses.join(" "));
    (find, clauses(), clauses(), any::<bool>(), constant()).prop_map(
        |(find, wheres, body, wrapped, value)| {
            let query =
                format!("[:find {find} :with ?e :in $ % ?i [[?j _]] :where [?e :evaluation/id ?a] {wheres}]");
            let query = if wrapped { format!("(d/q '{query} (d/as-of db 7)") } else { query };
            let rules =
                format!("[[(r ?e ?x) [?e :evaluation/id ?a] [?e :a/b ?x] {body}] [(r ?e ?x) [?e :a/c ?x]]]");
            let given = [rules, value.clone(), format!("[[{value} 1]]")];
            if wrapped {
                format!("{query} {})", given.join(" "))
            } else {
                [vec![query], given.to_vec()].concat().join("\0")
            }
        },
    )
}

/// What a hostile hand puts into a question.
const HOSTILE: &[&str] = &[
    "#=(System/exit 0)",
    "(slurp \"/etc/passwd\")",
    "[(slurp \"/etc/passwd\") ?x]",
    "[(ground (slurp \"x\")) ?x]",
    "[(.exec ?e \"id\") ?x]",
    "[(System/exit 0)]",
    "[(q [:find ?y :where [?y :a/b]] $) ?x]",
    "(pull ?e [[:a/b :xform clojure.core/slurp]])",
    "[[(r ?e) [(slurp \"x\") ?x]]]",
    "[:db/add 1 :db/doc \"x\"]",
    "[:db.fn/call slurp]",
    "#db/fn {:lang :clojure :code \"1\"}",
    "{:a (slurp \"x\")}",
    "#{(slurp \"x\")}",
    "clojure.core/eval",
    "java.io.File.",
    "System/exit",
    ":xform",
    ":timeout",
    ":find",
    ":args",
    "?a.b",
    "?a/b",
    "$other",
    "%",
    ".",
    "...",
    "nil",
    "\\a",
    "1M",
    "1/2",
    "99999999999999999999",
    "##NaN",
    "##Inf",
    "^{:a 1}",
    "@e",
    "~e",
    "`e",
    "'",
    "#_",
    ";",
    "\"",
    "\\",
    "\0",
    "\n",
    // A bracket, a blank and letters that are none, or that are not the ones they look like.
    "\u{ff08}slurp \"x\"\u{ff09}",
    "\u{a0}",
    "\u{200b}",
    "\u{202e}",
    "\u{feff}",
    "\u{455}lurp",
    "?\u{430}",
    "e\u{301}",
    "\u{1f4a3}",
];

/// One change: what is done, where, and with what.
type Change = (u8, Index, Index);

/// Where something begins or ends.
fn seams(text: &str) -> Vec<usize> {
    let seam = |letter: char| letter.is_whitespace() || "()[]{}\0\"'".contains(letter);
    let inner = text.char_indices().filter(|(_, letter)| seam(*letter));
    let mut all: Vec<usize> = inner.flat_map(|(at, letter)| [at, at + letter.len_utf8()]).collect();
    all.extend([0, text.len()]);
    all.sort_unstable();
    all.dedup();
    all
}

fn changed(text: &str, (what, at, with): &Change) -> String {
    let seams = seams(text);
    let first = at.index(seams.len());
    let (begin, end) = (seams[first], seams.get(first + 1).copied().unwrap_or(text.len()));
    let hostile = HOSTILE[with.index(HOSTILE.len())];
    let (before, piece, after) = (&text[..begin], &text[begin..end], &text[end..]);
    match what % 6 {
        0 => format!("{before} {hostile} {piece}{after}"),
        1 => format!("{before}{hostile}{after}"),
        2 => format!("{before}({piece}){after}"),
        3 => format!("{before}{after}"),
        4 => format!("{before}{piece} {piece}{after}"),
        _ => format!("{before}{hostile}{piece}{after}"),
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec((any::<u8>(), any::<Index>(), any::<Index>()), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn questions_of_the_grammar_go_through_and_are_of_it(text in question()) {
        prop_assert!(put(&text), "refused: {}", text);
    }

    #[test]
    fn what_hostile_hands_leave_of_a_question_is_refused_or_of_the_grammar(text in question(), changes in changes()) {
        put(&changes.iter().fold(text, |text, change| changed(&text, change)));
    }

    #[test]
    fn so_is_any_text(text in "\\PC{0,200}") {
        put(&text);
        put(&format!("[:find ?e :where [?e :a/b] {text}]"));
    }
}

/// Neither are all refused, which would show nothing, nor do all go through.
#[test]
fn hostile_hands_leave_some_of_both() {
    let mut runner = TestRunner::deterministic();
    let mut through = 0;
    for _ in 0..2000 {
        let (text, changes) = (question(), changes()).new_tree(&mut runner).expect("a question").current();
        through += u32::from(put(&changes.iter().fold(text, |text, change| changed(&text, change))));
    }
    assert!((40..1900).contains(&through), "{through} of 2000 went through");
}

#[test]
fn what_is_deep_or_huge_is_refused_or_of_the_grammar() {
    for depth in [1, 20, 31, 32, 33, 1000, 100_000] {
        for (open, close) in [
            ("(not [?e :a/c] ", ")"),
            ("[", "]"),
            ("(", ")"),
            ("{:a ", "}"),
            ("#{", "}"),
            ("'", ""),
            ("#_", ""),
        ] {
            let nested = |inner: &str| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            put(&nested("[:find ?e :where [?e :a/b]]"));
            let through = put(&format!("[:find ?e :where [?e :a/b] {}]", nested("[?e :a/d]")));
            assert!(!(through && depth > 32), "{depth} deep went through: {open}");
        }
    }
    for (count, goes) in [(90, true), (101, false), (20_000, false)] {
        assert_eq!(
            put(&format!("[:find ?e :where {}]", "[?e :a/b] ".repeat(count))),
            goes,
            "{count} clauses"
        );
    }
    for (length, goes) in [(60_000, true), (70_000, false), (5_000_000, false)] {
        assert_eq!(put(&format!("[:find ?e :where [?e :a/b \"{}\"]]", "x".repeat(length))), goes, "{length}");
    }
}

#[test]
fn the_second_reader_knows_what_is_not_listed() {
    let refused = |query: &str, arguments: &[&str]| {
        let arguments: Vec<_> = arguments.iter().map(|text| parse(text).expect("EDN")).collect();
        let told = walker::is_listed(&parse(query).expect("EDN"), &arguments);
        assert!(told.is_err(), "{query} {arguments:?}");
    };
    for clause in [
        "[(slurp \"x\") ?x]",
        "[(clojure.core/eval ?e) ?x]",
        "[(System/exit 0)]",
        "[(.exec ?e \"id\") ?x]",
        "[(ground (slurp \"x\")) ?x]",
        "[(+ 1 (slurp \"x\")) ?x]",
        "[(get-else $ ?e :a/b (slurp \"x\")) ?x]",
        "[(q [:find ?y :where [?y :a/b]] $) ?x]",
        "[(java.time.LocalDate/from ?a) ?x]",
        "[(< ?e [1 2])]",
        "[(< ?e 1) (slurp \"x\")]",
        "[(count ?e) ?a.b]",
        "[?e ?attribute ?x]",
        "[?e :a/_b ?x]",
        "[?e :a/b (slurp \"x\")]",
        "[?e :a/b nil]",
        "[$other ?e :a/b]",
        "(not [(slurp \"x\")])",
        "(or [?e :a/b] (and [(slurp \"x\")]))",
        "(not-join [slurp] [?e :a/b])",
        "(or-join [] [?e :a/b])",
        "(slurp ?e)",
        "(rule-1 ?e)",
    ] {
        refused(&format!("{{:find [?e] :in [$] :where [[?e :a/b] {clause}]}}"), &[]);
    }
    for find in [
        "(slurp ?e)",
        "(sample 3 ?e)",
        "(pull ?e [[:a/b :xform f]])",
        "(pull ?e ?p)",
        "slurp",
        "?a/b",
        "(max (f) ?e)",
    ] {
        refused(&format!("{{:find [{find}] :in [$] :where [[?e :a/b]]}}"), &[]);
    }
    for (names, argument) in [
        ("?x", "(slurp \"x\")"),
        ("?x", "slurp"),
        ("?x", "[[(slurp)]]"),
        ("%", "[[(rule-1 ?e) [(slurp ?e) ?x]]]"),
        ("%", "[[(slurp ?e) [?e :a/b]]]"),
        ("%", "[[(rule-1 ?e)]]"),
        ("(slurp)", "1"),
        ("", "1"),
    ] {
        refused(&format!("{{:find [?e] :in [$ {names}] :where [[?e :a/b]]}}"), &[argument]);
    }
    for query in [
        "{:find [?e] :in [$] :where []}",
        "{:find [?e] :in [$] :where [[?e :a/b]] :args [1]}",
        "{:find [?e] :in [?x] :where [[?e :a/b]]}",
        "{:find [?e] :keys [a/b] :in [$] :where [[?e :a/b]]}",
        "[:find ?e :where [?e :a/b]]",
    ] {
        refused(query, &[]);
    }
    let sound = parse("{:find [?e] :in [$ %] :where [[?e :a/b] (rule-1 ?e)]}").expect("EDN");
    assert_eq!(walker::is_listed(&sound, &[parse("[[(rule-1 ?e) [?e :a/c]]]").expect("EDN")]), Ok(()));
}

/// Every seed of the fuzzer, and every seed with one byte that is another.
#[test]
fn the_fuzzers_corpus_goes_as_its_names_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/guard");
    let seeds: Vec<_> = std::fs::read_dir(folder).expect("the corpus").collect();
    assert!(seeds.len() > 5, "{} seeds", seeds.len());
    for seed in seeds {
        let path = seed.expect("a seed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut bytes = std::fs::read(&path).expect("it can be read");
        let refused = name.starts_with("attack") || ["over-time", "unicode"].contains(&name.as_str());
        assert_eq!(walker::guard(&bytes), !refused, "{name}");
        for at in 0..bytes.len() {
            let byte = bytes[at];
            for other in [0, b'(', b'"', byte ^ 1, byte.wrapping_add(1)] {
                bytes[at] = other;
                walker::guard(&bytes);
            }
            bytes[at] = byte;
        }
    }
}
