//! Whose doing it was: from what was seen to a status, a cause and the evidence for it. Pure.
//!
//! What the host saw weighs more than what the guest says. A subject that takes its VM down has
//! crashed; it never becomes our fault. Our own faults do not come here at all: they are errors, and
//! are retried.

use crate::vm::{Ending, Limit};
use evalfleet_proto::evaluation::{Evidence, Source};
use evalfleet_proto::guest::Exited;
use evalfleet_proto::job::Limits;
use evalfleet_proto::status::{Cause, Status};

const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const ENOEXEC: i32 = 8;
/// What a shell answers for a program that is not there, and for one that cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
/// How much of a console or an error goes into the evidence.
const TEXT_MAX: usize = 1000;
/// How a kernel's last words begin.
const PANIC: &str = "Kernel panic";

/// What is to be said of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How it ended.
    pub status: Status,
    /// Whose doing it was.
    pub cause: Option<Cause>,
    /// What that rests on.
    pub evidence: Vec<Evidence>,
    /// Its exit status.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Verdict {
    fn new(status: Status, cause: Cause, source: Source, message: impl Into<String>) -> Self {
        Self {
            status,
            cause: Some(cause),
            evidence: vec![Evidence::new(source, message)],
            exit_code: None,
            signal: None,
        }
    }

    /// The request's own fault.
    pub fn harness(message: impl Into<String>) -> Self {
        Self::new(Status::Failed, Cause::Harness, Source::Host, message)
    }

    /// It was not started in time.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Status::Expired, Cause::Budget, Source::Host, message)
    }

    /// It was called off; `message` says how far it was. Why, whoever called it off has said.
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::new(Status::Cancelled, Cause::Harness, Source::Host, message)
    }

    /// The share of the subject that passed; none when it was not put to the test.
    pub fn success_rate(&self) -> Option<f64> {
        self.status.success_rate(self.cause)
    }

    fn because(mut self, source: Source, message: impl Into<String>) -> Self {
        self.evidence.push(Evidence::new(source, message));
        self
    }

    fn with_exit(mut self, exited: Option<&Exited>) -> Self {
        self.exit_code = exited.and_then(|exited| exited.code);
        self.signal = exited.and_then(|exited| exited.signal);
        self
    }
}

/// What the host measured when all was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Growth of the disk.
    pub disk_growth: u64,
    /// All that its connections might carry, in bytes, if that was used up.
    pub network_cut_off_at: Option<u64>,
}

/// Judges one run.
pub fn judge(ending: &Ending, limits: &Limits, seen: Seen) -> Verdict {
    match ending {
        Ending::Exited(exited) => judge_exit(exited, limits, seen).with_exit(Some(exited)),
        Ending::NotStarted { error, errno } => not_started(error, *errno),
        Ending::Exceeded { limit, exited } => {
            let verdict = exceeded(*limit, limits);
            match exited {
                // What it ran into on the way there, as the guest tells it.
                Some(exited) => [out_of_memory(exited, limits), out_of_processes(exited, limits)]
                    .into_iter()
                    .flatten()
                    .fold(verdict, |verdict, message| verdict.because(Source::Guest, message))
                    .with_exit(Some(exited)),
                None => verdict,
            }
        }
        Ending::Down { how, console } => {
            let verdict = Verdict::new(
                Status::Crashed,
                Cause::Subject,
                Source::Qemu,
                format!("the VM went down during the run: {how}"),
            );
            match tail(console) {
                "" => verdict,
                text => verdict.because(Source::Guest, format!("its console ended with: {text}")),
            }
        }
        Ending::Cancelled => Verdict::cancelled("called off while it ran"),
    }
}

fn judge_exit(exited: &Exited, limits: &Limits, seen: Seen) -> Verdict {
    let passed = exited.code == Some(0);
    if seen.disk_growth > limits.disk.bytes() {
        return exceeded(Limit::Disk(seen.disk_growth), limits);
    }
    if passed {
        return Verdict {
            status: Status::Passed,
            cause: None,
            evidence: Vec::new(),
            exit_code: None,
            signal: None,
        };
    }
    if let Some(carried) = seen.network_cut_off_at {
        return exceeded(Limit::Network(carried), limits);
    }
    if let Some(message) = out_of_memory(exited, limits) {
        return Verdict::new(Status::OutOfMemory, Cause::Budget, Source::Guest, message);
    }
    if let Some(message) = out_of_processes(exited, limits) {
        return Verdict::new(Status::LimitExceeded, Cause::Budget, Source::Guest, message);
    }
    match (exited.code, exited.signal) {
        (Some(code), _) => {
            Verdict::new(Status::Failed, Cause::Subject, Source::Guest, format!("exit status {code}"))
        }
        (None, Some(signal)) => {
            Verdict::new(Status::Crashed, Cause::Subject, Source::Guest, format!("ended by signal {signal}"))
        }
        (None, None) => {
            Verdict::new(Status::Crashed, Cause::Subject, Source::Guest, "ended without a status")
        }
    }
}

