//! What is done with an input, and what must hold whatever it is.

use crate::sparse::expand;
use evalfleet_images::digest::Digest;
use evalfleet_images::index::{Entry, Index, Kind};
use evalfleet_proto::guest::{FromGuest, LENGTH_BYTES};
use evalfleet_proto::wire;
use evalfleet_worker::vm::effects::{self, Before, Bounds, Expected};
use evalfleet_worker::vm::ext4;
use evalfleet_worker::vm::frames::Frames;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Small, so that a run ends soon; what is bounded is the same.
const BOUNDS: Bounds = Bounds {
    objects: 500,
    depth: 12,
    text: 32 << 10,
    file: 256 << 10,
    hashed: 1 << 20,
    disk: ext4::Bounds { bytes: 4 << 20, until: None },
};
const EFFECTS_MAX: usize = 100;

/// Reads a disk and compares it with what was there before a job.
pub fn disk(data: &[u8]) {
    let disk = expand(data);
    for path in ["/file", "/directory/link", "/"] {
        if let Ok(content) = effects::read_file_from(disk.as_slice(), path, BOUNDS.file, BOUNDS) {
            assert!(content.len() as u64 <= BOUNDS.file, "a file is longer than its bound");
        }
    }
    let Ok(layer) = effects::read_upper_from(disk.as_slice(), BOUNDS) else { return };
    // The upper layer's own directory is not counted.
    assert!(layer.objects.len() <= BOUNDS.objects + 1, "more objects than the bound");
    assert!(layer.objects.keys().map(String::len).sum::<usize>() <= BOUNDS.text, "more text than the bound");
    assert!(layer.damaged.len() <= 16, "more is told than the bound");
    assert!(layer.damaged.len() as u64 <= layer.omitted, "what is damaged is counted");
    let nothing: [&str; 0] = [];
    let expected = Expected::new(&nothing).expect("no globs");
    let (all, omitted) = effects::compare(before(), &layer, &expected, usize::MAX);
    assert_eq!(omitted, layer.omitted, "all are listed");
    let paths: BTreeSet<&str> = all.iter().map(|effect| effect.path.as_str()).collect();
    assert_eq!(paths.len(), all.len(), "a path is told once");
    assert!(paths.iter().all(|path| path.starts_with('/') && !path.contains('\0')), "a path that is none");
    let sources: Vec<_> = all.iter().filter_map(|effect| effect.renamed_from.as_deref()).collect();
    assert_eq!(sources.iter().collect::<BTreeSet<_>>().len(), sources.len(), "one source, two renames");
    let (some, omitted) = effects::compare(before(), &layer, &expected, EFFECTS_MAX);
    assert_eq!(some.as_slice(), &all[..some.len()], "a bound changes what is listed");
    assert_eq!(some.len() as u64 + omitted, all.len() as u64 + layer.omitted, "the rest is not counted");
}

/// An image and what a template wrote over it.
fn before() -> &'static Before {
    static BEFORE: OnceLock<Before> = OnceLock::new();
    BEFORE.get_or_init(|| {
        let template = expand(include_bytes!("../corpus/disk/template"));
        let template = effects::read_upper_from(template.as_slice(), BOUNDS).expect("the template is sound");
        let file = |path: &str, content: &str| entry(path, Kind::File, content);
        let directory = |path: &str| entry(path, Kind::Directory, "");
        let image = Index::new(vec![
            directory("/"),
            directory("/directory"),
            file("/directory/gone", "gone"),
            file("/directory/moved", "moved\n"),
            directory("/directory/opaque"),
            file("/directory/opaque/inside", "inside"),
            file("/file", "content\n"),
            directory("/other"),
            file("/other/same", "content\n"),
        ]);
        Before::new(image, template.objects)
    })
}

fn entry(path: &str, kind: Kind, content: &str) -> Entry {
    let digest = (kind == Kind::File).then(|| Digest::of(content.as_bytes()));
    let (mode, size) = (if kind == Kind::File { 0o644 } else { 0o755 }, content.len() as u64);
    Entry {
        path: path.to_owned(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        size,
        mtime: 1,
        target: None,
        device: None,
        sha256: digest,
    }
}

/// Has a gateway take what a guest sends.
pub fn network(data: &[u8]) {
    evalfleet_worker::vm::net::swallow(data);
}

/// Takes frames out of bytes, all at once and cut to pieces.
pub fn frames(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    let (whole, pieces) = (heard([data].into_iter()), heard(data.chunks(cut)));
    assert_eq!(whole, pieces, "frames depend on how their bytes are cut");
    assert!(whole.0.len() * LENGTH_BYTES <= data.len(), "more frames than bytes");
    for frame in &whole.0 {
        let again = wire::decode::<FromGuest>(&wire::encode(frame));
        assert_eq!(again.as_ref().ok(), Some(frame), "a frame does not come back as it was");
    }
}

/// The frames until the bytes end or make no sense, and whether they did.
fn heard<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<FromGuest>, bool) {
    let (mut frames, mut heard) = (Frames::default(), Vec::new());
    for piece in pieces {
        frames.push(piece);
        loop {
            match frames.take() {
                Ok(Some(frame)) => heard.push(frame),
                Ok(None) => break,
                Err(_) => return (heard, true),
            }
        }
    }
    (heard, false)
}
