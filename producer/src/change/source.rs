//! Where a change comes from: a repository, the revision it stands on, and what it makes of it.
//!
//! The repository is only read. A patch is applied to an index of ours, and what that makes goes into an object
//! store of ours which borrows the repository's objects; nothing is checked out. So what is evaluated is a tree
//! by its id, and that tree, not another reading of the patch, is what may be committed later.

use super::git::{self, Git};
use super::policy::Size;
use super::suite::{self, FILE, Safety};
use super::tree::{self, Tree, contents};
use super::violation::Violation;
use std::path::{Path, PathBuf};

/// The largest patch that is read.
pub const PATCH_MAX: usize = 16 << 20;

/// Why a change cannot be looked at: the request's own fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no repository.
    #[error("{path} is no Git repository and no bundle of one: {why}")]
    NoRepository {
        /// Where.
        path: PathBuf,
        /// What git says.
        why: String,
    },
    /// There is no such revision.
    #[error("{path} has no revision {revision:?}: {why}")]
    NoRevision {
        /// Where.
        path: PathBuf,
        /// Which.
        revision: String,
        /// What git says.
        why: String,
    },
    /// The patch does not fit the base.
    #[error("the patch does not apply to {base}: {why}")]
    DoesNotApply {
        /// The base.
        base: String,
        /// What git says.
        why: String,
    },
    /// The patch is too large to be looked at.
    #[error("the patch has {0} bytes, and may have {PATCH_MAX}")]
    TooLarge(usize),
    /// The revision does not stand on the base.
    #[error("the revision {revision} does not stand on the base {base}: name its base with --base")]
    Unrelated {
        /// Which.
        revision: String,
        /// The base.
        base: String,
    },
    /// There is nothing to evaluate.
    #[error("the change changes nothing: its tree is that of {base}")]
    Nothing {
        /// The base.
        base: String,
    },
    /// The suite is wrong, or there is none.
    #[error(transparent)]
    Suite(#[from] suite::Error),
    /// The tree is too large, or strange.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// Git fails.
    #[error(transparent)]
    Git(#[from] git::Error),
    /// This machine's disk.
    #[error("{path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a change is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A patch, as `git diff --binary` or `git format-patch` writes it.
    Patch(Vec<u8>),
    /// A revision of the repository that stands on the base.
    Revision(String),
}

/// A repository that was opened, with room of ours beside it.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) path: PathBuf,
    /// Reads the repository, and writes into our own object store.
    pub(super) git: Git,
    /// Whether there is a repository to commit to.
    pub(super) is_bundle: bool,
    room: tempfile::TempDir,
}

/// The revision that a change stands on, with the suite it declares.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) commit: String,
    pub(super) tree_id: String,
    pub(super) tree: Tree,
    pub(super) safety: Safety,
}

/// A change that applies.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    /// The revision, where the change is one.
    pub(super) commit: Option<String>,
    pub(super) tree_id: String,
    /// What is run: the change with the base's own suite and tests.
    pub(super) judged: Tree,
    /// Whether that is the change itself, to the last file.
    pub(super) is_judged: bool,
    pub(super) size: Size,
    pub(super) violations: Vec<Violation>,
}

