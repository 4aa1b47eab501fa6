//! Builds, stores and describes the images that evalfleet's VMs start from.
//!
//! ```text
//!  recipe.toml, tools/, workspace/, agent
//!        │ build::build
//!        ▼
//!  <images>/<name>/<digest>/           <images>/<name>/current ─▶ <digest>
//!    vmlinuz, vmlinux    the kernel, compressed and as the ELF file that PVH boots
//!    initrd.cpio         the agent as /init, and the modules it loads, in order
//!    root.erofs          the read-only root that all VMs of the image share
//!    scratch.ext4        an empty disk; a sparse copy of it is what one VM writes to
//!    index.jsonl         every object of the root, to tell "changed" from "created"
//!    tools.json          the tools' specifications, to check arguments without a VM
//!    packages.txt        Debian's packages in the root, with their versions
//!    manifest.json       what all of this is, with the digest of each
//! ```
//!
//! An image is never changed once it is published: a different content is a different digest. Booting is the
//! worker's; this crate starts no VM.

pub mod digest;
pub mod recipe;
pub mod scenario;
pub mod tool;
pub mod tree;

pub mod index;
pub mod manifest;
pub mod store;
pub mod templates;

pub mod agent;
pub mod initramfs;
pub mod kernel;
pub mod modules;
pub mod root;
pub mod scratch;

pub mod command;
pub mod mirror;
pub mod preconditions;
pub mod progress;

pub mod build;
pub mod foreign;

pub use build::{BuildOptions, Built, Work, build};
pub use index::Index;
pub use manifest::Manifest;
pub use recipe::Recipe;
pub use store::{Image, ImageRef, Store};
pub use tool::ToolSpec;
