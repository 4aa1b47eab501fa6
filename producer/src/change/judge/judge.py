"""Runs a suite on a tree, in a VM, and prints one JSON document of what it saw.

The judge is root, and what it runs is not (the order's `user`): its own files, memory and output are then out of the
subject's reach. It takes nothing from the subject's output: a step's word is its exit status as the kernel tells it,
a test's comes over a channel of its own, with a secret on every line and at its end. In the watched run (`user` is 0)
the subject is root as well; nothing of that run's document is believed but what the host saw.

Only modules of python3-minimal, and nothing of the tree is imported here. What takes long to import (json, re, signal) is
imported only by the runners that need it: of a suite of quick commands, Python's own start is the most expensive part.
"""

import os
import select
import sys
import time

try:
    from _json import encode_basestring_ascii as quoted
except ImportError:
    from json.encoder import encode_basestring_ascii as quoted

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = "/home/dev"
PROJECT = HOME + "/project"
OUTPUT_KEPT = 4096
CHANNEL_MAX = 4 << 20
SIGKILL = 9
# How long to look away from a process whose end cannot be waited for.
GLANCE = 0.02
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": HOME,
    "USER": "dev",
    "LOGNAME": "dev",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "CARGO_NET_OFFLINE": "true",
}


class Ended:
    """How a process ended."""

    def __init__(self, how, code, seconds, output, channel):
        self.how, self.code, self.seconds, self.output, self.channel = how, code, seconds, output, channel

    def ok(self):
        return self.how == "exit" and self.code == 0


class Tail:
    """The last bytes of a stream, however long it is."""

    def __init__(self):
        self.kept = b""

    def take(self, data):
        self.kept = (self.kept + data)[-OUTPUT_KEPT:]

    def text(self):
        return self.kept.decode("utf-8", "replace")


class Whole:
    """All of a stream up to a bound; beyond it the stream counts as spoilt."""

    def __init__(self):
        self.parts, self.length = [], 0

    def take(self, data):
        self.length += len(data)
        if self.length <= CHANNEL_MAX:
            self.parts.append(data)

    def text(self):
        return b"".join(self.parts).decode("utf-8", "replace")


def become(user):
    """Gives up root for good."""
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def run(argv, user, seconds, feed=b"", channel=False, whole=False, cwd=PROJECT, reads=None):
    """Runs a program to its end, or to `seconds`. With `channel`, what it writes to descriptor 3 is kept apart.
    `reads` is a file for its standard input, instead of `feed`."""
    begun = time.monotonic()
    out_read, out_write = os.pipe()
    in_read, in_write = (os.open(reads, os.O_RDONLY), None) if reads else os.pipe()
    told_read, told_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.dup2(in_read, 0)
            os.dup2(out_write, 1)
            os.dup2(out_write, 2)
            if channel:
                os.dup2(told_write, 3)
            os.closerange(4 if channel else 3, 256)
            os.umask(0o022)
            become(user)
            os.chdir(cwd)
            execute(argv)
        except BaseException as error:
            os.write(2, ("%s: %s\n" % (argv[0], error)).encode())
        os._exit(127)
    for descriptor in (out_write, in_read, told_write):
        os.close(descriptor)
    output, told = Whole() if whole else Tail(), Whole()
    streams = {out_read: output, told_read: told}
    how, code = attend(pid, begun + seconds, streams, in_write, feed)
    for descriptor in (out_read, told_read):
        os.close(descriptor)
    return Ended(how, code, time.monotonic() - begun, output.text(), told.text())


def execute(argv):
    """Becomes a program. As os.execvpe, which imports a module for it, in every process anew."""
    if "/" in argv[0]:
        os.execve(argv[0], argv, ENVIRONMENT)
    failure = FileNotFoundError(2, "not found")
    for folder in ENVIRONMENT["PATH"].split(":"):
        try:
            os.execve("%s/%s" % (folder, argv[0]), argv, ENVIRONMENT)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            failure = error
    raise failure


