//! Checks the guest agent before it goes into an initramfs: what cannot run there fails the build, not the boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the guest agent {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the guest agent {0} is not a 64-bit ELF program")]
    NotAProgram(PathBuf),
    #[error(
        "the guest agent {0} is dynamically linked, and an initramfs has no libraries: \
         build it with RUSTFLAGS='-C target-feature=+crt-static'"
    )]
    Dynamic(PathBuf),
}

/// Reads the agent at `path`, a static 64-bit program.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let program = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    match has_interpreter(&program) {
        Some(false) => Ok(program),
        Some(true) => Err(Error::Dynamic(path.to_owned())),
        None => Err(Error::NotAProgram(path.to_owned())),
    }
}

/// Whether an ELF program asks for a dynamic linker (a segment PT_INTERP); None where it is no 64-bit ELF program.
fn has_interpreter(program: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    // Magic number, 64 bits, little-endian.
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let bytes = |at: usize, count: usize| program.get(at..at.checked_add(count)?);
    let short = |at| Some(usize::from(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?)));
    let table = usize::try_from(u64::from_le_bytes(bytes(32, 8)?.try_into().ok()?)).ok()?;
    let (size, count) = (short(54)?, short(56)?);
    for number in 0..count {
        let kind = bytes(table.checked_add(number * size)?, 4)?;
        if u32::from_le_bytes(kind.try_into().ok()?) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_and_dynamic_programs_are_told_apart() {
        let mut program = vec![0; 64 + 2 * 56];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (program[32], program[54], program[56]) = (64, 56, 2);
        program[64] = 1;
        assert_eq!(has_interpreter(&program), Some(false));
        program[64 + 56] = 3;
        assert_eq!(has_interpreter(&program), Some(true));
        assert_eq!(has_interpreter(&program[..100]), None);
        assert_eq!(has_interpreter(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn this_very_test_is_dynamic() {
        let own = std::env::current_exe().unwrap();
        assert!(matches!(read(&own), Err(Error::Dynamic(_))));
    }
}
