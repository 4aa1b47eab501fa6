//! What a change does to the repository, judged on this machine from the trees: nothing of it is run. Pure.

use super::dependencies;
use super::secrets;
use super::suite::{self, Safety};
use super::tree::{Contents, Entry, Touched};
use super::violation::{VIOLATIONS_MAX, Violation};
use globset::GlobSet;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// What asks whether it is in a VM. Text that people read may speak of it.
static VM_DETECTION: LazyLock<Regex> = LazyLock::new(|| {
    let forms = [
        "systemd-detect-virt|virt-what|imvirt|dmidecode",
        "/sys/class/dmi|/sys/devices/virtual/dmi|/sys/hypervisor|/proc/xen|qemu_fw_cfg|/dev/virtio-ports",
        r"cpuinfo.*\bhypervisor\b|\bhypervisor\b.*cpuinfo",
        r"(?i)[\x22']\s*(?:qemu|kvmkvmkvm|bochs|vmware|virtualbox|tcgtcgtcg)",
    ];
    Regex::new(&forms.join("|")).expect("a literal of ours")
});

/// What is not run: detection is no matter there.
const PROSE: [&str; 4] = [".md", ".txt", ".rst", ".adoc"];

/// The sum of a change, as the verdict tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Paths that it touches.
    pub files: usize,
    /// Lines that it adds.
    pub added: usize,
    /// Lines that it removes.
    pub removed: usize,
    /// Bytes of the files that it writes.
    pub bytes: u64,
}

/// What speaks against the change `touched`, and how large it is.
pub(super) fn check(
    safety: &Safety,
    touched: &[Touched],
    contents: &Contents,
) -> Result<(Size, Vec<Violation>), suite::Error> {
    let rules =
        Rules { tests: safety.tests()?, protected: safety.protected()?, allowed: safety.allowed()?, safety };
    let mut found = Vec::new();
    let mut size = Size { files: touched.len(), ..Size::default() };
    let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
    for touched in touched {
        let name = touched.name();
        rules.path(touched, &name, &mut found);
        let text = |entry: &Option<Entry>| {
            entry.as_ref().and_then(|entry| contents.get(&entry.oid)).map_or(&[][..], Vec::as_slice)
        };
        let (old, new) = (text(&touched.old), text(&touched.new));
        size.bytes += new.len() as u64;
        if is_binary(old) || is_binary(new) {
            rules.binary(touched, &name, &mut found);
            continue;
        }
        let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
        let (added, removed) = lines(&old, &new);
        size.added += added.len();
        size.removed += removed;
        rules.content(touched, &name, &new, &added, &mut found);
        before.extend(dependencies::of(&name, &old).unwrap_or_default());
        after.extend(
            dependencies::of(&name, &new).unwrap_or_default().into_iter().map(|it| (it, name.clone())),
        );
    }
    rules.dependencies(&before, &after, &mut found);
    rules.size(&size, &mut found);
    found.retain(|violation| !safety.policy.waive.contains(&violation.rule));
    found.truncate(VIOLATIONS_MAX);
    Ok((size, found))
}

struct Rules<'s> {
    tests: GlobSet,
    protected: GlobSet,
    allowed: GlobSet,
    safety: &'s Safety,
}

