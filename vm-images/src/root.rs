//! Bootstraps the root with mmdebstrap and packs it, as root or as an ordinary user.
//!
//! One run does it all, because an ordinary user's root exists only inside of mmdebstrap's user namespace:
//!
//! ```text
//!  tar-in overlay.tar /       the tools and the workspace
//!  pack.sh                    cleans the root, lists what is in it, packs it into its own /tmp, downloads the kernel
//!  download /tmp/evalfleet/…  carries the results out, whatever the namespace can see of the outside
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::command::{self, command};
use crate::digest::Digest;
use crate::index::{Entry, Index, Kind};
use crate::manifest::Package;
use crate::mirror::Mirror;
use crate::progress::{Event, Listener, Step};
use crate::recipe::{Compression, Recipe};
use crate::tree;

/// What is run in mmdebstrap when the root is complete.
pub(crate) const PACK: &str = include_str!("pack.sh");

/// Fixed, so that the same root gives the same bytes.
const UUID: &str = "6b1f1a0e-6c2c-4f3c-9a5e-5c7a7c6e0002";

/// The time of the tools and the workspace: older than any package, so that the newest file is always a package's.
const OVERLAY_SECONDS: &str = "@1700000000";

/// What [`PACK`] leaves, and mmdebstrap carries out.
const RESULTS: [&str; 6] = ["root.erofs", "objects", "sums", "devices", "packages", "kernel.deb"];

/// What mmdebstrap and [`PACK`] say as they go, and roughly how far the work is then.
const MILESTONES: [(&str, u8); 11] = [
    ("I: running apt-get update", 2),
    ("I: downloading packages", 12),
    ("I: extracting archives", 22),
    ("I: installing essential", 30),
    ("I: installing remaining", 58),
    ("evalfleet: packages", 76),
    ("evalfleet: kernel", 78),
    ("evalfleet: clean", 86),
    ("evalfleet: index", 88),
    ("evalfleet: pack", 91),
    ("I: cleaning package lists", 98),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Tree(#[from] tree::Error),
    #[error(transparent)]
    Command(#[from] command::Error),
    #[error("the list of the root's objects is broken: {0}")]
    List(String),
}

/// A packed root.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) erofs: PathBuf,
    pub(crate) index: Index,
    pub(crate) packages: Vec<Package>,
    pub(crate) kernel_package: PathBuf,
}

/// Builds the root of `recipe` with `folder` for everything that it leaves.
pub(crate) fn build(recipe: &Recipe, folder: &Path, listener: Listener<'_>) -> Result<Root, Error> {
    write_overlay(recipe, folder)?;
    let mut reached = 0;
    command::run(mmdebstrap(recipe, folder), |line| {
        listener(Step::Root, Event::Line(line));
        let percent =
            MILESTONES.iter().find(|(begin, _)| line.starts_with(begin)).map(|(_, percent)| *percent);
        if let Some(percent) = percent.filter(|percent| *percent > reached) {
            reached = percent;
            listener(Step::Root, Event::Percent(percent));
        }
    })?;
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|source| Error::File { path, source })
    };
    Ok(Root {
        erofs: folder.join("root.erofs"),
        index: index(&read("objects")?, &read("sums")?, &read("devices")?)?,
        packages: packages(&String::from_utf8_lossy(&read("packages")?)),
        kernel_package: folder.join("kernel.deb"),
    })
}

/// Writes `overlay.tar`: what goes on top of Debian's files.
fn write_overlay(recipe: &Recipe, folder: &Path) -> Result<(), Error> {
    let overlay = folder.join("overlay");
    for tools in recipe.tools() {
        tree::copy(&tools, &overlay.join("opt/evalfleet/tools"))?;
    }
    for (name, repository) in recipe.repositories() {
        tree::copy(&repository, &overlay.join("opt/evalfleet/repositories").join(name))?;
    }
    let workspace = overlay.join("workspace");
    match recipe.workspace() {
        Some(from) => tree::copy(&from, &workspace)?,
        None => fs::create_dir_all(&workspace).map_err(|source| Error::File { path: workspace, source })?,
    }
    let mut tar = command("tar");
    tar.arg("--create").arg("--file").arg(folder.join("overlay.tar")).arg("--directory").arg(&overlay);
    tar.args(["--sort=name", "--owner=root:0", "--group=root:0", "--mode=u=rwX,go=rX"]);
    tar.args([&format!("--mtime={OVERLAY_SECONDS}"), "opt", "workspace"]);
    Ok(command::run(tar, |_| ())?)
}

