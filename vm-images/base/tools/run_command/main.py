import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import select
import signal
import subprocess
import time

import toolkit

TIMEOUT_SECONDS_DEFAULT = 60
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


def run(command, cwd, timeout):
    begun = time.monotonic()
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
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


def run_command(arguments):
    command = arguments.text("command")
    cwd = arguments.text("cwd", ".")
    timeout = arguments.number("timeout", TIMEOUT_SECONDS_DEFAULT)
    arguments.finish()
    if "\0" in command:
        raise toolkit.ToolError("a command cannot contain a NUL byte")
    if not 0 < timeout <= 3600:
        raise toolkit.ToolError("`timeout` must be more than 0 and at most 3600 seconds")
    directory = toolkit.inside(cwd)
    if not os.path.isdir(directory):
        raise toolkit.ToolError(f"`{cwd}` is not a directory")
    result = run(command, directory, timeout)
    if result["timed_out"]:
        raise toolkit.ToolError(f"the command did not end within {timeout:g} s", **result)
    if result["exit_code"] < 0:
        raise toolkit.ToolError(f"the command was ended by signal {-result['exit_code']}", **result)
    if result["exit_code"] > 0:
        raise toolkit.ToolError(f"the command exited with status {result['exit_code']}", **result)
    return result


if __name__ == "__main__":
    toolkit.main(run_command)
