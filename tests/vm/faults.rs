//! Faults: each with the right cause, and after each the next job of the same worker in a clean VM.

use super::Test;
use super::shift::{Shift, evaluated, expect, fault, send};
use super::yard::Yard;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::Submission;
use evalfleet_service::settings::Settings;
use evalfleet_tests::machine::patience;
use evalfleet_worker::job::Fate;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const ALL: &[(&str, Test)] = &[
    ("faults::qemu_killed_on_the_host_is_ours", qemu_killed_on_the_host_is_ours),
    ("faults::qemu_held_by_a_signal_is_ours", qemu_held_by_a_signal_is_ours),
    ("faults::a_kernel_panic_is_the_subjects", a_kernel_panic_is_the_subjects),
    ("faults::a_guest_that_hangs_is_over_its_time", a_guest_that_hangs_is_over_its_time),
    ("faults::the_agent_cannot_be_killed", the_agent_cannot_be_killed),
    ("faults::an_agent_that_was_overwritten_is_the_subjects", an_agent_that_was_overwritten_is_the_subjects),
    ("faults::an_agent_that_floods_is_the_subjects", an_agent_that_floods_is_the_subjects),
    ("faults::a_full_guest_disk_is_a_budget", a_full_guest_disk_is_a_budget),
    ("faults::a_clock_set_wrong_concerns_that_job_alone", a_clock_set_wrong_concerns_that_job_alone),
    (
        "faults::a_spare_that_dies_is_replaced_before_a_job_comes",
        a_spare_that_dies_is_replaced_before_a_job_comes,
    ),
    ("faults::a_spare_that_is_held_is_replaced", a_spare_that_is_held_is_replaced),
    (
        "faults::a_template_damaged_in_use_is_ours_and_made_anew",
        a_template_damaged_in_use_is_ours_and_made_anew,
    ),
    (
        "faults::a_template_with_one_flipped_byte_is_not_served",
        a_template_with_one_flipped_byte_is_not_served,
    ),
    ("faults::a_template_deleted_in_use_harms_no_job", a_template_deleted_in_use_harms_no_job),
    ("faults::a_full_host_disk_is_ours_and_the_jobs_stay", a_full_host_disk_is_ours_and_the_jobs_stay),
];

fn qemu_killed_on_the_host_is_ours(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let job = shift.script("sleep 30");
    let kill = shift.signal_active(Signal::KILL);
    let why = fault(shift.run_while(&job, kill));
    assert!(why.contains("killed by somebody on the host"), "{why}");
    shift.the_next_job_passes();
    shift.end();
}

fn qemu_held_by_a_signal_is_ours(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let job = shift.script("sleep 30");
    let hold = shift.signal_active(Signal::STOP);
    let why = fault(shift.run_while(&job, hold));
    assert!(why.contains("held by somebody on the host"), "{why}");
    shift.the_next_job_passes();
    shift.end();
}

fn a_kernel_panic_is_the_subjects(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let job = shift.script("echo c > /proc/sysrq-trigger; sleep 30");
    let report = shift.evaluate(&job);
    expect(&report, Status::Crashed, Cause::Subject);
    assert!(report.evidence.iter().any(|evidence| evidence.message.contains("panic")), "{report:?}");
    shift.the_next_job_passes();
    shift.end();
}

/// The agent spins and answers nothing; the guest's kernel lives. A kernel that hangs is not tried here.
fn a_guest_that_hangs_is_over_its_time(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let mut job = shift.job(agent_overwritten(&[0xeb, 0xfe]));
    job.limits.wall = Duration::from_secs(3);
    let report = shift.evaluate(&job);
    expect(&report, Status::TimedOut, Cause::Budget);
    shift.the_next_job_passes();
    shift.end();
}

fn the_agent_cannot_be_killed(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let job = shift.script("kill -9 1; kill -TERM 1; kill -STOP 1; echo survived");
    let report = shift.evaluate(&job);
    assert_eq!((report.status, report.stdout.text.as_str()), (Status::Passed, "survived\n"), "{report:?}");
    shift.the_next_job_passes();
    shift.end();
}

fn an_agent_that_was_overwritten_is_the_subjects(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    // An instruction that does not exist: process 1 dies of it, and the kernel with it.
    let job = shift.job(agent_overwritten(&[0x0f, 0x0b]));
    let report = shift.evaluate(&job);
    expect(&report, Status::Crashed, Cause::Subject);
    shift.the_next_job_passes();
    shift.end();
}

fn an_agent_that_floods_is_the_subjects(yard: &Yard) {
    // What is written: a frame that is longer than any may be; an endless stream of frames that say
    // nothing of sense.
    for frame in [&[0xff; 8][..], &[4, 0, 0, 0, 0xc1, 0xc1, 0xc1, 0xc1][..]] {
        let mut shift = Shift::begin(yard);
        let job = shift.job(agent_says(frame));
        let report = shift.evaluate(&job);
        expect(&report, Status::Crashed, Cause::Subject);
        assert!(report.evidence[0].message.contains("agent"), "{report:?}");
        shift.the_next_job_passes();
        shift.end();
    }
}

