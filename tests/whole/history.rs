//! History: imported with its own times, and asked as the user's document asks it.

use super::Test;
use super::api::Api;
use evalfleet_datomic::guard;
use evalfleet_tests::machine::{Machine, repository, wait_until};
use serde_json::{Value, json};

pub(crate) const ALL: &[(&str, Test)] = &[
    (
        "history::past_batches_are_imported_with_their_own_times",
        past_batches_are_imported_with_their_own_times,
    ),
    ("history::the_three_queries_are_answered", the_three_queries_are_answered),
    ("history::the_past_is_asked_as_it_was_known", the_past_is_asked_as_it_was_known),
    (
        "history::a_query_that_would_execute_something_is_refused",
        a_query_that_would_execute_something_is_refused,
    ),
    ("history::a_verdict_is_amended_and_both_are_known", a_verdict_is_amended_and_both_are_known),
];

fn samples() -> Vec<String> {
    let dir = repository().join("tests/data/batches");
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .expect("samples")
        .map(|entry| entry.expect("an entry").path().display().to_string())
        .collect();
    files.sort();
    files
}

fn sample(index: usize) -> Value {
    serde_json::from_slice(&std::fs::read(&samples()[index]).expect("a sample")).expect("it is JSON")
}

fn rows(machine: &Machine, arguments: &[&str]) -> Value {
    let mut all = vec!["query", "--json"];
    all.extend(arguments);
    machine.evalfleet(&all).expect(0).json()["rows"].clone()
}

fn past_batches_are_imported_with_their_own_times(machine: &Machine) {
    let files = samples();
    let mut arguments = vec!["history", "import", "--json"];
    arguments.extend(files.iter().map(String::as_str));
    let import = || -> Vec<Value> {
        let answer = machine.evalfleet(&arguments).expect(0);
        answer.out.lines().map(|line| serde_json::from_str(line).expect("a line is a document")).collect()
    };
    let first = import();
    assert_eq!(first.len(), 3);
    assert!(
        first.iter().all(|report| report["at_its_own_time"] == true && report["datoms"].as_u64() > Some(0)),
        "{first:?}"
    );
    // Again: nothing is new.
    assert!(import().iter().all(|report| report["datoms"] == 0));
    // Written out and read again: the same.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().display().to_string();
    let written = machine.evalfleet(&["history", "export", "--format", "gemini", "--out", &out]).expect(0);
    let mut again = vec!["history", "import", "--json"];
    again.extend(written.out.lines());
    let again = machine.evalfleet(&again).expect(0);
    let reports: Vec<Value> =
        again.out.lines().map(|line| serde_json::from_str(line).expect("a line is a document")).collect();
    let names = |reports: &[Value]| reports.iter().map(|one| one["id"].to_string()).collect::<Vec<_>>();
    assert_eq!(names(&reports), names(&first));
    assert!(reports.iter().all(|report| report["datoms"] == 0), "{reports:?}");
}

/// The questions of `tests/data/queries.edn`: the user's three, and the second corrected.
fn questions() -> [String; 4] {
    let text = std::fs::read_to_string(repository().join("tests/data/queries.edn")).expect("it is there");
    let questions: Vec<String> =
        text.split(";; Query: ").skip(1).map(|question| format!(";; Query: {question}")).collect();
    questions.try_into().expect("four questions")
}

/// The rows of a question, by the command out of a file and over HTTP alike.
fn asked(machine: &Machine, question: &str) -> Value {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), question).expect("it can be written");
    let told = rows(machine, &[&format!("@{}", file.path().display())]);
    let (status, answer) = Api::of(machine).post("/v1/query", &json!({ "query": question }));
    assert_eq!((status.as_u16(), &answer["rows"]), (200, &told), "{question}: {answer}");
    assert!(answer["basis_t"].as_u64() > Some(0), "{answer}");
    told
}

fn the_three_queries_are_answered(machine: &Machine) {
    let [first, second, third, corrected] = questions();
    let rate = sample(1)["success_rate"].as_f64();
    let expected = json!([["batch_002-1753939654", rate, "2025-07-31T05:27:34Z"]]);
    assert_eq!(asked(machine, &first), expected);

    // The second cannot be answered as written: the refusal shows how it can, which is what the file has, too.
    let refused = machine.evalfleet(&["query", &second]).expect(64).says(&["?avg-success is never bound"]);
    let (status, problem) = Api::of(machine).post("/v1/query", &json!({ "query": second }));
    assert_eq!((status.as_u16(), problem["exit"].as_u64()), (400, Some(64)), "{problem}");
    let shown = |text: &str| {
        let query = text.split_once("; write ").unwrap_or_else(|| panic!("no correction: {text}")).1;
        query.lines().next().expect("a line").to_owned()
    };
    let meant = shown(problem["detail"].as_str().expect("a detail"));
    assert_eq!(shown(&refused.err), meant);
    let sent = |text: &str| guard::check(text, &[]).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
    assert_eq!(sent(&meant), sent(&corrected));
    // It names a moment before the first batch; as of later ones, there is one batch, and then all three.
    assert_eq!(asked(machine, &meant), json!([]));
    let as_of = |moment: &str| asked(machine, &corrected.replace("2025-07-31", moment));
    let mean = |count: usize| {
        (0..count).filter_map(|index| sample(index)["success_rate"].as_f64()).sum::<f64>() / count as f64
    };
    for (moment, batches) in [("2025-07-31T05:00:00Z", 1), ("2025-08-01", 3)] {
        let days = as_of(moment);
        assert_eq!(
            (days.as_array().map(Vec::len), &days[0]["date"]),
            (Some(1), &json!("2025-07-31")),
            "{days}"
        );
        let told = days[0]["avg-success"].as_f64().unwrap_or_default();
        assert!((told - mean(batches)).abs() < 1e-9, "as of {moment}: {days}, and not {}", mean(batches));
    }

    let failing = asked(machine, &third);
    assert!(
        failing
            .as_array()
            .is_some_and(|rows| rows.iter().all(|row| row[1].as_f64() < Some(0.5)) && !rows.is_empty()),
        "{failing}"
    );
}

