//! What is run inside an image that has no agent of ours: POSIX shell, given as one argument, its own
//! arguments behind it, so that nothing of a job is ever read as shell. Pure.
//!
//! A run is prepared, run and reported by three calls. Its processes live in a control group of their
//! own where the image has the second version of them: its limits, its counters and its end in one
//! stroke. Without, there is a limit on address space and a session to kill.

use evalfleet_proto::guest::{Exited, Run};

/// Where the scripts keep their notes: in memory, in every image of today.
pub(super) const NOTES: &str = "/run/evalfleet";
/// What jobs find in their environment unless they say otherwise.
const ENVIRONMENT: [(&str, &str); 4] =
    [("PATH", PATH), ("LANG", "C.UTF-8"), ("TERM", "dumb"), ("PYTHONUNBUFFERED", "1")];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many names of left processes are told.
const LEFT_NAMES_MAX: usize = 16;

/// Makes the folder that jobs start in, and waits until the image has come to rest after its boot.
pub(super) const SETTLE: &str = "\
mkdir -p /workspace
t=$(command -v timeout) && t=\"$t 70\"
command -v cloud-init >/dev/null 2>&1 && $t cloud-init status --wait >/dev/null 2>&1
command -v systemctl >/dev/null 2>&1 && $t systemctl is-system-running --wait >/dev/null 2>&1
exit 0";

/// Sets the clock (`$1`, seconds) and feeds the kernel randomness (`$2`); tells the time, fresh random
/// bytes and the nonce (`$3`). The clone takes its own name (`$4`) and machine-id(5), both in memory alone,
/// so that neither is an effect of a job. Without a program to force it, the kernel takes what it was fed in its own
/// time, or when the machine tells it that it was cloned (vmgenid).
pub(super) const GREET: &str = "\
date -u -s \"@$1\" >/dev/null 2>&1 || echo 'error: the clock cannot be set'
printf %s \"$2\" > /dev/urandom
perl -e 'open F,\">\",\"/dev/urandom\" or exit 1; ioctl F,0x5207,0 or exit 1' 2>/dev/null ||
  python3 -c 'import fcntl; fcntl.ioctl(open(\"/dev/urandom\",\"w\"),0x5207)' 2>/dev/null
echo \"$4\" > /proc/sys/kernel/hostname || echo 'error: the hostname cannot be set'
if [ -f /etc/machine-id ]; then
  id=/run/evalfleet/machine-id; mkdir -p /run/evalfleet
  head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \\n' > $id && echo >> $id && chmod 444 $id
  [ \"$(cat /etc/machine-id)\" = \"$(cat $id)\" ] || mount --bind $id /etc/machine-id ||
    echo 'error: the machine-id cannot be set'
fi
echo \"clock: $(date +%s%N)\"
echo \"random: $(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n')\"
echo \"nonce: $3\"";

/// Flushes everything to the disk.
pub(super) const SYNC: &str = "sync";

/// Lays a chunk (standard input) into the file `$1`: mode `$2`, `new` or `more` in `$3`.
pub(super) const PUT: &str = "\
umask 022
if [ \"$3\" = new ]; then
  case $1 in */*/*) mkdir -p \"${1%/*}\" || exit ;; esac
  cat > \"$1\" && chmod \"$2\" \"$1\"
else
  cat >> \"$1\"
fi";

/// Prepares a run: bytes of memory, processes, folder, user, program, and the PATH it is looked for in.
pub(super) const PREPARE: &str = "\
umask 077; mkdir -p /run/evalfleet || exit
rm -f /run/evalfleet/report
g=/sys/fs/cgroup/evalfleet
[ -d \"$3\" ] || { echo \"2 there is no directory $3\"; exit 0; }
[ -z \"$4\" ] || id -u -- \"$4\" >/dev/null 2>&1 || { echo \"2 the image has no user \\\"$4\\\"\"; exit 0; }
case $5 in
  */*) p=$(cd \"$3\" && { [ -e \"$5\" ] && { [ -x \"$5\" ] && [ ! -d \"$5\" ] || echo 13; } || echo 2; }) ;;
  *) p=$(PATH=$6; command -v -- \"$5\" >/dev/null 2>&1 || echo 2) ;;
esac
case $p in
  13) echo \"13 $5: Permission denied\"; exit 0 ;;
  2) echo \"2 $5: No such file or directory\"; exit 0 ;;