fn not_started(error: &str, errno: i32) -> Verdict {
    let code = match errno {
        ENOENT if !error.starts_with("there is no") && !error.starts_with("the image has no") => {
            Some(NOT_FOUND)
        }
        EACCES | ENOEXEC => Some(NOT_EXECUTABLE),
        _ => None,
    };
    match code {
        // As a shell would have it: whoever calls a program that is not there has failed.
        Some(code) => Verdict {
            exit_code: Some(code),
            ..Verdict::new(Status::Failed, Cause::Subject, Source::Guest, error)
        },
        None => Verdict::new(Status::Failed, Cause::Harness, Source::Guest, error),
    }
}

fn out_of_memory(exited: &Exited, limits: &Limits) -> Option<String> {
    (exited.oom_kills > 0).then(|| {
        format!(
            "used {} of memory, may use {}: {} of its processes were killed for want of more",
            bytes(exited.memory_peak),
            limits.memory,
            exited.oom_kills
        )
    })
}

fn out_of_processes(exited: &Exited, limits: &Limits) -> Option<String> {
    (exited.fork_denials > 0).then(|| {
        // A kernel that does not tell the peak has at least seen the limit.
        let had = exited.processes_peak.max(u64::from(limits.processes));
        format!(
            "had {had} processes at once, may have {}: it was denied more {} times",
            limits.processes, exited.fork_denials
        )
    })
}

fn exceeded(limit: Limit, limits: &Limits) -> Verdict {
    let (status, message) = match limit {
        Limit::Wall(ran) => {
            (Status::TimedOut, format!("ran for {}, may run {}", seconds(ran), seconds(limits.wall)))
        }
        Limit::Cpu(used) => {
            let (used, may) = (seconds(used), seconds(limits.cpu));
            (Status::TimedOut, format!("used {used} of processor time, may use {may}"))
        }
        Limit::Output(wrote) => {
            (Status::LimitExceeded, format!("wrote {} of output, may write {}", bytes(wrote), limits.output))
        }
        Limit::Disk(grown) => {
            (Status::LimitExceeded, format!("its disk grew by {}, may grow by {}", bytes(grown), limits.disk))
        }
        Limit::Network(carried) => {
            let message =
                format!("its connections carried {}, all that they may: it was cut off", bytes(carried));
            (Status::LimitExceeded, message)
        }
        Limit::Memory(had) => {
            let had = bytes(had);
            (Status::OutOfMemory, format!("its VM used {had} of the host's memory, all that a VM may use"))
        }
    };
    Verdict::new(status, Cause::Budget, Source::Host, message)
}

/// A time as evidence has it: `10.3 s`.
fn seconds(time: std::time::Duration) -> String {
    let exact = format!("{:.3}", time.as_secs_f64());
    format!("{} s", exact.trim_end_matches('0').trim_end_matches('.'))
}

/// A size as evidence has it: short where it is large.
fn bytes(size: u64) -> String {
    if size < 1 << 20 {
        format!("{size} bytes")
    } else {
        format!("{:.1} MiB", size as f64 / f64::from(1 << 20))
    }
}

