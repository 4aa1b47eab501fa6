//! What a VM uses, read from the host's own books about its QEMU: its cgroup's, which count to the
//! microsecond and what ended threads used, and where there is none, its entry in /proc.

use super::Error;
use super::process::Process;
use std::path::Path;
use std::time::Duration;

/// What a QEMU process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode: the guest under emulation, QEMU itself.
    pub cpu_user: Duration,
    /// Processor time in the kernel.
    pub cpu_system: Duration,
    /// Processor time in guest mode, under KVM; part of the user time.
    pub guest: Duration,
    /// The guest's memory that is no longer its template's: every page it ever wrote, since a page once
    /// written stays its own. So the last reading is the peak.
    pub memory_bytes: u64,
    /// The most memory of all of QEMU, where a cgroup counts it.
    pub qemu_memory_peak: Option<u64>,
}

impl Usage {
    /// Time on the processors, in either mode.
    pub fn cpu(&self) -> Duration {
        self.cpu_user + self.cpu_system
    }
}

/// Reads the books about a QEMU whose guest's memory is a private mapping of `ram`.
pub(super) fn usage(process: &Process, ram: &Path) -> Result<Usage, Error> {
    Ok(Usage { memory_bytes: memory(process, ram)?, ..times(process)? })
}

/// The guest's memory that is no longer its template's. The kernel counts page by page: milliseconds, for a guest
/// that has touched much.
pub(super) fn memory(process: &Process, ram: &Path) -> Result<u64, Error> {
    private_bytes(&read(process, "smaps")?, &ram.to_string_lossy()).ok_or_else(broken)
}

fn read(process: &Process, file: &str) -> Result<String, Error> {
    let path = format!("/proc/{}/{file}", process.pid());
    std::fs::read_to_string(&path).map_err(Error::host(format!("reading {path}")))
}

fn broken() -> Error {
    Error::Qemu("its entry in /proc makes no sense".to_owned())
}

/// Reads all but the memory, which takes next to nothing.
pub(super) fn times(process: &Process) -> Result<Usage, Error> {
    let (cpu_user, cpu_system, guest) = processor_times(&read(process, "stat")?).ok_or_else(broken)?;
    let usage = Usage { cpu_user, cpu_system, guest, ..Usage::default() };
    Ok(match process.books() {
        Some(books) => Usage {
            cpu_user: books.cpu_user,
            cpu_system: books.cpu_system,
            qemu_memory_peak: books.memory_peak,
            ..usage
        },
        None => usage,
    })
}

/// Fields 14, 15 and 43 of `stat`, in clock ticks: the name in field 2 may hold anything.
fn processor_times(stat: &str) -> Option<(Duration, Duration, Duration)> {
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let time = |at: usize| {
        let ticks: u64 = fields.get(at - 3)?.parse().ok()?;
        Some(Duration::from_millis(ticks * 1000 / ticks_per_second))
    };
    Some((time(14)?, time(15)?, time(43)?))
}

/// Sums the private pages of every mapping of `file`.
fn private_bytes(smaps: &str, file: &str) -> Option<u64> {
    let (mut ours, mut kib) = (false, None);
    for line in smaps.lines() {
        let first = line.split_ascii_whitespace().next()?;
        if !first.ends_with(':') {
            // A mapping outlives its file's name.
            ours = line.strip_suffix(" (deleted)").unwrap_or(line).ends_with(file) || line.ends_with(file);
        } else if ours && first == "Private_Dirty:" {
            let pages: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
            kib = Some(kib.unwrap_or(0) + pages);
        }
    }
    kib.map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mappings_of_the_file_count() {
        let smaps = "7f00-7f20 rw-p 00000000 fe:00 12 /t/ram\nSize: 8 kB\nPrivate_Clean: 100 kB\nPrivate_Dirty: 12 kB\n\
                     7f20-7f30 rw-p 00000000 00:00 0 [heap]\nPrivate_Dirty: 4000 kB\n\
                     7f30-7f40 rw-p 00001000 fe:00 12 /t/ram\nPrivate_Dirty: 8 kB\n";
        assert_eq!(private_bytes(smaps, "/t/ram"), Some(20 * 1024));
        assert_eq!(private_bytes(&smaps.replace("/t/ram", "/t/ram (deleted)"), "/t/ram"), Some(20 * 1024));
        assert_eq!(private_bytes(smaps, "/t/other"), None);
    }

    #[test]
    fn a_name_with_brackets_and_blanks_confuses_nobody() {
        let rest: String = (3..=52).map(|field| format!(" {field}")).collect();
        let (user, system, _) = processor_times(&format!("7 (a) b) c){rest}")).unwrap();
        let tick = 1000 / rustix::param::clock_ticks_per_second();
        assert_eq!((user.as_millis() as u64, system.as_millis() as u64), (14 * tick, 15 * tick));
    }
}
