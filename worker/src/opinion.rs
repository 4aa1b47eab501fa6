//! Where host and guest disagree on what a job used. Pure.
//!
//! The guest's figures are a second opinion: its kernel counts what the job's processes used, the host
//! counts the whole VM. So the host sees more, and how much more is known; beyond that, one of them is
//! wrong: a subject that left its cgroup, a guest that lies, or counters of ours that are broken.

use crate::vm::Accelerator;
use evalfleet_proto::evaluation::Metrics;
use std::time::Duration;

/// How far two honest counters may be apart.
#[derive(Debug, Clone, Copy)]
struct Tolerance {
    /// The host may see this many times the guest's processor time,
    cpu_factor: u32,
    /// and this much on top: waking, the agent, the guest's kernel, flushing the disk.
    cpu_slack: Duration,
}

/// The same under either accelerator in kind, but not in size: an emulated guest takes longer for all that
/// is not the job's. It does not inflate the job's own time, for the guest's clock is the host's.
fn tolerance(accelerator: Accelerator) -> Tolerance {
    match accelerator {
        Accelerator::Kvm => Tolerance { cpu_factor: 2, cpu_slack: Duration::from_secs(1) },
        Accelerator::Tcg => Tolerance { cpu_factor: 3, cpu_slack: Duration::from_secs(2) },
    }
}

/// The guest's clock ticks, and counts a tick as one process's: this much of rounding.
const TICKS: Duration = Duration::from_millis(250);
/// The host may see this many times the guest's memory: a page that was once used stays the VM's own.
const MEMORY_FACTOR: u64 = 4;
/// And this much on top, for the guest's kernel and its caches.
const MEMORY_SLACK: u64 = 128 << 20;
/// The guest may count this much that the host does not: what was freed before the claim and used again.
const MEMORY_REUSED: u64 = 16 << 20;

/// Says where the two disagree by more than measuring explains. `memory_at_claim` is what the VM had
/// written before the job.
pub fn disagreements(
    metrics: &Metrics,
    memory_at_claim: u64,
    cpus: u32,
    accelerator: Accelerator,
) -> Vec<String> {
    let Some(guest) = &metrics.guest else { return Vec::new() };
    let Tolerance { cpu_factor, cpu_slack } = tolerance(accelerator);
    let (ours, theirs) = (metrics.cpu_user + metrics.cpu_system, guest.cpu_user + guest.cpu_system);
    let mut warnings = Vec::new();
    if ours > theirs * cpu_factor + cpu_slack {
        warnings.push(format!(
            "processor time: the guest says {}, the host saw {} (tolerated: {cpu_factor} times that and {} more)",
            seconds(theirs),
            seconds(ours),
            seconds(cpu_slack)
        ));
    }
    // Waiting for the host's processors counts in the guest, so its bound is the clock, not our figure.
    let possible = metrics.wall * cpus;
    if theirs > possible + possible / 10 + TICKS {
        warnings.push(format!(
            "processor time: the guest says {}, and {cpus} processors had {} in all",
            seconds(theirs),
            seconds(possible)
        ));
    }
    let (ours, theirs) = (metrics.memory_peak_bytes, guest.memory_peak_bytes);
    if ours > theirs * MEMORY_FACTOR + MEMORY_SLACK {
        warnings.push(format!(
            "memory: the guest says {}, the host saw {} (tolerated: {MEMORY_FACTOR} times that and {} more)",
            mib(theirs),
            mib(ours),
            mib(MEMORY_SLACK)
        ));
    }
    if theirs > ours + memory_at_claim + MEMORY_REUSED {
        warnings.push(format!("memory: the guest says {}, the host saw {}", mib(theirs), mib(ours)));
    }
    warnings
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::evaluation::GuestMetrics;

    /// What host and guest say: processor time in milliseconds, memory in MiB.
    fn said(host: (u64, u64), guest: (u64, u64), accelerator: Accelerator) -> Vec<String> {
        let metrics = Metrics {
            wall: Duration::from_secs(10),
            cpu_user: Duration::from_millis(host.0),
            memory_peak_bytes: host.1 << 20,
            guest: Some(GuestMetrics {
                cpu_user: Duration::from_millis(guest.0),
                cpu_system: Duration::ZERO,
                memory_peak_bytes: guest.1 << 20,
            }),
            ..Metrics::default()
        };
        disagreements(&metrics, 8 << 20, 1, accelerator)
    }

    #[test]
    fn what_measuring_explains_is_no_disagreement() {
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
            assert!(said((900, 20), (1, 2), accelerator).is_empty(), "a small job in a VM that has to wake");
            assert!(said((5_000, 300), (4_900, 256), accelerator).is_empty());
            assert!(
                said((4_000, 10), (6_000, 20), accelerator).is_empty(),
                "a guest that waits for the host"
            );
        }
        let without = Metrics { cpu_user: Duration::from_secs(9), ..Metrics::default() };
        assert!(disagreements(&without, 0, 1, Accelerator::Tcg).is_empty(), "no opinion, no disagreement");
    }

    #[test]
    fn a_guest_that_hides_what_it_used_is_told_on() {
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
            let cpu = said((5_000, 20), (1, 20), accelerator);
            assert!(cpu[0].contains("the guest says 0.001 s, the host saw 5.000 s"), "{cpu:?}");
            let memory = said((100, 300), (50, 1), accelerator);
            assert!(memory[0].contains("the guest says 1.0 MiB, the host saw 300.0 MiB"), "{memory:?}");
        }
    }

    #[test]
    fn a_guest_cannot_have_used_more_than_there_was() {
        let cpu = said((5_000, 20), (12_000, 20), Accelerator::Kvm);
        assert!(cpu[0].contains("1 processors had 10.000 s in all"), "{cpu:?}");
        let memory = said((100, 20), (50, 200), Accelerator::Kvm);
        assert!(memory[0].starts_with("memory: the guest says 200.0 MiB"), "{memory:?}");
    }

    #[test]
    fn emulation_is_allowed_more() {
        let (host, guest) = ((2_500, 20), (300, 20));
        assert_eq!(
            (said(host, guest, Accelerator::Kvm).len(), said(host, guest, Accelerator::Tcg).len()),
            (1, 0)
        );
    }
}