/// What a console says of its end: from the kernel's last words on, or else its last lines.
fn tail(console: &str) -> &str {
    if let Some(at) = console.rfind(PANIC) {
        let to = console.len().min(at + TEXT_MAX);
        let to = (at..=to).rev().find(|to| console.is_char_boundary(*to)).unwrap_or(at);
        return console[at..to].trim();
    }
    let from = console.len().saturating_sub(TEXT_MAX);
    let from = (from..=console.len()).find(|at| console.is_char_boundary(*at)).unwrap_or(console.len());
    console[from..].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(change: impl FnOnce(&mut Exited)) -> Verdict {
        let mut exited = Exited::default();
        change(&mut exited);
        judge(&Ending::Exited(exited), &Limits::default(), Seen::default())
    }

    #[test]
    fn an_exit_status_of_zero_passes_and_any_other_is_the_subjects() {
        let passed = exit(|exited| exited.code = Some(0));
        assert_eq!((passed.status, passed.cause, passed.success_rate()), (Status::Passed, None, Some(1.0)));
        let failed = exit(|exited| exited.code = Some(3));
        assert_eq!(
            (failed.status, failed.cause, failed.exit_code),
            (Status::Failed, Some(Cause::Subject), Some(3))
        );
        let crashed = exit(|exited| exited.signal = Some(11));
        assert_eq!((crashed.status, crashed.signal), (Status::Crashed, Some(11)));
    }

    #[test]
    fn a_limit_is_a_budget_and_not_the_subjects_failure() {
        let memory = exit(|exited| (exited.signal, exited.oom_kills) = (Some(9), 1));
        assert_eq!((memory.status, memory.cause), (Status::OutOfMemory, Some(Cause::Budget)));
        let forks = exit(|exited| (exited.code, exited.fork_denials) = (Some(2), 40));
        assert_eq!((forks.status, forks.cause), (Status::LimitExceeded, Some(Cause::Budget)));
        let time = judge(
            &Ending::Exceeded { limit: Limit::Wall(std::time::Duration::from_millis(30_020)), exited: None },
            &Limits::default(),
            Seen::default(),
        );
        assert_eq!((time.status, time.cause), (Status::TimedOut, Some(Cause::Budget)));
        assert_eq!(time.evidence[0].message, "ran for 30.02 s, may run 30 s");
    }

    #[test]
    fn every_limit_names_itself_with_what_was_measured() {
        let limits = Limits { cpu: std::time::Duration::from_secs(10), ..Limits::default() };
        let says = |limit| exceeded(limit, &limits).evidence[0].message.clone();
        let cpu = Limit::Cpu(std::time::Duration::from_millis(10_300));
        assert_eq!(says(cpu), "used 10.3 s of processor time, may use 10 s");
        assert_eq!(says(Limit::Output((1 << 20) + 1)), "wrote 1.0 MiB of output, may write 1M");
        assert_eq!(says(Limit::Disk(300 << 20)), "its disk grew by 300.0 MiB, may grow by 256M");
        assert!(says(Limit::Memory(1 << 30)).starts_with("its VM used 1024.0 MiB of the host's memory"));
        let memory =
            exit(|exited| (exited.code, exited.oom_kills, exited.memory_peak) = (Some(1), 2, 255 << 20));
        assert!(memory.evidence[0].message.starts_with("used 255.0 MiB of memory, may use 256M"));
        let forks = exit(|exited| (exited.code, exited.fork_denials) = (Some(1), 7));
        assert_eq!(
            forks.evidence[0].message,
            "had 64 processes at once, may have 64: it was denied more 7 times"
        );
    }

    #[test]
    fn a_bomb_that_runs_out_of_time_tells_what_it_ran_into() {
        let exited = Exited { fork_denials: 9, oom_kills: 1, ..Exited::default() };
        let limit = Limit::Wall(std::time::Duration::from_secs(31));
        let verdict =
            judge(&Ending::Exceeded { limit, exited: Some(exited) }, &Limits::default(), Seen::default());
        assert_eq!((verdict.status, verdict.evidence.len()), (Status::TimedOut, 3));
    }

    #[test]
    fn a_helper_that_ran_out_of_memory_does_not_fail_a_subject_that_passed() {
        assert_eq!(exit(|exited| (exited.code, exited.oom_kills) = (Some(0), 1)).status, Status::Passed);
    }

    #[test]
    fn the_host_sees_a_full_disk_whatever_the_guest_says() {
        let exited = Exited { code: Some(0), ..Exited::default() };
        let verdict = judge(
            &Ending::Exited(exited),
            &Limits::default(),
            Seen { disk_growth: 1 << 40, ..Seen::default() },
        );
        assert_eq!((verdict.status, verdict.cause), (Status::LimitExceeded, Some(Cause::Budget)));
    }

    #[test]
    fn a_subject_that_fails_for_want_of_network_ran_out_of_budget() {
        let seen = Seen { network_cut_off_at: Some(64 << 10), ..Seen::default() };
        let ended = |code| {
            judge(&Ending::Exited(Exited { code: Some(code), ..Exited::default() }), &Limits::default(), seen)
        };
        let failed = ended(1);
        assert_eq!((failed.status, failed.cause), (Status::LimitExceeded, Some(Cause::Budget)));
        assert_eq!(
            failed.evidence[0].message,
            "its connections carried 65536 bytes, all that they may: it was cut off"
        );
        assert_eq!(ended(0).status, Status::Passed);
    }

    #[test]
    fn taking_the_vm_down_is_a_crash_of_the_subject() {
        let ending =
            Ending::Down { how: "the guest's kernel panicked".into(), console: "Kernel panic".into() };
        let verdict = judge(&ending, &Limits::default(), Seen::default());
        assert_eq!((verdict.status, verdict.cause), (Status::Crashed, Some(Cause::Subject)));
        assert_eq!(verdict.evidence.len(), 2);
    }

    #[test]
    fn a_panics_reason_comes_before_its_trace() {
        let console = format!("boot\nKernel panic - not syncing: why\n{}", "trace\n".repeat(1000));
        assert!(tail(&console).starts_with("Kernel panic - not syncing: why"));
        assert!(tail(&console).len() <= TEXT_MAX);
        assert!(tail(&"x\n".repeat(1000)).len() <= TEXT_MAX);
    }

    #[test]
    fn a_missing_program_is_the_subjects_and_a_missing_directory_the_requests() {
        let missing = not_started("nosuch: No such file or directory", ENOENT);
        assert_eq!((missing.cause, missing.exit_code), (Some(Cause::Subject), Some(127)));
        let nowhere = not_started("there is no directory /nowhere", ENOENT);
        assert_eq!(nowhere.cause, Some(Cause::Harness));
    }
}
