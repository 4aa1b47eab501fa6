//! The REPL: from a pipe, as JSON lines, and in a terminal.

use super::Test;
use evalfleet_proto::ids::JobId;
use evalfleet_tests::machine::{Machine, patience, repository, signal};
use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("repl::a_script_is_answered", a_script_is_answered),
    ("repl::documents_are_all_that_is_written", documents_are_all_that_is_written),
    ("repl::a_script_ends_with_ctrl_c", a_script_ends_with_ctrl_c),
    ("repl::the_history_is_read_as_of_a_moment", the_history_is_read_as_of_a_moment),
    ("repl::a_terminal_completes_continues_and_calls_off", a_terminal_completes_continues_and_calls_off),
    ("repl::the_recorded_dialogue_is_what_happens", the_recorded_dialogue_is_what_happens),
];

fn a_script_is_answered(machine: &Machine) {
    let script = "word_count(text='a b')\n\
                  word_count {\"text\":\n  \"c\"}\n\
                  write_file(\"notes/a.txt\", content=\"x\")\n\
                  /wait\n\
                  /diff #1 #2\n\
                  /effects #3\n\
                  /result #1\n\
                  run -- sh -c 'printf \"\\033[2Jloud\"; exit 3'\n\
                  word_count(3)\n\
                  read_file('a', 'b')\n\
                  /diff #1 #9\n\
                  word_count(text=\n";
    let answer = machine.evalfleet_with(script, &["repl"]).expect(64).says(&[
        "line 10: ",
        "/text",
        "line 11: read_file takes 1 arguments without a name (path), and 2 are given",
        "line 12: there is no job #9",
        "line 13: column 17: a value is missing before the end",
    ]);
    for words in [
        "#1 ",
        "submitted: word_count {\"text\":\"a b\"}",
        "\"words\":2",
        "#1 and #2 differ at value, /characters\n  #1: 3\n  #2: 1",
        "created  file      /workspace/notes/a.txt (1 bytes)",
        "failed (subject), exit status 3",
        "\u{fffd}[2Jloud",
    ] {
        assert!(answer.out.contains(words), "{words:?}: {answer:?}");
    }
    assert!(!answer.out.contains('\u{1b}') && !answer.out.contains("evalfleet>"), "{answer:?}");
    assert_eq!(machine.evalfleet_with("run -- false\nrun -- true\n", &["repl"]).code, 1);
    assert_eq!(machine.evalfleet_with("word_count(text='a')\n", &["repl"]).code, 0);
}

fn documents_are_all_that_is_written(machine: &Machine) {
    let script = "/help\nword_count(text='a b c')\nrun -- sh -c 'exit 3'\nnonsense\nrun --help\n\
                  call word_count -\nquery @-\n/wait\n/jobs\n/stats\n/diff #1 #2\n/effects #1\n/result #1\nget #1\n\
                  tool show word_count\ntools\nstatus\n/as-of 2020-01-01\n/query [:find ?e :where [?e :evaluation/id]]\n\
                  /as-of yesterday\n/history word_count\ndead list\n\u{1b}[31m(\n\"\n";
    let answer = machine.evalfleet_with(script, &["repl", "--json"]).expect(64);
    let documents: Vec<Value> = answer
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
        .collect();
    let find = |what: &str, fits: &dyn Fn(&Value) -> bool| {
        documents.iter().find(|document| fits(document)).unwrap_or_else(|| panic!("{what}: {answer:?}"))
    };
    find("a help", &|it| it["text"].as_str().is_some_and(|text| text.contains("/diff")));
    find("a submission", &|it| it["handle"] == 1 && it["state"] == "submitted" && it["id"].is_string());
    let result = find("a result", &|it| it["handle"] == 1 && it["status"] == "passed");
    assert_eq!(result["calls"][0]["value"]["words"], 3);
    let wrong = find("an error", &|it| it["line"] == 4 && it["exit"] == 64);
    assert!(wrong["error"].as_str().is_some_and(|error| error.contains("nonsense")), "{wrong}");
    for line in [6, 7, 20] {
        find("an error with its line", &|it| it["line"] == line && it["error"].is_string());
    }
    let compared = find("a comparison", &|it| it["a"].is_string() && it["b"].is_string());
    assert_eq!(compared["outcome"], "diverged");
    assert_eq!(compared["first"]["at"], "status");
    find("the rows of a query", &|it| it["rows"].is_array());
    find("the machine", &|it| it["parts"].is_array());
}

