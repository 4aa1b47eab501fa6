//! Finds the kernel modules that an image wants, with what they depend on, in an order in which they load.
//!
//! A kernel package that was unpacked and not installed has no `modules.dep`. Every module names its own dependencies,
//! in the `.modinfo` section: that is read instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::{self, command, filter};
use crate::initramfs::Module;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the kernel has no module `{name}`{}", wanted_by(.by))]
    Missing { name: String, by: Option<String> },
    #[error(transparent)]
    Decompress(#[from] command::Error),
}

fn wanted_by(by: &Option<String>) -> String {
    by.as_ref().map(|by| format!(", on which `{by}` depends")).unwrap_or_default()
}

/// The modules of one unpacked kernel.
#[derive(Debug)]
pub(crate) struct Available {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Available {
    /// Reads what `folder`, a kernel's `lib/modules/<release>`, holds.
    pub(crate) fn scan(folder: &Path) -> Result<Self, Error> {
        let list = folder.join("modules.builtin");
        let text = fs::read_to_string(&list).map_err(|source| Error::Read { path: list, source })?;
        let built_in = text.lines().filter_map(|line| module_name(Path::new(line))).collect();
        let mut files = BTreeMap::new();
        collect(&folder.join("kernel"), &mut files)?;
        Ok(Self { files, built_in })
    }

    /// The `wanted` modules and what they need, dependencies first; those built in are left out.
    pub(crate) fn select(&self, wanted: &[String]) -> Result<Vec<Module>, Error> {
        let (mut selected, mut seen) = (Vec::new(), BTreeSet::new());
        for name in wanted {
            self.add(name, None, &mut selected, &mut seen)?;
        }
        Ok(selected)
    }

    fn add(
        &self,
        name: &str,
        by: Option<&str>,
        selected: &mut Vec<Module>,
        seen: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        let name = canonical(name);
        if self.built_in.contains(&name) || !seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(path) = self.files.get(&name) else {
            return Err(Error::Missing { name, by: by.map(str::to_owned) });
        };
        let content = uncompressed(path)?;
        for dependency in dependencies(&content) {
            self.add(&dependency, Some(&name), selected, seen)?;
        }
        selected.push(Module { name, content });
        Ok(())
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The name of the module in a file `<name>.ko`, `.ko.xz`, `.ko.zst` or `.ko.gz`.
fn module_name(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| canonical(name))
}

/// File names and the kernel disagree about dashes; the kernel takes both and means underscores.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn uncompressed(path: &Path) -> Result<Vec<u8>, Error> {
    let raw = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return Ok(raw),
    };
    let mut decompress = command(program);
    decompress.arg("-dc");
    Ok(filter(decompress, &raw)?)
}

/// The modules that `content` says it depends on: `depends=a,b` among the NUL-terminated texts of `.modinfo`.
fn dependencies(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = content.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = content[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(modules: &[(&str, &str)], built_in: &str) -> (tempfile::TempDir, Available) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("kernel/deep")).unwrap();
        fs::write(folder.path().join("modules.builtin"), built_in).unwrap();
        for (name, depends) in modules {
            let content = format!("ELF\0license=GPL\0depends={depends}\0name={name}\0");
            fs::write(folder.path().join(format!("kernel/deep/{name}.ko")), content).unwrap();
        }
        let available = Available::scan(folder.path()).unwrap();
        (folder, available)
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn dependencies_come_first_and_once_and_what_is_built_in_not_at_all() {
        let tree =
            [("net_failover", "failover"), ("failover", ""), ("virtio-net", "net_failover,virtio_ring")];
        let (_folder, available) = available(&tree, "kernel/drivers/virtio/virtio_ring.ko\n");
        let wanted = ["failover", "virtio_net", "virtio-net", "virtio_ring"].map(str::to_owned);
        assert_eq!(names(&available.select(&wanted).unwrap()), ["failover", "net_failover", "virtio_net"]);
    }

    #[test]
    fn a_missing_module_is_named_with_the_one_that_needs_it() {
        let (_folder, available) = available(&[("erofs", "netfs")], "");
        let error = available.select(&["erofs".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "the kernel has no module `netfs`, on which `erofs` depends");
    }

    #[test]
    fn modules_that_depend_on_each_other_end() {
        let (_folder, available) = available(&[("a", "b"), ("b", "a")], "");
        assert_eq!(available.select(&["a".to_owned()]).unwrap().len(), 2);
    }
}
