//! A tool with its code: a folder, and the digest of all in it.

use evalfleet_images::tool::{self, ToolSpec};
use evalfleet_proto::ids::{ImageRef, Sha256};
use evalfleet_proto::units::{ByteSize, parse_duration};
use std::path::{Path, PathBuf};

/// Files that one tool may have.
const FILES_MAX: usize = 200;
/// Bytes that they may have together.
const BYTES_MAX: u64 = 8 << 20;
/// Folders in each other.
const DEPTH_MAX: usize = 8;

/// Why a folder is no tool's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What describes it is wrong.
    #[error(transparent)]
    Spec(#[from] tool::Error),
    /// Its files cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is too much, or not what tools are made of.
    #[error("the tool in {path} {what}")]
    Unfit {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// One file of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path in the tool's folder.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// A tool: what describes it, and its code.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// What describes it.
    pub spec: ToolSpec,
    /// Its files; none for a tool that an image has.
    pub files: Vec<File>,
    /// The hash of all of it: the same tool is the same bytes.
    pub code: Sha256,
}

/// Files that tell us of a tool. They are not laid into VMs: what its cases expect is not for it to read.
const TOLD: [&str; 2] = ["tool.toml", "parameters.json"];

impl Tool {
    /// Reads and checks the tool in `folder`.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let spec = ToolSpec::load(folder)?;
        understood(&spec).map_err(|what| Error::Unfit { path: folder.to_owned(), what })?;
        let mut files = Vec::new();
        gather(folder, folder, 0, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let code = digest(&spec, &files);
        Ok(Self { spec, files, code })
    }

    /// Reads the tools in the subfolders of `folder`.
    ///
    /// # Errors
    /// Names the first that is wrong.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>, Error> {
        ToolSpec::load_all(folder)?.iter().map(|spec| Self::load(&folder.join(&spec.name))).collect()
    }

    /// Its files that are laid into a VM, to be run there: all but what describes it.
    pub fn laid(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| !TOLD.contains(&file.path.as_str()))
    }

    /// A tool that an image has. Its bytes are the image's, whose digest stands for them.
    pub fn of_image(spec: ToolSpec, image: &str) -> Self {
        let bytes = [image.as_bytes(), &serde_json::to_vec(&spec).unwrap_or_default()].concat();
        Self { code: Sha256::of(&bytes), spec, files: Vec::new() }
    }
}

/// Checks what the specification has as text, and calls are made of.
fn understood(spec: &ToolSpec) -> Result<(), String> {
    fn read<T, E: std::fmt::Display>(
        name: &str,
        text: Option<&str>,
        as_what: impl Fn(&str) -> Result<T, E>,
    ) -> Result<(), String> {
        let read = text.map(as_what).transpose();
        read.map(|_| ()).map_err(|error| format!("cannot be read in {name}: {error}"))
    }
    let image = Some(spec.image.as_str()).filter(|image| !image.is_empty());
    read("image", image, str::parse::<ImageRef>)?;
    let limits = &spec.limits;
    read("limits.wall", limits.wall.as_deref(), parse_duration)?;
    read("limits.cpu", limits.cpu.as_deref(), parse_duration)?;
    read("limits.memory", limits.memory.as_deref(), str::parse::<ByteSize>)?;
    read("limits.disk", limits.disk.as_deref(), str::parse::<ByteSize>)?;
    read("limits.output", limits.output.as_deref(), str::parse::<ByteSize>)
}

fn gather(root: &Path, folder: &Path, depth: usize, files: &mut Vec<File>) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let unfit = |what: &str| Error::Unfit { path: root.to_owned(), what: what.to_owned() };
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    if depth > DEPTH_MAX {
        return Err(unfit(&format!("has more than {DEPTH_MAX} folders in each other")));
    }
    for entry in std::fs::read_dir(folder).map_err(read(folder))? {
        let path = entry.map_err(read(folder))?.path();
        let meta = std::fs::symlink_metadata(&path).map_err(read(&path))?;
        if path.file_name().is_some_and(|name| name == "__pycache__") {
            continue;
        }
        if meta.is_dir() {
            gather(root, &path, depth + 1, files)?;
            continue;
        }
        if !meta.is_file() {
            return Err(unfit(&format!("has {}, which is neither a file nor a folder", path.display())));
        }
        let held: u64 = files.iter().map(|file| file.content.len() as u64).sum();
        if files.len() >= FILES_MAX || held + meta.len() > BYTES_MAX {
            return Err(unfit(&format!("has more than {FILES_MAX} files or {} MiB", BYTES_MAX >> 20)));
        }
        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
        let name = name.ok_or_else(|| unfit("has a file whose name is not UTF-8"))?.to_owned();
        let content = std::fs::read(&path).map_err(read(&path))?;
        files.push(File { path: name, mode: meta.permissions().mode() & 0o777, content });
    }
    Ok(())
}

fn digest(spec: &ToolSpec, files: &[File]) -> Sha256 {
    let mut bytes = spec.name.clone().into_bytes();
    for file in files {
        bytes.extend(
            format!("\0{}\0{:o}\0{}", file.path, file.mode & 0o111, Sha256::of(&file.content)).bytes(),
        );
    }
    Sha256::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("tool.toml", "name = 'echo'\ndescription = 'Says it again.'\nentry = ['cat']");
        write("parameters.json", r#"{"type": "object"}"#);
        write("main.py", "pass\n");
        dir
    }

    #[test]
    fn the_same_bytes_are_the_same_tool() {
        let dir = folder();
        let first = Tool::load(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("__pycache__")).unwrap();
        std::fs::write(dir.path().join("__pycache__/main.pyc"), "x").unwrap();
        assert_eq!(Tool::load(dir.path()).unwrap(), first);
        std::fs::write(dir.path().join("main.py"), "pass \n").unwrap();
        assert_ne!(Tool::load(dir.path()).unwrap().code, first.code);
    }

    #[test]
    fn what_its_cases_expect_stays_outside_and_makes_another_tool_all_the_same() {
        let dir = folder();
        let first = Tool::load(dir.path()).unwrap();
        let laid: Vec<&str> = first.laid().map(|file| file.path.as_str()).collect();
        assert_eq!(laid, ["main.py"]);
        std::fs::create_dir(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("data/tool.toml"), "its own").unwrap();
        let more = Tool::load(dir.path()).unwrap();
        assert!(more.laid().any(|file| file.path == "data/tool.toml"), "only at the top it is ours");
        let case = "\n[[cases]]\nname = 'c'\nargs = {}\nexpect = { value = 1 }\n";
        let text = std::fs::read_to_string(dir.path().join("tool.toml")).unwrap() + case;
        std::fs::write(dir.path().join("tool.toml"), text).unwrap();
        assert_ne!(Tool::load(dir.path()).unwrap().code, more.code);
    }

    #[test]
    fn what_is_no_tool_is_named() {
        let dir = folder();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("data")).unwrap();
        let error = Tool::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("data") && error.contains("neither a file nor a folder"), "{error}");
        std::fs::remove_file(dir.path().join("parameters.json")).unwrap();
        assert!(Tool::load(dir.path()).unwrap_err().to_string().contains("parameters.json"));
    }
}
