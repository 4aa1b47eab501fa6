//! Side effects: what a job left different, out of what was there before and what is there now. Pure.
//!
//! Before, there was the image, and over it what the template wrote while it warmed up. Now there is
//! the image under the clone's own upper layer. Both are seen as the guest saw them ([`view`]), and the
//! paths where the views can differ are compared:
//!
//! - An object that was opened for writing and left as it was is no effect, and neither is another
//!   time of writing: content, mode, owner, attributes, target and device numbers count.
//! - Every new object is an effect of its own; a directory that is gone is one effect.
//! - A directory that was removed and made anew is `replaced`, and what it had and has no more is deleted.
//! - Several names of one file are several objects.
//!
//! Where an object was moved and not made is told where it can be: see [`renames`].

mod renames;
mod view;

#[cfg(test)]
mod tests;

pub use self::view::Before;
pub use super::upper::{
    Bounds, Layer as UpperLayer, Object, Upper, read as read_upper, read_file, read_file_from,
    read_from as read_upper_from,
};

use self::view::View;
use super::names::ancestors;
use evalfleet_proto::effect::{Change, Effect, ObjectType};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::{BTreeSet, HashSet};

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

    /// Whether a glob covers `path`.
    pub fn covers(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// One difference, before it is told.
#[derive(Debug)]
struct Difference<'a> {
    path: &'a str,
    change: Change,
    /// What is there; of a deletion, what was.
    object: Object,
    /// What was there.
    was: Option<Object>,
    /// Where it came from.
    renamed_from: Option<String>,
}

/// Lists the effects of `after` over `before`, at most `effects_max` of them, the undeclared ones first, and
/// counts the rest.
pub fn compare(
    before: &Before,
    after: &UpperLayer,
    expected: &Expected,
    effects_max: usize,
) -> (Vec<Effect>, u64) {
    let (was, is) = (before.view(), before.under(&after.objects));
    let mut differences: Vec<_> =
        candidates(before, after, was, is).into_iter().filter_map(|path| difference(path, was, is)).collect();
    renames::tell(&mut differences, was, is);
    let over = differences.len().saturating_sub(effects_max);
    if over > 0 {
        // What was not declared is what its reader must see.
        differences.sort_by_key(|difference| expected.covers(difference.path));
        differences.truncate(effects_max);
        differences.sort_by_key(|difference| difference.path);
    }
    let omitted = after.omitted + over as u64;
    (differences.into_iter().map(|difference| effect(difference, expected)).collect(), omitted)
}

/// The paths at which the views can differ.
fn candidates<'a>(
    before: &'a Before,
    after: &'a UpperLayer,
    was: View<'a>,
    is: View<'a>,
) -> BTreeSet<&'a str> {
    let mut paths: BTreeSet<&str> =
        before.template().keys().chain(after.objects.keys()).map(String::as_str).collect();
    // Where one view shows what the image has and the other does not, though both have a directory there.
    let (mut laid_bare, mut more) = (HashSet::new(), Vec::new());
    for path in &paths {
        let apart = was.hides(path) != is.hides(path) && is.is_directory(path);
        if apart && !ancestors(path).any(|above| laid_bare.contains(above)) {
            laid_bare.insert(*path);
            more.extend(was.image_below(path));
        }
    }
    paths.extend(more);
    paths
}

/// What happened at one path.
fn difference<'a>(path: &'a str, was: View<'_>, is: View<'_>) -> Option<Difference<'a>> {
    let (old, new) = (was.get(path), is.get(path));
    let change = match (&old, &new) {
        (None, None) => return None,
        (None, Some(_)) => Change::Created,
        // With the directory it was in, which is gone as well, it needs no entry of its own.
        (Some(_), None) => is.is_directory(parent(path)).then_some(Change::Deleted)?,
        (Some(old), Some(new)) if old.kind != new.kind => Change::Replaced,
        (Some(old), Some(new)) if remade(path, old, new, was, is) => Change::Replaced,
        (Some(old), Some(new)) => differs(old, new).then_some(Change::Changed)?,
    };
    let object = new.or_else(|| old.clone())?;
    Some(Difference { path, change, object, was: old, renamed_from: None })
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a directory is another one than the directory that was there.
fn remade(path: &str, old: &Object, new: &Object, was: View<'_>, is: View<'_>) -> bool {
    if old.kind != ObjectType::Directory {
        return false;
    }
    match (old.identity, new.identity) {
        (Some(old), Some(new)) => old != new,
        // The image's own: it is merged with what is above it until it is removed.
        (None, Some(_)) => !was.hides(path) && is.hides(path),
        (_, None) => false,
    }
}

fn differs(was: &Object, is: &Object) -> bool {
    let content = match was.kind {
        // A content that was too long to be read counts as changed: nobody copied it up for nothing.
        ObjectType::File => {
            was.size != is.size
                || was.sha256 != is.sha256
                || (is.sha256.is_none() && (was.identity, was.mtime) != (is.identity, is.mtime))
        }
        ObjectType::Symlink => was.target != is.target,
        ObjectType::CharDevice | ObjectType::BlockDevice => was.device != is.device,
        ObjectType::Directory | ObjectType::Fifo | ObjectType::Socket => false,
    };
    content || (was.mode, was.uid, was.gid) != (is.mode, is.uid, is.gid) || was.xattrs != is.xattrs
}

fn effect(difference: Difference<'_>, expected: &Expected) -> Effect {
    let Difference { path, change, object, renamed_from, .. } = difference;
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
        renamed_from,
        content: None,
        expected: expected.covers(path),
    }
}
