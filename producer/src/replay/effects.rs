//! Two lists of effects, held against each other. Pure.
//!
//! An effect is its path, what happened there and what is there now: type, content, target, mode, owner. When a file was
//! written is none, nor is what the list says besides (whether it was declared, from where it was moved).
//!
//! Two things differ by right, and are no difference:
//! - **names in folders for temporary files** (`/tmp`, `/var/tmp`, `/run`): programs make them up, of random letters or
//!   their process number. What only one side has there is the same as what only the other has, if all but that one
//!   name is;
//! - **the content of Python's caches** (`__pycache__/*.pyc`): they hold the time at which their source was written.

use evalfleet_proto::effect::{Change, Effect, ObjectType};
use std::collections::{BTreeMap, BTreeSet};

/// Folders in which names are made up.
const TEMPORARY: [&str; 3] = ["/tmp/", "/var/tmp/", "/run/"];
/// Digits of a hash that are shown.
const DIGITS: usize = 12;

/// One effect that only one side has, or that is another on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) before: String,
    pub(super) now: String,
}

/// What of an effect counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct What<'a> {
    change: Change,
    object: ObjectType,
    size: u64,
    mode: &'a str,
    owner: (u32, u32),
    content: Option<String>,
    target: Option<&'a str>,
}

impl<'a> What<'a> {
    fn of(effect: &'a Effect) -> Self {
        Self {
            change: effect.change,
            object: effect.object,
            size: effect.size,
            mode: &effect.mode,
            owner: (effect.uid, effect.gid),
            content: effect.sha256.filter(|_| !is_python_cache(&effect.path)).map(|hash| hash.to_string()),
            target: effect.target.as_deref(),
        }
    }
}

impl std::fmt::Display for What<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}, mode {}", change_word(self.change), object_word(self.object), self.mode)?;
        if self.owner != (0, 0) {
            write!(f, ", owner {}:{}", self.owner.0, self.owner.1)?;
        }
        if self.object == ObjectType::File {
            write!(f, ", {} bytes", self.size)?;
        }
        if let Some(content) = &self.content {
            write!(f, ", sha256 {}…", &content[..DIGITS])?;
        }
        self.target.map_or(Ok(()), |target| write!(f, " -> {target}"))
    }
}

/// What differs, by path.
pub(super) fn differences(before: &[Effect], now: &[Effect]) -> Vec<Difference> {
    let (mut before, mut now) = (by_path(before), by_path(now));
    forget_made_up_names(&mut before, &mut now);
    let paths: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
    let told = |what: Option<&What<'_>>| what.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    paths
        .into_iter()
        .filter(|path| before.get(path) != now.get(path))
        .map(|path| Difference {
            path: path.to_owned(),
            before: told(before.get(path)),
            now: told(now.get(path)),
        })
        .collect()
}

/// What differs in kind where both sides did something: all that can be said where a run was cut short.
pub(super) fn differences_in_kind(before: &[Effect], now: &[Effect]) -> Vec<Difference> {
    let (before, now) = (by_path(before), by_path(now));
    let both = before.iter().filter_map(|(path, before)| Some((path, before, now.get(path)?)));
    both.filter(|(_, before, now)| (before.change, before.object) != (now.change, now.object))
        .map(|(path, before, now)| Difference {
            path: (*path).to_owned(),
            before: before.to_string(),
            now: now.to_string(),
        })
        .collect()
}

fn by_path(effects: &[Effect]) -> BTreeMap<&str, What<'_>> {
    effects.iter().map(|effect| (effect.path.as_str(), What::of(effect))).collect()
}

/// The folder for temporary files that a path lies in, the name in it, and what follows.
fn made_up(path: &str) -> Option<(&'static str, &str, &str)> {
    let folder = TEMPORARY.into_iter().find(|folder| path.starts_with(folder))?;
    let inside = &path[folder.len()..];
    let end = inside.find('/').unwrap_or(inside.len());
    Some((folder, &inside[..end], &inside[end..]))
}

/// All that was done under one name in a folder for temporary files, but for the name.
type Under<'a> = Vec<(&'a str, What<'a>)>;

/// Takes what differs by nothing but a made-up name out of both sides.
fn forget_made_up_names<'a>(before: &mut BTreeMap<&'a str, What<'a>>, now: &mut BTreeMap<&'a str, What<'a>>) {
    let (mut ours, theirs) = (by_name(before), by_name(now));
    let common: Vec<(&str, &str)> = ours.keys().filter(|key| theirs.contains_key(*key)).copied().collect();
    common.iter().for_each(|key| _ = ours.remove(key));
    for (key, under) in theirs.iter().filter(|(key, _)| !common.contains(key)) {
        let same = |(folder, _): &(&str, &str), other: &Under<'_>| *folder == key.0 && other == under;
        let Some(found) = ours.iter().find(|(key, other)| same(key, other)).map(|(key, _)| *key) else {
            continue;
        };
        ours.remove(&found);
        let under = |path: &str, (folder, name): (&str, &str)| {
            made_up(path).is_some_and(|(there, called, _)| (there, called) == (folder, name))
        };
        before.retain(|path, _| !under(path, found));
        now.retain(|path, _| !under(path, *key));
    }
}