fn mmdebstrap(recipe: &Recipe, folder: &Path) -> std::process::Command {
    let debian = &recipe.spec.debian;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut run = bound_mmdebstrap(folder);
    run.current_dir(folder);
    run.env("EVALFLEET_STARTED", started.to_string());
    run.env("EVALFLEET_HOSTNAME", &recipe.spec.root.hostname);
    run.env("EVALFLEET_KERNEL", &recipe.spec.kernel.package);
    run.env("EVALFLEET_UUID", UUID);
    run.env(
        "EVALFLEET_COMPRESSION",
        match recipe.spec.root.compression {
            Compression::Lz4 => "lz4",
            Compression::None => "none",
        },
    );
    run.args(["--variant=minbase", "--format=null", "--aptopt=APT::Install-Recommends \"false\""]);
    for nobody_reads in ["doc", "man", "info", "locale"] {
        run.arg(format!("--dpkgopt=path-exclude=/usr/share/{nobody_reads}/*"));
    }
    run.arg(format!("--components={}", debian.components.join(",")));
    if !debian.packages.is_empty() {
        run.arg(format!("--include={}", debian.packages.join(",")));
    }
    if let Some(keyring) = &debian.keyring {
        run.arg(format!("--keyring={}", keyring.display()));
    }
    // By the environment, for mmdebstrap writes out the commands that it runs.
    run.env("EVALFLEET_PACK", PACK);
    run.args([
        "--customize-hook=tar-in overlay.tar /",
        "--customize-hook=sh -c \"$EVALFLEET_PACK\" pack \"$1\"",
    ]);
    for name in RESULTS {
        run.arg(format!("--customize-hook=download /tmp/evalfleet/{name} {name}"));
    }
    run.args([&debian.suite, "/dev/null"]);
    match &debian.mirror {
        Some(mirror) => {
            run.arg(mirror);
        }
        None => {
            // Without a mirror mmdebstrap takes its own default.
            let host = Mirror::of_host(Path::new("/etc"));
            run.args(host.iter().flat_map(|mirror| mirror.lines(&debian.suite, &debian.components)));
        }
    }
    run
}

/// mmdebstrap, bound to end when this process does, however it does.
///
/// An ordinary user's cleans up at SIGTERM, and what it mounted is in its user namespace. Root's gets namespaces of its
/// own, which take its processes and mounts with them, and puts its files among ours for the next build to remove.
fn bound_mmdebstrap(folder: &Path) -> std::process::Command {
    const NAMESPACES: [&str; 7] =
        ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut bound = command("setpriv");
    let is_root = rustix::process::geteuid().is_root();
    let mut probe = command(NAMESPACES[0]);
    probe.args(&NAMESPACES[1..]).arg("true");
    if is_root && probe.output().is_ok_and(|output| output.status.success()) {
        bound.args(["--pdeathsig", "KILL"]).args(NAMESPACES);
    } else {
        bound.args(["--pdeathsig", "TERM"]);
    }
    if is_root {
        bound.env("TMPDIR", folder);
    }
    bound.arg("mmdebstrap");
    bound
}

