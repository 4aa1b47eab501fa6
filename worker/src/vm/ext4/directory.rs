//! A directory's entries. Index blocks look like blocks with one unused entry, so that reading all
//! blocks in order finds every name.

use super::{Error, u16_at, u32_at};

/// A name and the inode it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Any bytes but NUL and `/`.
    pub name: Vec<u8>,
    /// What it stands for.
    pub inode: u32,
}

pub(super) fn parse(block: &[u8], sink: &mut dyn FnMut(&[u8], u32)) -> Result<(), Error> {
    let mut at = 0;
    while at + 8 <= block.len() {
        let inode = u32_at(block, at)?;
        let length = usize::from(u16_at(block, at + 4)?);
        if length < 8 || at + length > block.len() {
            return Err(Error::Damaged("directory entry"));
        }
        let name_length = usize::from(block[at + 6]);
        let name = block.get(at + 8..at + 8 + name_length).filter(|_| name_length <= length - 8);
        let name = name.ok_or(Error::Damaged("directory entry's name"))?;
        if inode != 0 && name != b"." && name != b".." {
            if name.is_empty() || name.contains(&0) || name.contains(&b'/') {
                return Err(Error::Damaged("directory entry's name"));
            }
            sink(name, inode);
        }
        at += length;
    }
    Ok(())
}
