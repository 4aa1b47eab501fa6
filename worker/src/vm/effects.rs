//! Side effects: what a job left different, out of what was there before and what is there now. Pure.
//!
//! Before, there was the image, and over it what the template wrote while it warmed up. Now there is
//! the clone's own upper layer. An object that was opened for writing and left as it was is no effect.

use super::upper::{Layer, Object, Upper};
use evalfleet_images::index::{self, Index};
use evalfleet_proto::effect::{Change, Effect, ObjectType};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::BTreeMap;

pub use super::upper::{Layer as UpperLayer, read as read_upper, read_file};

/// What was there before the job.
#[derive(Debug, Default)]
pub struct Before {
    image: Option<Index>,
    template: BTreeMap<String, Upper>,
}

/// A glob that is none.
#[derive(Debug, thiserror::Error)]
#[error("expected_effects: {0}")]
pub struct GlobError(#[from] globset::Error);

/// The paths that a job declared it would change.
#[derive(Debug)]
pub struct Expected(GlobSet);

impl Expected {
    /// Compiles the globs: `*` stays within a folder, `**` does not.
    ///
    /// # Errors
    /// Names the glob that is none.
    pub fn new<S: AsRef<str>>(globs: &[S]) -> Result<Self, GlobError> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(GlobBuilder::new(glob.as_ref()).literal_separator(true).build()?);
        }
        Ok(Self(set.build()?))
    }
}

impl Before {
    pub(super) fn new(image: Index, template: BTreeMap<String, Upper>) -> Self {
        Self { image: Some(image), template }
    }

    /// What was at `path`.
    fn get(&self, path: &str) -> Option<Object> {
        match self.template.get(path) {
            Some(Upper::Whiteout) => return None,
            Some(Upper::There { object, .. }) => return Some(object.clone()),
            None => {}
        }
        let hidden = ancestors(path).any(|above| {
            matches!(self.template.get(above), Some(Upper::Whiteout | Upper::There { opaque: true, .. }))
        });
        if hidden { None } else { self.image.as_ref()?.get(path).map(object_of) }
    }
}

/// Lists the effects of `after` over `before`, at most `effects_max` of them, and counts the rest.
pub fn compare(
    before: &Before,
    after: &Layer,
    expected: &Expected,
    effects_max: usize,
) -> (Vec<Effect>, u64) {
    let mut effects = Vec::new();
    let mut omitted = after.omitted;
    for (path, upper) in &after.objects {
        let Some((change, object)) = change(before.get(path), upper) else { continue };
        if effects.len() < effects_max {
            effects.push(effect(path, change, object, expected.0.is_match(path)));
        } else {
            omitted += 1;
        }
    }
    (effects, omitted)
}

/// What happened to one object, and what to tell of it.
fn change(before: Option<Object>, upper: &Upper) -> Option<(Change, Object)> {
    match (before, upper) {
        (None, Upper::Whiteout) => None,
        (Some(was), Upper::Whiteout) => Some((Change::Deleted, was)),
        (None, Upper::There { object, .. }) => Some((Change::Created, object.clone())),
        (Some(was), Upper::There { object, opaque }) => {
            let fresh_directory = *opaque && was.kind == ObjectType::Directory;
            if was.kind != object.kind || fresh_directory {
                Some((Change::Replaced, object.clone()))
            } else if differs(&was, object) {
                Some((Change::Changed, object.clone()))
            } else {
                None
            }
        }
    }
}

fn differs(was: &Object, is: &Object) -> bool {
    let content = match was.kind {
        // A content that was too long to be read counts as changed: nobody copied it up for nothing.
        ObjectType::File => was.size != is.size || is.sha256.is_none() || was.sha256 != is.sha256,
        ObjectType::Symlink => was.target != is.target,
        ObjectType::Directory
        | ObjectType::Fifo
        | ObjectType::Socket
        | ObjectType::CharDevice
        | ObjectType::BlockDevice => false,
    };
    content || (was.mode, was.uid, was.gid) != (is.mode, is.uid, is.gid) || was.xattrs != is.xattrs
}

fn effect(path: &str, change: Change, object: Object, expected: bool) -> Effect {
    Effect {
        path: path.to_owned(),
        change,
        object: object.kind,
        size: object.size,
        mode: format!("{:04o}", object.mode),
        uid: object.uid,
        gid: object.gid,
        sha256: object.sha256,
        target: object.target,
        expected,
    }
}

