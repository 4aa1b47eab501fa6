//! Every limit, crossed in a real VM: a budget, with the limit's name and what was measured.

use super::Test;
use crate::yard::Yard;
use evalfleet_proto::evaluation::{GuestMetrics, Metrics};
use evalfleet_proto::guest::{Exited, Run};
use evalfleet_proto::job::Limits;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::units::ByteSize;
use evalfleet_tests::machine::patience;
use evalfleet_worker::opinion;
use evalfleet_worker::verdict::{Seen, Verdict, judge};
use evalfleet_worker::vm::{Ending, Event, Meter, Progress, Spent};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("limits::a_sleeper_runs_out_of_time", |yard| {
        let limits = Limits { wall: Duration::from_secs(1), ..limits() };
        let run = crossed(yard, "sleep 60", &limits, Status::TimedOut, "ran for 1");
        assert!(run.took < Duration::from_secs(10) * patience(), "{:?}", run.took);
    }),
    ("limits::a_busy_loop_runs_out_of_processor_time", |yard| {
        let limits = Limits { cpu: Duration::from_secs(1), ..limits() };
        crossed(yard, "while :; do :; done", &limits, Status::TimedOut, "of processor time, may use 1 s");
    }),
    ("limits::a_job_that_ignores_signals_is_ended", |yard| {
        let limits = Limits { wall: Duration::from_secs(1), ..limits() };
        let script = "trap '' TERM INT HUP QUIT; while :; do sleep 1; done";
        let run = crossed(yard, script, &limits, Status::TimedOut, "ran for 1");
        assert!(run.told, "the agent could still report what it killed");
    }),
    ("limits::who_leaves_the_process_group_is_ended_too", |yard| {
        let limits = Limits { wall: Duration::from_secs(2), ..limits() };
        let script = "for i in 1 2 3; do setsid sh -c 'while :; do sleep 1; done' & done; wait";
        let run = crossed(yard, script, &limits, Status::TimedOut, "ran for 2");
        assert!(run.told, "the agent could still report what it killed");
    }),
    ("limits::who_leaves_the_cgroup_is_ended_too_and_told_on", who_leaves_the_cgroup),
    ("limits::a_memory_hog_runs_out_of_memory", |yard| {
        let limits = Limits { memory: ByteSize::mib(64), ..limits() };
        let script = "exec python3 -c 'b = bytearray(200 << 20)'";
        crossed(yard, script, &limits, Status::OutOfMemory, "may use 64M");
    }),
    ("limits::memory_that_no_process_owns_counts", |yard| {
        let limits = Limits { memory: ByteSize::mib(64), ..limits() };
        let script = "exec dd if=/dev/zero of=/dev/shm/hog bs=1M count=200";
        crossed(yard, script, &limits, Status::OutOfMemory, "may use 64M");
    }),
    ("limits::a_fork_bomb_runs_out_of_processes", |yard| {
        let limits = Limits { processes: 20, wall: Duration::from_secs(20) * patience(), ..limits() };
        let script = "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done; exit 1";
        crossed(yard, script, &limits, Status::LimitExceeded, "had 20 processes at once, may have 20");
    }),
    ("limits::a_disk_filler_runs_out_of_disk", |yard| {
        let limits = Limits { disk: ByteSize::mib(8), memory: ByteSize::mib(128), ..limits() };
        let script = "dd if=/dev/urandom of=/workspace/hog bs=1M count=64 conv=fsync; sleep 20";
        crossed(yard, script, &limits, Status::LimitExceeded, "may grow by 8M");
    }),
    ("limits::a_flood_of_output_is_cut_off_and_not_kept", |yard| {
        let limits = Limits { output: ByteSize::mib(1), ..limits() };
        let run = crossed(yard, "exec cat /dev/zero", &limits, Status::LimitExceeded, "may write 1M");
        assert!(run.output < 4 << 20, "{} bytes were taken in", run.output);
    }),
    ("limits::a_guest_that_takes_all_its_memory_stays_within_its_bounds", all_its_memory),
    ("limits::progress_is_told_once_a_second", progress),
    ("limits::host_and_guest_agree_unless_a_job_hides", opinions),
];

fn limits() -> Limits {
    let minute = Duration::from_secs(60) * patience();
    Limits { wall: minute, cpu: minute, ..Limits::default() }
}

/// What a run under limits came to.
struct Outcome {
    verdict: Verdict,
    told: bool,
    /// What the guest said of it.
    exited: Option<Exited>,
    took: Duration,
    output: usize,
    progress: Vec<Progress>,
    spent: Spent,
}

fn run(yard: &Yard, script: &str, limits: &Limits) -> Outcome {
    let mut active = yard.claim();
    let order = Run {
        argv: ["sh", "-c", script].map(ToOwned::to_owned).to_vec(),
        cwd: "/workspace".to_owned(),
        memory: limits.memory.bytes(),
        processes: limits.processes,
        ..Run::default()
    };
    let meter = Meter {
        wall: limits.wall,
        cpu: limits.cpu,
        output: limits.output.bytes(),
        disk: limits.disk.bytes(),
    };
    let (mut output, mut progress) = (0, Vec::new());
    let mut listen = |event| match event {
        Event::Output { data, .. } => output += data.len(),
        Event::Progress(so_far) => progress.push(so_far),
        Event::Started => {}
    };
    let (begun, never) = (Instant::now(), CancellationToken::new());
    let ending = yard.wait(active.run(order, &[], meter, &never, &mut listen)).expect("our part works");
    let took = begun.elapsed();
    let spent = yard.stop(active);
    let verdict = judge(&ending, limits, Seen { disk_growth: spent.disk_growth, ..Seen::default() });
    let exited = match ending {
        Ending::Exited(exited) | Ending::Exceeded { exited: Some(exited), .. } => Some(exited),
        Ending::Exceeded { exited: None, .. }
        | Ending::NotStarted { .. }
        | Ending::Down { .. }
        | Ending::Cancelled => None,
    };
    Outcome { verdict, told: exited.is_some(), exited, took, output, progress, spent }
}

