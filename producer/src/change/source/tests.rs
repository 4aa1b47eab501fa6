//! Bad requests and strange contents, put to real repositories. Nothing is run, and nothing may be written there.

use super::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// A repository with one commit.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(fixture.path().join("tests")).unwrap();
        fixture.git(&["init", "--quiet", "--initial-branch=main"]);
        fixture.write(b"lib.sh", b"one\ntwo\nthree\n");
        fixture.write(b"tests/a.sh", b"true\n");
        fixture.commit();
        fixture
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("repository")
    }

    fn write(&self, name: &[u8], content: &[u8]) {
        std::fs::write(self.path().join(OsStr::from_bytes(name)), content).unwrap();
    }

    fn git(&self, args: &[&str]) -> Vec<u8> {
        std::fs::create_dir_all(self.path()).unwrap();
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(args);
        let output = command.current_dir(self.path()).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "One step"]);
    }

    /// The patch that `edit` makes; the repository stays as it was.
    fn patch(&self, edit: impl FnOnce(&Self)) -> Change {
        edit(self);
        self.git(&["add", "--all"]);
        let patch = self.git(&["diff", "--cached", "--binary", "HEAD"]);
        self.git(&["reset", "--quiet", "--hard", "HEAD"]);
        Change::Patch(patch)
    }

    /// All that lies in its folder, with what is in it.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.path()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    found.push((path.clone(), std::fs::read(&path).unwrap_or_default()));
                }
            }
        }
        found.sort();
        found
    }

    async fn applied(&self, base: &str, change: &Change) -> Result<Applied, Error> {
        let before = self.contents();
        let applied = async {
            let repository = Repository::open(&self.path()).await?;
            let base = repository.base(base, None).await?;
            repository.apply(&base, change).await
        };
        let applied = applied.await;
        assert_eq!(self.contents(), before, "the repository was touched");
        applied
    }
}

fn rules(applied: &Applied) -> Vec<&str> {
    applied.violations.iter().map(|violation| violation.rule.as_str()).collect()
}

#[tokio::test]
async fn what_does_not_apply_is_the_requests_fault_and_says_why() {
    let patch = |text: &str| Change::Patch(text.as_bytes().to_vec());
    let revision = |name: &str| Change::Revision(name.to_owned());
    let repo = Fixture::new();
    repo.git(&["checkout", "--quiet", "--orphan", "other"]);
    repo.write(b"lib.sh", b"else\n");
    repo.commit();
    repo.git(&["checkout", "--quiet", "main"]);
    for (base, change, words) in [
        ("HEAD", patch("--- a/lib.sh\n+++ b/lib.sh\n@@ -1 +1 @@\n-uno\n+1\n"), "does not apply to"),
        ("HEAD", patch("--- a/lib.sh\n+++ b/lib.sh\n@@ -1,3 +1,3 @@\n-one\n"), "corrupt patch"),
        ("HEAD", patch("--- a/no\n+++ b/no\n@@ -1 +1 @@\n-a\n+b\n"), "no: does not exist in index"),
        ("HEAD", patch("--- a/../x\n+++ b/../x\n@@ -0,0 +1 @@\n+b\n"), "does not apply to"),
        ("HEAD", patch("hello"), "No valid patches"),
        ("HEAD", patch(""), "No valid patches"),
        ("HEAD", Change::Patch(vec![0xff; 99]), "No valid patches"),
        ("HEAD", Change::Patch(vec![b'+'; PATCH_MAX + 1]), "and may have 16777216"),
        ("HEAD", revision("HEAD"), "changes nothing"),
        ("HEAD", revision("other"), "does not stand on the base"),
        ("HEAD", revision("nosuch"), "no revision \"nosuch\""),
        ("HEAD", revision("--all"), "no revision \"--all\""),
        ("HEAD", revision("HEAD\nHEAD"), "no line breaks"),
        ("HEAD", revision(""), "no revision \"\""),
        ("HEAD", revision("HEAD:lib.sh"), "git knows no commit by this name"),
        ("nosuch", patch(""), "no revision \"nosuch\""),
        ("HEAD^", patch(""), "no revision \"HEAD^\""),
    ] {
        let error = repo.applied(base, &change).await.unwrap_err();
        assert!(error.to_string().contains(words), "{change:.60?}: {error}");
        assert_eq!(crate::change::Error::from(error).exit(), evalfleet_proto::status::Exit::Harness);
    }
}