fn a_full_guest_disk_is_a_budget(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let mut job = shift.script("cat /dev/zero > /workspace/full");
    job.limits.wall *= patience();
    job.limits.disk = "32M".parse().expect("a size");
    let report = shift.evaluate(&job);
    expect(&report, Status::LimitExceeded, Cause::Budget);
    shift.the_next_job_passes();
    shift.end();
}

fn a_clock_set_wrong_concerns_that_job_alone(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let job = shift.script("date -s '2001-02-03 04:05:06' > /dev/null && sleep 0.2 && date +%Y");
    let report = shift.evaluate(&job);
    assert_eq!((report.status, report.stdout.text.as_str()), (Status::Passed, "2001\n"), "{report:?}");
    assert!(
        report.metrics.wall < Duration::from_secs(30) * patience(),
        "the host's clock counts: {report:?}"
    );
    let job = shift.script("date +%s");
    let clock: i64 = shift.evaluate(&job).stdout.text.trim().parse().expect("seconds");
    let now = evalfleet_proto::Timestamp::now().as_second();
    assert!((now - clock).abs() <= 5, "its clock says {clock}, ours {now}");
    shift.the_next_job_passes();
    shift.end();
}

fn a_spare_that_dies_is_replaced_before_a_job_comes(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let dead = shift.wait_until(|status| status.spare == "ready").spare_pid.expect("it has a process");
    send(dead, Signal::KILL);
    let status = shift.wait_until(|status| status.spare == "ready" && status.spare_pid != Some(dead));
    assert_eq!((status.counts.died, status.counts.claims), (1, 0));
    shift.the_next_job_passes();
    assert_eq!(shift.supply().borrow().counts.waits, 0, "the job had its VM at once");
    shift.end();
}

fn a_spare_that_is_held_is_replaced(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    let held = shift.wait_until(|status| status.spare == "ready").spare_pid.expect("it has a process");
    send(held, Signal::STOP);
    shift.wait_until(|status| status.spare == "ready" && status.spare_pid != Some(held));
    shift.the_next_job_passes();
    shift.end();
}

fn a_template_damaged_in_use_is_ours_and_made_anew(yard: &Yard) {
    let templates = own_templates(yard);
    let mut shift = Shift::with(yard, |settings| settings.set_templates_dir(templates.path()));
    let job = shift.script("sleep 3");
    let ram = the_template(templates.path()).join("ram");
    let before = template_identity(templates.path());
    let why = fault(shift.run_while(&job, move || flip(&ram, 300 << 20)));
    assert!(why.contains("ram was changed"), "{why}");
    shift.the_next_job_passes();
    assert_ne!(template_identity(templates.path()), before, "it was made anew");
    shift.end();
}

fn a_template_with_one_flipped_byte_is_not_served(yard: &Yard) {
    let templates = own_templates(yard);
    for file in ["ram", "state"] {
        let before = template_identity(templates.path());
        flip(&the_template(templates.path()).join(file), 20 << 10);
        let mut shift = Shift::with(yard, |settings| settings.set_templates_dir(templates.path()));
        assert_ne!(template_identity(templates.path()), before, "the damaged {file} was not noticed");
        shift.the_next_job_passes();
        shift.end();
    }
}

fn a_template_deleted_in_use_harms_no_job(yard: &Yard) {
    let templates = own_templates(yard);
    let mut shift = Shift::with(yard, |settings| settings.set_templates_dir(templates.path()));
    let job = shift.script("sleep 2; head -c 50000000 /dev/zero | tail -c 1 | wc -c");
    let folder = the_template(templates.path());
    let report = evaluated(shift.run_while(&job, move || fs::remove_dir_all(folder).expect("it can go")));
    assert_eq!((report.status, report.stdout.text.as_str()), (Status::Passed, "1\n"), "{report:?}");
    shift.the_next_job_passes();
    shift.the_next_job_passes();
    shift.end();
}

