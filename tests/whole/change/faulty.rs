//! Requests that are themselves at fault, and what Git holds that is no plain text: a clear word on each, and the
//! repository as it was.

use super::super::Test;
use super::fixture::{Fixture, stem};
use evalfleet_tests::machine::Machine;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("change::each_faulty_request_is_told_its_fault", each_faulty_request_is_told_its_fault),
    ("change::what_is_no_plain_text_is_judged", what_is_no_plain_text_is_judged),
];

/// What a request is called, what makes it of a project (its arguments beside the repository), and what is said of
/// it.
type Faulty = (&'static str, fn(&Fixture) -> Vec<String>, &'static str);

fn patch(path: String) -> Vec<String> {
    vec!["--patch".to_owned(), path]
}

fn sound(repo: &Fixture) -> Vec<String> {
    patch(repo.patch("sound", |repo| repo.write("lib.sh", "add() {\n    echo \"$(($1 + $2))\"\n}\n")))
}

/// A sound change to a base with another suite.
fn under(repo: &Fixture, suite: &str) -> Vec<String> {
    repo.write("safety.toml", suite);
    repo.commit("Another suite");
    sound(repo)
}

const REQUESTS: &[Faulty] = &[
    (
        "a patch that does not fit",
        |repo| {
            let path = sound(repo).remove(1);
            let text = std::fs::read_to_string(&path).expect("written").replace("echo $(($1", "echo $((what");
            patch(repo.save("stale", text.as_bytes()))
        },
        "does not apply",
    ),
    (
        "a patch that was cut",
        |repo| {
            let whole = std::fs::read(sound(repo).remove(1)).expect("written");
            patch(repo.save("cut", &whole[..whole.len() - 8]))
        },
        "corrupt patch",
    ),
    ("no patch", |repo| patch(repo.save("none", b"\xff\x00 is no patch\n")), "No valid patches"),
    ("an empty patch", |repo| patch(repo.save("empty", b"")), "No valid patches"),
    (
        "a huge patch",
        |repo| patch(repo.save("huge", &vec![b'+'; (16 << 20) + 1])),
        "the patch has 16777217 bytes",
    ),
    (
        "a patch of a file that is not there",
        |repo| {
            let text = "--- a/nosuch\n+++ b/nosuch\n@@ -1 +1 @@\n-a\n+b\n";
            patch(repo.save("elsewhere", text.as_bytes()))
        },
        "nosuch: does not exist in index",
    ),
    (
        "a repository without tests",
        |repo| {
            repo.git(&["rm", "-r", "--quiet", "tests", "safety.toml"]);
            repo.commit("No tests");
            sound(repo)
        },
        "the base has no tests",
    ),
    ("a suite that is wrong", |repo| under(repo, "version = 1\ncolour = 'red'\n"), "unknown field `colour`"),
    ("a suite of another version", |repo| under(repo, "version = 7\n"), "version is 7"),
    (
        "a budget that is no share",
        |repo| {
            under(repo, "version = 1\n[budgets]\nbinary_size = { paths = ['out/*'], grows_at_most = '5' }\n")
        },
        "write it as",
    ),
    (
        "an image that there is not",
        |repo| {
            let suite = repo.read("safety.toml");
            under(repo, &suite.replace("version = 1\n", "version = 1\nimage = 'nosuchimage'\n"))
        },
        "nosuchimage",
    ),
    (
        "a base that does not pass its own suite",
        |repo| {
            repo.write("tests/adds.sh", "exit 1\n");
            repo.commit("Broken");
            sound(repo)
        },
        "none of its tests passes",
    ),
    (
        "a base that builds nothing to be measured",
        |repo| {
            let suite = repo.read("safety.toml").replace(
                "\n[suites.default]\n",
                "\n[budgets]\nbinary_size = { paths = ['nowhere/*'] }\n\n[suites.default]\n",
            );
            under(repo, &suite)
        },
        "leaves nothing under nowhere/*",
    ),
    ("a revision that there is not", |_| ["--rev", "nosuch"].map(ToOwned::to_owned).into(), "no revision"),
    (
        "a revision of another line",
        |repo| {
            repo.git(&["checkout", "--quiet", "--orphan", "other"]);
            repo.write("lib.sh", "exit 0\n");
            repo.commit("Another line");
            repo.git(&["checkout", "--quiet", "main"]);
            ["--rev", "other"].map(ToOwned::to_owned).into()
        },
        "does not stand on the base",
    ),
    ("the base itself", |_| ["--rev", "HEAD"].map(ToOwned::to_owned).into(), "changes nothing"),
    (
        "a base that there is not",
        |repo| [sound(repo), vec!["--base".to_owned(), "-x".to_owned() + "yz"]].concat(),
        "-xyz",
    ),
];

