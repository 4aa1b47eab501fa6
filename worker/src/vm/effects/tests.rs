use super::*;
use crate::vm::upper::Upper;
use evalfleet_images::digest::Digest;
use evalfleet_images::index::{Entry, Index, Kind};
use evalfleet_proto::ids::Sha256;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Tree = BTreeMap<String, Upper>;

fn file(content: &str) -> Object {
    Object {
        kind: ObjectType::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: content.len() as u64,
        sha256: Some(Sha256::of(content.as_bytes())),
        target: None,
        device: None,
        mtime: NOW,
        xattrs: None,
        identity: None,
    }
}

/// When jobs write, and when the image was made.
const NOW: i64 = 2_000;
const THEN: i64 = 1_000;

/// As overlayfs moves a file: with its time.
fn moved(content: &str) -> Object {
    Object { mtime: THEN, ..file(content) }
}

fn directory(inode: u32) -> Object {
    let identity = Some((inode, inode));
    Object { kind: ObjectType::Directory, mode: 0o755, size: 0, sha256: None, identity, ..file("") }
}

fn there(object: Object) -> Upper {
    Upper::There { object, opaque: false }
}

fn opaque(inode: u32) -> Upper {
    Upper::There { object: directory(inode), opaque: true }
}

fn tree(list: &[(&str, Upper)]) -> Tree {
    list.iter().map(|(path, upper)| ((*path).to_owned(), upper.clone())).collect()
}

/// An image of these paths: directories end in `/`, files are `path=content`.
fn image(list: &[&str]) -> Index {
    let entry = |text: &&str| {
        let (path, content) = text.split_once('=').unwrap_or((text.trim_end_matches('/'), ""));
        let kind = if text.ends_with('/') { Kind::Directory } else { Kind::File };
        Entry {
            path: path.to_owned(),
            kind,
            mode: if kind == Kind::File { 0o644 } else { 0o755 },
            uid: 0,
            gid: 0,
            size: content.len() as u64,
            mtime: THEN,
            target: None,
            device: None,
            sha256: (kind == Kind::File).then(|| Digest::of(content.as_bytes())),
        }
    };
    Index::new(list.iter().map(entry).collect())
}

fn told(before: &Before, after: &[(&str, Upper)]) -> Vec<String> {
    let after = UpperLayer { objects: tree(after), ..UpperLayer::default() };
    let (effects, omitted) = compare(before, &after, &Expected::new::<&str>(&[]).unwrap(), 1000);
    assert_eq!(omitted, 0);
    let tell = |effect: Effect| {
        let change = serde_json::to_value(effect.change).unwrap();
        let from = effect.renamed_from.map(|from| format!(" from {from}")).unwrap_or_default();
        format!("{} {}{from}", change.as_str().unwrap(), effect.path)
    };
    effects.into_iter().map(tell).collect()
}