/// Runs `script`, which must cross a limit: with this status, and evidence that says `words`.
#[track_caller]
fn crossed(yard: &Yard, script: &str, limits: &Limits, status: Status, words: &str) -> Outcome {
    let outcome = run(yard, script, limits);
    let verdict = &outcome.verdict;
    assert_eq!((verdict.status, verdict.cause), (status, Some(Cause::Budget)), "{verdict:?}");
    assert!(verdict.evidence[0].message.contains(words), "{:?}", verdict.evidence);
    outcome
}

/// Root in the guest can leave the cgroup it was born in; the host still sees its processor time, and the
/// end comes to the whole VM.
fn who_leaves_the_cgroup(yard: &Yard) {
    let limits = Limits { cpu: Duration::from_secs(4), memory: ByteSize::mib(64), ..limits() };
    let script = "echo $$ > /sys/fs/cgroup/cgroup.procs && while :; do :; done";
    let run = crossed(yard, script, &limits, Status::TimedOut, "of processor time, may use 4 s");
    assert!(run.told, "the agent killed it outside of the cgroup as well");
    assert!(run.spent.used.cpu() > Duration::from_secs(4));
}

/// It is root in there, and takes what the VM has. The host gives no more than that.
fn all_its_memory(yard: &Yard) {
    let limits = Limits { memory: ByteSize::mib(64), wall: Duration::from_secs(20) * patience(), ..limits() };
    let script = "echo $$ > /sys/fs/cgroup/cgroup.procs; mount -o remount,size=100% /dev/shm; \
                  dd if=/dev/zero of=/dev/shm/hog bs=1M; dd if=/dev/zero of=/dev/shm/hog2 bs=1M; exit 3";
    let outcome = run(yard, script, &limits);
    assert_ne!(outcome.verdict.cause, Some(Cause::Infrastructure));
    assert_ne!(outcome.verdict.status, Status::Passed);
    let memory = yard.settings().qemu.memory.bytes();
    assert!(outcome.spent.memory_peak > 100 << 20, "it did take: {}", outcome.spent.memory_peak);
    assert!(outcome.spent.memory_peak <= memory, "{} of {memory}", outcome.spent.memory_peak);
    if let Some(peak) = outcome.spent.used.qemu_memory_peak {
        assert!(peak < memory + (2 << 30), "{peak}");
    }
}

fn progress(yard: &Yard) {
    let outcome = run(yard, "i=0; while [ $i -lt 7 ]; do sleep 0.5; i=$((i+1)); done", &limits());
    assert_eq!(outcome.verdict.status, Status::Passed, "{:?}", outcome.verdict);
    let told = outcome.progress;
    assert!((2..=4).contains(&told.len()), "{told:?}");
    for pair in told.windows(2) {
        assert!(pair[1].elapsed - pair[0].elapsed >= Duration::from_millis(990), "{told:?}");
        assert!(pair[1].cpu >= pair[0].cpu && pair[1].memory_bytes >= pair[0].memory_bytes, "{told:?}");
    }
}

/// Honest jobs of several kinds raise no warning; one that left its cgroup does. Prints what was seen, for
/// whoever looks at the tolerances.
fn opinions(yard: &Yard) {
    let honest = [
        ("nothing", "true"),
        ("two busy seconds", "timeout 2 sh -c 'while :; do :; done'; true"),
        ("many processes", "i=0; while [ $i -lt 40 ]; do /bin/true; i=$((i+1)); done"),
        ("a disk", "dd if=/dev/urandom of=/workspace/f bs=1M count=32 conv=fsync"),
        ("memory", "python3 -c 'b = bytearray(100 << 20)'"),
        ("sleep", "sleep 3"),
    ];
    for (name, script) in honest {
        let warnings = disagreements(yard, name, script);
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
    let hides = "echo $$ > /sys/fs/cgroup/cgroup.procs; timeout 6 sh -c 'while :; do :; done'; true";
    let warnings = disagreements(yard, "one that hides", hides);
    assert!(
        warnings.iter().any(|warning| warning.starts_with("processor time: the guest says")),
        "{warnings:?}"
    );
}

fn disagreements(yard: &Yard, name: &str, script: &str) -> Vec<String> {
    let Outcome { exited, spent, verdict, .. } = run(yard, script, &limits());
    let exited = exited.unwrap_or_else(|| panic!("{verdict:?}"));
    let metrics = Metrics {
        wall: spent.wall,
        cpu_user: spent.used.cpu_user,
        cpu_system: spent.used.cpu_system,
        memory_peak_bytes: spent.memory_peak,
        guest: Some(GuestMetrics {
            cpu_user: Duration::from_micros(exited.cpu_user_us),
            cpu_system: Duration::from_micros(exited.cpu_system_us),
            memory_peak_bytes: exited.memory_peak,
        }),
        ..Metrics::default()
    };
    let guest = Duration::from_micros(exited.cpu_user_us + exited.cpu_system_us);
    eprintln!(
        "{name}: processor host {:?} guest {guest:?} in {:?}; memory host {} guest {} KiB",
        spent.used.cpu(),
        spent.wall,
        spent.memory_peak >> 10,
        exited.memory_peak >> 10
    );
    let machine = yard.template().machine();
    opinion::disagreements(&metrics, spent.memory_at_claim, machine.cpus, machine.accelerator)
}