fn a_script_ends_with_ctrl_c(machine: &Machine) {
    let mut child = machine.start(&["repl"], true);
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "run --wall 300s -- sleep 250\n/wait\nrun -- echo never").expect("it listens");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = String::new();
    out.read_line(&mut said).expect("it answers");
    assert!(said.starts_with("#1 ") && said.ends_with(" submitted: sleep 250\n"), "{said}");
    signal("INT", child.id());
    out.read_to_string(&mut said).expect("it ends, though its input does not");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(5), "{said}");
    assert!(said.contains("#1 ") && said.contains(" is called off") && said.contains("cancelled"), "{said}");
    assert!(!said.contains("never"), "{said}");
}

fn the_history_is_read_as_of_a_moment(machine: &Machine) {
    let done = machine.evalfleet(&["call", "word_count", r#"{"text":"now"}"#, "--json"]).expect(0).json();
    let id = done["id"].as_str().expect("it has an id");
    machine.recorded(id);
    let script = format!(
        "/history word_count\n/result {id}\n/as-of 2020-01-01\n/history word_count\n/as-of now\n/effects {id}\n"
    );
    let answer = machine.evalfleet_with(&script, &["repl"]).expect(0);
    let (before, after) = answer.out.split_once("as it was known at 2020-01-01").expect("it says so");
    assert!(before.contains(&format!("{id}  ")) && before.contains("passed"), "{answer:?}");
    assert!(after.contains("word_count was never called") && after.contains("no effects"), "{answer:?}");
    let loud = machine.evalfleet(&["run", "--json", "--", "printf", "\\033[2Jloud"]).expect(0).json();
    let loud = loud["id"].as_str().expect("it has an id");
    machine.recorded(loud);
    let told = machine.evalfleet_with(&format!("logs {loud}\nget {loud}\n"), &["repl"]).expect(0);
    assert_eq!(told.out.matches("\u{fffd}[2Jloud").count(), 2, "{told:?}");
    assert!(!format!("{}{}", told.out, told.err).contains('\u{1b}'), "{told:?}");
    let gone = machine.evalfleet_with(&format!("/as-of 2020-01-01\n/result {id}\n"), &["repl"]).expect(64);
    assert!(gone.err.contains("line 2: "), "{gone:?}");
}

/// The REPL in a pseudo-terminal.
fn terminal(machine: &Machine) -> PtySession {
    let mut command = machine.program("evalfleet");
    // Its standard input is the terminal's, too.
    command.arg("repl").env("TERM", "xterm").stdin(Stdio::inherit());
    let options =
        Options::new().timeout_ms(Some(120_000 * u64::from(patience()))).strip_ansi_escape_codes(true);
    let mut terminal = spawn_with_options(command, options).expect("a pseudo-terminal");
    sees(&mut terminal, &["/help shows", "evalfleet> "]);
    terminal
}

/// What is shown has these, in this order.
#[track_caller]
fn sees(terminal: &mut PtySession, words: &[&str]) {
    for word in words {
        if let Err(error) = terminal.exp_string(word) {
            panic!("{word:?} is not shown: {error}");
        }
    }
}

fn types(terminal: &mut PtySession, keys: &str) {
    terminal.send(keys).expect("the terminal takes it");
    terminal.flush().expect("the terminal takes it");
}

fn a_terminal_completes_continues_and_calls_off(machine: &Machine) {
    let mut terminal = terminal(machine);
    let repl = &mut terminal;
    // Tab knows the tools and their parameters.
    types(repl, "word_c\t");
    sees(repl, &["word_count("]);
    types(repl, "te\t");
    sees(repl, &["word_count(text="]);
    types(repl, "\"a b c\")\r");
    sees(repl, &["#1 ", " submitted: word_count", "#1 ", " passed", "\"words\":3", "evalfleet> "]);
    // An open bracket goes on.
    types(repl, "word_count(\r");
    types(repl, "text=\"x y\"\r");
    types(repl, ")\r");
    sees(repl, &["#2 ", " submitted: word_count {\"text\":\"x y\"}", "\"words\":2", "evalfleet> "]);
    // Ctrl-C calls the job off, and not the REPL.
    types(repl, "run --wall 300s -- sleep 250\r");
    sees(repl, &["#3 ", " submitted: sleep 250", "evalfleet> "]);
    types(repl, "\u{3}");
    sees(repl, &["#3 ", " is called off", "cancelled (harness)", "evalfleet> "]);
    // At an empty prompt, where nothing runs, it says how to leave.
    types(repl, "\u{3}");
    sees(repl, &["Ctrl-D or /quit leaves", "evalfleet> "]);
    // A line that was begun is given up.
    types(repl, "never mind\u{3}");
    // What is typed ahead of the next prompt goes with it, as on any terminal.
    sees(repl, &["never mind", "\r\n", "evalfleet> "]);
    types(repl, "/stats\r");
    sees(repl, &["3 submitted, 0 outstanding, 1 cancelled, 2 passed", "evalfleet> "]);
    // The history has it: one up.
    types(repl, "\u{1b}[A\r");
    sees(repl, &["3 submitted, 0 outstanding", "evalfleet> "]);
    // What a command itself waits for is given up, too.
    types(repl, &format!("wait {}\r", JobId::fresh()));
    sees(repl, &["\r\n"]);
    // It is the program's to hear, once the editor has given the terminal back.
    std::thread::sleep(Duration::from_secs(1) * patience());
    types(repl, "\u{3}");
    sees(repl, &["given up", "evalfleet> "]);
    types(repl, "/as-of 2025-07-31\r");
    sees(repl, &["as it was known at 2025-07-31", "evalfleet@2025-07-31> "]);
    types(repl, "/diff #\t\t");
    sees(repl, &["#1"]);
    types(repl, "1 #2\r");
    sees(repl, &["#1 and #2 differ at value", "#1: ", "#2: ", "evalfleet@2025-07-31> "]);
    // Ctrl-D leaves, and says what goes on.
    types(repl, "run --wall 300s -- sleep 251\r");
    let (_, submitted) = repl.exp_regex("#4 [0-9a-f-]{36} submitted").expect("it is submitted");
    let id = submitted.split(' ').nth(1).expect("an id").to_owned();
    sees(repl, &["evalfleet@2025-07-31> "]);
    types(repl, "\u{4}");
    sees(repl, &["1 outstanding:", &format!("#4 {id} outstanding: sleep 251"), "evalfleet cancel ID"]);
    terminal.exp_eof().expect("it ends");
    machine.evalfleet(&["cancel", &id, "--wait"]);
    let ended = terminal.process().wait().expect("it ends");
    assert!(format!("{ended:?}").contains("Exited(") && format!("{ended:?}").ends_with(", 0)"), "{ended:?}");
    let history = machine.state().join("repl-history");
    let kept = std::fs::read_to_string(&history).expect("the history is kept");
    assert!(kept.contains("/stats") && !kept.contains("never mind"), "{kept}");
    let mode = std::fs::metadata(&history).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is its user's alone");
}

/// The file of which the README shows the text.
const DIALOGUE: &str = "producer/dialogue.txt";
const PROMPT: &str = "evalfleet> ";

/// What is said in the dialogue, and with what the answer to it ends.
const SAID: &[(&str, &str)] = &[
    ("word_count(text=\"to be or not to be\")", "value: "),
    ("write_file(\"notes/plan.md\", content=\"1. ask\\n\")", "value: "),
    ("word_count {\"text\": \"to be\"}", "value: "),
    ("/diff #1 #3", "  #3: "),
    ("/effects #2", "plan.md"),
    ("run -- sh -c 'echo drawn:; od -An -N4 -tu4 /dev/urandom; exit 3'", "    drawn:"),
    ("/replay #1", "the same as "),
    ("/replay #4", "  now: "),
    ("/jobs", "#6 "),
    ("word_count(text=42)", "at /text"),
];

/// Says each line to a REPL, and gives what was said and answered.
fn record(machine: &Machine) -> String {
    let mut command = machine.program("evalfleet");
    command.arg("repl").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("evalfleet is built");
    let (tell, heard) = mpsc::channel();
    let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let streams: [Box<dyn std::io::Read + Send>; 2] = [Box::new(out), Box::new(err)];
    for stream in streams {
        let tell = tell.clone();
        std::thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
    }
    drop(tell);
    let mut input = child.stdin.take().expect("piped");
    let mut record = String::new();
    for (said, end) in SAID {
        writeln!(input, "{said}").expect("it listens");
        record += &format!("{PROMPT}{said}\n");
        let mut ended = false;
        // What ends an answer may be followed by some lines more: they are written at once.
        let wait =
            |ended: bool| if ended { Duration::from_secs(2) } else { Duration::from_secs(120) * patience() };
        while let Ok(line) = heard.recv_timeout(wait(ended)) {
            ended = ended || line.contains(end);
            record += &format!("{line}\n");
        }
        assert!(ended, "{end:?} did not come:\n{record}");
        // What is replayed must be recorded.
        record.lines().filter_map(submitted).for_each(|id| _ = machine.recorded(&id));
    }
    drop(input);
    child.wait().expect("it ends");
    record
}

/// The job that a line says was submitted.
fn submitted(line: &str) -> Option<String> {
    let (job, _) = line.split_once(" submitted: ")?;
    let id = job.rsplit(' ').next()?;
    id.parse::<JobId>().is_ok().then(|| id.to_owned())
}

/// A dialogue without what differs from one to the next: ids, numbers, the machine, and how fast it was.
fn skeleton(dialogue: &str) -> Vec<String> {
    let word = |word: &str| match word.trim_end_matches([',', ':', ')']) {
        bare if bare.parse::<JobId>().is_ok() => "ID".to_owned(),
        "ms" | "s" => "T".to_owned(),
        bare if bare.starts_with(|letter: char| letter.is_ascii_digit()) => "N".to_owned(),
        _ => word.to_owned(),
    };
    let line = |line: &str| match line.trim_start().split_once("by: ") {
        // Which worker, in what.
        Some(("", _)) => "by: WORKER".to_owned(),
        // What is said stands as it is.
        _ if line.starts_with(PROMPT) => line.to_owned(),
        _ => line.split_whitespace().map(word).collect::<Vec<_>>().join(" "),
    };
    // These are told where they are out of the ordinary.
    let noise = ["  time: ", "  also metrics", "  vm: ", "  note: what they used is not compared"];
    let is_noise = |line: &&str| noise.iter().any(|begin| line.starts_with(begin));
    dialogue.lines().filter(|line| !is_noise(line)).map(line).collect()
}

/// `EVALFLEET_TEST_RECORD=1` writes it anew.
fn the_recorded_dialogue_is_what_happens(machine: &Machine) {
    let (file, now) = (repository().join(DIALOGUE), record(machine));
    if std::env::var_os("EVALFLEET_TEST_RECORD").is_some() {
        std::fs::write(&file, &now).expect("the repository can be written");
    }
    let kept = std::fs::read_to_string(&file).expect("it is in the repository");
    assert_eq!(skeleton(&kept), skeleton(&now), "record it anew with EVALFLEET_TEST_RECORD=1\n{now}");
}
