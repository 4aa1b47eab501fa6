"""Runs a suite on a tree, in a VM, and prints one JSON document of what it saw.

The judge is root, and what it runs is not (the order's `user`): its own files, memory and output are then out of the
subject's reach. It takes nothing from the subject's output: a step's word is its exit status as the kernel tells it,
a test's comes over a channel of its own, with a secret on every line and at its end. In the watched run (`user` is 0)
the subject is root as well; nothing of that run's document is believed but what the host saw.

This program is put together for a suite (`program.rs`), and comes with its order (`ORDER`) over standard input: behind
this file come the one runner that is needed, which defines `run_tests`, the disguise, and a call of `main`. Under emulation
all that Python has to import and to compile counts: only modules that are built into python3-minimal (`posix` is what
`os` is made of), and those that take long (json, re) only in the runners that need them. Nothing of the tree is imported.
"""

import posix
import select
import sys
import time

try:
    from _json import encode_basestring_ascii as quoted
except ImportError:
    from json.encoder import encode_basestring_ascii as quoted

# What is too large for the order: a tree as a tar, what was built of the base.
HERE = "/var/tmp/evalfleet-judge"
HOME = "/home/dev"
PROJECT = HOME + "/project"
OUTPUT_KEPT = 4096
CHANNEL_MAX = 4 << 20
# What was built is kept as it is up to so many bytes, and packed beyond.
PLAIN_MAX = 32 << 20
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
        posix.setgroups([])
        posix.setresgid(user, user, user)
        posix.setresuid(user, user, user)


def run(argv, user, seconds, feed=b"", channel=False, whole=False, cwd=PROJECT, reads=None):
    """Runs a program to its end, or to `seconds`. With `channel`, what it writes to descriptor 3 is kept apart.
    `reads` is a file for its standard input, instead of `feed`."""
    begun = time.monotonic()
    out_read, out_write = posix.pipe()
    in_read, in_write = (posix.open(reads, posix.O_RDONLY), None) if reads else posix.pipe()
    told_read, told_write = posix.pipe()
    pid = posix.fork()
    if pid == 0:
        try:
            posix.setsid()
            posix.dup2(in_read, 0)
            posix.dup2(out_write, 1)
            posix.dup2(out_write, 2)
            if channel:
                posix.dup2(told_write, 3)
            posix.closerange(4 if channel else 3, 256)
            posix.umask(0o022)
            become(user)
            posix.chdir(cwd)
            execute(argv)
        except BaseException as error:
            posix.write(2, ("%s: %s\n" % (argv[0], error)).encode())
        posix._exit(127)
    for descriptor in (out_write, in_read, told_write):
        posix.close(descriptor)
    output, told = Whole() if whole else Tail(), Whole()
    streams = {out_read: output, told_read: told}
    how, code = attend(pid, begun + seconds, streams, in_write, feed)
    for descriptor in (out_read, told_read):
        posix.close(descriptor)
    return Ended(how, code, time.monotonic() - begun, output.text(), told.text())


def execute(argv):
    """Becomes a program. As os.execvpe, which imports a module for it, in every process anew."""
    if "/" in argv[0]:
        posix.execve(argv[0], argv, ENVIRONMENT)
    failure = FileNotFoundError(2, "not found")
    for folder in ENVIRONMENT["PATH"].split(":"):
        try:
            posix.execve("%s/%s" % (folder, argv[0]), argv, ENVIRONMENT)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            failure = error
    raise failure


def attend(pid, until, streams, feed_to, feed):
    """Reads what a process writes until it ends. Who it left behind may hold its streams for ever."""
    for descriptor in list(streams) + ([] if feed_to is None else [feed_to]):
        posix.set_blocking(descriptor, False)
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
        ended, status = posix.waitpid(pid, posix.WNOHANG)
        if ended:
            how = ("exit", posix.waitstatus_to_exitcode(status))
        elif left <= 0:
            posix.killpg(pid, SIGKILL)
            posix.waitpid(pid, 0)
            how = ("timeout", -SIGKILL)
    for descriptor in open_streams:
        while take(descriptor, streams[descriptor]):
            pass
    for descriptor in (feed_to, its_end):
        if descriptor is not None:
            posix.close(descriptor)
    return ("signal", how[1]) if how[0] == "exit" and how[1] < 0 else how


