//! What a VM is told to do, and what it answers.
//!
//! Two looks at every tree. In the *judged* one the subject is an ordinary user, and the judge beside it is
//! root: the judge's word on the tests can be relied on. In the *watched* one the subject is root, in a VM that
//! looks like an ordinary machine: what it would do to such a machine then succeeds, and the host sees it.

use super::program::{INTERPRETER, Program};
use super::suite::{self, Safety};
use super::tree::{Laid, Tree};
use evalfleet_proto::ids::{ImageRef, Sha256};
use evalfleet_proto::job::{Content, FileIn, Job, Limits, Task};
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_proto::units::ByteSize;
use evalfleet_proto::{Timestamp, job};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the tree lies in the VM: a place that says nothing of VMs.
pub(super) const PROJECT: &str = "/home/dev/project";
/// Where what is too large for the order is laid; it is gone before anything of the tree runs.
const HERE: &str = "/var/tmp/evalfleet-judge";
/// Whom the subject runs as in the judged look.
const USER: u32 = 1000;
/// What else the judge's own programs may take of the clock.
const SLACK: Duration = Duration::from_secs(60);

/// How a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// The judge can be relied on.
    Judged,
    /// The subject may do what it likes, and is watched.
    Watched,
}

impl Look {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Judged => "judged",
            Self::Watched => "watched",
        }
    }
}

#[derive(Debug, Serialize)]
struct Order<'s> {
    user: u32,
    disguise: bool,
    nonce: &'s str,
    build: &'s [Vec<String>],
    files: Vec<String>,
    tests: &'s [suite::Program],
    canaries: &'s [suite::Program],
    lint: &'s [suite::Program],
    repeat: u32,
    step_seconds: f64,
    keep: &'s [String],
    tree: &'s [Laid],
}

/// A tree on its way into a VM.
#[derive(Debug, Clone)]
pub(super) enum Packed {
    /// A small one, in the order itself.
    Laid(Vec<Laid>),
    /// A tar in the blob store.
    Tar((Sha256, u64)),
}

/// What is laid into the VM of one look, besides the judge.
#[derive(Debug, Clone)]
pub(super) struct Cargo {
    /// The tree.
    pub(super) tree: Packed,
    /// What was built of the base.
    pub(super) prefix: Option<(Sha256, u64)>,
}

/// One look at one tree.
#[derive(Debug, Clone)]
pub(super) struct Errand<'e> {
    pub(super) safety: &'e Safety,
    pub(super) tree: &'e Tree,
    pub(super) program: &'e Program,
    pub(super) cargo: &'e Cargo,
    pub(super) look: Look,
    /// Whether what was built is to be kept for those that come after.
    pub(super) keeps: bool,
    pub(super) labels: BTreeMap<String, String>,
}

impl Errand<'_> {
    /// The job, and the nonce by which its answer is known.
    pub(super) fn job(&self, image: &ImageRef) -> Result<(Job, String), evalfleet_proto::submission::Error> {
        let nonce = Sha256::of(evalfleet_proto::ids::JobId::fresh().to_string().as_bytes()).to_string();
        let suite = &self.safety.suite;
        let order = Order {
            user: if self.look == Look::Judged { USER } else { 0 },
            disguise: self.look == Look::Watched,
            nonce: &nonce,
            build: &suite.build,
            files: self.safety.files(self.tree),
            tests: &suite.tests,
            canaries: &suite.canaries,
            lint: &suite.lint,
            repeat: suite.repeat,
            step_seconds: suite.step.as_secs_f64(),
            keep: if self.keeps { &suite.prefix } else { &[] },
            tree: if let Packed::Laid(files) = &self.cargo.tree { files } else { &[] },
        };
        let start = self.program.start(self.look == Look::Watched);
        let mut submission = Submission::command(INTERPRETER.into_iter().chain(["-c", &start]));
        let wall = (suite.wall + SLACK).min(job::WALL_MAX);
        submission.limits = Limits {
            wall,
            cpu: wall,
            memory: suite.memory,
            processes: 256,
            disk: ByteSize::mib(2048),
            output: ByteSize::mib(16),
        };
        submission.image = Some(image.clone());
        submission.scenario.clone_from(&self.safety.scenario);
        submission.labels.clone_from(&self.labels);
        submission.labels.insert("look".to_owned(), self.look.as_str().to_owned());
        if self.keeps && !suite.prefix.is_empty() {
            submission.out.push(format!("{HERE}/kept.tar"));
        }
        let defaults = Defaults { image: image.clone(), now: Timestamp::now() };
        let mut job = submission.into_job(&defaults)?;
        if let Task::Command(command) = &mut job.task {
            "/".clone_into(&mut command.cwd);
            let order = serde_json::to_vec(&order).unwrap_or_default();
            command.stdin = Some(Content::Inline(self.program.input(&order)));
        }
        if let Packed::Tar(tree) = self.cargo.tree {
            job.files.push(laid("tree.tar", blob(tree)));
        }
        job.files.extend(self.cargo.prefix.map(|kept| laid("prefix.tar", blob(kept))));
        Ok((job, nonce))
    }
}

fn blob((sha256, bytes): (Sha256, u64)) -> Content {
    Content::Blob { sha256, bytes }
}