#[tokio::test]
async fn what_is_no_repository_or_has_no_suite_is_named() {
    let none = tempfile::tempdir().unwrap();
    let cut = format!("# v2 git bundle\n{} HEAD\n\nPACK", "0123456789".repeat(4));
    std::fs::write(none.path().join("cut.bundle"), &cut).unwrap();
    for name in ["", "nosuch", "cut.bundle"] {
        let error = Repository::open(&none.path().join(name)).await.unwrap_err();
        assert!(error.to_string().contains("no Git repository and no bundle of one"), "{name}: {error}");
    }
    for (file, words) in [
        (&b"version = 1\n[budgets]\ntime = 'long'\n"[..], "time"),
        (&b"version = 1\n\xff"[..], "utf-8"),
        (&b"version = 1\n[suites.other]\nrepeat = 99\n[suites.default]\nrunner = 'dance'"[..], "dance"),
    ] {
        let repo = Fixture::new();
        repo.write(b"safety.toml", file);
        repo.commit();
        let error = repo.applied("HEAD", &Change::Revision("HEAD".to_owned())).await.unwrap_err();
        assert!(error.to_string().starts_with("safety.toml of the base"), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let repo = Fixture::new();
    repo.git(&["rm", "--quiet", "tests/a.sh"]);
    repo.commit();
    let error = repo.applied("HEAD", &Change::Revision("HEAD".to_owned())).await.unwrap_err();
    assert!(error.to_string().contains("no tests"), "{error}");
}

#[tokio::test]
async fn what_is_no_plain_text_is_applied_and_judged() {
    type Edit = fn(&Fixture);
    let edits: [(Edit, &[&str]); 9] = [
        (|repo| repo.write(b"logo", b"\x89PNG\x00"), &["policy.binary"]),
        (|repo| repo.write(b"table", &b"1,2\n".repeat(2 << 20)), &["policy.size", "policy.size"]),
        (
            |repo| {
                repo.write(b"model", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
            },
            &["policy.lfs"],
        ),
        (
            |repo| std::os::unix::fs::symlink("../../root", repo.path().join("link")).unwrap(),
            &["policy.symlink"],
        ),
        (|repo| std::os::unix::fs::symlink("lib.sh", repo.path().join("link")).unwrap(), &[]),
        (|repo| repo.write(b"na\xefve", b"na\xefve\n"), &[]),
        (|repo| repo.write(b"two\nlines\t\"x\"", b"text\n"), &[]),
        (|repo| repo.write(b"lib.sh", b""), &[]),
        (|repo| std::fs::remove_file(repo.path().join("lib.sh")).unwrap(), &[]),
    ];
    let repo = Fixture::new();
    for (edit, wanted) in edits {
        let change = repo.patch(edit);
        let applied = repo.applied("HEAD", &change).await.unwrap();
        assert_eq!(rules(&applied), wanted, "{:?}", applied.violations);
    }
    let submodule =
        b"diff --git a/sub b/sub\nnew file mode 160000\nindex 0000000..1111111\n--- /dev/null\n+++ b/sub\n\
                      @@ -0,0 +1 @@\n+Subproject commit 1111111111111111111111111111111111111111\n";
    let applied = repo.applied("HEAD", &Change::Patch(submodule.to_vec())).await.unwrap();
    assert_eq!(rules(&applied), ["policy.submodule"]);
    // It is packed without what is not there.
    let repository = Repository::open(&repo.path()).await.unwrap();
    let base = repository.base("HEAD", None).await.unwrap();
    let applied = repository.apply(&base, &Change::Patch(submodule.to_vec())).await.unwrap();
    let contents = applied.judged.contents(&repository.git).await.unwrap();
    let packed = applied.judged.pack(&contents, &base.tree, 1).unwrap();
    let mut archive = tar::Archive::new(packed.as_slice());
    let names: Vec<PathBuf> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, [PathBuf::from("lib.sh"), PathBuf::from("tests/a.sh")]);
}

#[tokio::test]
async fn a_worktree_and_a_bundle_are_read_like_the_repository() {
    let repo = Fixture::new();
    let change = repo.patch(|repo| repo.write(b"lib.sh", b"more\n"));
    let beside = repo.0.path().join("worktree");
    repo.git(&["worktree", "add", "--quiet", "--detach", &beside.display().to_string()]);
    let bundle = repo.0.path().join("project.bundle");
    repo.git(&["bundle", "create", "--quiet", &bundle.display().to_string(), "main", "HEAD"]);
    let mut trees = Vec::new();
    for place in [repo.path(), repo.path().join("tests"), beside, bundle] {
        let repository = Repository::open(&place).await.unwrap();
        let base = repository.base("main", None).await.unwrap();
        trees.push(repository.apply(&base, &change).await.unwrap().tree_id);
    }
    trees.dedup();
    assert_eq!(trees.len(), 1, "{trees:?}");
}
