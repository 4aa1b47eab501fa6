//! Which objects were moved and not made.
//!
//! A guest tells nobody what it moved; what can be seen is that one object is gone and an equal one is
//! there. It is told as a rename when nothing else explains it:
//!
//! - An object on the scratch disk that has the identity of one that its template wrote (number and
//!   generation of the inode) is that one, whatever became of its content.
//! - A file, link, pipe, socket or device is another one's when type, size, content, target and device
//!   are equal *and* the time of the last writing is, which moving keeps and making does not; and when
//!   nothing else that was there, deleted or not, and nothing else that is there now is equal as well.
//! - A directory is another one's when both have the same objects in them, at least one of which is
//!   nothing else's by the rule above. Then each object in it came from its counterpart.
//!
//! So it is not told when a file was changed after it was moved (unless its template wrote it), nor
//! when a copy without the time of writing was made and the first one removed, nor between equal
//! candidates, nor when something new has taken the old name. Mode and owner may have changed.
//! A subject that sets times at will can make a rename out of a deletion and a creation, both of which
//! are listed all the same.

use super::view::{View, object_of};
use super::{Change, Difference, Object, ObjectType, Upper};
use evalfleet_proto::ids::Sha256;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What makes an object tell from others, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Mark {
    /// Written by the template.
    Identity(ObjectType, (u32, u32)),
    /// Equal in everything that moving keeps.
    Equal {
        kind: ObjectType,
        size: u64,
        sha256: Option<Sha256>,
        target: Option<String>,
        device: Option<(u32, u32)>,
        mtime: i64,
    },
}

/// The mark by equality; a file that was too long to be read has none, and neither has a directory.
fn equal(object: &Object) -> Option<Mark> {
    let unread = object.kind == ObjectType::File && object.sha256.is_none();
    if unread || object.kind == ObjectType::Directory {
        return None;
    }
    Some(Mark::Equal {
        kind: object.kind,
        size: object.size,
        sha256: object.sha256,
        target: object.target.clone(),
        device: object.device,
        mtime: object.mtime,
    })
}

fn identity(object: &Object) -> Option<Mark> {
    object.identity.map(|identity| Mark::Identity(object.kind, identity))
}

/// Writes into `differences` where objects came from.
pub(super) fn tell(differences: &mut [Difference<'_>], was: View<'_>, is: View<'_>) {
    let gone = gone(differences, was, is);
    if gone.is_empty() || !differences.iter().any(is_new) {
        return;
    }
    let marks = Marks::over(differences, &gone, was, is);
    let mut from: HashMap<String, String> = HashMap::new();
    for difference in differences.iter().filter(|difference| is_new(difference)) {
        let source = marks.source(&difference.object);
        if let Some(source) = source {
            from.insert(difference.path.to_owned(), source.to_owned());
        }
    }
    directories(differences, &gone, was, is, &mut from);
    for difference in differences {
        difference.renamed_from = from.remove(difference.path);
    }
}

/// Whether another object may have come here: not where the same content was before.
fn is_new(difference: &Difference<'_>) -> bool {
    match difference.change {
        Change::Created | Change::Replaced => true,
        Change::Changed => {
            difference.was.as_ref().is_some_and(|was| content(was) != content(&difference.object))
        }
        Change::Deleted => false,
    }
}

fn content(object: &Object) -> (ObjectType, u64, Option<Sha256>, Option<&str>) {
    (object.kind, object.size, object.sha256, object.target.as_deref())
}

/// Everything that was there and has nothing in its place, with what was in directories that are gone.
fn gone<'a>(differences: &[Difference<'a>], was: View<'a>, is: View<'_>) -> BTreeMap<&'a str, Object> {
    let mut gone = BTreeMap::new();
    for difference in differences {
        let Some(old) = &difference.was else { continue };
        if difference.change == Change::Deleted {
            gone.insert(difference.path, old.clone());
        }
        let emptied = matches!(difference.change, Change::Deleted | Change::Replaced);
        if emptied && old.kind == ObjectType::Directory && !is.is_directory(difference.path) {
            gone.extend(
                was.below(difference.path).into_iter().filter_map(|path| Some((path, was.get(path)?))),
            );
        }
    }
    gone
}

/// How often each mark that matters is there.
struct Marks<'a> {
    /// In the view before; with one of the paths that are gone.
    before: HashMap<Mark, (u64, Option<&'a str>)>,
    /// In the upper layer now.
    after: HashMap<Mark, u64>,
}