fn by_name<'a>(effects: &BTreeMap<&'a str, What<'a>>) -> BTreeMap<(&'a str, &'a str), Under<'a>> {
    let mut found: BTreeMap<(&str, &str), Under<'_>> = BTreeMap::new();
    for (path, what) in effects {
        if let Some((folder, name, rest)) = made_up(path) {
            found.entry((folder, name)).or_default().push((rest, what.clone()));
        }
    }
    // A name that was there before is nobody's invention.
    found.retain(|_, under| under.iter().all(|(_, what)| what.change == Change::Created));
    found
}

fn is_python_cache(path: &str) -> bool {
    path.ends_with(".pyc") && path.contains("/__pycache__/")
}

fn change_word(change: Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Changed => "changed",
        Change::Deleted => "deleted",
        Change::Replaced => "replaced",
    }
}

fn object_word(object: ObjectType) -> &'static str {
    match object {
        ObjectType::File => "file",
        ObjectType::Directory => "directory",
        ObjectType::Symlink => "symlink",
        ObjectType::Fifo => "fifo",
        ObjectType::Socket => "socket",
        ObjectType::CharDevice => "char_device",
        ObjectType::BlockDevice => "block_device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::ids::Sha256;

    fn file(path: &str, content: &str) -> Effect {
        Effect {
            path: path.to_owned(),
            change: Change::Created,
            object: ObjectType::File,
            size: content.len() as u64,
            mode: "0644".to_owned(),
            uid: 0,
            gid: 0,
            sha256: Some(Sha256::of(content.as_bytes())),
            target: None,
            renamed_from: None,
            content: None,
            expected: true,
        }
    }

    fn folder(path: &str) -> Effect {
        let object = ObjectType::Directory;
        Effect { object, size: 0, sha256: None, mode: "0700".to_owned(), ..file(path, "") }
    }

    fn paths(before: &[Effect], now: &[Effect]) -> Vec<String> {
        differences(before, now).into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn a_difference_says_what_it_was_and_is() {
        let (before, now) =
            ([file("/w/a", "one"), file("/w/b", "x")], [file("/w/a", "two!"), file("/w/c", "x")]);
        let found = differences(&before, &now);
        assert_eq!(found.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/w/a", "/w/b", "/w/c"]);
        assert!(found[0].before.starts_with("created file, mode 0644, 3 bytes, sha256 "), "{found:?}");
        assert!(found[0].now.contains("4 bytes"), "{found:?}");
        assert_eq!((found[1].now.as_str(), found[2].before.as_str()), ("nothing", "nothing"));
    }

    #[test]
    fn a_made_up_name_is_no_difference_and_what_is_under_it_is() {
        let made = |name: &str, content: &str| {
            [folder(&format!("/tmp/{name}")), file(&format!("/tmp/{name}/out.txt"), content)]
        };
        assert_eq!(paths(&made("tmpab12", "x"), &made("tmpzz99", "x")), [""; 0]);
        assert_eq!(
            paths(&made("tmpab12", "x"), &made("tmpzz99", "y")),
            ["/tmp/tmpab12", "/tmp/tmpab12/out.txt", "/tmp/tmpzz99", "/tmp/tmpzz99/out.txt"]
        );
        assert_eq!(paths(&[file("/run/a.12", "")], &[file("/run/a.977", "")]), [""; 0]);
        // As many of them, elsewhere by its name, and what was there before by its name as well.
        let two = [file("/tmp/a", "x"), file("/tmp/b", "x")];
        assert_eq!(paths(&two, &[file("/tmp/c", "x")]), ["/tmp/b"]);
        assert_eq!(paths(&[file("/w/a", "x")], &[file("/w/b", "x")]), ["/w/a", "/w/b"]);
        assert_eq!(paths(&[file("/tmp/a", "x")], &[file("/var/tmp/b", "x")]), ["/tmp/a", "/var/tmp/b"]);
        let gone = |path: &str| Effect { change: Change::Deleted, ..file(path, "x") };
        assert_eq!(paths(&[gone("/tmp/a")], &[gone("/tmp/b")]), ["/tmp/a", "/tmp/b"]);
    }

    #[test]
    fn a_python_cache_holds_the_time_of_its_source() {
        let cache = |content: &str| [file("/w/__pycache__/a.cpython-313.pyc", content)];
        assert_eq!(paths(&cache("1234"), &cache("5678")), [""; 0]);
        assert_eq!(paths(&cache("1234"), &cache("56789")).len(), 1);
    }

    #[test]
    fn of_what_was_cut_short_only_the_kind_counts() {
        let before = [file("/w/a", "one"), file("/w/b", "")];
        let now = [file("/w/a", "onetwo"), folder("/w/b"), file("/w/c", "")];
        let found = differences_in_kind(&before, &now);
        assert_eq!(found.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/w/b"]);
    }
}