#[test]
fn the_four_changes_and_no_change() {
    let before = Before::new(image(&["/etc/", "/etc/a=a", "/etc/b=b", "/etc/c=c", "/etc/k/"]), Tree::new());
    let after = [
        ("/etc", there(directory(5))),
        ("/etc/a", there(file("A"))),
        ("/etc/b", Upper::Whiteout),
        ("/etc/c", there(file("c"))),
        ("/etc/d", there(file("d"))),
        ("/etc/k", there(file("k"))),
        ("/etc/never", Upper::Whiteout),
    ];
    let expected = ["changed /etc/a", "deleted /etc/b", "created /etc/d", "replaced /etc/k"];
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn what_the_template_wrote_can_be_deleted_without_a_trace_on_the_disk() {
    let template =
        tree(&[("/tmp", there(directory(3))), ("/tmp/warm", there(file("w"))), ("/gone", Upper::Whiteout)]);
    let before = Before::new(image(&["/tmp/", "/gone=g"]), template);
    assert_eq!(
        told(&before, &[("/tmp", there(directory(3))), ("/gone", Upper::Whiteout)]),
        ["deleted /tmp/warm"]
    );
    // Neither is what it deleted deleted again, and if it is back, it is new.
    assert_eq!(
        told(&before, &[("/tmp", there(directory(3))), ("/tmp/warm", there(file("w")))]),
        ["created /gone"]
    );
}

#[test]
fn a_directory_that_the_template_made_is_not_made_anew_by_every_job() {
    let before = Before::new(image(&["/a/"]), tree(&[("/a/made", opaque(7))]));
    assert!(told(&before, &[("/a/made", opaque(7))]).is_empty());
    assert_eq!(told(&before, &[("/a/made", opaque(8))]), ["replaced /a/made"]);
}

#[test]
fn a_directory_made_anew_is_replaced_and_what_it_lacks_is_deleted() {
    let before = Before::new(
        image(&["/d/", "/d/a=a", "/d/b=b", "/d/s/", "/d/s/x=x", "/d/t/", "/d/t/y=y"]),
        Tree::new(),
    );
    let after =
        [("/d", opaque(9)), ("/d/a", there(file("a"))), ("/d/t", there(directory(10))), ("/new", opaque(11))];
    let expected =
        ["replaced /d", "deleted /d/b", "deleted /d/s", "replaced /d/t", "deleted /d/t/y", "created /new"];
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn a_directory_that_is_gone_is_one_effect() {
    let before =
        Before::new(image(&["/d/", "/d/a=a", "/d/s/", "/d/s/x=x"]), tree(&[("/d/w", there(file("w")))]));
    assert_eq!(told(&before, &[("/d", Upper::Whiteout)]), ["deleted /d"]);
    assert_eq!(told(&before, &[("/d", there(file("")))]), ["replaced /d"]);
}

#[test]
fn a_change_of_mode_owner_attributes_or_device_alone_is_a_change() {
    let node = Object { kind: ObjectType::CharDevice, device: Some((1, 3)), sha256: None, ..file("") };
    let names = ["/a", "/b", "/c", "/d", "/e"];
    let template =
        names.map(|name| (name, there(file("x")))).into_iter().chain([("/n", there(node.clone()))]);
    let before = Before::without_image(tree(&template.collect::<Vec<_>>()));
    let after = [
        ("/a", there(Object { mode: 0o600, ..file("x") })),
        ("/b", there(Object { uid: 7, ..file("x") })),
        ("/c", there(Object { gid: 7, ..file("x") })),
        ("/d", there(Object { xattrs: Some(Sha256::of(b"x")), ..file("x") })),
        ("/e", there(Object { mtime: NOW + 1, ..file("x") })),
        ("/n", there(Object { device: Some((1, 5)), ..node })),
    ];
    assert_eq!(told(&before, &after), ["changed /a", "changed /b", "changed /c", "changed /d", "changed /n"]);
}

#[test]
fn the_root_itself_can_change() {
    let before = Before::new(image(&["/"]), tree(&[("/", there(directory(4)))]));
    assert!(told(&before, &[("/", there(directory(4)))]).is_empty());
    let changed = Object { mode: 0o700, ..directory(4) };
    assert_eq!(told(&before, &[("/", there(changed))]), ["changed /"]);
}

#[test]
fn a_move_is_told_where_nothing_else_explains_it() {
    let before = Before::new(image(&["/a=one", "/b=two", "/c=two", "/d=", "/old=three"]), Tree::new());
    // The time was kept.
    assert_eq!(
        told(&before, &[("/a", Upper::Whiteout), ("/n", there(moved("one")))]),
        ["deleted /a", "created /n from /a"]
    );
    // Onto another file.
    assert_eq!(
        told(&before, &[("/a", Upper::Whiteout), ("/old", there(moved("one")))]),
        ["deleted /a", "changed /old from /a"]
    );
    // A copy, or something new with the same content.
    assert_eq!(
        told(&before, &[("/a", Upper::Whiteout), ("/n", there(file("one")))]),
        ["deleted /a", "created /n"]
    );
    // The other one of two equal files may have been copied as it was.
    assert_eq!(
        told(&before, &[("/b", Upper::Whiteout), ("/n", there(moved("two")))]),
        ["deleted /b", "created /n"]
    );
    // Which of the two was moved?
    assert_eq!(
        told(&before, &[("/a", Upper::Whiteout), ("/m", there(moved("one"))), ("/n", there(moved("one")))]),
        ["deleted /a", "created /m", "created /n"]
    );
}

#[test]
fn what_the_template_wrote_is_known_by_its_inode() {
    let known = Object { identity: Some((20, 1)), ..file("before") };
    let before = Before::without_image(tree(&[("/w", there(known.clone()))]));
    let changed = Object { identity: Some((20, 1)), mtime: NOW + 5, ..file("after") };
    assert_eq!(told(&before, &[("/n", there(changed.clone()))]), ["created /n from /w", "deleted /w"]);
    let reused = Object { identity: Some((20, 2)), ..changed };
    assert_eq!(told(&before, &[("/n", there(reused))]), ["created /n", "deleted /w"]);
}

#[test]
fn a_directory_moves_with_all_that_is_in_it() {
    let before = Before::new(
        image(&["/p/", "/p/q/", "/p/q/__init__=", "/p/r/", "/p/r/__init__=", "/p/x=only", "/z/"]),
        Tree::new(),
    );
    let gone = ("/p", Upper::Whiteout);
    let whole = [
        gone.clone(),
        ("/n", opaque(31)),
        ("/n/q", there(directory(32))),
        ("/n/q/__init__", there(moved(""))),
        ("/n/r", there(directory(33))),
        ("/n/r/__init__", there(moved(""))),
        ("/n/x", there(moved("only"))),
    ];
    let expected = [
        "created /n from /p",
        "created /n/q from /p/q",
        "created /n/q/__init__ from /p/q/__init__",
        "created /n/r from /p/r",
        "created /n/r/__init__ from /p/r/__init__",
        "created /n/x from /p/x",
        "deleted /p",
    ];
    assert_eq!(told(&before, &whole), expected);
    // Less than all of it: only what is unlike everything else.
    let some = [gone, ("/n", opaque(31)), ("/n/x", there(moved("only")))];
    assert_eq!(told(&before, &some), ["created /n", "created /n/x from /p/x", "deleted /p"]);
    // Empty directories are all alike.
    assert_eq!(told(&before, &[("/z", Upper::Whiteout), ("/y", opaque(34))]), ["created /y", "deleted /z"]);
}

#[test]
fn names_of_an_image_are_written_as_those_of_a_disk() {
    let before = Before::new(image(&["/a\\x2db=a"]), Tree::new());
    assert!(told(&before, &[("/a\\x5cx2db", there(file("a")))]).is_empty());
}

#[test]
fn the_list_is_bounded_and_the_rest_is_counted() {
    let objects = (0..10).map(|number| (format!("/w/{number}"), there(file("x")))).collect();
    let after = UpperLayer { objects, omitted: 5, damaged: Vec::new() };
    let expected = Expected::new(&["/w/*[!3]"]).unwrap();
    let (effects, omitted) = compare(&Before::default(), &after, &expected, 4);
    assert_eq!((effects.len(), omitted), (4, 11));
    assert_eq!(effects.iter().map(|effect| effect.expected).collect::<Vec<_>>(), [true, true, true, false]);
}

/// Any upper layer, also such as no overlayfs writes.
fn any_tree() -> impl Strategy<Value = Tree> {
    let name = prop_oneof![Just("a"), Just("b"), Just("a b")];
    let path = prop::collection::vec(name, 1..4).prop_map(|names| format!("/{}", names.join("/")));
    let object = prop_oneof![Just(moved("a")), Just(file("b")), Just(directory(3)), Just(directory(4))];
    let upper = prop_oneof![
        Just(Upper::Whiteout),
        (object, any::<bool>()).prop_map(|(object, opaque)| Upper::There { object, opaque }),
    ];
    prop::collection::btree_map(path, upper, 0..8)
}

proptest! {
    #[test]
    fn effects_are_what_the_two_views_differ_in(template in any_tree(), objects in any_tree()) {
        let paths = ["/a/", "/a/a/", "/a/a/a=a", "/a/b=b", "/a b/", "/a b/a=a", "/b/", "/b/b/", "/b/b/b=b"];
        let before = Before::new(image(&paths), template.clone());
        let after = UpperLayer { objects, ..UpperLayer::default() };
        let (effects, _) = compare(&before, &after, &Expected::new::<&str>(&[]).unwrap(), 1000);
        let told: BTreeMap<_, _> = effects.iter().map(|effect| (effect.path.as_str(), effect.change)).collect();
        prop_assert_eq!(told.len(), effects.len(), "a path is told once");
        let (was, is) = (before.view(), before.under(&after.objects));
        let everything: BTreeSet<String> = template
            .keys()
            .chain(after.objects.keys())
            .cloned()
            .chain(paths.map(|path| path.split('=').next().unwrap_or_default().trim_end_matches('/').to_owned()))
            .collect();
        for path in &everything {
            let change = told.get(path.as_str()).copied();
            match (was.get(path), is.get(path)) {
                (None, None) => prop_assert_eq!(change, None),
                (None, Some(_)) => prop_assert_eq!(change, Some(Change::Created), "{}", path),
                (Some(_), None) if is.is_directory(parent(path)) => {
                    prop_assert_eq!(change, Some(Change::Deleted), "{}", path);
                }
                (Some(_), None) => prop_assert_eq!(change, None, "{}", path),
                (Some(old), Some(new)) if differs(&old, &new) => prop_assert!(change.is_some(), "{}", path),
                (Some(_), Some(_)) => prop_assert_ne!(change, Some(Change::Created)),
            }
        }
    }
}