impl<'a> Marks<'a> {
    fn over(
        differences: &[Difference<'_>],
        gone: &BTreeMap<&'a str, Object>,
        was: View<'_>,
        is: View<'_>,
    ) -> Self {
        let both =
            |object: &Object| [identity(object), equal(object)].into_iter().flatten().collect::<Vec<_>>();
        let new = differences.iter().filter(|difference| is_new(difference));
        let wanted: HashSet<Mark> = new.flat_map(|difference| both(&difference.object)).collect();
        let mut marks = Self { before: HashMap::new(), after: HashMap::new() };
        for (path, object) in gone {
            for mark in both(object).into_iter().filter(|mark| wanted.contains(mark)) {
                marks.before.entry(mark).or_default().1 = Some(path);
            }
        }
        if marks.before.is_empty() {
            return marks;
        }
        let upper_before = was.upper_below("/").filter_map(|(_, upper)| there(upper).cloned());
        for object in was.image_only().map(object_of).chain(upper_before) {
            for mark in both(&object) {
                if let Some((count, _)) = marks.before.get_mut(&mark) {
                    *count += 1;
                }
            }
        }
        for object in is.upper_below("/").filter_map(|(_, upper)| there(upper)) {
            for mark in both(object).into_iter().filter(|mark| marks.before.contains_key(mark)) {
                *marks.after.entry(mark).or_default() += 1;
            }
        }
        marks
    }

    /// Where an object came from, if only one explains it.
    fn source(&self, object: &Object) -> Option<&'a str> {
        let only = |mark: Option<Mark>| {
            let mark = mark?;
            let (count, path) = self.before.get(&mark)?;
            path.filter(|_| *count == 1 && self.after.get(&mark) == Some(&1))
        };
        only(identity(object)).or_else(|| only(equal(object)))
    }
}

fn there(upper: &Upper) -> Option<&Object> {
    match upper {
        Upper::There { object, .. } => Some(object),
        Upper::Whiteout => None,
    }
}

/// What is in a directory: paths from there on, and what makes each tell from others.
type Content<'a> = Vec<(&'a str, Option<Mark>)>;

fn content_of<'a>(path: &str, view: View<'a>) -> Content<'a> {
    let below = view.below(path).into_iter();
    below.filter_map(|inner| Some((&inner[path.len()..], equal(&view.get(inner)?)))).collect()
}

/// Finds the directories that were moved as a whole, out of the files in them that were.
fn directories(
    differences: &[Difference<'_>],
    gone: &BTreeMap<&str, Object>,
    was: View<'_>,
    is: View<'_>,
    from: &mut HashMap<String, String>,
) {
    // From the files that are known to have moved, what their directories were called and are called.
    let mut pairs: HashMap<String, Option<String>> = HashMap::new();
    for (to, source) in from.iter() {
        let same_name = |(to, source): (&str, &str)| {
            let ((to, name), (source, old_name)) = (to.rsplit_once('/')?, source.rsplit_once('/')?);
            (name == old_name && !to.is_empty() && !source.is_empty())
                .then(|| (to.to_owned(), source.to_owned()))
        };
        let mut pair = same_name((to, source));
        while let Some((to, source)) = pair {
            let known = pairs.entry(to.clone()).or_insert_with(|| Some(source.clone()));
            if known.as_ref() != Some(&source) {
                // Its files come from several directories.
                *known = None;
            }
            pair = same_name((&to, &source));
        }
    }
    let created: HashSet<&str> = differences
        .iter()
        .filter(|difference| difference.change == Change::Created)
        .map(|difference| difference.path)
        .collect();
    // The shortest first: what is in a directory that was moved has moved with it.
    let mut pairs: Vec<_> = pairs.into_iter().filter_map(|(to, source)| Some((to, source?))).collect();
    pairs.sort();
    let mut moved: Vec<String> = Vec::new();
    for (to, source) in pairs {
        let inside = moved.iter().any(|above| to.starts_with(above));
        if inside || !created.contains(to.as_str()) || !gone.contains_key(source.as_str()) {
            continue;
        }
        let content = content_of(&to, is);
        if content != content_of(&source, was) {
            continue;
        }
        for (inner, _) in content {
            from.insert(format!("{to}{inner}"), format!("{source}{inner}"));
        }
        moved.push(format!("{to}/"));
        from.insert(to, source);
    }
}
