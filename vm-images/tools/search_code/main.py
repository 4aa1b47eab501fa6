import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import re

import toolkit

LINE_CHARACTERS_MAX = 500


def candidates(start):
    """Yields the regular files at or under `start`, by path; hidden directories are passed over."""
    if not os.path.exists(start):
        raise toolkit.ToolError(f"`{toolkit.relative(start)}` does not exist")
    if os.path.isfile(start):
        yield start
        return
    for directory, names, files in os.walk(start):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            full = os.path.join(directory, name)
            if os.path.isfile(full) and not os.path.islink(full):
                yield full


def lines_of(full):
    """The lines of a text file; none of a binary or an oversized one."""
    if os.path.getsize(full) > toolkit.FILE_BYTES_MAX:
        return []
    with open(full, "rb") as file:
        raw = file.read()
    return [] if b"\0" in raw else raw.decode("utf-8", "replace").splitlines()


def search_code(arguments):
    pattern = arguments.text("pattern")
    path = arguments.text("path", ".")
    glob = arguments.text("glob", None)
    ignore_case = arguments.flag("ignore_case", False)
    max_results = arguments.integer("max_results", 200)
    arguments.finish()
    try:
        wanted = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise toolkit.ToolError(f"`{pattern}` is not a regular expression: {error}") from None
    if max_results < 1:
        raise toolkit.ToolError("`max_results` must be at least 1")
    start = toolkit.inside(path)
    compiled = None if glob is None else toolkit.glob_regex(glob)
    matches, searched = [], 0
    for full in candidates(start):
        if compiled and not toolkit.glob_matches(compiled, glob, os.path.relpath(full, start)):
            continue
        searched += 1
        for number, line in enumerate(lines_of(full), start=1):
            if not wanted.search(line):
                continue
            if len(matches) == max_results:
                return answer(pattern, matches, searched, True)
            matches.append({"path": toolkit.relative(full), "line": number, "text": line[:LINE_CHARACTERS_MAX]})
    return answer(pattern, matches, searched, False)


def answer(pattern, matches, searched, truncated):
    return {
        "pattern": pattern,
        "matches": matches,
        "match_count": len(matches),
        "files_searched": searched,
        "truncated": truncated,
    }


if __name__ == "__main__":
    toolkit.main(search_code)
