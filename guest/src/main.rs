//! The agent inside a VM: its first process, and the only one of ours.
//!
//! It boots the guest ([`boot`]), then serves one host at a time over a virtio-serial port ([`port`],
//! [`serve`]): it wakes a clone ([`wake`]), lays files, runs one program in a cgroup of its own
//! ([`run`]), and flushes the disk. Being process 1 it cannot be killed from within the guest; if it
//! panics, so does the kernel, and the host sees its QEMU end.
//!
//! It decides nothing: limits, verdicts and what changed on the disk are the host's business.

mod boot;
mod cgroup;
mod entropy;
mod files;
mod left;
mod network;
mod port;
mod run;
mod serve;
mod tree;
mod wake;

use std::process::ExitCode;

fn main() -> ExitCode {
    if rustix::process::getpid().is_init() {
        if let Err(error) = boot::boot() {
            boot::complain(&error.to_string());
            return ExitCode::FAILURE;
        }
        match serve::forever() {
            Ok(never) => match never {},
            Err(error) => boot::complain(&error.to_string()),
        }
        return ExitCode::FAILURE;
    }
    eprintln!("evalfleet-guest is the first process of a VM; there is nothing to run it for by hand.");
    ExitCode::from(64)
}