def attend(pid, until, streams, feed_to, feed):
    """Reads what a process writes until it ends. Who it left behind may hold its streams for ever."""
    for descriptor in list(streams) + ([] if feed_to is None else [feed_to]):
        os.set_blocking(descriptor, False)
    open_streams, how, its_end = set(streams), None, end_of(pid)
    while how is None:
        feed_to, feed = give(feed_to, feed)
        left = until - time.monotonic()
        wait = max(0, left) if its_end is not None else min(GLANCE, max(0, left))
        wanted = list(open_streams) + ([] if its_end is None else [its_end])
        ready, _, _ = select.select(wanted, [] if feed_to is None else [feed_to], [], wait)
        for descriptor in open_streams.intersection(ready):
            if not take(descriptor, streams[descriptor]):
                open_streams.discard(descriptor)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            how = ("exit", os.waitstatus_to_exitcode(status))
        elif left <= 0:
            os.killpg(pid, SIGKILL)
            os.waitpid(pid, 0)
            how = ("timeout", -SIGKILL)
    for descriptor in open_streams:
        while take(descriptor, streams[descriptor]):
            pass
    for descriptor in (feed_to, its_end):
        if descriptor is not None:
            os.close(descriptor)
    return ("signal", how[1]) if how[0] == "exit" and how[1] < 0 else how


