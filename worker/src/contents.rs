//! Texts that a job changed are kept as they were and as they are, so that a reader sees what changed in them.
//!
//! [`tell`] says of each effect what its file had in it, and gives the texts that are to be kept: pure, but for the
//! [`Sides`] that it asks. [`Disks`] are the real ones: what the job laid in, what its template wrote, what is on the
//! VM's disk. An image of our own is packed, and nothing here reads it: its files are "not at hand".
//! Bounded: so many files and bytes of one job, and no file longer than `worker.contents`.

use crate::vm::effects;
use crate::vm::ext4::Error;
use crate::vm::{Template, foreign};
use evalfleet_proto::effect::{Change, Content, Contents, Effect, Kept, ObjectType};
use evalfleet_proto::ids::Sha256;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The most files of one job.
pub const FILES_MAX: usize = 64;
/// All texts of one job together may have so many times the bytes of the longest.
const ALL_TIMES: u64 = 16;

/// One side of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// There is no file.
    Absent,
    /// This is in it.
    Bytes(Vec<u8>),
    /// So many bytes, more than were wanted.
    TooLong(u64),
    /// So many bytes, which cannot be had.
    NotAtHand(u64),
}

/// Where contents come from.
pub trait Sides {
    /// What was at `path` before the job, if it has at most `bytes_max` bytes.
    fn before(&self, path: &str, bytes_max: u64) -> Side;
    /// What is there after it.
    fn after(&self, path: &str, bytes_max: u64) -> Side;
}

/// What may still be kept.
struct Room {
    file: u64,
    all: u64,
    texts: Vec<Vec<u8>>,
}

impl Room {
    fn take(&mut self, side: Side) -> Content {
        let bytes = match side {
            Side::Absent => return Content::ABSENT,
            Side::TooLong(bytes) => return Content::without(Kept::TooLong, bytes),
            Side::NotAtHand(bytes) => return Content::without(Kept::NotAtHand, bytes),
            Side::Bytes(bytes) => bytes,
        };
        let length = bytes.len() as u64;
        if bytes.contains(&0) || std::str::from_utf8(&bytes).is_err() {
            return Content::without(Kept::Binary, length);
        }
        let Some(left) = self.all.checked_sub(length).filter(|_| length <= self.file) else {
            return Content::without(Kept::TooLong, length);
        };
        self.all = left;
        let content = Content { is: Kept::Text, bytes: length, sha256: Some(Sha256::of(&bytes)) };
        self.texts.push(bytes);
        content
    }
}

/// Says of the first files among `effects` what was and is in them; gives the texts that have to be kept for that to
/// be true. Those that were not announced come first: they are what a reader looks for.
pub fn tell(effects: &mut [Effect], sides: &impl Sides, bytes_max: u64) -> Vec<Vec<u8>> {
    if bytes_max == 0 {
        return Vec::new();
    }
    let mut room = Room { file: bytes_max, all: bytes_max.saturating_mul(ALL_TIMES), texts: Vec::new() };
    let mut files: Vec<&mut Effect> = effects
        .iter_mut()
        .filter(|effect| effect.object == ObjectType::File && effect.renamed_from.is_none())
        .collect();
    files.sort_by_key(|effect| effect.expected);
    let mut told = 0;
    for effect in files {
        if told == FILES_MAX {
            break;
        }
        let before = sides.before(&effect.path, bytes_max);
        if let (Side::Bytes(bytes), Some(now)) = (&before, effect.sha256)
            && effect.change != Change::Deleted
            && Sha256::of(bytes) == now
        {
            // Its mode, or nothing: it is as it was laid in.
            continue;
        }
        let after = match effect.change {
            Change::Deleted => Side::Absent,
            Change::Created | Change::Changed | Change::Replaced if effect.size > bytes_max => {
                Side::TooLong(effect.size)
            }
            Change::Created | Change::Changed | Change::Replaced => sides.after(&effect.path, bytes_max),
        };
        effect.content = Some(Contents { before: room.take(before), after: room.take(after) });
        told += 1;
    }
    room.texts
}

/// The disks of a job that has ended.
#[derive(Debug)]
pub struct Disks {
    /// What the job laid in, by path.
    pub laid: BTreeMap<String, Side>,
    /// What its VM was cloned from.
    pub template: Arc<Template>,
    /// The VM's own disk.
    pub scratch: PathBuf,
}

fn side(read: Result<Vec<u8>, Error>, bytes: u64) -> Side {
    match read {
        Ok(bytes) => Side::Bytes(bytes),
        Err(Error::TooLarge(_)) => Side::TooLong(bytes),
        // A disk that was in the subject's hands may say anything; the list of effects warns of damage.
        Err(_) => Side::NotAtHand(bytes),
    }
}

impl Sides for Disks {
    fn before(&self, path: &str, bytes_max: u64) -> Side {
        if let Some(laid) = self.laid.get(path) {
            return laid.clone();
        }
        if let Some((image, frozen)) = self.template.foreign_disks() {
            return match foreign::effects::read_before((&image, &frozen), path, bytes_max) {
                Err(Error::Damaged(_) | Error::Foreign(_)) => Side::Absent,
                read => side(read, 0),
            };
        }
        match self.template.before().file(path) {
            None => Side::Absent,
            Some((bytes, _)) if bytes > bytes_max => Side::TooLong(bytes),
            Some((bytes, true)) => side(effects::read_file(&self.template.scratch(), path, bytes_max), bytes),
            Some((bytes, false)) => Side::NotAtHand(bytes),
        }
    }

