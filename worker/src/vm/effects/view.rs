//! What a guest saw: an image under an upper layer.

use crate::vm::names::{ancestors, printable};
use crate::vm::upper::{Object, Upper};
use evalfleet_images::index::{self, Index};
use evalfleet_proto::effect::ObjectType;
use std::collections::BTreeMap;

/// What was there before a job: the image, and over it what the template wrote.
#[derive(Debug, Default)]
pub struct Before {
    image: Option<Index>,
    template: BTreeMap<String, Upper>,
}

impl Before {
    /// What a guest sees before its job, of `image` under what its `template` wrote over it.
    pub fn new(image: Index, template: BTreeMap<String, Upper>) -> Self {
        Self { image: Some(as_printed(image)), template }
    }

    #[cfg(test)]
    pub(super) fn without_image(template: BTreeMap<String, Upper>) -> Self {
        Self { image: None, template }
    }

    /// The file that a job finds at `path`: its length, and whether the template wrote it; otherwise it is the
    /// image's own.
    pub fn file(&self, path: &str) -> Option<(u64, bool)> {
        let object = self.view().get(path).filter(|object| object.kind == ObjectType::File)?;
        Some((object.size, self.template.contains_key(path)))
    }

    pub(super) fn template(&self) -> &BTreeMap<String, Upper> {
        &self.template
    }

    /// The guest's view before the job.
    pub(super) fn view(&self) -> View<'_> {
        self.under(&self.template)
    }

    /// The guest's view with another upper layer.
    pub(super) fn under<'a>(&'a self, upper: &'a BTreeMap<String, Upper>) -> View<'a> {
        View { image: self.image.as_ref(), upper }
    }
}

/// An index whose paths are written as those of a disk are.
fn as_printed(image: Index) -> Index {
    if !image.entries().iter().any(|entry| entry.path.contains("\\x")) {
        return image;
    }
    let entries = image.entries().iter().cloned();
    Index::new(
        entries.map(|entry| index::Entry { path: printable(entry.path.as_bytes()), ..entry }).collect(),
    )
}

/// An image under an upper layer: what is at a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    image: Option<&'a Index>,
    upper: &'a BTreeMap<String, Upper>,
}

impl<'a> View<'a> {
    pub(super) fn get(&self, path: &str) -> Option<Object> {
        match self.upper.get(path) {
            Some(Upper::Whiteout) => return None,
            Some(Upper::There { object, .. }) => return Some(object.clone()),
            None => {}
        }
        if self.hides_above(path) { None } else { self.image?.get(path).map(object_of) }
    }

    pub(super) fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || self.get(path).is_some_and(|object| object.kind == ObjectType::Directory)
    }

    /// Whether the image's object at `path`, if there is one, is not to be seen, or not to be merged with.
    pub(super) fn hides(&self, path: &str) -> bool {
        self.upper.get(path).is_some_and(Upper::hides) || self.hides_above(path)
    }

    fn hides_above(&self, path: &str) -> bool {
        ancestors(path).any(|above| self.upper.get(above).is_some_and(Upper::hides))
    }

    /// The image's paths below `path`, whether they are seen or not.
    pub(super) fn image_below(&self, path: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.image.map(|image| image.below(path)).unwrap_or_default().iter().map(|entry| entry.path.as_str())
    }

    /// The upper layer's paths below `path`.
    pub(super) fn upper_below(&self, path: &str) -> impl Iterator<Item = (&'a str, &'a Upper)> + use<'a> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let from = self.upper.range(prefix.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, upper)| (path.as_str(), upper))
    }

    /// Every path that is seen below `path`, each once, sorted.
    pub(super) fn below(&self, path: &str) -> Vec<&'a str> {
        let mut paths: Vec<_> = self.image_below(path).filter(|path| !self.hides(path)).collect();
        let there = self.upper_below(path).filter(|(_, upper)| matches!(upper, Upper::There { .. }));
        paths.extend(there.map(|(path, _)| path));
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Every object of the image that is seen, without those that the upper layer has as well.
    pub(super) fn image_only(&self) -> impl Iterator<Item = &'a index::Entry> + use<'a, '_> {
        let entries = self.image.map(Index::entries).unwrap_or_default();
        entries.iter().filter(|entry| !self.upper.contains_key(&entry.path) && !self.hides_above(&entry.path))
    }
}

pub(super) fn object_of(entry: &index::Entry) -> Object {
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
        target: entry.target.as_ref().map(|target| printable(target.as_bytes())),
        device: entry.device,
        mtime: entry.mtime,
        // An index has none, since the builder's packages have none.
        xattrs: None,
        identity: None,
    }
}
