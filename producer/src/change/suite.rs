//! The safety suite: what a change is put to. It is a file of the repository, `safety.toml`, read from the
//! **base**: a change cannot write its own judge.
//!
//! ```toml
//! version = 1
//! image = "eval"                      # client.image when missing
//!
//! [policy]                            # what a change may do to the repository
//! protect = ["deploy/**"]             # further paths not to be touched
//! allow = ["tests/test_new_area.py"]  # … and paths that may be, all the same
//! dependencies = ["serde"]            # new ones that may come
//! waive = ["policy.vm_detection"]     # rules that do not apply here
//!
//! [behaviour]
//! writes = ["/home/dev/.cache/**"]    # where else the project may write
//!
//! [budgets]                           # against the base
//! time = 2.0                          # times its time for building, and for testing
//! memory = 1.5
//! binary_size = { paths = ["target/release/app"], grows_at_most = "5%" }
//!
//! [suites.default]
//! build = [["make"]]
//! runner = "command"                  # or "python", "cargo": found out when missing
//! tests = [{ name = "adds", argv = ["sh", "tests/adds.sh"] }]
//! ```

mod budgets;

pub use budgets::{BinarySize, Budgets, Percent};

use super::tree::Tree;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a repository declares it.
pub const FILE: &str = "safety.toml";
/// The version of the file that this build reads.
const VERSION: u32 = 1;
/// Tests, canaries and lints that one suite may list.
const COMMANDS_MAX: usize = 500;
/// How often tests may be repeated in one VM.
const REPEAT_MAX: u32 = 10;

/// Why there is no suite to put a change to: the request's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is wrong.
    #[error("{FILE} of the base: {0}")]
    Invalid(String),
    /// There is no such suite.
    #[error("{FILE} of the base has no suite {wanted:?}; it has {known}")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// There is nothing to test.
    #[error(
        "the base has no tests that are known by themselves (Cargo.toml, test_*.py, tests/*.sh): \
         declare them in {FILE}, [suites.default]"
    )]
    NoTests,
}

/// How tests are run and heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runner {
    /// Each test is a program, its exit status the result.
    Command,
    /// Test files in Python, by pytest where the image has it.
    Python,
    /// A Cargo workspace, offline.
    Cargo,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// What it is called in reports.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
}

/// What a change may do to the repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Further paths that must stay as they are.
    pub protect: Vec<String>,
    /// Paths that may be touched though they are protected.
    pub allow: Vec<String>,
    /// New dependencies that may come.
    pub dependencies: Vec<String>,
    /// Rules that are not applied.
    pub waive: Vec<String>,
    /// Files that one change may touch.
    pub files_max: usize,
    /// Lines that it may add and remove together.
    pub lines_max: usize,
    /// Bytes that its files may have together.
    pub bytes_max: u64,
    /// Whether files that are no text may come or change.
    pub binaries: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protect: Vec::new(),
            allow: Vec::new(),
            dependencies: Vec::new(),
            waive: Vec::new(),
            files_max: 200,
            lines_max: 5000,
            bytes_max: 4 << 20,
            binaries: false,
        }
    }
}

/// What a change may do when it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Globs of absolute paths outside of the workspace that may be written.
    pub writes: Vec<String>,
}

/// One suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Suite {
    /// Programs that must succeed before anything is tested.
    pub build: Vec<Vec<String>>,
    /// How tests are run; found out from the base when missing.
    pub runner: Option<Runner>,
    /// The tests, for the runner `command`.
    pub tests: Vec<Program>,
    /// Programs that must fail: where one succeeds, the project's tests prove nothing.
    pub canaries: Vec<Program>,
    /// Programs that must succeed where they did in the base.
    pub lint: Vec<Program>,
    /// How often the tests are run, one time after the other in one VM.
    pub repeat: u32,
    /// The longest that one program of it may take.
    #[serde(with = "evalfleet_proto::units::duration")]
    pub step: Duration,
    /// The longest that all of it may take.
    #[serde(with = "evalfleet_proto::units::duration")]
    pub wall: Duration,
    /// The memory that it may use.
    pub memory: evalfleet_proto::units::ByteSize,
    /// Paths of what was built, kept from the base so that candidates need not build all anew.
    pub prefix: Vec<String>,
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            build: Vec::new(),
            runner: None,
            tests: Vec::new(),
            canaries: Vec::new(),
            lint: Vec::new(),
            repeat: 2,
            step: Duration::from_secs(120),
            wall: Duration::from_secs(600),
            memory: evalfleet_proto::units::ByteSize::mib(256),
            prefix: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    scenario: Option<String>,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    behaviour: Behaviour,
    #[serde(default)]
    budgets: Budgets,
    #[serde(default)]
    suites: BTreeMap<String, Suite>,
}