    fn after(&self, path: &str, bytes_max: u64) -> Side {
        let read = match self.template.foreign_disks() {
            Some((image, frozen)) => {
                foreign::effects::read_file((&image, &frozen), &self.scratch, path, bytes_max)
            }
            None => effects::read_file(&self.scratch, path, bytes_max),
        };
        side(read, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Files by path, on either side.
    #[derive(Default)]
    struct Both(BTreeMap<String, (Bytes, Bytes)>);

    /// What is in a file, if it is there.
    type Bytes = Option<Vec<u8>>;

    impl Both {
        fn side(content: Option<&Vec<u8>>, most: u64) -> Side {
            match content {
                None => Side::Absent,
                Some(bytes) if bytes.len() as u64 > most => Side::TooLong(bytes.len() as u64),
                Some(bytes) => Side::Bytes(bytes.clone()),
            }
        }
    }

    impl Sides for Both {
        fn before(&self, path: &str, most: u64) -> Side {
            Self::side(self.0.get(path).and_then(|(before, _)| before.as_ref()), most)
        }
        fn after(&self, path: &str, most: u64) -> Side {
            Self::side(self.0.get(path).and_then(|(_, after)| after.as_ref()), most)
        }
    }

    fn effect(path: &str, change: Change, after: Option<&[u8]>) -> Effect {
        Effect {
            path: path.to_owned(),
            change,
            object: ObjectType::File,
            size: after.map_or(0, |bytes| bytes.len() as u64),
            mode: "0644".to_owned(),
            uid: 0,
            gid: 0,
            sha256: after.map(Sha256::of),
            target: None,
            renamed_from: None,
            content: None,
            expected: true,
        }
    }

    fn told(before: Option<&[u8]>, after: Option<&[u8]>, change: Change) -> Option<(Kept, Kept)> {
        let files = BTreeMap::from([("/a".to_owned(), (before.map(Vec::from), after.map(Vec::from)))]);
        let mut effects = [effect("/a", change, after)];
        tell(&mut effects, &Both(files), 16);
        effects[0].content.map(|content| (content.before.is, content.after.is))
    }

    #[test]
    fn each_side_is_told_for_what_it_is() {
        let changed = |before: &[u8], after: &[u8]| told(Some(before), Some(after), Change::Changed);
        assert_eq!(changed(b"a\n", b"b\n"), Some((Kept::Text, Kept::Text)));
        assert_eq!(changed(b"a\n", b"\0\x01"), Some((Kept::Text, Kept::Binary)));
        assert_eq!(changed(b"\xff", b"b"), Some((Kept::Binary, Kept::Text)));
        assert_eq!(changed(b"a", &[b'b'; 17]), Some((Kept::Text, Kept::TooLong)));
        assert_eq!(changed(b"a", b"a"), None, "only its mode is another");
        assert_eq!(told(None, Some(b"a"), Change::Created), Some((Kept::Absent, Kept::Text)));
        assert_eq!(told(Some(b"a"), Some(b"a"), Change::Created), None, "as it was laid in");
        assert_eq!(told(Some(b"a"), None, Change::Deleted), Some((Kept::Text, Kept::Absent)));
    }

    #[test]
    fn nothing_is_told_where_nothing_may_be_kept() {
        let mut effects = [effect("/a", Change::Created, Some(b"a"))];
        assert!(tell(&mut effects, &Both::default(), 0).is_empty());
        assert_eq!(effects[0].content, None);
    }

    proptest! {
        #[test]
        fn what_is_kept_stays_within_its_bounds_and_is_what_was_told(
            files in proptest::collection::vec((proptest::option::of("[ab\n]{0,24}"), "[ab\n]{0,24}", any::<bool>()), 0..100)
        ) {
            let (most, mut both, mut effects) = (16, Both::default(), Vec::new());
            for (number, (before, after, expected)) in files.into_iter().enumerate() {
                let path = format!("/{number:03}");
                let change = if before.is_some() { Change::Changed } else { Change::Created };
                effects.push(Effect { expected, ..effect(&path, change, Some(after.as_bytes())) });
                both.0.insert(path, (before.map(String::into_bytes), Some(after.into_bytes())));
            }
            let paths: Vec<String> = effects.iter().map(|effect| effect.path.clone()).collect();
            let texts = tell(&mut effects, &both, most);
            prop_assert_eq!(effects.iter().map(|effect| effect.path.clone()).collect::<Vec<_>>(), paths);
            prop_assert!(texts.iter().all(|text| text.len() as u64 <= most));
            prop_assert!(texts.iter().map(Vec::len).sum::<usize>() as u64 <= most * ALL_TIMES);
            let told: Vec<Contents> = effects.iter().filter_map(|effect| effect.content).collect();
            prop_assert!(told.len() <= FILES_MAX);
            let keys: Vec<Sha256> = told.iter().flat_map(|one| [one.before.sha256, one.after.sha256]).flatten().collect();
            let mut kept: Vec<Sha256> = texts.iter().map(|text| Sha256::of(text)).collect();
            kept.sort();
            let mut named = keys;
            named.sort();
            prop_assert_eq!(kept, named);
        }
    }
}