fn each_faulty_request_is_told_its_fault(machine: &Machine) {
    for (name, make, words) in REQUESTS {
        let repo = Fixture::new();
        let arguments = make(&repo);
        let before = repo.digest();
        let path = repo.path().display().to_string();
        let mut all = vec!["change", "eval", "--json", "--commit", "--repo", &path];
        // Glued together, so that a value may begin with a hyphen.
        let pairs: Vec<String> = arguments.chunks(2).map(|pair| pair.join("=")).collect();
        all.extend(pairs.iter().map(String::as_str));
        let answer = machine.evalfleet(&all);
        assert_eq!(answer.code, 4, "{name}: {answer:?}");
        if answer.out.is_empty() {
            assert!(answer.err.contains(words), "{name}: {answer:?}");
        } else {
            let verdict = answer.json();
            let is = (&verdict["verdict"], &verdict["cause"], &verdict["safe"]);
            assert_eq!(is, (&"undecided".into(), &"harness".into(), &false.into()), "{name}: {verdict:#}");
            let why = verdict["evidence"][0]["message"].as_str().unwrap_or_default();
            assert!(why.contains(words), "{name}: {why}");
        }
        assert_eq!(repo.digest(), before, "{name}: the repository was touched");
    }
}

/// What a candidate does to the project, and the rule that it breaks; none where it is safe.
type Candidates = &'static [(&'static str, fn(&Fixture) -> String, Option<&'static str>)];

const LFS: &str = "version https://git-lfs.github.com/spec/v1\n\
                   oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
const SUBMODULE: &[u8] = b"diff --git a/sub b/sub\nnew file mode 160000\nindex 0000000..1111111\n--- /dev/null\n\
                           +++ b/sub\n@@ -0,0 +1 @@\n+Subproject commit 1111111111111111111111111111111111111111\n";

fn bytes(repo: &Fixture, name: &[u8], content: &[u8]) {
    std::fs::write(repo.path().join(OsStr::from_bytes(name)), content).expect("written");
}

const CANDIDATES: Candidates = &[
    (
        "binary",
        |repo| repo.patch("binary", |repo| bytes(repo, b"logo.png", b"\x89PNG\r\n\x00\x01\x02")),
        Some("policy.binary"),
    ),
    (
        "large",
        |repo| repo.patch("large", |repo| bytes(repo, b"table.csv", &b"1,2,3\n".repeat(1 << 20))),
        Some("policy.size"),
    ),
    ("lfs", |repo| repo.patch("lfs", |repo| repo.write("model.bin", LFS)), Some("policy.lfs")),
    ("submodule", |repo| repo.save("submodule", SUBMODULE), Some("policy.submodule")),
    (
        "link_out",
        |repo| repo.patch("link_out", |repo| repo.link("keys", "../../root")),
        Some("policy.symlink"),
    ),
    ("link_within", |repo| repo.patch("link_within", |repo| repo.link("READ.md", "README.md")), None),
    (
        "name_of_bytes",
        |repo| repo.patch("name_of_bytes", |repo| bytes(repo, b"na\xefve.txt", b"na\xefve\n")),
        None,
    ),
    (
        "name_of_lines",
        |repo| repo.patch("name_of_lines", |repo| bytes(repo, b"two\nlines \"quoted\"", b"text\n")),
        None,
    ),
];

fn what_is_no_plain_text_is_judged(machine: &Machine) {
    let repo = Fixture::new();
    let patches: Vec<String> = CANDIDATES.iter().map(|(_, make, _)| make(&repo)).collect();
    let before = repo.digest();
    let path = repo.path().display().to_string();
    let mut arguments = vec!["change", "eval", "--json", "--repo", &path];
    patches.iter().for_each(|patch| arguments.extend(["--patch", patch]));
    let answer = machine.evalfleet(&arguments).expect(1);
    let verdicts: BTreeMap<String, Value> = answer
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|verdict| (stem(verdict["change"]["name"].as_str().unwrap_or_default()), verdict))
        .collect();
    assert_eq!(verdicts.len(), CANDIDATES.len());
    for (name, _, rule) in CANDIDATES {
        let verdict = &verdicts[*name];
        let mut rules: Vec<&str> = verdict["violations"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|violation| violation["rule"].as_str())
            .collect();
        // Too many lines, and too many bytes.
        rules.dedup();
        assert_eq!(rules, rule.iter().copied().collect::<Vec<_>>(), "{name}: {verdict:#}");
        assert_eq!(verdict["safe"], rule.is_none(), "{name}: {verdict:#}");
    }
    assert_eq!(repo.digest(), before, "the repository was touched");
}