/// Everything that a change is put to, complete.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Safety {
    /// The suite's name.
    pub name: String,
    /// Whether the repository declares it, or it was found out.
    pub declared: bool,
    /// The image, where the repository names one.
    pub image: Option<String>,
    /// Its scenario.
    pub scenario: Option<String>,
    /// What a change may do to the repository.
    pub policy: Policy,
    /// What it may do when it runs.
    pub behaviour: Behaviour,
    /// What it may use.
    pub budgets: Budgets,
    /// How it is built and tested.
    pub suite: Suite,
    /// How its tests are run.
    pub runner: Runner,
}

impl Safety {
    /// Reads the suite `wanted` out of the base's file, or finds out what its tests are.
    pub(super) fn of(base: &Tree, file: Option<&[u8]>, wanted: Option<&str>) -> Result<Self, Error> {
        let name = wanted.unwrap_or("default");
        let declared = file.is_some();
        let mut file = match file {
            Some(bytes) => read(bytes)?,
            None => File {
                version: VERSION,
                image: None,
                scenario: None,
                policy: Policy::default(),
                behaviour: Behaviour::default(),
                budgets: Budgets::default(),
                suites: BTreeMap::new(),
            },
        };
        let known = file.suites.keys().cloned().collect::<Vec<_>>().join(", ");
        let suite = match file.suites.remove(name) {
            Some(suite) => suite,
            None if name == "default" => Suite::default(),
            None => return Err(Error::Unknown { wanted: name.to_owned(), known }),
        };
        let (runner, suite) = complete(suite, base)?;
        let safety = Self {
            name: name.to_owned(),
            declared,
            image: file.image,
            scenario: file.scenario,
            policy: file.policy,
            behaviour: file.behaviour,
            budgets: file.budgets,
            suite,
            runner,
        };
        safety.check()?;
        Ok(safety)
    }

    fn check(&self) -> Result<(), Error> {
        let suite = &self.suite;
        let invalid = |what: String| Err(Error::Invalid(what));
        if !(1..=REPEAT_MAX).contains(&suite.repeat) {
            return invalid(format!("repeat is {}, and must be 1 to {REPEAT_MAX}", suite.repeat));
        }
        let programs = || suite.tests.iter().chain(&suite.canaries).chain(&suite.lint);
        if programs().count() > COMMANDS_MAX {
            return invalid(format!("a suite may have {COMMANDS_MAX} programs, and this has more"));
        }
        if let Some(empty) = programs().find(|program| program.argv.is_empty() || program.name.is_empty()) {
            return invalid(format!("a program without a name or argv: {empty:?}"));
        }
        if suite.build.iter().any(Vec::is_empty) {
            return invalid("build has an empty command".to_owned());
        }
        for (name, factor) in [("time", self.budgets.time), ("memory", self.budgets.memory)] {
            if !(factor >= 1.0 && factor.is_finite()) {
                return invalid(format!("budgets.{name} is {factor}, and must be 1 or more"));
            }
        }
        let within = |path: &String| !path.starts_with('/') && path.split('/').all(|part| part != "..");
        if !suite.prefix.iter().all(within) {
            return invalid("prefix lists paths within the repository".to_owned());
        }
        let built = self.budgets.binary_size.as_ref().map_or(&[][..], |size| &size.paths);
        if self.budgets.binary_size.is_some() && (built.is_empty() || !built.iter().all(within)) {
            return invalid(
                "budgets.binary_size.paths lists paths within the repository, at least one".to_owned(),
            );
        }
        set(built)?;
        for globs in [&self.policy.protect, &self.policy.allow, &self.behaviour.writes] {
            set(globs)?;
        }
        Ok(())
    }

    /// Paths of tests, which must stay as they are; new ones may come.
    pub(super) fn tests(&self) -> Result<GlobSet, Error> {
        let mut globs: Vec<String> = TESTS.iter().map(|glob| (*glob).to_owned()).collect();
        // A program of the suite that lies in the repository is part of the suite.
        let words = self.suite.tests.iter().chain(&self.suite.canaries).chain(&self.suite.lint);
        globs.extend(
            words.flat_map(|program| &program.argv).filter(|word| is_path(word)).map(|word| escape(word)),
        );
        set(&globs)
    }

    /// Paths of the suite and of what runs tests, which must stay as they are and may not come.
    pub(super) fn protected(&self) -> Result<GlobSet, Error> {
        let all = PROTECTED.iter().map(|glob| (*glob).to_owned()).chain(self.policy.protect.iter().cloned());
        set(&all.collect::<Vec<_>>())
    }

    /// Paths that may be touched all the same.
    pub(super) fn allowed(&self) -> Result<GlobSet, Error> {
        set(&self.policy.allow)
    }

