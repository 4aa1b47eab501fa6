//! QEMU's command line: pure, so that it can be read and tested without a VM.
//!
//! A template and its clones must have the same devices in the same places; what differs is how the
//! memory is mapped, whether there is a kernel to boot, and where the machine's state comes from.

use super::foreign;
use super::jail::{Jail, Network};
use super::strategy::Strategy;
use evalfleet_proto::network::link;
use evalfleet_proto::units::ByteSize;
use evalfleet_service::settings;
use evalfleet_service::settings::network::Network as Inward;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator: slower by an order of magnitude, and labelled so everywhere.
    Tcg,
}

impl Accelerator {
    /// The word that results use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// A machine, as far as its command line goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The program.
    pub binary: PathBuf,
    /// What executes.
    pub accelerator: Accelerator,
    /// The machine type.
    pub machine: String,
    /// Its memory.
    pub memory: ByteSize,
    /// Its processors.
    pub cpus: u32,
    /// Their model.
    pub cpu: String,
    /// How a clean one is made.
    pub strategy: Strategy,
    /// The most memory for translated code; no guest sees it.
    #[serde(skip)]
    pub translations_max: ByteSize,
    /// The ports of the host that lead into VMs of foreign images; no guest sees them.
    #[serde(skip)]
    pub network: Inward,
    /// What its QEMU is locked up in: no part of what the machine is.
    #[serde(skip)]
    pub jail: Jail,
}

/// Where its parts are.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// The image's kernel, initramfs and root.
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) root: PathBuf,
    /// This VM's own disk.
    pub(super) scratch: PathBuf,
    /// The file behind its memory, where clones map it.
    pub(super) ram: PathBuf,
    /// The disk of its snapshots, where there are any.
    pub(super) state: Option<PathBuf>,
    /// Of a foreign image, in place of kernel, initramfs and root: it boots by itself.
    pub(super) foreign: Option<foreign::Parts>,
}

impl Parts {
    /// The image's files, which every VM of it reads.
    pub(super) fn below(&self) -> Vec<PathBuf> {
        match &self.foreign {
            None => vec![self.kernel.clone(), self.initrd.clone(), self.root.clone()],
            Some(foreign) => vec![foreign.disk.clone(), foreign.seed.clone()],
        }
    }

    /// The network that QEMU itself sees: for a foreign image it opens a port of the host.
    pub(super) fn network(&self) -> Network {
        if self.foreign.is_some() { Network::Host } else { Network::default() }
    }
}

/// Which of the two a command line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Boots, and writes its memory to the file.
    Template,
    /// Takes a template's memory and state; what it writes stays its own.
    Clone,
}

/// The sockets, relative to the VM's folder, in which QEMU is started: a socket's path may have no more
/// than 107 bytes, and a state directory may lie deep.
pub(super) const QMP_SOCKET: &str = "qmp";
pub(super) const AGENT_SOCKET: &str = "agent";
pub(super) const NET_SOCKET: &str = "net";
/// The name of the console's buffer.
pub(super) const CONSOLE: &str = "console";
/// Names of the two disks.
pub(super) const SCRATCH_NODE: &str = "scratch";
/// A disk that no guest sees: it holds a snapshot.
pub(super) const STATE_NODE: &str = "state";
/// What the kernel calls memory without a file of its own.
pub(super) const ANONYMOUS_RAM: &str = "/memfd:memory-backend-memfd (deleted)";

/// What the kernel is told. The guest has one user and is thrown away: no mitigations between its own
/// processes, no self tests, and an immediate end when it panics.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable no_timer_check nokaslr mitigations=off \
     cryptomgr.notests random.trust_cpu=on";

/// All that the translator can do but for the string instructions that processors are fast at: a guest
/// that is told of them copies memory with `rep movsb`, which is translated byte by byte: `bench stream` with
/// `qemu.cpu = "max"` shows what that costs.
const EMULATED: &str = "max,erms=off,fsrm=off";

impl Machine {
    /// The machine that the settings name.
    pub fn new(qemu: &settings::Qemu, accelerator: Accelerator, strategy: Strategy) -> Self {
        let best = if accelerator == Accelerator::Kvm { "host" } else { EMULATED };
        Self {
            binary: qemu.binary.clone(),
            accelerator,
            machine: qemu.machine.clone(),
            memory: qemu.memory,
            cpus: qemu.cpus,
            cpu: if qemu.cpu.is_empty() { best.to_owned() } else { qemu.cpu.clone() },
            strategy,
            translations_max: qemu.translations_max,
            network: qemu.network(),
            jail: Jail::default(),
        }
    }

