"""Runs a program for a tool: within a time, its output bounded, and nothing of it left behind."""

import os
import select
import signal
import subprocess
import time

import toolkit

STREAM_BYTES_MAX = 256 * 1024


def collect(process, deadline):
    """Reads both streams until they end or the deadline passes; keeps the first bytes of each.

    Returns the two streams' bytes, the two counts of all bytes seen, and whether the deadline passed.
    """
    kept = {process.stdout: bytearray(), process.stderr: bytearray()}
    seen = dict.fromkeys(kept, 0)
    open_streams = list(kept)
    while open_streams:
        left = deadline - time.monotonic()
        if left <= 0:
            return kept, seen, True
        for stream in select.select(open_streams, [], [], left)[0]:
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                open_streams.remove(stream)
                continue
            seen[stream] += len(chunk)
            kept[stream] += chunk[: STREAM_BYTES_MAX - len(kept[stream])]
    return kept, seen, False


def given(text):
    """A file in memory with the bytes `text`, to be read from its beginning: unlike a pipe it never waits."""
    if text is None:
        return open(os.devnull, "rb")
    file = os.fdopen(os.memfd_create("input"), "r+b")
    file.write(text)
    file.flush()
    file.seek(0)
    return file


def run(argv, cwd, timeout, text=None):
    """Runs `argv` in `cwd` with the bytes `text` on its standard input; returns what an answer tells of it.

    `exit_code` is None where it ran out of time.
    """
    begun = time.monotonic()
    with given(text) as source:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    kept, seen, late = collect(process, begun + timeout)
    if not late:
        try:
            process.wait(max(0.0, begun + timeout - time.monotonic()))
        except subprocess.TimeoutExpired:
            late = True
    if late:
        # The whole session: what the shell started must not outlive the answer.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    result = {"exit_code": None if late else process.returncode, "timed_out": late}
    for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
        result[name] = kept[stream].decode("utf-8", "replace")
        result[f"{name}_truncated"] = seen[stream] > len(kept[stream])
    result["duration_ms"] = round((time.monotonic() - begun) * 1000, 1)
    return result


def refuse_failure(result, what, timeout):
    """A ToolError with the output, unless the program ended well."""
    if result["timed_out"]:
        raise toolkit.ToolError(f"{what} did not end within {timeout:g} s", **result)
    if result["exit_code"] < 0:
        raise toolkit.ToolError(f"{what} was ended by signal {-result['exit_code']}", **result)
    if result["exit_code"] > 0:
        raise toolkit.ToolError(f"{what} exited with status {result['exit_code']}", **result)


def timeout_of(arguments, default):
    """The argument `timeout`, in seconds."""
    timeout = arguments.number("timeout", default)
    if not 0 < timeout <= 3600:
        raise toolkit.ToolError("`timeout` must be more than 0 and at most 3600 seconds")
    return timeout


def folder(path):
    """The folder of the workspace that `path` names."""
    full = toolkit.inside(path)
    if not os.path.isdir(full):
        raise toolkit.ToolError(f"`{path}` is not a directory")
    return full
