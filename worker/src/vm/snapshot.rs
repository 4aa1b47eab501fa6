//! Reset by QEMU's own snapshots: one process for all jobs, taken back by `snapshot-load` each time.
//!
//! The strategy that clones are measured against, in `bench/`; workers do not use it, since whatever a
//! guest did to its QEMU would outlive the job. It is a template's machine, memory, image and warming in
//! a stock QEMU: memory without a file, and the writable disk as qcow2, which is where internal
//! snapshots live.

use super::agent::Agent;
use super::jail::Needs;
use super::net::Link;
use super::process::Process;
use super::qapi::qmp::Qmp;
use super::qemu::{NET_SOCKET, Role, SCRATCH_NODE};
use super::template::{self, REST, SYNC_TIMEOUT, Template, Timeouts};
use super::{Error, chore, clone};
use evalfleet_images::manifest::Part;
use evalfleet_proto::guest::{Run, ToGuest};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// The snapshot's name.
const TAG: &str = "clean";

/// A VM that goes back to where it was after its warming.
#[derive(Debug)]
pub struct Snapshot {
    process: Process,
    qmp: Qmp,
    agent: Agent,
    _net: Link,
}

impl Snapshot {
    /// Boots and warms what `template` is made of, keeps that as a snapshot, and holds the guest.
    ///
    /// # Errors
    /// When it does not boot, or QEMU cannot keep it.
    pub async fn boot(template: &Template, run_dir: &Path, limits: Timeouts) -> Result<Self, Error> {
        std::fs::create_dir_all(run_dir).map_err(Error::host(format!("making {}", run_dir.display())))?;
        let scratch = run_dir.join("scratch.qcow2");
        to_qcow2(&template.image().path(Part::Scratch), &scratch).await?;
        let machine = template.machine();
        let parts = template.parts(Role::Template, &scratch, None);
        let arguments = stock(machine.arguments(Role::Template, &parts))?;
        let needs = Needs { read: vec![parts.kernel, parts.initrd, parts.root], ..Needs::default() };
        let mut process = Process::start(machine, arguments, run_dir, needs).await?;
        let (qmp, mut agent) = template::connect(&mut process, limits.reset).await?;
        let net = Link::attach(&process.socket(NET_SOCKET), &qmp).await?;
        qmp.cont().await?;
        agent.voice.say(&ToGuest::Hello(template::hello("snapshot".to_owned()))).await?;
        let late = Error::TimedOut { what: "the boot of a snapshot", seconds: limits.boot.as_secs() };
        timeout(limits.boot, template::booted(&qmp, &mut agent)).await.unwrap_or(Err(late))?;
        for (argv, limit) in template.scenario().steps() {
            chore::run(&mut agent, order(argv.to_vec()), limit).await?;
        }
        chore::sync(&mut agent, SYNC_TIMEOUT).await?;
        tokio::time::sleep(REST).await;
        qmp.stop().await?;
        qmp.save_snapshot(SCRATCH_NODE, TAG, limits.boot).await?;
        Ok(Self { process, qmp, agent, _net: net })
    }

    /// Its QEMU.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Takes it back, wakes it, and waits for its agent.
    ///
    /// # Errors
    /// When the snapshot does not load, or no agent wakes in it.
    pub async fn reset(&mut self, limit: Duration) -> Result<(), Error> {
        self.qmp.load_snapshot(SCRATCH_NODE, TAG, limit).await?;
        self.qmp.cont().await?;
        let awake =
            timeout(limit, clone::greet(&mut self.agent, template::hello("snapshot".to_owned()))).await;
        awake
            .unwrap_or(Err(Error::TimedOut { what: "waking a snapshot", seconds: limit.as_secs() }))
            .map(drop)
    }

    /// Runs one program whose output nobody reads.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn run(&mut self, argv: Vec<String>, limit: Duration) -> Result<(), Error> {
        chore::run(&mut self.agent, order(argv), limit).await
    }

    /// Holds the guest until the next reset.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub async fn hold(&self) -> Result<(), Error> {
        self.qmp.stop().await
    }

    /// Kills QEMU, waits for its death, and removes what it had.
    ///
    /// # Errors
    /// When it does not die.
    pub async fn destroy(self) -> Result<(), Error> {
        self.process.kill().await
    }
}

fn order(argv: Vec<String>) -> Run {
    Run { argv, cwd: "/".to_owned(), ..Run::default() }
}

/// Makes a template's command line that of a stock QEMU whose scratch disk can hold snapshots.
fn stock(arguments: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    let (mut memories, mut disks) = (0, 0);
    let scratch = format!("driver=raw,node-name={SCRATCH_NODE},");
    let changed = arguments.into_iter().map(|argument| {
        let Some(text) = argument.to_str() else { return argument };
        if let Some(options) = text.strip_prefix("memory-backend-file,") {
            memories += 1;
            let kept = options
                .split(',')
                .filter(|option| !option.starts_with("mem-path=") && !option.starts_with("share="));
            return kept.fold("memory-backend-ram".to_owned(), |sum, option| sum + "," + option).into();
        }
        if let Some(options) = text.strip_prefix(&scratch) {
            disks += 1;
            return format!("driver=qcow2,node-name={SCRATCH_NODE},{options}").into();
        }
        argument
    });
    let changed = changed.collect();
    if (memories, disks) == (1, 1) {
        Ok(changed)
    } else {
        Err(Error::Qemu("has another command line than snapshots know".to_owned()))
    }
}

async fn to_qcow2(raw: &Path, qcow2: &Path) -> Result<(), Error> {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(raw).arg(qcow2).kill_on_drop(true);
    let output =
        command.output().await.map_err(Error::host("starting qemu-img (Debian: package qemu-utils)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Qemu(format!("qemu-img: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_and_scratch_disk_are_other_than_a_templates() {
        let template = [
            "memory-backend-file,id=ram0,size=1,share=on,mem-path=/t/ram",
            "driver=raw,node-name=root,read-only=on",
            "driver=raw,node-name=scratch,read-only=off",
        ];
        let changed = stock(template.map(OsString::from).to_vec()).unwrap();
        let expected = [
            "memory-backend-ram,id=ram0,size=1",
            "driver=raw,node-name=root,read-only=on",
            "driver=qcow2,node-name=scratch,read-only=off",
        ];
        assert_eq!(changed, expected);
        assert!(stock(Vec::new()).is_err());
    }
}
