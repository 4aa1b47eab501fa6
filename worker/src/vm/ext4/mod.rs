//! A reader of ext4 disks that were in hostile hands.
//!
//! The guest's root can write whatever it likes to its scratch disk, down to the superblock. So this
//! reader mounts nothing, runs in no kernel, allocates no more than its bounds, follows no loop, and
//! turns whatever does not fit into an error. It reads only what the image builder makes (extents, no
//! journal, no inline data), plus what overlayfs leaves there: device numbers, for whiteouts, and
//! extended attributes, for opaque directories. Published readers give neither.
//!
//! ```text
//! superblock ─▶ group descriptors ─▶ inode ─┬▶ extents ─▶ file, directory entries
//!                                           └▶ extended attributes (in the inode, in a block)
//! ```
//!
//! Source: the kernel's `Documentation/filesystems/ext4/`.

mod budget;
mod directory;
mod extents;
mod inode;
mod superblock;
mod xattr;

pub use budget::Bounds;
pub use directory::Entry;
pub use extents::Map;
pub use inode::{Inode, Kind};

use budget::Metered;
use std::io;
use superblock::Superblock;

/// The root directory.
pub const ROOT_INODE: u32 = 2;
/// How much of a file is read at once.
const CHUNK_BYTES: u64 = 256 << 10;
/// The most entries that are listed of one directory.
const ENTRIES_MAX: usize = 1 << 20;
/// The longest directory that is read, in bytes.
const DIRECTORY_BYTES_MAX: u64 = 64 << 20;

