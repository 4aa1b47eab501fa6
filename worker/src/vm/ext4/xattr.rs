//! Extended attributes, behind an inode's fields and in a block of their own.

use super::{Error, u16_at, u32_at};

const MAGIC: u32 = 0xEA02_0000;
const ENTRY_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 32;
/// The most attributes of one object: more do not fit an inode and a block.
const ATTRIBUTES_MAX: usize = 1024;

pub(super) fn in_inode(extra: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    if extra.len() < 4 || u32_at(extra, 0)? != MAGIC {
        return Ok(Vec::new());
    }
    // Values are counted from the first entry.
    entries(&extra[4..], 0)
}

pub(super) fn in_block(block: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    if u32_at(block, 0)? != MAGIC {
        return Err(Error::Damaged("attribute block"));
    }
    // Values are counted from the block's beginning.
    entries(block, BLOCK_HEADER_BYTES)
}

fn entries(area: &[u8], first: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut found = Vec::new();
    let mut at = first;
    while found.len() < ATTRIBUTES_MAX {
        // The list ends with four zero bytes, or with the area.
        if at + 4 > area.len() || u32_at(area, at)? == 0 {
            return Ok(found);
        }
        let name_length = usize::from(area[at]);
        let index = area[at + 1];
        let value_at = usize::from(u16_at(area, at + 2)?);
        let in_inode = u32_at(area, at + 4)?;
        let size = u32_at(area, at + 8)? as usize;
        let name = area
            .get(at + ENTRY_BYTES..at + ENTRY_BYTES + name_length)
            .ok_or(Error::Damaged("attribute name"))?;
        if in_inode != 0 {
            return Err(Error::Foreign("an attribute with an inode of its own"));
        }
        let value = value_at.checked_add(size).and_then(|end| area.get(value_at..end));
        let value = value.ok_or(Error::Damaged("attribute value"))?;
        found.push((format!("{}{}", prefix(index), String::from_utf8_lossy(name)), value.to_vec()));
        at += (ENTRY_BYTES + name_length).next_multiple_of(4);
    }
    Err(Error::TooLarge("a list of attributes"))
}

fn prefix(index: u8) -> &'static str {
    match index {
        1 => "user.",
        2 => "system.posix_acl_access",
        3 => "system.posix_acl_default",
        4 => "trusted.",
        6 => "security.",
        7 => "system.",
        _ => "unknown.",
    }
}