fn the_past_is_asked_as_it_was_known(machine: &Machine) {
    let query = "[:find (count ?e) . :where [?e :evaluation/kind :batch]]";
    let count = |moment: &str| rows(machine, &[query, "--as-of", moment]);
    assert_eq!(count("2025-07-31"), json!([]), "the night before");
    assert_eq!(count("2025-07-31T05:00:00Z"), json!([1]));
    assert_eq!(count("2025-07-31T06:00:00Z"), json!([2]));
    assert_eq!(count("2025-08-01"), json!([3]));
    let batch = "batch_002-1753939654";
    machine.evalfleet(&["get", batch, "--as-of", "2025-07-31T05:00:00Z"]).expect(64).says(&["was known at"]);
    let known =
        machine.evalfleet(&["get", batch, "--as-of", "2025-07-31T06:00:00Z", "--json"]).expect(0).json();
    assert_eq!(known["evaluation/infrastructure-faults"], 3);
    let listed = |moment: &str| {
        let answer = machine.evalfleet(&["list", "--json", "--as-of", moment]).expect(0);
        let lines = answer.out.lines().map(|line| serde_json::from_str(line).expect("a document"));
        lines.map(|entry: Value| entry["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("2025-07-31T05:00:00Z"), ["batch_001-1753935915"]);
    assert_eq!(listed("2025-07-31T06:00:00Z"), [batch, "batch_001-1753935915"]);
    machine.evalfleet(&["list", "--as-of", "yesterday"]).expect(64).says(&["yesterday"]);
}

fn a_query_that_would_execute_something_is_refused(machine: &Machine) {
    for query in [
        "[:find ?x :where [(slurp \"/etc/passwd\") ?x]]",
        "[:find ?x :where [(System/getenv \"HOME\") ?x]]",
        "[:find ?x :where [(ground (slurp \"/etc/passwd\")) ?x]]",
        "[:find ?x :where [(datomic.api/q [:find ?y] $) ?x]]",
        "#=(System/exit 1)",
    ] {
        machine.evalfleet(&["query", query]).expect(64);
    }
    assert_eq!(machine.part("gateway")["restarts"], 0);
}

fn a_verdict_is_amended_and_both_are_known(machine: &Machine) {
    let batch = "amended";
    let ended = machine.evalfleet(&["run", "--json", "--batch", batch, "--", "false"]).expect(1).json();
    let id = ended["id"].as_str().expect("an id");
    machine.recorded(id);
    let blamed = "[:find (count ?e) . :in $ ?id :where [?e :evaluation/id ?id] [?e :evaluation/cause :infrastructure]]";
    let argument = format!("{id:?}");
    let asked = machine.evalfleet(&["query", blamed, "--arg", &argument, "--json"]).expect(0).json();
    let then = asked["basis_t"].to_string();

    let amend = |arguments: &[&str]| machine.evalfleet(&[&["amend", id, "--json"], arguments].concat());
    let said = amend(&["--cause", "infrastructure", "--reason", "the disk was failing"]).expect(0).json();
    assert_eq!((&said["status"], &said["cause"]), (&json!("failed"), &json!("infrastructure")));
    assert_eq!((&said["success_rate"], &said["calls"][0]["success_rate"]), (&Value::Null, &Value::Null));
    assert_eq!(said["amendments"][0]["from"], json!({ "status": "failed", "cause": "subject" }));
    assert_eq!(rows(machine, &[blamed, "--arg", &argument]), json!([1]));
    wait_until("its batch counts it as our fault", || {
        let sums = machine.evalfleet(&["get", batch, "--json"]).expect(0).json();
        sums["evaluation/infrastructure-faults"] == 1
    });

    // As of before, it is what was believed then.
    assert_eq!(rows(machine, &[blamed, "--arg", &argument, "--as-of", &then]), json!([]));
    let before = machine.evalfleet(&["get", id, "--as-of", &then, "--json"]).expect(0).json();
    assert_eq!((&before["cause"], &before["amendments"]), (&json!("subject"), &Value::Null));

    let said = amend(&["--status", "passed", "--reason", "the check was wrong"]).expect(0).json();
    assert_eq!((&said["cause"], &said["success_rate"]), (&Value::Null, &json!(1.0)));
    assert_eq!(said["amendments"][1]["from"]["cause"], "infrastructure");
    machine
        .evalfleet(&["get", id])
        .expect(0)
        .says(&["amended: it was failed (subject) until", "the disk was failing"]);

    amend(&["--status", "dead", "--cause", "infrastructure", "--reason", "x"])
        .expect(4)
        .says(&["for the fleet to say"]);
    amend(&["--status", "passed", "--cause", "subject", "--reason", "x"]).expect(4).says(&["exactly when"]);
    amend(&["--status", "failed", "--cause", "budget", "--reason", " "]).expect(64).says(&["1 to 1000"]);
    let unknown = "0198c1c2-0000-7000-8000-000000000000";
    machine
        .evalfleet(&["amend", unknown, "--cause", "budget", "--reason", "x"])
        .expect(64)
        .says(&["no evaluation"]);
}