impl Repository {
    /// Opens the repository, or the bundle, at `path`.
    pub(super) async fn open(path: &Path) -> Result<Self, Error> {
        let room = tempfile::Builder::new().prefix("evalfleet-change-").tempdir();
        let room = room.map_err(|source| Error::Disk { path: std::env::temp_dir(), source })?;
        let none = |error: git::Error| Error::NoRepository { path: path.to_owned(), why: error.to_string() };
        let path =
            std::path::absolute(path).map_err(|source| Error::Disk { path: path.to_owned(), source })?;
        let plain = Git::new(room.path());
        let is_bundle = path.is_file();
        // A worktree's objects are those of its repository.
        let objects = ["--path-format=absolute", "--git-path", "objects"];
        let (git_dir, objects) = if is_bundle {
            let to = room.path().join("repository.git");
            let args =
                ["clone".as_ref(), "--quiet".as_ref(), "--bare".as_ref(), path.as_os_str(), to.as_os_str()];
            plain.ask(&args, Vec::new()).await.map_err(none)?;
            (to.clone(), to.join("objects"))
        } else {
            let path = path.to_string_lossy();
            let args = [&["-C", &*path, "rev-parse", "--absolute-git-dir"], &objects[..]].concat();
            let places = plain.line(&args).await.map_err(none)?;
            let (git_dir, objects) = places.split_once('\n').ok_or_else(|| Error::NoRepository {
                path: PathBuf::from(&*path),
                why: format!("git answers {places:?}"),
            })?;
            (PathBuf::from(git_dir), PathBuf::from(objects))
        };
        let whole = plain.with("GIT_DIR", &git_dir);
        let ours = room.path().join("objects");
        for folder in [ours.join("pack"), ours.join("info")] {
            std::fs::create_dir_all(&folder).map_err(|source| Error::Disk { path: folder, source })?;
        }
        let git = whole
            .with("GIT_OBJECT_DIRECTORY", &ours)
            .with("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects)
            .with("GIT_INDEX_FILE", room.path().join("index"));
        Ok(Self { path, git, is_bundle, room })
    }

    /// The commit that `revision` names, and its tree.
    async fn commit(&self, revision: &str) -> Result<(String, String), Error> {
        let none =
            |why: String| Error::NoRevision { path: self.path.clone(), revision: revision.to_owned(), why };
        if revision.contains('\n') {
            return Err(none("a revision's name has no line breaks".to_owned()));
        }
        // Names go in as text, so that none can be taken for an option.
        let asked = format!("{revision}^{{commit}}\n{revision}^{{tree}}\n");
        let answer = self.git.ask(&["cat-file", "--batch-check"], asked.into_bytes()).await;
        let answer = answer.map_err(|error| none(error.to_string()))?;
        let answer = String::from_utf8_lossy(&answer);
        let mut lines = answer.lines();
        let mut next = |kind: &str| {
            let line = lines.next().unwrap_or_default();
            let mut words = line.split(' ');
            let id = words.next().filter(|_| words.next() == Some(kind));
            id.map(ToOwned::to_owned)
                .ok_or_else(|| none(format!("git knows no {kind} by this name ({line})")))
        };
        Ok((next("commit")?, next("tree")?))
    }

    /// Reads the base, and the suite `suite` that it declares.
    pub(super) async fn base(&self, revision: &str, suite: Option<&str>) -> Result<Base, Error> {
        let (commit, tree_id) = self.commit(revision).await?;
        let tree = Tree::read(&self.git, &tree_id).await?;
        let file = tree.file(&self.git, FILE).await?;
        let safety = Safety::of(&tree, file.as_deref(), suite)?;
        Ok(Base { commit, tree_id, tree, safety })
    }

    /// Applies a change to its base, in our own room, and holds it against the base's policy.
    pub(super) async fn apply(&self, base: &Base, change: &Change) -> Result<Applied, Error> {
        let (commit, tree_id) = match change {
            Change::Patch(patch) => match self.patched(base, patch).await {
                Ok(tree) => (None, tree),
                Err(error) => return inside_git(error, base),
            },
            Change::Revision(revision) => {
                let (commit, tree) = self.commit(revision).await?;
                let stands = self.git.line(&["merge-base", "--is-ancestor", &base.commit, &commit]).await;
                if stands.is_err() {
                    return Err(Error::Unrelated { revision: revision.clone(), base: base.commit.clone() });
                }
                (Some(commit), tree)
            }
        };
        if tree_id == base.tree_id {
            return Err(Error::Nothing { base: base.commit.clone() });
        }
        let tree = Tree::read(&self.git, &tree_id).await?;
        let touched = base.tree.changes_to(&tree);
        let files = touched.iter().flat_map(|touched| [&touched.old, &touched.new]).flatten();
        let contents = contents(&self.git, files.filter(|entry| !entry.is_submodule())).await?;
        let (size, violations) = super::policy::check(&base.safety, &touched, &contents)?;
        let judged = judged(base, tree.clone())?;
        let is_judged = judged == tree;
        Ok(Applied { commit, tree_id, judged, is_judged, size, violations })
    }

    /// The tree that a patch makes of the base.
    async fn patched(&self, base: &Base, patch: &[u8]) -> Result<String, Error> {
        if patch.len() > PATCH_MAX {
            return Err(Error::TooLarge(patch.len()));
        }
        // An index for each: patches are applied side by side.
        let index = tempfile::Builder::new().prefix("index-").tempdir_in(self.room.path());
        let index = index.map_err(|source| Error::Disk { path: self.room.path().to_owned(), source })?;
        let git = self.git.clone().with("GIT_INDEX_FILE", index.path().join("index"));
        git.line(&["read-tree", &base.tree_id]).await?;
        let applied = git.ask(&["apply", "--cached", "--whitespace=nowarn", "-"], patch.to_vec()).await;
        applied.map_err(|error| match error {
            git::Error::Refused { said, .. } => Error::DoesNotApply { base: base.commit.clone(), why: said },
            other @ (git::Error::Missing(_) | git::Error::Endless { .. } | git::Error::TooMuch { .. }) => {
                other.into()
            }
        })?;
        Ok(git.line(&["write-tree"]).await?)
    }
}

/// A patch that reaches for Git's own files applies nowhere, and that is no slip: it is told as what it is.
fn inside_git(error: Error, base: &Base) -> Result<Applied, Error> {
    let path = if let Error::DoesNotApply { why, .. } = &error {
        why.lines().find_map(|line| {
            let path = line.strip_prefix("error: invalid path '")?.strip_suffix('\'')?;
            path.split('/').any(|part| part.eq_ignore_ascii_case(".git")).then(|| path.to_owned())
        })
    } else {
        None
    };
    let Some(path) = path else { return Err(error) };
    let message = "the change reaches into Git's own files, where hooks and settings are";
    Ok(Applied {
        commit: None,
        tree_id: base.tree_id.clone(),
        judged: base.tree.clone(),
        is_judged: false,
        size: Size::default(),
        violations: vec![Violation::new("policy.git_internals", message).at(path).seen(error.to_string())],
    })
}

/// What is run: the change, with everything that the base is judged by as the base has it.
fn judged(base: &Base, mut tree: Tree) -> Result<Tree, Error> {
    let (tests, protected, allowed) =
        (base.safety.tests()?, base.safety.protected()?, base.safety.allowed()?);
    let is = |set: &globset::GlobSet, path: &[u8]| {
        let name = tree::shown(path);
        set.is_match(&name) && !allowed.is_match(&name)
    };
    tree.0.retain(|path, _| !is(&protected, path) || base.tree.0.contains_key(path));
    for (path, entry) in &base.tree.0 {
        if is(&tests, path) || is(&protected, path) {
            tree.0.insert(path.clone(), entry.clone());
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests;