    /// The machine that an image of others boots on: one with PCI, ACPI and a BIOS that reads disks.
    pub(super) fn for_foreign(self) -> Self {
        let machine = if self.machine == "microvm" { "q35".to_owned() } else { self.machine };
        Self { machine, ..self }
    }

    /// Composes the arguments. Paths are made by us and hold no commas, which [`check_path`] asserts.
    pub(super) fn arguments(&self, role: Role, parts: &Parts) -> Vec<OsString> {
        let mut line = Line(Vec::new());
        line.add(["-nodefaults", "-no-user-config", "-display", "none", "-S"]);
        line.add(["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
        // A guest that gives up leaves QEMU standing still, so that its console can be read.
        line.add(["-action", "reboot=shutdown,shutdown=pause,panic=pause"]);
        line.text("-accel", self.accelerator_options());
        line.text("-cpu", self.cpu.clone());
        line.text("-smp", self.cpus.to_string());
        line.text("-m", format!("{}B", self.memory.bytes()));
        line.text("-machine", format!("{},memory-backend=ram0{}", self.machine, self.machine_options()));
        self.memory(&mut line, role, &parts.ram);
        if parts.foreign.is_none() && (role == Role::Template || !self.strategy.maps_memory()) {
            line.path("-kernel", "", &parts.kernel);
            line.path("-initrd", "", &parts.initrd);
            line.add(["-append", KERNEL_ARGUMENTS]);
        }
        if role == Role::Clone && matches!(self.strategy, Strategy::TemplateClone | Strategy::MappedRam) {
            line.add(["-incoming", "defer"]);
        }
        // Bounded, whatever the guest writes: a ring in QEMU's memory.
        line.text("-chardev", format!("ringbuf,id={CONSOLE},size=65536"));
        line.text("-serial", format!("chardev:{CONSOLE}"));
        if parts.foreign.is_none() {
            self.disk(&mut line, "root", &parts.root, true);
            self.disk(&mut line, SCRATCH_NODE, &parts.scratch, false);
        }
        if let Some(state) = &parts.state {
            line.path(
                "-blockdev",
                &format!("driver=qcow2,node-name={STATE_NODE},file.driver=file,file.filename="),
                state,
            );
        }
        line.add(["-object", "rng-random,id=rng0,filename=/dev/urandom"]);
        line.text("-device", format!("virtio-rng-{},rng=rng0", self.bus()));
        line.text("-device", format!("virtio-serial-{},id=serial0", self.bus()));
        line.text("-chardev", format!("socket,id=agent,server=on,wait=off,path={AGENT_SOCKET}"));
        if self.machine != "microvm" {
            // Another one in each process: the guest's kernel hears that it is a clone, and reseeds.
            line.add(["-device", "vmgenid,guid=auto"]);
        }
        let port = evalfleet_proto::guest::PORT_NAME;
        line.text("-device", format!("virtserialport,bus=serial0.0,nr=1,chardev=agent,name={port}"));
        // The only way out leads to the worker, which serves the other end (`vm/net`). No boot from it.
        line.text("-netdev", format!("stream,id=net0,server=on,addr.type=unix,addr.path={NET_SOCKET}"));
        let (bus, mac, rom) =
            (self.bus(), mac(link::GUEST_MAC), if self.bus() == "pci" { ",romfile=" } else { "" });
        match &parts.foreign {
            None => {
                line.text(
                    "-device",
                    format!("virtio-net-{bus},netdev=net0,mac={mac},guest_announce=off{rom}"),
                );
            }
            // A system that asks for an address at every network would wait long at this one.
            Some(foreign) => foreign::add_devices(&mut line, foreign, &parts.scratch),
        }
        line.text("-qmp", format!("unix:{QMP_SOCKET},server=on,wait=off"));
        line.0
    }

    fn accelerator_options(&self) -> String {
        match self.accelerator {
            Accelerator::Kvm => "kvm".to_owned(),
            Accelerator::Tcg => format!("tcg,tb-size={}", (self.translations_max.bytes() >> 20).max(1)),
        }
    }

    fn memory(&self, line: &mut Line, role: Role, ram: &Path) {
        let size = self.memory.bytes();
        if !self.strategy.maps_memory() {
            line.text("-object", format!("memory-backend-memfd,id=ram0,size={size}"));
            return;
        }
        // A clone cannot even open the template's memory for writing.
        let share = if role == Role::Template { "share=on" } else { "share=off,readonly=on,rom=off" };
        line.path("-object", &format!("memory-backend-file,id=ram0,size={size},{share},mem-path="), ram);
    }

    fn disk(&self, line: &mut Line, id: &str, file: &Path, read_only: bool) {
        // What is written goes into the host's page cache, where the host reads it: nothing outlives the VM
        // that would have to reach the host's own disk.
        let mode = if read_only { "on" } else { "off,discard=unmap,cache.no-flush=on" };
        line.path(
            "-blockdev",
            &format!(
                "driver=raw,node-name={id},read-only={mode},file.driver=file,file.locking=off,file.filename="
            ),
            file,
        );
        line.text("-device", format!("virtio-blk-{},drive={id}", self.bus()));
    }

    /// microvm has no PCI, q35 has nothing else.
    fn bus(&self) -> &'static str {
        if self.machine == "microvm" { "device" } else { "pci" }
    }

    fn machine_options(&self) -> &'static str {
        if self.machine == "microvm" { ",rtc=on" } else { "" }
    }
}

