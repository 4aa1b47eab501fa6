"""What every tool of this image shares: arguments in, an answer out, and paths kept inside the workspace.

A tool reads its arguments as one JSON object on standard input, writes one JSON object on standard output and
says success by its exit status. An expected failure is `{"error": ...}` with exit status 1.

Imports are few on purpose: the interpreter's start is most of what a call costs.
"""

import json
import os
import re
import sys

WORKSPACE = os.path.realpath(os.environ.get("EVALFLEET_WORKSPACE", "/workspace"))

# A file larger than this is refused, not cut: half a file read as a whole one misleads whoever asked for it.
FILE_BYTES_MAX = 1024 * 1024

REQUIRED = object()


class ToolError(Exception):
    """A failure to be told to the caller. `details` go beside `error` in the answer."""

    def __init__(self, message, **details):
        super().__init__(message)
        self.details = details


class Arguments:
    """The arguments of one call, taken out by name and type; what is left over at the end is an error."""

    def __init__(self, values):
        if not isinstance(values, dict):
            raise ToolError("the arguments must be a JSON object")
        self._values = dict(values)

    def text(self, name, default=REQUIRED):
        return self._take(name, str, "a string", default)

    def flag(self, name, default):
        return self._take(name, bool, "true or false", default)

    def integer(self, name, default=REQUIRED):
        value = self._take(name, (int, float), "an integer", default)
        if isinstance(value, float):
            # JSON has one kind of number, and models write 3.0 for 3.
            if not value.is_integer():
                raise ToolError(f"`{name}` must be an integer")
            value = int(value)
        return value

    def number(self, name, default=REQUIRED):
        return self._take(name, (int, float), "a number", default)

    def items(self, name):
        values = self._take(name, list, "a list", REQUIRED)
        return [Arguments(value) for value in values]

    def texts(self, name, default=REQUIRED):
        values = self._take(name, list, "a list", default)
        if not all(isinstance(value, str) for value in values):
            raise ToolError(f"`{name}` must be a list of strings")
        return values

    def _take(self, name, kinds, described, default):
        value = self._values.pop(name, None)
        if value is None:
            if default is REQUIRED:
                raise ToolError(f"`{name}` is required")
            return default
        # A bool is an int to Python, but not to a JSON Schema.
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise ToolError(f"`{name}` must be {described}")
        return value

    def finish(self):
        """Refuses arguments that nobody asked for: a misspelt option must not pass for its default."""
        if self._values:
            names = ", ".join(f"`{name}`" for name in sorted(self._values))
            raise ToolError(f"unknown argument: {names}")


def inside(path):
    """The absolute path that `path` (relative to the workspace) names, links resolved, or a ToolError outside it."""
    if "\0" in path:
        raise ToolError("a path cannot contain a NUL byte")
    full = os.path.realpath(os.path.join(WORKSPACE, path))
    if full != WORKSPACE and not full.startswith(WORKSPACE.rstrip("/") + "/"):
        raise ToolError(f"`{path}` is outside the workspace")
    return full


def relative(full):
    """`full` as it is named in answers: relative to the workspace."""
    return os.path.relpath(full, WORKSPACE)


def read_text(path):
    """The text of one regular file of the workspace, line ends as they are."""
    full = inside(path)
    if os.path.isdir(full):
        raise ToolError(f"`{path}` is a directory")
    if not os.path.isfile(full) and os.path.exists(full):
        raise ToolError(f"`{path}` is not a regular file")
    with open(full, "rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise ToolError(f"`{path}` is larger than {FILE_BYTES_MAX} bytes", size=os.path.getsize(full))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ToolError(f"`{path}` is not UTF-8 text (byte {error.start})") from None


def write_text(path, content):
    """Replaces the content of one file of the workspace; returns the number of bytes written."""
    full = inside(path)
    if os.path.isdir(full):
        raise ToolError(f"`{path}` is a directory")
    if os.path.exists(full) and not os.path.isfile(full):
        raise ToolError(f"`{path}` is not a regular file")
    try:
        raw = content.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ToolError(f"the content is not valid Unicode (character {error.start})") from None
    with open(full, "wb") as file:
        file.write(raw)
    return len(raw)


def glob_regex(pattern):
    """A compiled expression for a shell glob; `*` stays within one name, `**` crosses directories.

    A pattern without a slash is matched by the callers against the name alone, as `find -name` does.
    """
    out, at = [], 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out.append("(?:[^/]+/)*")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] == "*":
            out.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            out.append("[^/]")
            at += 1
        elif pattern[at] == "[" and "]" in pattern[at + 2 :]:
            end = pattern.index("]", at + 2)
            members = pattern[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            out.append("[^/" + members[1:] + "]" if members[0] in "!^" else "[" + members + "]")
            at = end + 1
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise ToolError(f"`{pattern}` is not a glob: {error}") from None


def glob_matches(compiled, pattern, path):
    subject = path if "/" in pattern else os.path.basename(path)
    return compiled.fullmatch(subject) is not None


def _answer(value, status):
    # surrogateescape: names on disk need not be UTF-8, and ASCII JSON carries them all the same.
    sys.stdout.write(json.dumps(value))
    sys.stdout.write("\n")
    sys.stdout.flush()
    return status


def main(tool):
    """Runs `tool(arguments) -> dict` on standard input and output; ends the process."""
    try:
        try:
            values = json.load(sys.stdin)
        except ValueError as error:
            raise ToolError(f"the arguments are not JSON: {error}") from None
        status = _answer(tool(Arguments(values)), 0)
    except ToolError as error:
        status = _answer({"error": str(error), **error.details}, 1)
    except OSError as error:
        name = f"`{relative(error.filename)}`: " if isinstance(error.filename, str) else ""
        status = _answer({"error": f"{name}{error.strerror or error}"}, 1)
    except RecursionError:
        status = _answer({"error": "the arguments are nested too deeply"}, 1)
    sys.exit(status)