/// Joins the three lists of [`PACK`]. Their fields end with NUL, the one character that no path holds.
fn index(objects: &[u8], sums: &[u8], devices: &[u8]) -> Result<Index, Error> {
    let (objects, sums, devices) = (fields(objects)?, fields(sums)?, fields(devices)?);
    let mut digests = HashMap::new();
    for sum in sums {
        let (digest, path) = sum.split_once("  ").ok_or_else(|| Error::List(format!("sum `{sum}`")))?;
        let digest = Digest::try_from(digest.to_owned()).map_err(|error| Error::List(error.to_string()))?;
        digests.insert(absolute(path), digest);
    }
    let mut numbers = HashMap::new();
    for pair in devices.chunks(2) {
        let (device, path) = (pair[0], pair.get(1).copied().unwrap_or_default());
        let parsed = device.split_once(' ').and_then(|(major, minor)| {
            Some((u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
        });
        numbers.insert(absolute(path), parsed.ok_or_else(|| Error::List(format!("device `{device}`")))?);
    }
    let mut entries = Vec::with_capacity(objects.len() / 3);
    for object in objects.chunks(3) {
        let [facts, path, target] = object else { return Err(Error::List("it is cut off".to_owned())) };
        let path = absolute(path);
        let mut entry = entry(facts, path).ok_or_else(|| Error::List(format!("object `{facts}`")))?;
        if entry.kind == Kind::Symlink {
            entry.target = Some((*target).to_owned());
        }
        entry.sha256 = digests.remove(&entry.path);
        entry.device = numbers.remove(&entry.path);
        if entry.kind == Kind::File && entry.sha256.is_none() {
            return Err(Error::List(format!("{} has no digest", entry.path)));
        }
        entries.push(entry);
    }
    Ok(Index::new(entries))
}

/// An entry out of `TYPE MODE UID GID SIZE SECONDS.FRACTION`.
fn entry(facts: &str, path: String) -> Option<Entry> {
    let mut words = facts.split(' ');
    let kind = match words.next()? {
        "f" => Kind::File,
        "d" => Kind::Directory,
        "l" => Kind::Symlink,
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        "c" => Kind::CharDevice,
        "b" => Kind::BlockDevice,
        _ => return None,
    };
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let size: u64 = words.next()?.parse().ok()?;
    let mtime = words.next()?.split('.').next()?.parse().ok()?;
    // A directory's size is the builder's file system's affair.
    let size = if matches!(kind, Kind::File | Kind::Symlink) { size } else { 0 };
    Some(Entry { path, kind, mode, uid, gid, size, mtime, target: None, device: None, sha256: None })
}

fn fields(list: &[u8]) -> Result<Vec<&str>, Error> {
    let text = std::str::from_utf8(list).map_err(|_| Error::List("a path is not UTF-8".to_owned()))?;
    Ok(text.split_terminator('\0').collect())
}

/// A path as find writes it (empty or `./` for the root), made absolute.
fn absolute(path: &str) -> String {
    format!("/{}", path.strip_prefix("./").unwrap_or(path))
}

fn packages(text: &str) -> Vec<Package> {
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    pairs.map(|(name, version)| Package { name: name.to_owned(), version: version.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_make_an_index() {
        let objects = b"d 755 0 0 4096 1700000000.0000000000\0\0\0\
                        f 4755 0 8 3 1700000001.5\0a b\0\0\
                        l 777 0 0 1 1.0\0link\0a\nb\0\
                        c 666 0 0 0 1.0\0null\0\0";
        let digest = Digest::of(b"abc");
        let index = index(objects, format!("{digest}  ./a b\0").as_bytes(), b"1 a\0./null\0").unwrap();
        assert_eq!(index.len(), 4);
        let root = index.get("/").unwrap();
        assert_eq!((root.kind, root.mode, root.size), (Kind::Directory, 0o755, 0));
        let file = index.get("/a b").unwrap();
        assert_eq!((file.mode, file.gid, file.size, file.mtime), (0o4755, 8, 3, 1_700_000_001));
        assert_eq!(file.sha256, Some(digest));
        assert_eq!(index.get("/link").unwrap().target.as_deref(), Some("a\nb"));
        assert_eq!(index.get("/null").unwrap().device, Some((1, 10)));
    }

    #[test]
    fn a_broken_list_is_an_error() {
        assert!(
            index(b"f 644 0 0 3 1.0\0a\0\0", b"", b"").unwrap_err().to_string().contains("/a has no digest")
        );
        assert!(index(b"d 755 0 0 3 1.0\0a\0", b"", b"").unwrap_err().to_string().contains("cut off"));
        assert!(index(b"d 755\0a\0\0", b"", b"").is_err());
        assert!(index(b"d 755 0 0 3 1.0\0\xff\0\0", b"", b"").is_err());
    }
}