/// The VMs' folder on a file system with next to no room.
fn a_full_host_disk_is_ours_and_the_jobs_stay(yard: &Yard) {
    let Some(small) = SmallDisk::mount(40 << 20) else {
        eprintln!("skipped: mounting a tmpfs takes root");
        return;
    };
    let templates = yard.settings().templates_dir();
    let images = yard.settings().images_dir();
    let mut shift = Shift::with(yard, |settings| {
        settings.set_state_dir(small.path());
        settings.set_images_dir(&images);
        settings.set_templates_dir(&templates);
    });
    shift.wait_until(|status| status.spare == "ready");
    // A job within its own limits, and the host has no room for it.
    let job = shift.script("head -c 60000000 /dev/zero > /workspace/big && sync");
    let why = fault(shift.run(&job));
    assert!(why.contains("host could not write"), "{why}");
    shift.the_next_job_passes();
    // No room at all: no VM can be made, and the job is given back untried.
    let spare = shift.wait_until(|status| status.spare == "ready").spare_pid.expect("it has a process");
    let filler = small.path().join("filler");
    fill(&filler);
    send(spare, Signal::KILL);
    // What the dead one leaves is taken as well.
    let begun = Instant::now();
    while shift.supply().borrow().able && begun.elapsed() < Duration::from_secs(60) * patience() {
        fill(&filler);
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = shift.wait_until(|status| !status.able);
    assert!(status.why.is_some_and(|why| why.contains("No space left")), "it says why");
    let job = shift.script("true");
    let fate = shift.run(&job);
    assert!(matches!(fate, Fate::Unable(_)), "{fate:?}");
    fs::remove_file(&filler).expect("room again");
    shift.wait_until(|status| status.able);
    shift.the_next_job_passes();
    shift.end();
}

/// Finds the instruction after the system call in which process 1 waits; while it runs it is in none.
const WHERE_THE_AGENT_WAITS: &str = "call = []\n\
while len(call) < 3:\n    \
    time.sleep(0.02)\n    \
    call = open('/proc/1/syscall').read().split()\n\
at = int(call[-1], 16)\n";

/// A job that overwrites what process 1 executes next.
fn agent_overwritten(code: &[u8]) -> Submission {
    let python = format!(
        "import time\n\
         {WHERE_THE_AGENT_WAITS}\
         with open('/proc/1/mem', 'r+b', 0) as memory:\n    \
             memory.seek(at)\n    \
             memory.write(bytes({code:?}))\n\
         time.sleep(60)\n"
    );
    Submission::command(["python3", "-c", &python])
}

/// A job that makes the agent write `frame` to the host again and again: out of the agent's own process,
/// since the port can be opened once only.
fn agent_says(frame: &[u8]) -> Submission {
    let python = format!(
        "import os, struct, time\n\
         frame = bytes({frame:?})\n\
         fds = '/proc/1/fd'\n\
         port = next(int(fd) for fd in os.listdir(fds) if '/vport' in os.readlink(fds + '/' + fd))\n\
         # mov eax, 1; mov edi, port; lea rsi, [rip + 9]; mov edx, length; syscall; jmp to the begin\n\
         code = b'\\xb8\\x01\\0\\0\\0' + b'\\xbf' + struct.pack('<I', port) + b'\\x48\\x8d\\x35\\x09\\0\\0\\0'\n\
         code += b'\\xba' + struct.pack('<I', len(frame)) + b'\\x0f\\x05' + b'\\xeb\\xe6' + frame\n\
         {WHERE_THE_AGENT_WAITS}\
         with open('/proc/1/mem', 'r+b', 0) as memory:\n    \
             memory.seek(at)\n    \
             memory.write(code)\n\
         time.sleep(60)\n"
    );
    Submission::command(["python3", "-c", &python])
}

/// A folder with a copy of the yard's template, to be damaged.
fn own_templates(yard: &Yard) -> tempfile::TempDir {
    let own = tempfile::Builder::new().prefix("templates-").tempdir_in(yard.folder_root()).expect("a folder");
    let key = yard.template().digest().to_string()[..16].to_owned();
    let status = std::process::Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(yard.settings().templates_dir().join(&key))
        .arg(own.path())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "copying the template {key}");
    own
}

fn the_template(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir).expect("a folder").flatten().map(|entry| entry.path());
    entries.find(|path| path.join("template.json").exists()).expect("a template")
}

/// Tells one template from its successor; the number of an inode alone may be used again.
fn template_identity(dir: &Path) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    let record = fs::metadata(the_template(dir).join("template.json")).expect("a template");
    (record.ino(), record.mtime(), record.mtime_nsec())
}

/// Flips one byte of a file.
fn flip(path: &Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let file = fs::File::options().read(true).write(true).open(path).expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is so long");
    file.write_all_at(&[!byte[0]], at).expect("there is room");
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    use std::io::Write as _;
    let file = fs::File::options().create(true).append(true).open(path);
    let mut file = file.expect("an empty file needs none");
    let block = vec![1; 1 << 20];
    while file.write_all(&block).is_ok() {}
    let small = vec![1; 4096];
    while file.write_all(&small).is_ok() {}
}

/// A small file system, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("no zero in it");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("evalfleet-test", dir.path(), "tmpfs", flags, options.as_c_str()).ok()?;
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// Settings of paths, which a user gives in a file.
trait Paths {
    fn set_state_dir(&mut self, dir: &Path);
    fn set_images_dir(&mut self, dir: &Path);
    fn set_templates_dir(&mut self, dir: &Path);
}

impl Paths for Settings {
    fn set_state_dir(&mut self, dir: &Path) {
        set(self, "state", "dir", dir);
    }

    fn set_images_dir(&mut self, dir: &Path) {
        set(self, "images", "dir", dir);
    }

    fn set_templates_dir(&mut self, dir: &Path) {
        set(self, "qemu", "snapshot_dir", dir);
    }
}

fn set(settings: &mut Settings, section: &str, key: &str, dir: &Path) {
    let mut document = serde_json::to_value(&*settings).expect("settings are a document");
    document[section][key] = serde_json::Value::from(dir.to_str().expect("text"));
    *settings = serde_json::from_value(document).expect("and come from one");
}
