//! Takes a kernel out of its Debian package: the boot image, the ELF file inside it, and the modules.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::{self, command, filter};
use crate::initramfs::Module;
use crate::modules::{self, Available};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("the kernel package holds no boot/vmlinuz-*")]
    NoKernel,
    #[error("the kernel package has its modules neither in usr/lib/modules/{0} nor in lib/modules/{0}")]
    NoModules(String),
    #[error("the kernel image is not one that this version knows: {0}")]
    Image(&'static str),
    #[error(transparent)]
    Command(#[from] command::Error),
    #[error(transparent)]
    Modules(#[from] modules::Error),
}

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` says.
    pub(crate) release: String,
    /// The bzImage.
    pub(crate) image: Vec<u8>,
    /// In load order.
    pub(crate) modules: Vec<Module>,
}

/// Unpacks `package` below `folder`, and takes from it what a VM needs.
pub(crate) fn unpack(package: &Path, folder: &Path, wanted: &[String]) -> Result<Kernel, Error> {
    let mut unpack = command("dpkg-deb");
    unpack.arg("--extract").args([package, folder]);
    command::run(unpack, |_| ())?;
    let boot = folder.join("boot");
    let release = names(&boot)?.iter().find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
    let release = release.ok_or(Error::NoKernel)?;
    let path = boot.join(format!("vmlinuz-{release}"));
    let image = fs::read(&path).map_err(|source| Error::File { path, source })?;
    let module_folders = ["usr/lib/modules", "lib/modules"].map(|lib| folder.join(lib).join(&release));
    let found = module_folders.iter().find(|folder| folder.is_dir());
    let modules = Available::scan(found.ok_or(Error::NoModules(release.clone()))?)?.select(wanted)?;
    Ok(Kernel { release, image, modules })
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(failed)?;
    entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(failed))
        .collect()
}

/// The uncompressed ELF file inside a bzImage: what a VM without firmware boots directly (PVH).
///
/// The setup header says where the compressed payload lies (Documentation/arch/x86/boot.rst). The build appends the
/// payload's uncompressed length, four bytes that belong to no compressed stream.
pub(crate) fn elf(image: &[u8]) -> Result<Vec<u8>, Error> {
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(Error::Image("it has no setup header"));
    }
    let number = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let payload = || {
        let begin = (setup_sectors + 1) * 512 + number(0x248)?;
        image.get(begin..begin.checked_add(number(0x24c)?.checked_sub(4)?)?)
    };
    let payload = payload().ok_or(Error::Image("its payload is cut off"))?;
    let program = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [0x7f, b'E', b'L', b'F', ..] => return Ok(payload.to_vec()),
        _ => return Err(Error::Image("its compression is none of zstd, xz, gzip and lz4")),
    };
    let mut decompress = command(program);
    decompress.arg("-dc");
    let elf = filter(decompress, payload)?;
    if elf.starts_with(b"\x7fELF") { Ok(elf) } else { Err(Error::Image("its payload is no ELF file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 512];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&512_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(&[9; 4]);
        image
    }

    #[test]
    fn the_elf_file_is_found_by_the_header() {
        let mut compress = command("gzip");
        compress.arg("-c");
        let compressed = filter(compress, b"\x7fELF and more").unwrap();
        assert_eq!(elf(&image(&compressed)).unwrap(), b"\x7fELF and more");
        assert_eq!(elf(&image(b"\x7fELF")).unwrap(), b"\x7fELF");
    }

    #[test]
    fn what_is_no_kernel_is_an_error() {
        for broken in [&b""[..], &[0; 4096], &image(b"\x7fELF")[..1538], &image(b"????")] {
            assert!(matches!(elf(broken), Err(Error::Image(_))));
        }
    }
}