    /// Files that the runner is to run, of a tree.
    pub(super) fn files(&self, tree: &Tree) -> Vec<String> {
        let names = tree.0.iter().filter(|(_, entry)| !entry.is_link() && !entry.is_submodule());
        let names = names.filter_map(|(path, _)| std::str::from_utf8(path).ok());
        let wanted: fn(&str) -> bool = match self.runner {
            Runner::Command => |_| false,
            Runner::Python => is_python_test,
            Runner::Cargo => is_rust_root,
        };
        names.filter(|name| wanted(name)).map(ToOwned::to_owned).collect()
    }
}

/// What tests are usually called.
const TESTS: [&str; 6] =
    ["tests/**", "test/**", "**/tests/**", "**/test_*.py", "**/*_test.py", "**/*_test.go"];

/// What decides how they are run, and what others' tools run by themselves.
const PROTECTED: [&str; 22] = [
    FILE,
    "**/conftest.py",
    "**/pytest.ini",
    "**/.pytest.ini",
    "**/tox.ini",
    "**/sitecustomize.py",
    "**/usercustomize.py",
    "**/*.pth",
    "**/.cargo/config",
    "**/.cargo/config.toml",
    "**/rust-toolchain",
    "**/rust-toolchain.toml",
    "**/.config/nextest.toml",
    ".github/**",
    ".gitlab-ci.yml",
    ".githooks/**",
    ".husky/**",
    ".pre-commit-config.yaml",
    ".gitmodules",
    "**/.gitattributes",
    "**/.envrc",
    "**/unittest.py",
];

fn read(bytes: &[u8]) -> Result<File, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| Error::Invalid(error.to_string()))?;
    let file: File = toml::from_str(text).map_err(|error| Error::Invalid(error.to_string()))?;
    if file.version != VERSION {
        return Err(Error::Invalid(format!("version is {}, and this build reads {VERSION}", file.version)));
    }
    Ok(file)
}

/// Finds out what the suite leaves open.
fn complete(mut suite: Suite, base: &Tree) -> Result<(Runner, Suite), Error> {
    let names = || base.0.keys().filter_map(|path| std::str::from_utf8(path).ok());
    let runner = match suite.runner {
        Some(runner) => runner,
        None if !suite.tests.is_empty() => Runner::Command,
        None if names().any(|name| name == "Cargo.toml") => Runner::Cargo,
        None if names().any(is_python_test) => Runner::Python,
        None => Runner::Command,
    };
    match runner {
        Runner::Cargo => {
            if suite.build.is_empty() {
                suite.build = vec![words(&["cargo", "build", "--offline", "--workspace"])];
            }
            if suite.prefix.is_empty() {
                suite.prefix = vec!["target".to_owned()];
            }
            suite.memory = suite.memory.max(evalfleet_proto::units::ByteSize::mib(768));
        }
        Runner::Command if suite.tests.is_empty() => {
            let scripts = names().filter(|name| name.starts_with("tests/") && name.ends_with(".sh"));
            let test = |name: &str| Program { name: name.to_owned(), argv: words(&["sh", name]) };
            suite.tests = scripts.map(test).collect();
        }
        Runner::Python | Runner::Command => {}
    }
    let nothing = match runner {
        Runner::Command => suite.tests.is_empty(),
        Runner::Python => !names().any(is_python_test),
        Runner::Cargo => !names().any(|name| name == "Cargo.toml"),
    };
    if nothing { Err(Error::NoTests) } else { Ok((runner, suite)) }
}

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|word| (*word).to_owned()).collect()
}

fn is_python_test(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.ends_with(".py") && (file.starts_with("test_") || file.ends_with("_test.py"))
}

/// A file that is the root of a crate with tests: there a test that must fail is put.
fn is_rust_root(name: &str) -> bool {
    let mut parts = name.rsplit('/');
    match (parts.next(), parts.next()) {
        (Some("lib.rs" | "main.rs"), Some("src")) => true,
        (Some(file), Some("tests")) => file.ends_with(".rs"),
        _ => false,
    }
}

fn is_path(word: &str) -> bool {
    !word.starts_with('-') && (word.contains('/') || word.contains('.')) && !word.starts_with('/')
}

fn escape(path: &str) -> String {
    globset::escape(path.trim_start_matches("./"))
}

/// Globs in which `*` stays within a folder.
pub(super) fn set(globs: &[impl AsRef<str>]) -> Result<GlobSet, Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let built = GlobBuilder::new(glob.as_ref()).literal_separator(true).build();
        set.add(built.map_err(|error| Error::Invalid(error.to_string()))?);
    }
    set.build().map_err(|error| Error::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests;
