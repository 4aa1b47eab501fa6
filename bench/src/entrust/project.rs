//! A repository to be changed: a build of some units, of which each takes a second and is not built again where it did
//! not change, and a test of one line.

use anyhow::ensure;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds what is not built yet.
const BUILD: &str = "set -e\nmkdir -p out\nfor unit in src/*; do\n    [ -e $unit ] || continue\n    built=out/${unit#src/}\n    \
                     if [ ! -e $built ] || [ $unit -nt $built ]; then sleep 1; cp $unit $built; fi\ndone\n";
const SAFETY: &str = "version = 1\n\n[suites.default]\nprefix = [\"out\"]\nbuild = [[\"sh\", \"build.sh\"]]\nrunner = \"command\"\n\
                      tests = [{ name = \"holds\", argv = [\"sh\", \"test.sh\"] }]\n";
const TEST: &str = "[ \"$(cat note)\" = good ]\n";

/// A repository on the disk, removed when dropped.
pub(super) struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// A repository whose build has so many units. Each has a history of its own, so that nothing is known of one
    /// from another.
    pub(super) fn new(units: usize) -> anyhow::Result<Self> {
        let project = Self { dir: tempfile::tempdir()? };
        std::fs::create_dir_all(project.path().join("src"))?;
        project.git(&["init", "--quiet", "--initial-branch=main"])?;
        let unique = project.path().display().to_string();
        for (name, text) in [
            ("build.sh", BUILD),
            ("safety.toml", SAFETY),
            ("test.sh", TEST),
            ("note", "good\n"),
            ("name", &unique),
        ] {
            std::fs::write(project.path().join(name), text)?;
        }
        for unit in 0..units {
            std::fs::write(project.path().join(format!("src/{unit}")), "one\n")?;
        }
        project.git(&["add", "--all"])?;
        project.git(&["commit", "--quiet", "--message", "As it came"])?;
        Ok(project)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// The patch that gives a file another content.
    pub(super) fn patch(&self, name: &str, text: &str) -> anyhow::Result<Vec<u8>> {
        std::fs::write(self.path().join(name), text)?;
        let patch = self.git(&["diff", "--binary", "HEAD"])?;
        self.git(&["checkout", "--quiet", "--", name])?;
        Ok(patch)
    }

    fn git(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let place: &Path = &self.path();
        std::fs::create_dir_all(place)?;
        let mut command = Command::new("git");
        command.args(["-c", "user.name=bench", "-c", "user.email=bench@example.org"]).args(arguments);
        let output = command.current_dir(place).output()?;
        ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}