esac
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p $g || exit
  for c in memory pids cpu; do echo +$c > /sys/fs/cgroup/cgroup.subtree_control; done 2>/dev/null
  if [ \"$1\" != 0 ]; then
    echo \"$1\" > $g/memory.max
    [ ! -f $g/memory.swap.max ] || echo 0 > $g/memory.swap.max
  fi
  [ \"$2\" = 0 ] || echo \"$2\" > $g/pids.max
fi
echo ready";

/// Runs: bytes of memory, folder, user, then what `env` takes. Leaves the report.
pub(super) const RUN: &str = "\
g=/sys/fs/cgroup/evalfleet; d=/run/evalfleet; m=$1 c=$2 u=$3; shift 3
exec 3<&0
if [ -d $g ]; then s=; elif command -v setsid >/dev/null 2>&1; then s=setsid; else s=; fi
(
  if [ -d $g ]; then echo 0 > $g/cgroup.procs || exit 126
  elif [ \"$m\" != 0 ]; then ulimit -v $((m / 1024)); fi
  cd \"$c\" || exit 126
  h=/root n=root
  if [ -n \"$u\" ]; then
    n=$u h=$(getent passwd \"$u\" 2>/dev/null | cut -d: -f6)
    set -- setpriv --reuid \"$u\" --regid \"$(id -g -- \"$u\")\" --init-groups -- env -i HOME=\"${h:-/}\" USER=\"$n\" \"$@\"
  else
    set -- env -i HOME=$h USER=$n \"$@\"
  fi
  exec $s \"$@\" <&3 3<&-
) &
p=$!
echo $p > $d/pid
exec </dev/null 3<&-
wait $p
{
  echo \"code $?\"
  if [ -d $g ]; then
    while read -r q; do n='?'; read -r n < /proc/$q/comm; echo \"left $n\"; done < $g/cgroup.procs
    while read -r k v; do echo \"$k $v\"; done < $g/cpu.stat
    read -r v < $g/memory.peak && echo \"peak $v\"
    while read -r k v; do echo \"$k $v\"; done < $g/memory.events
    while read -r k v; do echo \"forks_$k $v\"; done < $g/pids.events
    echo 1 > $g/cgroup.kill
  else
    kill -KILL -- -$p
  fi
} 2>/dev/null > $d/report
exit 0";

/// Ends a run's whole tree.
pub(super) const KILL: &str = "\
g=/sys/fs/cgroup/evalfleet
if [ -d $g ]; then
  echo 1 > $g/cgroup.kill || while read -r q; do kill -KILL $q; done < $g/cgroup.procs
else
  read -r p < /run/evalfleet/pid && kill -KILL -- -$p $p
fi";

/// Reads the report.
pub(super) const REPORT: &str = "cat /run/evalfleet/report";

/// The arguments of [`PREPARE`].
pub(super) fn prepare(run: &Run) -> Vec<String> {
    let path = run.env.get("PATH").cloned().unwrap_or_else(|| PATH.to_owned());
    let program = run.argv.first().cloned().unwrap_or_default();
    let user = run.user.clone().unwrap_or_default();
    vec![run.memory.to_string(), run.processes.to_string(), run.cwd.clone(), user, program, path]
}

/// The arguments of [`RUN`].
pub(super) fn run(run: &Run) -> Vec<String> {
    let user = run.user.clone().unwrap_or_default();
    let mut arguments = vec![run.memory.to_string(), run.cwd.clone(), user];
    let usual = ENVIRONMENT.into_iter().filter(|(name, _)| !run.env.contains_key(*name));
    arguments.extend(usual.map(|(name, value)| format!("{name}={value}")));
    arguments.extend(run.env.iter().map(|(name, value)| format!("{name}={value}")));
    arguments.extend(run.argv.iter().cloned());
    arguments
}

/// Reads what [`PREPARE`] says: `Err` with the system's error number where the run cannot begin.
pub(super) fn prepared(said: &str) -> Result<(), (String, i32)> {
    let said = said.trim();
    if said == "ready" {
        return Ok(());
    }
    let (errno, error) = said.split_once(' ').unwrap_or(("", said));
    Err((error.to_owned(), errno.parse().unwrap_or(0)))
}

/// Reads a report; `None` where it is none.
pub(super) fn exited(report: &str) -> Option<Exited> {
    let mut exited = Exited::default();
    let mut known = false;
    for (key, value) in report.lines().filter_map(|line| line.split_once(' ')) {
        let number = || value.trim().parse::<u64>().unwrap_or(0);
        match key {
            "code" => {
                let code: i32 = value.trim().parse().ok()?;
                known = true;
                // As shells tell it; a program that ends with such a status by itself looks the same.
                if (129..=128 + 64).contains(&code) {
                    exited.signal = Some(code - 128);
                } else {
                    exited.code = Some(code);
                }
            }
            "left" => {
                exited.left = exited.left.saturating_add(1);
                if exited.left_names.len() < LEFT_NAMES_MAX {
                    exited.left_names.push(value.chars().take(64).collect());
                }
            }
            "user_usec" => exited.cpu_user_us = number(),
            "system_usec" => exited.cpu_system_us = number(),
            "peak" => exited.memory_peak = number(),
            "oom_kill" => exited.oom_kills = number(),
            "forks_max" => exited.fork_denials = number(),
            _ => {}
        }
    }
    known.then_some(exited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn sh(script: &str, arguments: &[String]) -> String {
        let mut sh = Command::new("sh");
        let output = sh.arg("-c").arg(script).arg("sh").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn every_script_is_shell() {
        for script in [SETTLE, GREET, SYNC, PUT, PREPARE, RUN, KILL, REPORT] {
            let checked = Command::new("sh").args(["-n", "-c", script]).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }

    #[test]
    fn a_run_that_cannot_begin_says_why_as_the_agent_does() {
        assert_eq!(prepared("ready\n"), Ok(()));
        assert_eq!(
            prepared("2 x: No such file or directory\n"),
            Err(("x: No such file or directory".into(), 2))
        );
        let nowhere = Run { argv: vec!["true".into()], cwd: "/no/where".into(), ..Run::default() };
        let line = PREPARE.lines().skip(3).take(1).collect::<String>();
        assert_eq!(
            prepared(&sh(&line, &prepare(&nowhere))),
            Err(("there is no directory /no/where".into(), 2))
        );
    }

    #[test]
    fn a_report_is_read_and_a_signal_is_told_from_a_status() {
        let report = "code 137\nleft sleep\nleft cat\nuser_usec 1500\nsystem_usec 20\npeak 4096\noom_kill 1\nforks_max 3\nusage_usec 9\n";
        let read = exited(report).unwrap();
        assert_eq!((read.code, read.signal, read.left), (None, Some(9), 2));
        assert_eq!(
            (read.cpu_user_us, read.memory_peak, read.oom_kills, read.fork_denials),
            (1500, 4096, 1, 3)
        );
        assert_eq!(exited("code 3\n").unwrap().code, Some(3));
        assert_eq!(exited("nonsense"), None);
    }

    #[test]
    fn nothing_of_a_job_is_shell() {
        let order = Run {
            argv: vec!["echo".into(), "$(reboot); `x`".into()],
            env: [("A".to_owned(), "b c".to_owned())].into(),
            ..Run::default()
        };
        let arguments = run(&order);
        assert!(arguments.contains(&"$(reboot); `x`".to_owned()) && arguments.contains(&"A=b c".to_owned()));
        assert_eq!(arguments[..3], ["0", "", ""]);
    }
}
