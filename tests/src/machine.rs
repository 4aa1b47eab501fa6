//! A machine under test: everything that `evalfleet up` starts, in a state directory of its own.

use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the command answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Answer {
    /// Its standard output as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Asserts that standard error names all of `words`.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "standard error does not name {word:?}: {self:?}");
        }
        self
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Where the programs were built.
pub fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a program");
    own.ancestors().nth(2).expect("it lies in target/<profile>/deps").to_owned()
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// A machine, put away when dropped.
#[derive(Debug)]
pub struct Machine {
    state: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Machine {
    /// A machine that is not up, with images and templates shared by all tests.
    pub fn new() -> Self {
        let target = programs().parent().expect("target/<profile>").to_owned();
        let state =
            tempfile::Builder::new().prefix("state-").tempdir_in(&target).expect("target/ can be written");
        let path = |name: &str| target.join(name).display().to_string();
        let pairs = [
            ("EVALFLEET_STATE__DIR", state.path().display().to_string()),
            ("EVALFLEET_IMAGES__DIR", path("images")),
            ("EVALFLEET_QEMU__SNAPSHOT_DIR", path("templates")),
            // A second is as good as ten to show that a job waits.
            ("EVALFLEET_BROKER__RETRY_TIERS", "1s".to_owned()),
            // Much fails here on purpose, and nothing of that is to be run again by itself.
            ("EVALFLEET_INSIGHT__ALERTS__WATCH", "false".to_owned()),
            ("EVALFLEET_INSIGHT__HEALING__MODE", "off".to_owned()),
        ];
        let mut environment = pairs.map(|(name, value)| (name.to_owned(), value)).to_vec();
        environment.extend(conditions());
        Self { state, environment }
    }

    /// The same with one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What its programs find in their environment.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// A program of ours with this machine's environment.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        // What a job gives out is laid here, and not into the repository.
        command.current_dir(self.state());
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("EVALFLEET_") && name != "EVALFLEET_AGENT")
        {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub fn evalfleet(&self, arguments: &[&str]) -> Answer {
        self.program("evalfleet").args(arguments).output().expect("evalfleet is built").into()
    }

    /// Runs the command with something to read.
    pub fn evalfleet_with(&self, input: &str, arguments: &[&str]) -> Answer {
        let mut child = self.start(arguments, true);
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads its input");
        child.wait_with_output().expect("it ends").into()
    }

    /// Starts the command and leaves it running.
    pub fn start(&self, arguments: &[&str], reads: bool) -> Child {
        let stdin = if reads { Stdio::piped() } else { Stdio::null() };
        let mut command = self.program("evalfleet");
        command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("evalfleet is built")
    }

    /// Brings everything up.
    pub fn up(&self, workers: u32) {
        self.evalfleet(&["image", "build", "base"]).expect(0);
        self.evalfleet(&["up", "--detach", "--workers", &workers.to_string()]).expect(0);
    }

    /// What `status` says.
    pub fn status(&self) -> Value {
        self.evalfleet(&["status", "--json"]).expect(0).json()
    }

    /// A part, as `status` shows it.
    pub fn part(&self, name: &str) -> Value {
        let status = self.status();
        let parts = status["parts"].as_array().cloned().unwrap_or_default();
        parts
            .into_iter()
            .find(|part| part["name"] == name)
            .unwrap_or_else(|| panic!("no part {name} in {status}"))
    }

    /// The process of a part.
    pub fn pid(&self, name: &str) -> u32 {
        let part = self.part(name);
        part["pid"].as_u64().unwrap_or_else(|| panic!("{part} has no process")) as u32
    }

    /// Ends a part's process as a crash would.
    pub fn kill(&self, name: &str) -> u32 {
        let pid = self.pid(name);
        signal("KILL", pid);
        pid
    }

    /// Waits until a part is ready again, as another process.
    pub fn wait_for_successor(&self, name: &str, killed: u32) {
        wait_until(&format!("{name} is back"), || {
            let part = self.part(name);
            part["state"] == "ready" && part["pid"].as_u64() != Some(u64::from(killed))
        });
    }

    /// Waits until an evaluation is recorded, and gives it.
    pub fn recorded(&self, id: &str) -> Value {
        let mut found = None;
        wait_until(&format!("{id} is recorded"), || {
            let answer = self.evalfleet(&["get", id, "--json"]);
            found = (answer.code == 0).then(|| answer.json());
            found.is_some()
        });
        found.expect("just found")
    }

    /// Counts the rows of a query.
    pub fn count(&self, query: &str) -> usize {
        let answer = self.evalfleet(&["query", query, "--json"]).expect(0).json();
        answer["rows"].as_array().map_or(0, Vec::len)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let down = self.evalfleet(&["down"]);
        if std::thread::panicking() {
            eprintln!("down: {down:?}");
        }
    }
}

/// How many times longer than usual everything may take, out of `EVALFLEET_TEST_PATIENCE`: a machine that is
/// itself emulated needs that.
pub fn patience() -> u32 {
    let named = std::env::var("EVALFLEET_TEST_PATIENCE").ok();
    named.map_or(1, |text| text.parse().expect("EVALFLEET_TEST_PATIENCE is a number"))
}

/// Settings that the machine around the tests asks for: longer time limits, and whatever `EVALFLEET_TEST_SETTINGS`
/// lists, such as `QEMU__ACCELERATOR=kvm`, from which there is no falling back, or `QEMU__BINARY=…`.
fn conditions() -> Vec<(String, String)> {
    let mut conditions = Vec::new();
    if patience() != 1 {
        for (name, seconds) in [("BOOT_TIMEOUT", 180), ("RESET_TIMEOUT", 30)] {
            conditions.push((format!("EVALFLEET_QEMU__{name}"), format!("{}s", seconds * patience())));
        }
    }
    let asked = std::env::var("EVALFLEET_TEST_SETTINGS").unwrap_or_default();
    conditions.extend(asked.split_whitespace().map(|pair| {
        let (name, value) = pair.split_once('=').expect("EVALFLEET_TEST_SETTINGS lists SECTION__KEY=VALUE");
        (format!("EVALFLEET_{name}"), value.to_owned())
    }));
    conditions
}

/// Sends a signal to a process.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// Waits until something is so: generously, since these machines are slow and shared.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(120) * patience(), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