impl Rules<'_> {
    fn path(&self, touched: &Touched, name: &str, found: &mut Vec<Violation>) {
        let what = match (&touched.old, &touched.new) {
            (Some(_), None) => "deletes",
            (None, _) => "adds",
            (Some(_), Some(_)) => "changes",
        };
        if self.allowed.is_match(name) {
            return;
        }
        if self.protected.is_match(name) {
            let message = format!("the change {what} what decides how it is judged or run");
            found.push(Violation::new("policy.protected", message).at(name));
        } else if self.tests.is_match(name) && touched.old.is_some() {
            let message = format!("the change {what} a test that the base is tested by");
            found.push(Violation::new("policy.tests", message).at(name));
        }
        if let Some(new) = touched.new.as_ref().filter(|new| new.is_submodule()) {
            let message = "the change brings a submodule, whose content is not in it";
            found.push(Violation::new("policy.submodule", message).at(name).seen(new.oid.clone()));
        }
    }

    fn binary(&self, touched: &Touched, name: &str, found: &mut Vec<Violation>) {
        if touched.new.is_some() && !self.safety.policy.binaries && !self.allowed.is_match(name) {
            let message = "the change brings a file that is no text, which nobody can read";
            found.push(Violation::new("policy.binary", message).at(name));
        }
    }

    fn content(
        &self,
        touched: &Touched,
        name: &str,
        text: &str,
        added: &[(usize, &str)],
        found: &mut Vec<Violation>,
    ) {
        let Some(new) = &touched.new else { return };
        if new.is_link() {
            if escapes(name, text) {
                let message = format!("the change makes a link that leads out of the repository, to {text}");
                found.push(Violation::new("policy.symlink", message).at(name));
            }
            return;
        }
        if text.starts_with("version https://git-lfs.github.com/spec/") {
            let message = "the change brings a pointer of Git LFS, whose content is not in it";
            found.push(Violation::new("policy.lfs", message).at(name));
        }
        for (line, words) in added {
            if let Some(kind) = secrets::found(words) {
                let message = format!("the change writes {kind} into the repository");
                let masked = secrets::masked(words);
                found.push(Violation::new("policy.secret", message).at(name).line(*line).seen(masked));
            }
            if VM_DETECTION.is_match(words) && !PROSE.iter().any(|end| name.ends_with(end)) {
                let message = "the change asks whether it runs in a virtual machine";
                found.push(Violation::new("policy.vm_detection", message).at(name).line(*line).seen(*words));
            }
        }
    }

    fn dependencies(
        &self,
        before: &BTreeSet<String>,
        after: &BTreeSet<(String, String)>,
        found: &mut Vec<Violation>,
    ) {
        let mut told = BTreeSet::new();
        for (name, path) in after {
            let known = before.contains(name) || self.safety.policy.dependencies.contains(name);
            if !known && told.insert(name) {
                let message = format!("the change brings the dependency {name}");
                found.push(Violation::new("policy.dependency", message).at(path.clone()));
            }
        }
    }

    fn size(&self, size: &Size, found: &mut Vec<Violation>) {
        let policy = &self.safety.policy;
        let lines = size.added + size.removed;
        for (what, is, max) in [
            ("files", size.files as u64, policy.files_max as u64),
            ("lines", lines as u64, policy.lines_max as u64),
            ("bytes", size.bytes, policy.bytes_max),
        ] {
            if is > max {
                let message = format!("the change has {is} {what}, and may have {max}");
                found.push(Violation::new("policy.size", message));
            }
        }
    }
}

/// As Git tells it: a NUL among the first bytes.
fn is_binary(content: &[u8]) -> bool {
    content.iter().take(8000).any(|byte| *byte == 0)
}

/// The lines of `new` that `old` has not, with their numbers from 1, and how many of `old` are gone. Lines that
/// only moved count as neither.
fn lines<'t>(old: &str, new: &'t str) -> (Vec<(usize, &'t str)>, usize) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    old.lines().for_each(|line| *counts.entry(line).or_default() += 1);
    let mut added = Vec::new();
    for (index, line) in new.lines().enumerate() {
        match counts.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => added.push((index + 1, line)),
        }
    }
    (added, counts.values().sum())
}