/// The folders above a path, the nearest first, without the root.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().rev().filter(|(at, letter)| *letter == '/' && *at > 0).map(|(at, _)| &path[..at])
}

fn object_of(entry: &index::Entry) -> Object {
    let kind = match entry.kind {
        index::Kind::File => ObjectType::File,
        index::Kind::Directory => ObjectType::Directory,
        index::Kind::Symlink => ObjectType::Symlink,
        index::Kind::Fifo => ObjectType::Fifo,
        index::Kind::Socket => ObjectType::Socket,
        index::Kind::CharDevice => ObjectType::CharDevice,
        index::Kind::BlockDevice => ObjectType::BlockDevice,
    };
    Object {
        kind,
        mode: entry.mode as u16,
        uid: entry.uid,
        gid: entry.gid,
        size: entry.size,
        sha256: entry.sha256.as_ref().and_then(|digest| digest.to_string().parse().ok()),
        target: entry.target.clone(),
        xattrs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> Object {
        Object {
            kind: ObjectType::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: content.len() as u64,
            sha256: Some(evalfleet_proto::ids::Sha256::of(content.as_bytes())),
            target: None,
            xattrs: Vec::new(),
        }
    }

    fn directory() -> Object {
        Object { kind: ObjectType::Directory, mode: 0o755, size: 0, sha256: None, ..file("") }
    }

    fn there(object: Object) -> Upper {
        Upper::There { object, opaque: false }
    }

    fn opaque() -> Upper {
        Upper::There { object: directory(), opaque: true }
    }

    fn effects(before: &[(&str, Upper)], after: &[(&str, Upper)]) -> Vec<(String, Change)> {
        let map = |list: &[(&str, Upper)]| {
            list.iter().map(|(path, upper)| ((*path).to_owned(), upper.clone())).collect()
        };
        let before = Before { image: None, template: map(before) };
        let after = Layer { objects: map(after), ..Layer::default() };
        let expected = Expected::new(&["/w/**"]).unwrap();
        compare(&before, &after, &expected, 100)
            .0
            .into_iter()
            .map(|effect| (effect.path, effect.change))
            .collect()
    }

    #[test]
    fn the_four_changes_and_no_change() {
        let before = [
            ("/etc", there(directory())),
            ("/etc/a", there(file("a"))),
            ("/etc/b", there(file("b"))),
            ("/etc/c", there(file("c"))),
        ];
        let after = [
            ("/etc", there(directory())),
            ("/etc/a", there(file("A"))),
            ("/etc/b", Upper::Whiteout),
            ("/etc/c", there(file("c"))),
            ("/etc/d", there(file("d"))),
            ("/etc/never", Upper::Whiteout),
        ];
        let expected =
            [("/etc/a", Change::Changed), ("/etc/b", Change::Deleted), ("/etc/d", Change::Created)];
        assert_eq!(effects(&before, &after), expected.map(|(path, change)| (path.to_owned(), change)));
    }

    #[test]
    fn a_directory_made_anew_is_replaced_and_one_made_first_is_created() {
        let before = [("/old", there(directory()))];
        let after = [("/new", opaque()), ("/old", opaque())];
        let expected = [("/new".to_owned(), Change::Created), ("/old".to_owned(), Change::Replaced)];
        assert_eq!(effects(&before, &after), expected);
    }

    #[test]
    fn a_change_of_mode_owner_or_attributes_alone_is_a_change() {
        let before = [("/a", there(file("a"))), ("/b", there(file("b"))), ("/c", there(file("c")))];
        let mut with_attribute = file("c");
        with_attribute.xattrs.push(("user.x".to_owned(), b"1".to_vec()));
        let after = [
            ("/a", there(Object { mode: 0o600, ..file("a") })),
            ("/b", there(Object { uid: 7, ..file("b") })),
            ("/c", there(with_attribute)),
        ];
        assert!(effects(&before, &after).iter().all(|(_, change)| *change == Change::Changed));
        assert_eq!(effects(&before, &after).len(), 3);
    }

    #[test]
    fn the_list_is_bounded_and_the_rest_is_counted() {
        let objects = (0..10).map(|number| (format!("/w/{number}"), there(file("x")))).collect();
        let after = Layer { objects, omitted: 5, damaged: Vec::new() };
        let expected = Expected::new(&["/w/**"]).unwrap();
        let (effects, omitted) = compare(&Before::default(), &after, &expected, 4);
        assert_eq!((effects.len(), omitted), (4, 11));
        assert!(effects.iter().all(|effect| effect.expected));
    }
}
