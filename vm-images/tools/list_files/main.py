import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import stat

import toolkit

FILES_MAX = 5000


def describe(full):
    status = os.lstat(full)
    kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISLNK, "symlink"), (stat.S_ISREG, "file"))
    kind = next((name for test, name in kinds if test(status.st_mode)), "other")
    return {"name": toolkit.relative(full), "type": kind, "size": status.st_size}


def walk(start, recursive):
    """Yields what lies under `start`, by name; a link to a directory is listed and not entered."""
    for entry in sorted(os.scandir(start), key=lambda entry: entry.name):
        yield entry.path
        if recursive and entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, recursive)


def list_files(arguments):
    path = arguments.text("path", ".")
    pattern = arguments.text("pattern", None)
    recursive = arguments.flag("recursive", False)
    arguments.finish()
    start = toolkit.inside(path)
    compiled = None if pattern is None else toolkit.glob_regex(pattern)
    files, left_out = [], 0
    for full in walk(start, recursive):
        # The glob is meant from the listed directory on, as a shell standing in it would take it.
        if compiled and not toolkit.glob_matches(compiled, pattern, os.path.relpath(full, start)):
            continue
        if len(files) == FILES_MAX:
            left_out += 1
        else:
            files.append(describe(full))
    return {"path": path, "files": files, "count": len(files), "left_out": left_out}


if __name__ == "__main__":
    toolkit.main(list_files)