/// Whether a link at `path` with this `target` leads out of the tree.
fn escapes(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.split('/').count() as i64 - 1;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::*;

    fn entry(mode: u32, oid: &str) -> Option<Entry> {
        Some(Entry { mode, oid: oid.to_owned(), size: 1 })
    }

    /// The rules that one path breaks, which had `old` and has `new`.
    fn broken(path: &str, mode: u32, old: Option<&str>, new: Option<&str>) -> Vec<String> {
        let base = Tree([(b"tests/a.sh".to_vec(), entry(0o100_644, "t").unwrap())].into());
        let safety = Safety::of(&base, None, None).unwrap();
        let contents = [old.map(|text| ("old", text)), new.map(|text| ("new", text))];
        let contents = contents.into_iter().flatten();
        let contents = contents.map(|(oid, text)| (oid.to_owned(), text.as_bytes().to_vec())).collect();
        let touched = Touched {
            path: path.as_bytes().to_vec(),
            old: old.and_then(|_| entry(0o100_644, "old")),
            new: new.and_then(|_| entry(mode, "new")),
        };
        let (_, found) = check(&safety, &[touched], &contents).unwrap();
        found.into_iter().map(|violation| violation.rule).collect()
    }

    const FILE: u32 = 0o100_644;
    const LINK: u32 = 0o120_000;

    #[test]
    fn each_rule_is_broken_by_what_it_is_about() {
        let nothing: [&str; 0] = [];
        assert_eq!(broken("src/a.py", FILE, Some("a = 1\n"), Some("a = 2\n")), nothing);
        assert_eq!(broken("safety.toml", FILE, None, Some("version = 1")), ["policy.protected"]);
        assert_eq!(broken("conftest.py", FILE, None, Some("")), ["policy.protected"]);
        assert_eq!(broken("tests/a.sh", FILE, Some("a"), Some("b")), ["policy.tests"]);
        assert_eq!(broken("tests/a.sh", FILE, Some("a"), None), ["policy.tests"]);
        assert_eq!(broken("tests/new.sh", FILE, None, Some("true")), nothing);
        assert_eq!(broken("a", LINK, None, Some("/etc")), ["policy.symlink"]);
        assert_eq!(broken("d/a", LINK, None, Some("../../x")), ["policy.symlink"]);
        assert_eq!(broken("d/a", LINK, None, Some("../x")), nothing);
        assert_eq!(broken("a.bin", FILE, None, Some("a\0b")), ["policy.binary"]);
        assert_eq!(
            broken("Cargo.toml", FILE, Some(""), Some("[dependencies]\nevil = '1'")),
            ["policy.dependency"]
        );
        assert_eq!(broken("a", 0o160_000, None, Some("x")), ["policy.submodule"]);
        let detect = "if 'QEMU' in open('/sys/class/dmi/id/sys_vendor').read():\n    pass";
        assert_eq!(broken("a.py", FILE, None, Some(detect)), ["policy.vm_detection"]);
        assert_eq!(broken("README.md", FILE, None, Some(detect)), nothing);
        let long = "x\n".repeat(5001);
        assert_eq!(broken("a", FILE, None, Some(&long)), ["policy.size"]);
        let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        assert_eq!(broken("a", FILE, None, Some(lfs)), ["policy.lfs"]);
    }

    #[test]
    fn lines_are_counted_as_a_reader_would() {
        let (added, removed) = lines("a\nb\nb\n", "b\nc\na\n");
        assert_eq!((added, removed), (vec![(2, "c")], 1));
    }

    #[test]
    fn an_evidence_points_to_its_line() {
        let base = Tree([(b"tests/a.sh".to_vec(), entry(FILE, "t").unwrap())].into());
        let safety = Safety::of(&base, None, None).unwrap();
        let touched = Touched { path: b"a.py".to_vec(), old: None, new: entry(FILE, "new") };
        let text = format!("a = 1\nkey = '{}{}'\n", "AIza", "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q");
        let contents = [("new".to_owned(), text.into_bytes())].into();
        let (size, found) = check(&safety, &[touched], &contents).unwrap();
        assert_eq!((size.added, found.len()), (2, 1));
        assert_eq!((found[0].path.as_deref(), found[0].line), (Some("a.py"), Some(2)));
        assert_eq!(found[0].evidence, "key = '***'");
    }
}