def end_of(pid):
    """What can be read once a process has ended; None where its kernel has no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def give(descriptor, data):
    if descriptor is None:
        return None, b""
    try:
        data = data[os.write(descriptor, data[:65536]):] if data else b""
    except BlockingIOError:
        return descriptor, data
    except OSError:
        data = b""
    if not data:
        os.close(descriptor)
        return None, b""
    return descriptor, data


def take(descriptor, stream):
    try:
        data = os.read(descriptor, 65536)
    except BlockingIOError:
        return False
    stream.take(data)
    return bool(data)


class Judge:
    def __init__(self, order, pytests):
        self.order, self.pytests = order, pytests
        self.user = order["user"]
        self.steps, self.tests, self.findings = [], [], []

    def step(self, phase, name, argv, turn=1, user=None):
        ended = run(argv, self.user if user is None else user, self.order["step_seconds"])
        self.note(phase, name, ended, turn)
        return ended

    def note(self, phase, name, ended, turn=1):
        self.steps.append({"phase": phase, "name": name, "turn": turn, "ended": ended.how, "code": ended.code,
                           "seconds": round(ended.seconds, 3), "output": ended.output[-OUTPUT_KEPT:]})

    def result(self, name, turn, outcome, message=""):
        self.tests.append({"name": name, "turn": turn, "outcome": outcome, "message": message[-1000:]})

    def finding(self, rule, path, message, evidence=""):
        self.findings.append({"rule": rule, "path": path, "message": message, "evidence": evidence[-1000:]})

    def go(self):
        for argv in self.order["build"]:
            if not self.step("build", " ".join(argv), argv).ok():
                return
        runner = {"command": self.commands, "python": self.python, "cargo": self.cargo}[self.order["runner"]]
        for turn in range(1, self.order["repeat"] + 1):
            runner(turn)
        for canary in self.order["canaries"]:
            self.step("canary", canary["name"], canary["argv"])
        for lint in self.order["lint"]:
            self.step("lint", lint["name"], lint["argv"])

    # Any command: a test is a process, its exit status the result.

    def commands(self, turn):
        for test in self.order["tests"]:
            ended = self.step("test", test["name"], test["argv"], turn)
            outcome = "passed" if ended.ok() else "timed_out" if ended.how == "timeout" else "failed"
            self.result(test["name"], turn, outcome, ended.output)
            probe = to_its_end(test["argv"])
            if turn == 1 and probe and outcome == "passed":
                self.step("probe", test["name"], probe)

    # Python: each file in an interpreter of its own, which reports over the channel.

    def python(self, turn):
        for path in self.order["files"]:
            secret = os.urandom(16).hex()
            config = {"file": path, "project": PROJECT, "secret": secret}
            source = "CONFIG = %r\n%s" % (config, self.pytests)
            argv = ["python3", "-B", "-s", "-"]
            ended = run(argv, self.user, self.order["step_seconds"], source.encode(), channel=True)
            self.note("test", path, ended, turn)
            self.heard(path, turn, secret, ended)

    def heard(self, path, turn, secret, ended):
        import json

        finished, canaries = False, 0
        for line in ended.channel.splitlines():
            word, _, text = line.partition(" ")
            if word != secret:
                self.finding("runner.tampered", path, "something else than the runner wrote to its channel", line)
                continue
            said = json.loads(text)
            if "test" in said:
                self.result(said["test"], turn, said["outcome"], said["message"])
            elif "canary" in said:
                canaries += 1
                if said["outcome"] != "failed":
                    self.finding("runner.tampered", path, "a test that must fail is reported as %s: %s"
                                 % (said["outcome"], said["canary"]))
            elif "tampered" in said:
                self.finding("runner.tampered", path, said["tampered"])
            elif "end" in said:
                finished = True
        if finished and canaries == 0:
            self.finding("runner.tampered", path, "no test that must fail was reported")
        if not finished:
            outcome = "timed_out" if ended.how == "timeout" else "cut_short"
            self.result(path, turn, outcome, "its process ended (%s %d) before its tests were done: %s"
                        % (ended.how, ended.code, ended.output))

    # Rust: each test program in a process of its own, with a test among the others that must fail.

    def cargo(self, turn):
        canary = "evalfleet_" + os.urandom(8).hex()
        if turn == 1:
            self.canary = canary
            for path in self.order["files"]:
                with open(os.path.join(PROJECT, path), "a") as file:
                    file.write("\n#[cfg(test)] mod %s { #[test] fn must_fail() { panic!() } }\n" % canary)
        build = run(["cargo", "test", "--offline", "--no-run", "--workspace", "--message-format=json"], self.user,
                    self.order["step_seconds"], whole=True)
        programs = test_programs(build.output)
        build.output = build.output[-OUTPUT_KEPT:]
        self.note("test", "cargo test --no-run", build, turn)
        if not build.ok():
            self.result("cargo test --no-run", turn, "timed_out" if build.how == "timeout" else "failed", build.output)
            return
        self.result("cargo test --no-run", turn, "passed")
        for name, program, folder in programs:
            argv = [program, "--test-threads=1", "--color=never"]
            ended = run(argv, self.user, self.order["step_seconds"], whole=True, cwd=folder)
            lines, output = ended.output, ended.output[-OUTPUT_KEPT:]
            ended.output = output
            self.note("test", name, ended, turn)
            self.libtest(name, turn, ended, lines)

    def libtest(self, name, turn, ended, lines):
        import re

        found = dict(re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)\b", lines, re.MULTILINE))
        canaries = [test for test in found if self.canary in test]
        whole = re.search(r"^test result: ", lines, re.MULTILINE) and ended.how == "exit" and ended.code == 101
        for test, word in found.items():
            if test in canaries:
                continue
            outcome = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}[word]
            self.result("%s::%s" % (name, test), turn, outcome, "" if word == "ok" else ended.output)
        if ended.how == "timeout":
            self.result(name, turn, "timed_out", ended.output)
        elif not whole or not canaries:
            self.result(name, turn, "cut_short", "its process ended (%s %d) without the test that must fail: %s"
                        % (ended.how, ended.code, ended.output))
        elif any(found[test] != "FAILED" for test in canaries):
            self.finding("runner.tampered", name, "a test that must fail is reported as ok")


def test_programs(messages):
    """The test programs that cargo built: name, program, folder of the package."""
    import json

    found = []
    for line in messages.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message.get("reason") == "compiler-artifact" and message.get("executable") and message["profile"]["test"]:
            target = message["target"]
            name = "%s/%s" % ("+".join(target["kind"]), target["name"])
            found.append((name, message["executable"], os.path.dirname(message["manifest_path"])))
    return sorted(found)


def to_its_end(argv):
    """A shell script that is run as `sh FILE …`, with an end of ours behind its own: who gets there runs it whole."""
    if len(argv) < 2 or os.path.basename(argv[0]) not in ("sh", "dash", "bash") or argv[1].startswith("-"):
        return None
    script = argv[1] if "/" in argv[1] else "./" + argv[1]
    return [argv[0], "-c", '. "$0"; exit 97', script] + argv[2:]


def prepare(order):
    """Lays the tree out, and what was built of the base, as what is the subject's own."""
    user, known = order["user"], os.path.isdir(HOME)
    os.makedirs(PROJECT, exist_ok=True)
    if user:
        with open("/etc/passwd", "a") as accounts:
            accounts.write("dev:x:%d:%d::%s:/bin/sh\n" % (user, user, HOME))
        for place in (HOME, PROJECT):
            os.chown(place, user, user)
        if known:
            run(["chown", "-hR", "%d:%d" % (user, user), HOME], 0, 300, cwd="/")
    for name, flags in (("prefix.tgz", "-xzpf"), ("tree.tar", "-xpf")):
        path = os.path.join(HERE, name)
        if os.path.exists(path):
            unpack = run(["tar", flags, "-", "-C", PROJECT, "--no-same-owner"], user, 300, cwd="/", reads=path)
            if not unpack.ok():
                sys.exit("cannot unpack %s: %s" % (name, unpack.output))
            os.unlink(path)