fn laid(name: &str, content: Content) -> FileIn {
    FileIn { path: format!("{HERE}/{name}"), mode: 0o600, content }
}

/// What the judge answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) nonce: String,
    pub(super) disguised: bool,
    pub(super) steps: Vec<Step>,
    pub(super) tests: Vec<Test>,
    pub(super) findings: Vec<Finding>,
}

/// One program that the judge ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    /// `build`, `test`, `probe`, `canary` or `lint`.
    pub(super) phase: String,
    pub(super) name: String,
    pub(super) turn: u32,
    /// `exit`, `signal` or `timeout`.
    pub(super) ended: String,
    pub(super) code: i32,
    pub(super) seconds: f64,
    pub(super) output: String,
}

impl Step {
    pub(super) fn succeeded(&self) -> bool {
        self.ended == "exit" && self.code == 0
    }
}

/// What became of one test in one turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) turn: u32,
    /// `passed`, `failed`, `skipped`, `timed_out` or `cut_short`.
    pub(super) outcome: String,
    pub(super) message: String,
}

/// Something that the judge noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Finding {
    pub(super) rule: String,
    pub(super) path: String,
    pub(super) message: String,
    pub(super) evidence: String,
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Contents, Entry};
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// What the judge does on this machine, as whoever runs the tests, with `input`.
    fn python(script: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut python = Command::new("python3")
            .args(["-EsSB", "-c", &format!("import judge, posix, sys\n{script}")])
            .args(arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/change/judge"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        python.stdin.take().unwrap().write_all(input).unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    /// Both sides of the judge's channel, without a VM: it reads and writes JSON in a way of its own.
    #[test]
    fn the_judge_reads_what_is_written_here_and_writes_what_is_read_here() {
        let text = "quotes \" and \\ and / and \n\u{1}\u{7f}\u{2028} and ü and 🦀";
        let step = |code, seconds| Step {
            phase: "test".to_owned(),
            name: text.to_owned(),
            turn: 1,
            ended: "exit".to_owned(),
            code,
            seconds,
            output: text.to_owned(),
        };
        let answer = Answer {
            nonce: text.to_owned(),
            disguised: true,
            steps: vec![step(-9, 0.001), step(127, 1e6)],
            ..Answer::default()
        };
        let script = "sys.stdout.write(judge.as_json(judge.from_json(sys.stdin.buffer.read().decode())))";
        let said = python(script, &[], &serde_json::to_vec(&answer).unwrap());
        assert_eq!(serde_json::from_slice::<Answer>(&said).unwrap(), answer);
    }

    #[test]
    fn a_small_tree_is_laid_as_git_has_it_whatever_its_bytes_are() {
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

        let entry = |mode, oid: &str, size| Entry { mode, oid: oid.to_owned(), size };
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let contents = Contents::from([
            ("b".to_owned(), bytes.clone()),
            ("e".to_owned(), Vec::new()),
            ("l".to_owned(), b"../outside".to_vec()),
        ]);
        let all = [
            (&b"deep/er/a b"[..], entry(0o100_644, "b", 5000)),
            (b"bin/run", entry(0o100_755, "e", 0)),
            (b"n\xff'\"\\", entry(0o100_644, "e", 0)),
            (b"link", entry(0o120_000, "l", 10)),
            (b"sub", entry(0o160_000, "s", 0)),
        ];
        let tree = Tree(all.map(|(path, entry)| (path.to_vec(), entry)).into());
        let mut base = tree.clone();
        base.0.remove(&b"bin/run"[..]);
        let files = tree.laid(&contents, &base, 1_750_000_000).expect("it is small");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("n"), "").unwrap();
        // What was built before may have a link in a file's place.
        std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join("link")).unwrap();
        let script =
            "judge.PROJECT = sys.argv[1]\njudge.lay(judge.from_json(sys.stdin.buffer.read().decode()), 0)";
        python(script, &[dir.path().to_str().unwrap()], &serde_json::to_vec(&files).unwrap());
        let at = |name: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(std::fs::read(at(b"deep/er/a b")).unwrap(), bytes);
        assert_eq!(std::fs::read_link(at(b"link")).unwrap(), std::path::Path::new("../outside"));
        let meta = |name: &[u8]| std::fs::symlink_metadata(at(name)).unwrap();
        assert_eq!(
            (meta(b"bin/run").permissions().mode() & 0o777, meta(b"bin/run").mtime()),
            (0o755, 1_750_000_000)
        );
        let odd = meta(b"n\xff'\"\\");
        assert_eq!((odd.permissions().mode() & 0o777, odd.mtime()), (0o644, 1_000_000_000));
        assert!(!at(b"sub").exists(), "a submodule has nothing to lay");
    }

    #[test]
    fn what_is_too_much_for_a_message_is_packed() {
        let tree = |count: u32, size| {
            let entry = Entry { mode: 0o100_644, oid: "e".to_owned(), size };
            Tree((0..count).map(|nth| (nth.to_string().into_bytes(), entry.clone())).collect())
        };
        let contents = Contents::from([("e".to_owned(), Vec::new())]);
        let is_laid = |tree: &Tree| tree.laid(&contents, &Tree::default(), 0).is_some();
        assert!(is_laid(&tree(64, 100)) && !is_laid(&tree(65, 0)) && !is_laid(&tree(1, 100_000)));
    }
}
