//! QEMU's two JSON protocols: the one folder that names qapi.
//!
//! [`qmp`] speaks to QEMU itself, [`qga`] to the QEMU guest agent that a foreign image may run.

pub(in crate::vm) mod qga;
pub(in crate::vm) mod qmp;