LOOK = "/dev/shm/look"
# Where a machine tells what it is, and where the VM's own things lie.
TELLTALES = ("/sys/class/dmi", "/sys/devices/virtual/dmi", "/sys/firmware", "/sys/class/virtio-ports",
             "/dev/virtio-ports", "/opt/evalfleet")


def disguise():
    """Makes this VM look like an ordinary machine, in the mounts that `unshare` gave to this process alone."""
    try:
        os.mkdir(LOOK)
        with open("/proc/cpuinfo") as file:
            told = file.read().splitlines()
        with open(LOOK + "/cpuinfo", "w") as file:
            file.writelines(ordinary(line) + "\n" for line in told)
        mounts = ["%s/cpuinfo /proc/cpuinfo none bind 0 0" % LOOK]
        mounts += ["tmpfs %s tmpfs size=64k 0 0" % place for place in TELLTALES if os.path.isdir(place)]
        with open(LOOK + "/fstab", "w") as file:
            file.write("\n".join(mounts) + "\n")
        # One process for all of them.
        done = run(["mount", "-a", "-T", LOOK + "/fstab"], 0, 30, cwd="/").ok()
        with open("/proc/sys/kernel/hostname", "w") as file:
            file.write("workstation\n")
        for name in ("cpuinfo", "fstab"):
            os.unlink("%s/%s" % (LOOK, name))
        os.rmdir(LOOK)
        return done
    except OSError:
        return False


def ordinary(line):
    """A line of cpuinfo as another processor tells it."""
    field, colon, value = line.partition(":")
    word = field.strip()
    if word == "model name":
        value = " Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz"
    elif word == "vendor_id":
        value = " GenuineIntel"
    elif word == "flags":
        value = " " + " ".join(flag for flag in value.split() if flag != "hypervisor")
    return field + colon + value


def from_json(text):
    """Reads a document that comes from whoever laid this program here: what JSON says Python says alike, but for words."""
    return eval(text, {"true": True, "false": False, "null": None})


def as_json(value):
    """A document of dicts, lists, strings, numbers and truths. What json.dumps would say, without its import."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{%s}" % ", ".join("%s: %s" % (quoted(key), as_json(value[key])) for key in value)
    if isinstance(value, list):
        return "[%s]" % ", ".join(map(as_json, value))
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def main():
    with open(os.path.join(HERE, "order.json"), encoding="utf-8") as file:
        order = from_json(file.read())
    with open(os.path.join(HERE, "pytests.py")) as file:
        pytests = file.read()
    prepare(order)
    for name in ("order.json", "pytests.py", "judge.py"):
        os.unlink(os.path.join(HERE, name))
    os.rmdir(HERE)
    disguised = order["disguise"] and disguise()
    judge = Judge(order, pytests)
    judge.go()
    if order["keep"]:
        os.makedirs(HERE)
        there = [path for path in order["keep"] if os.path.exists(os.path.join(PROJECT, path))]
        if there:
            run(["tar", "-czf", HERE + "/kept.tgz", "-C", PROJECT, "--"] + there, 0, 300, cwd="/")
    sys.stdout.write(as_json({"nonce": order["nonce"], "disguised": disguised, "steps": judge.steps,
                              "tests": judge.tests, "findings": judge.findings}))
    sys.stdout.flush()
    # Nothing is left to be put away: Python's own end takes its time.
    os._exit(0)


if __name__ == "__main__":
    main()
