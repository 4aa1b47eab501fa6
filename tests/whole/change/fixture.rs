//! A small project with a suite of shell scripts and one of Python, and changes to it.

use evalfleet_proto::ids::Sha256;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every repository of these trials begins with.
const FILES: &[(&str, &str)] = &[
    ("lib.sh", "add() {\n    echo $(($1 + $2))\n}\n"),
    ("calc.py", "def add(a, b):\n    return a + b\n"),
    ("build.sh", "set -e\nmkdir -p out\ncat lib.sh > out/lib.sh\n"),
    ("tests/adds.sh", "set -e\n. ./lib.sh\n[ \"$(add 1 2)\" = 3 ]\n[ \"$(add 2 2)\" = 4 ]\n"),
    ("tests/broken.sh", "exit 1\n"),
    (
        "tests/test_calc.py",
        "from calc import add\n\n\ndef test_small():\n    assert add(1, 2) == 3\n\n\ndef test_large():\n    assert add(10**9, 1) == 10**9 + 1\n",
    ),
    ("README.md", "# A sum\n\nIt adds.\n\n"),
    (
        "safety.toml",
        "version = 1\n\n[suites.default]\nbuild = [[\"sh\", \"build.sh\"]]\nrunner = \"command\"\n\
         tests = [{ name = \"adds\", argv = [\"sh\", \"tests/adds.sh\"] }, { name = \"broken\", argv = [\"sh\", \"tests/broken.sh\"] }]\n\n\
         [suites.python]\nbuild = [[\"sh\", \"build.sh\"]]\nrunner = \"python\"\n",
    ),
];

/// A repository on the disk, removed when dropped.
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    /// The project, committed.
    pub(crate) fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().expect("a folder") };
        fixture.git(&["init", "--quiet", "--initial-branch=main"]);
        for (name, text) in FILES {
            fixture.write(name, text);
        }
        fixture.commit("As it came");
        fixture
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Asks git, for one answer.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        String::from_utf8(self.git_bytes(args)).expect("text").trim().to_owned()
    }

    /// The same to the last byte: a patch may end in a line that is empty but for one blank.
    fn git_bytes(&self, args: &[&str]) -> Vec<u8> {
        std::fs::create_dir_all(self.path()).expect("a folder");
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(args);
        let output = command.current_dir(self.path()).output().expect("git is there");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The patch that `edit` makes; the repository stays as it was.
    pub(crate) fn patch(&self, name: &str, edit: impl FnOnce(&Self)) -> String {
        edit(self);
        self.git(&["add", "--all"]);
        let patch = self.git_bytes(&["diff", "--cached", "--binary", "HEAD"]);
        self.git(&["reset", "--quiet", "--hard", "HEAD"]);
        self.save(name, &patch)
    }

    /// A patch as it is given.
    pub(crate) fn save(&self, name: &str, patch: &[u8]) -> String {
        let path = self.dir.path().join(format!("{name}.patch"));
        std::fs::write(&path, patch).expect("written");
        path.display().to_string()
    }

    /// The hash of all that is in the repository's folder, Git's own files included: paths, modes and contents.
    pub(crate) fn digest(&self) -> Sha256 {
        let mut told = Vec::new();
        gather(&self.path(), &mut told);
        Sha256::of(&told)
    }

    /// A link in the tree.
    pub(crate) fn link(&self, name: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.path().join(name)).expect("linked");
    }
}

fn gather(folder: &Path, told: &mut Vec<u8>) {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        let meta = std::fs::symlink_metadata(&path).expect("it is there");
        told.extend_from_slice(path.as_os_str().as_bytes());
        told.extend_from_slice(&meta.permissions().mode().to_be_bytes());
        if meta.is_dir() {
            gather(&path, told);
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).expect("a link");
            told.extend_from_slice(target.as_os_str().as_bytes());
        } else {
            told.extend_from_slice(Sha256::of(&std::fs::read(&path).expect("a file")).to_string().as_bytes());
        }
    }
}

/// A file's name without its folders and its ending.
pub(crate) fn stem(path: &str) -> String {
    Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
