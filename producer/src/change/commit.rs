//! A safe change, made: the tree that was evaluated becomes the branch's next commit, or nothing happens.
//!
//! The branch moves by one compare-and-swap from the base that was evaluated; whoever moved it meanwhile wins.
//! The working tree follows, and where it cannot, the branch goes back.

use super::error::Error;
use super::git::Git;
use super::source::{Applied, Base, Change, Repository};
use evalfleet_proto::ids::JobId;
use serde::{Deserialize, Serialize};

/// The line of the commit's message that says what allowed it.
pub const TRAILER: &str = "Evalfleet-Evaluation";

/// What was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The commit.
    pub commit: String,
    /// The branch that it is on now.
    pub branch: String,
}

fn not(why: impl std::fmt::Display) -> Error {
    Error::NotCommitted(why.to_string())
}

/// Commits `applied`, which was found safe by the evaluation `id`.
pub(super) async fn commit(
    repository: &Repository,
    base: &Base,
    applied: &Applied,
    change: &Change,
    message: &str,
    id: JobId,
) -> Result<Committed, Error> {
    if repository.is_bundle {
        return Err(not("a bundle has no branch to commit to"));
    }
    if !applied.is_judged {
        return Err(not(
            "rules are waived, so that it was judged by tests which it changes: commit it yourself",
        ));
    }
    let real = Git::new(&repository.path);
    let branch = real.line(&["symbolic-ref", "--quiet", "HEAD"]).await.unwrap_or_else(|_| "HEAD".to_owned());
    let head = real.line(&["rev-parse", "--verify", "HEAD^{commit}"]).await?;
    if head != base.commit {
        return Err(moved(&branch, &head, base));
    }
    let has_files = real.line(&["rev-parse", "--is-bare-repository"]).await? == "false";
    if has_files {
        let status = real.line(&["status", "--porcelain", "--untracked-files=no"]).await?;
        if !status.is_empty() {
            return Err(not(format!(
                "the working tree has changes of its own, commit or stash them first:\n{status}"
            )));
        }
    }
    let commit = match (&applied.commit, change) {
        (Some(commit), _) => commit.clone(),
        (None, Change::Patch(patch)) => make(repository, base, applied, patch, message, id).await?,
        (None, Change::Revision(revision)) => return Err(not(format!("{revision} has no commit"))),
    };
    hand_over(repository, &real, &commit, &base.commit).await?;
    if has_files {
        let dry = ["read-tree", "-m", "-u", "-n", &base.commit, &commit];
        real.line(&dry).await.map_err(|error| not(format!("the working tree stands in its way: {error}")))?;
    }
    let reason = format!("evalfleet: {id} found it safe");
    let swap = real.line(&["update-ref", "-m", &reason, &branch, &commit, &base.commit]).await;
    if let Err(error) = swap {
        let head = real.line(&["rev-parse", "HEAD"]).await?;
        return Err(if head == base.commit { not(error) } else { moved(&branch, &head, base) });
    }
    if has_files && let Err(error) = real.line(&["read-tree", "-m", "-u", &base.commit, &commit]).await {
        real.line(&["update-ref", &branch, &base.commit, &commit]).await?;
        return Err(not(format!("the working tree cannot follow, so the branch was put back: {error}")));
    }
    if applied.commit.is_some() {
        let note = format!("{TRAILER}: {id}");
        let (name, mail) = identity(&real).await;
        let args = ["-c", &name, "-c", &mail, "notes", "--ref=evalfleet", "add", "-f", "-m", &note, &commit];
        real.line(&args).await?;
    }
    Ok(Committed { commit, branch })
}

fn moved(branch: &str, head: &str, base: &Base) -> Error {
    let base = &base.commit;
    not(format!("{branch} moved to {head}, and the change was evaluated on {base}: evaluate it again"))
}

/// Makes the commit in our own room.
async fn make(
    repository: &Repository,
    base: &Base,
    applied: &Applied,
    patch: &[u8],
    message: &str,
    id: JobId,
) -> Result<String, Error> {
    let (name, mail) = identity(&Git::new(&repository.path)).await;
    let mut git = repository.git.clone();
    let author = Author::of(patch);
    if let Some(author) = &author {
        git = git.with("GIT_AUTHOR_NAME", &author.name).with("GIT_AUTHOR_EMAIL", &author.mail);
    }
    let message =
        author.filter(|_| message.is_empty()).map_or_else(|| message.to_owned(), |author| author.message);
    let text = format!("{}\n\n{TRAILER}: {id}\n", message.trim_end());
    let args = ["-c", &name, "-c", &mail, "commit-tree", "-p", &base.commit, &applied.tree_id];
    let made = git.ask(&args, text.into_bytes()).await?;
    Ok(String::from_utf8_lossy(&made).trim().to_owned())
}

/// Who commits: whom the repository's settings name, or this program.
async fn identity(git: &Git) -> (String, String) {
    let of = async |key: &str, default: &str| {
        let value = git.line(&["config", key]).await.ok().filter(|value| !value.is_empty());
        format!("{key}={}", value.as_deref().unwrap_or(default))
    };
    (of("user.name", "evalfleet").await, of("user.email", "evalfleet@localhost").await)
}

/// Puts what our room has, and the repository has not, into the repository.
async fn hand_over(repository: &Repository, real: &Git, commit: &str, base: &str) -> Result<(), Error> {
    let wanted = format!("{commit}\n^{base}\n");
    let pack =
        repository.git.ask(&["pack-objects", "--revs", "--stdout", "--quiet"], wanted.into_bytes()).await?;
    real.ask(&["unpack-objects", "-q"], pack).await?;
    Ok(())
}

/// What the head of a patch says, where it is a mail as `git format-patch` writes them.
struct Author {
    name: String,
    mail: String,
    message: String,
}

impl Author {
    fn of(patch: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(patch);
        let (head, rest) = text.split_once("\n\n")?;
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (name, mail) = field("From: ")?.strip_suffix('>')?.rsplit_once('<')?;
        let subject = field("Subject: ")?;
        let subject =
            subject.split_once("] ").filter(|_| subject.starts_with("[PATCH")).map_or(subject, |it| it.1);
        let body = rest.split_once("\n---\n").map_or("", |(body, _)| body).trim();
        let message = if body.is_empty() { subject.to_owned() } else { format!("{subject}\n\n{body}") };
        Some(Self { name: name.trim().trim_matches('"').to_owned(), mail: mail.to_owned(), message })
    }
}

#[cfg(test)]
mod tests {
    use super::Author;

    #[test]
    fn a_mail_says_who_made_it_and_why() {
        let patch = b"From 1234 Mon Sep 17 00:00:00 2001\nFrom: A B <a@b.c>\nDate: x\nSubject: [PATCH 1/2] Fix it\n\nBecause.\n\n---\n a | 1 +\n\ndiff --git a/a b/a\n";
        let author = Author::of(patch).unwrap();
        assert_eq!((author.name.as_str(), author.mail.as_str()), ("A B", "a@b.c"));
        assert_eq!(author.message, "Fix it\n\nBecause.");
        assert!(Author::of(b"diff --git a/a b/a\n--- a/a\n+++ b/a\n").is_none());
    }
}