/// Why a disk, or something on it, is not to be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk's file could not be read.
    #[error("reading the disk: {0}")]
    Io(#[from] io::Error),
    /// Something on it is not as it must be.
    #[error("damaged file system: {0}")]
    Damaged(&'static str),
    /// Something on it is not of the kind that the image builder makes.
    #[error("foreign file system: {0}")]
    Foreign(&'static str),
    /// Something on it is larger than this reader reads.
    #[error("{0} is larger than what is read")]
    TooLarge(&'static str),
    /// As much was read as may be.
    #[error("the disk asks for more reading than it gets")]
    Spent,
}

/// Bytes at positions: the disk.
pub trait ReadAt {
    /// Fills `buffer` from `offset`; what lies behind the end reads as an error.
    ///
    /// # Errors
    /// When that many bytes are not there.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let range = from.and_then(|from| self.get(from..from.checked_add(buffer.len())?));
        buffer.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for std::sync::Arc<T> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }
}

/// A file system.
#[derive(Debug)]
pub struct Ext4<D> {
    disk: Metered<D>,
    superblock: Superblock,
}

impl<D: ReadAt> Ext4<D> {
    /// Reads the superblock; what is read from here on stays within the default bounds.
    ///
    /// # Errors
    /// When it is not an ext4 of the builder's kind.
    pub fn open(disk: D) -> Result<Self, Error> {
        Self::open_within(disk, Bounds::default())
    }

    /// Reads the superblock; what is read from here on stays within `bounds`.
    ///
    /// # Errors
    /// As [`Ext4::open`], and from here on whenever the bounds are reached.
    pub fn open_within(disk: D, bounds: Bounds) -> Result<Self, Error> {
        let disk = Metered::new(disk, bounds);
        let mut bytes = [0; superblock::BYTES];
        disk.read_at(superblock::OFFSET, &mut bytes)?;
        Ok(Self { superblock: Superblock::parse(&bytes)?, disk })
    }

    /// Reads inode `number`.
    ///
    /// # Errors
    /// When there is no such inode, or it is damaged.
    pub fn inode(&self, number: u32) -> Result<Inode, Error> {
        let (offset, bytes) = self.place_of_inode(number)?;
        let mut inode = vec![0; bytes];
        self.disk.read_at(offset, &mut inode)?;
        Inode::parse(number, &inode)
    }

    /// Finds where inode `number` is on the disk: offset and length.
    ///
    /// # Errors
    /// When there is no such inode.
    pub fn place_of_inode(&self, number: u32) -> Result<(u64, usize), Error> {
        let place = self.superblock.locate_inode(number)?;
        let mut descriptor = vec![0; self.superblock.descriptor_bytes];
        self.disk.read_at(place.descriptor, &mut descriptor)?;
        let table = self.superblock.inode_table(&descriptor)?;
        let offset = table.checked_add(place.in_table).ok_or(Error::Damaged("inode table"))?;
        Ok((offset, self.superblock.inode_bytes))
    }

    /// Finds where a file's or a directory's blocks are.
    ///
    /// # Errors
    /// When that is damaged.
    pub fn places(&self, inode: &Inode) -> Result<Map, Error> {
        extents::map(&self.disk, &self.superblock, inode)
    }

    /// The bytes of a block.
    pub fn block_bytes(&self) -> u64 {
        self.superblock.block_bytes
    }

    /// Lists a directory, without `.` and `..`, as it is written, in no particular order.
    ///
    /// # Errors
    /// When it is damaged or too long.
    pub fn read_dir(&self, directory: &Inode) -> Result<Vec<Entry>, Error> {
        let (mut entries, mut more) = (Vec::new(), false);
        self.for_each_entry(directory, &mut |name, inode| {
            more |= entries.len() >= ENTRIES_MAX;
            if !more {
                entries.push(Entry { name: name.to_vec(), inode });
            }
        })?;
        if more { Err(Error::TooLarge("a directory")) } else { Ok(entries) }
    }

    /// Hands the names in a directory and their inodes to `sink` as they are written, in no particular order, without
    /// `.` and `..`.
    ///
    /// # Errors
    /// When it is damaged or too long; what was handed over before stays handed over.
    pub fn for_each_entry(&self, directory: &Inode, sink: &mut dyn FnMut(&[u8], u32)) -> Result<(), Error> {
        if directory.kind != Kind::Directory {
            return Err(Error::Damaged("not a directory"));
        }
        if directory.size > DIRECTORY_BYTES_MAX {
            return Err(Error::TooLarge("a directory"));
        }
        let one_block = self.superblock.block_bytes;
        self.read_blocks(directory, one_block, &mut |block| directory::parse(block, sink))
    }

    /// Hands a file's content to `sink`, block by block, holes as zeros.
    ///
    /// # Errors
    /// When it has more than `bytes_max` bytes, or is damaged, or `sink` gives up.
    pub fn read_file(
        &self,
        file: &Inode,
        bytes_max: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if file.size > bytes_max {
            return Err(Error::TooLarge("a file"));
        }
        self.read_blocks(file, CHUNK_BYTES, sink)
    }

    /// Reads where a symbolic link points.
    ///
    /// # Errors
    /// When it is damaged or longer than a path can be.
    pub fn read_link(&self, link: &Inode) -> Result<Vec<u8>, Error> {
        const SHORT: u64 = 60;
        if link.size < SHORT {
            return Ok(link.block[..link.size as usize].to_vec());
        }
        if link.size > 4096 {
            return Err(Error::TooLarge("a symbolic link"));
        }
        let mut target = Vec::new();
        self.read_blocks(link, CHUNK_BYTES, &mut |block| {
            target.extend_from_slice(block);
            Ok(())
        })?;
        Ok(target)
    }

    /// Reads the extended attributes, by their full names.
    ///
    /// # Errors
    /// When they are damaged.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut found = xattr::in_inode(&inode.extra)?;
        if inode.xattr_block != 0 {
            let mut block = vec![0; self.superblock.block_bytes as usize];
            self.disk.read_at(self.superblock.offset_of(inode.xattr_block)?, &mut block)?;
            found.extend(xattr::in_block(&block)?);
        }
        Ok(found)
    }

    /// Hands over the whole content, at most `chunk` bytes at once, which is a multiple of the block's.
    fn read_blocks(
        &self,
        inode: &Inode,
        chunk: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (block_bytes, length) = (self.superblock.block_bytes, inode.size);
        let map = extents::map(&self.disk, &self.superblock, inode)?;
        let mut buffer = vec![0; chunk.min(length) as usize];
        let mut at = 0;
        while at < length {
            let (physical, blocks) = map.run(at / block_bytes);
            let count = blocks.saturating_mul(block_bytes).min(chunk).min(length - at) as usize;
            match physical {
                Some(block) => {
                    self.disk.read_at(self.superblock.offset_of(block)?, &mut buffer[..count])?;
                }
                None => {
                    self.disk.charge(count as u64)?;
                    buffer[..count].fill(0);
                }
            }
            sink(&buffer[..count])?;
            at += count as u64;
        }
        Ok(())
    }
}

/// Little-endian numbers out of a structure whose length was checked by its reader.
fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Error> {
    let field = bytes.get(at..at + 2).and_then(|field| field.try_into().ok());
    field.map(u16::from_le_bytes).ok_or(Error::Damaged("cut short"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map(u32::from_le_bytes).ok_or(Error::Damaged("cut short"))
}

#[cfg(test)]
mod tests;