/// Whether QEMU would take `path` as one value of an option list.
pub(super) fn check_path(path: &Path) -> bool {
    path.to_str().is_some_and(|text| !text.contains(','))
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

pub(super) struct Line(Vec<OsString>);

impl Line {
    fn add<const N: usize>(&mut self, arguments: [&str; N]) {
        self.0.extend(arguments.map(OsString::from));
    }

    pub(super) fn text(&mut self, option: &str, value: String) {
        self.0.extend([OsString::from(option), OsString::from(value)]);
    }

    pub(super) fn path(&mut self, option: &str, before: &str, path: &Path) {
        let mut value = OsString::from(before);
        value.push(path);
        self.0.extend([OsString::from(option), value]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(role: Role) -> Vec<String> {
        line_of(role, Strategy::TemplateClone)
    }

    fn line_of(role: Role, strategy: Strategy) -> Vec<String> {
        let machine = Machine {
            binary: "qemu".into(),
            accelerator: Accelerator::Tcg,
            machine: "q35".into(),
            memory: ByteSize::mib(512),
            cpus: 1,
            cpu: "max".into(),
            strategy,
            translations_max: ByteSize::mib(32),
            network: Inward::default(),
            jail: Jail::default(),
        };
        let at = PathBuf::from;
        let parts = Parts {
            kernel: at("/i/vmlinuz"),
            initrd: at("/i/initrd"),
            root: at("/i/root"),
            scratch: at("/v/scratch"),
            ram: at("/t/ram"),
            state: None,
            foreign: None,
        };
        machine.arguments(role, &parts).into_iter().map(|part| part.into_string().unwrap()).collect()
    }

    /// Options that decide what the guest sees: they must not differ, or no state would load.
    fn devices(line: &[String]) -> Vec<&String> {
        let pairs = line.windows(2).filter(|pair| {
            ["-device", "-machine", "-cpu", "-smp", "-m", "-serial"].contains(&pair[0].as_str())
        });
        pairs.map(|pair| &pair[1]).collect()
    }

    #[test]
    fn a_clone_has_its_templates_devices() {
        for strategy in Strategy::ALL {
            let (template, clone) = (line_of(Role::Template, strategy), line_of(Role::Clone, strategy));
            assert_eq!(devices(&template), devices(&clone));
        }
    }

    #[test]
    fn the_only_network_is_a_socket_of_the_workers() {
        let line = line(Role::Clone);
        let nets: Vec<_> = line.windows(2).filter(|pair| pair[0] == "-netdev").map(|pair| &pair[1]).collect();
        assert_eq!(nets, ["stream,id=net0,server=on,addr.type=unix,addr.path=net"]);
        assert!(!line.iter().any(|word| ["-net", "-nic"].contains(&word.as_str())));
    }

    #[test]
    fn only_a_template_boots_and_only_a_template_writes_its_memory() {
        let (template, clone) = (line(Role::Template).join(" "), line(Role::Clone).join(" "));
        assert!(template.contains("share=on") && template.contains("-kernel"));
        assert!(
            clone.contains("share=off") && !clone.contains("-kernel") && clone.contains("-incoming defer")
        );
    }
}