def end_of(pid):
    """What can be read once a process has ended; None where its kernel has no such thing."""
    try:
        return posix.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def give(descriptor, data):
    if descriptor is None:
        return None, b""
    try:
        data = data[posix.write(descriptor, data[:65536]):] if data else b""
    except BlockingIOError:
        return descriptor, data
    except OSError:
        data = b""
    if not data:
        posix.close(descriptor)
        return None, b""
    return descriptor, data


def take(descriptor, stream):
    try:
        data = posix.read(descriptor, 65536)
    except BlockingIOError:
        return False
    stream.take(data)
    return bool(data)


class Judge:
    def __init__(self, order):
        self.order, self.user = order, order["user"]
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
        for turn in range(1, self.order["repeat"] + 1):
            run_tests(self, turn)
        for canary in self.order["canaries"]:
            self.step("canary", canary["name"], canary["argv"])
        for lint in self.order["lint"]:
            self.step("lint", lint["name"], lint["argv"])


def prepare(order):
    """Lays the tree out, and what was built of the base, as what is the subject's own."""
    user, known = order["user"], is_there(HOME)
    posix.umask(0o022)
    folders(PROJECT)
    if user:
        accounts = posix.open("/etc/passwd", posix.O_WRONLY | posix.O_APPEND)
        posix.write(accounts, b"dev:x:%d:%d::%s:/bin/sh\n" % (user, user, HOME.encode()))
        posix.close(accounts)
        for place in (HOME, PROJECT):
            posix.chown(place, user, user)
        if known:
            run(["chown", "-hR", "%d:%d" % (user, user), HOME], 0, 300, cwd="/")
    for name in ("prefix.tar", "tree.tar"):
        path = "%s/%s" % (HERE, name)
        if is_there(path):
            flags = "-xzpf" if is_packed(path) else "-xpf"
            unpack = run(["tar", flags, "-", "-C", PROJECT, "--no-same-owner"], user, 300, cwd="/", reads=path)
            if not unpack.ok():
                sys.exit("cannot unpack %s: %s" % (name, unpack.output))
            posix.unlink(path)
    lay(order["tree"], user)


def lay(files, user):
    """Lays a small tree, which came with the order, without a process of its own. As its owner, so that no link leads
    where that one may not write."""
    if user:
        posix.setegid(user)
        posix.seteuid(user)
    for name, mode, seconds, content, is_link in files:
        # Bytes came as characters.
        path, content = b"%s/%s" % (PROJECT.encode(), name.encode("latin-1")), content.encode("latin-1")
        folders(path.rpartition(b"/")[0])
        try:
            posix.unlink(path)
        except FileNotFoundError:
            pass
        if is_link:
            posix.symlink(content, path)
            continue
        descriptor = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, mode)
        while content:
            content = content[posix.write(descriptor, content):]
        posix.utime(descriptor, (seconds, seconds))
        posix.close(descriptor)
    posix.seteuid(posix.getuid())
    posix.setegid(posix.getgid())


def keep(archive, paths):
    """Keeps what was built. Where it has to be emulated, what is packed takes longer to unpack than to lay."""
    run(["tar", "-cf", archive, "-C", PROJECT, "--"] + paths, 0, 300, cwd="/")
    if is_there(archive) and posix.stat(archive).st_size > PLAIN_MAX:
        run(["gzip", "-1", "-n", archive], 0, 300, cwd="/")
        posix.rename(archive + ".gz", archive)


def is_packed(path):
    descriptor = posix.open(path, posix.O_RDONLY)
    begin = posix.read(descriptor, 2)
    posix.close(descriptor)
    return begin == b"\x1f\x8b"


def is_there(path):
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def folders(path):
    """Makes a folder and those above it, where they are not there."""
    slash = b"/" if isinstance(path, bytes) else "/"
    try:
        posix.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        folders(path.rpartition(slash)[0])
        posix.mkdir(path, 0o755)


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
    order = from_json(ORDER.decode())
    prepare(order)
    if is_there(HERE):
        posix.rmdir(HERE)
    disguised = order["disguise"] and disguise()
    judge = Judge(order)
    judge.go()
    if order["keep"]:
        # Not where somebody made it meanwhile.
        posix.mkdir(HERE, 0o700)
        there = [path for path in order["keep"] if is_there("%s/%s" % (PROJECT, path))]
        if there:
            keep(HERE + "/kept.tar", there)
    sys.stdout.write(as_json({"nonce": order["nonce"], "disguised": disguised, "steps": judge.steps,
                              "tests": judge.tests, "findings": judge.findings}))
    sys.stdout.flush()
    # Nothing is left to be put away: Python's own end takes its time.
    posix._exit(0)
