"""What the tools that look at a whole project share: its files, and what its manifests say."""

import os
import re

import toolkit

# What others made: nobody asks for it who asks what a project is.
PASSED_OVER = {"target", "node_modules", "__pycache__", "venv"}
FILES_MAX = 5000

MANIFESTS = ("Cargo.toml", "pyproject.toml", "package.json")


def text_of(full):
    """A file's text; nothing of a binary or an oversized one."""
    if os.path.getsize(full) > toolkit.FILE_BYTES_MAX:
        return ""
    with open(full, "rb") as file:
        raw = file.read()
    return "" if b"\0" in raw else raw.decode("utf-8", "replace")


def files(start, suffix=None, include_hidden=False):
    """The regular files at or under `start`, by path; at most FILES_MAX. Links are not followed."""
    if not os.path.exists(start):
        raise toolkit.ToolError(f"`{toolkit.relative(start)}` does not exist")
    if os.path.isfile(start):
        return [start]
    found = []
    for directory, names, leaves in os.walk(start):
        names[:] = sorted(name for name in names if name not in PASSED_OVER and (include_hidden or name[0] != "."))
        for name in sorted(leaves):
            full = os.path.join(directory, name)
            wanted = (include_hidden or name[0] != ".") and (suffix is None or name.endswith(suffix))
            if wanted and os.path.isfile(full) and not os.path.islink(full):
                found.append(full)
                if len(found) == FILES_MAX:
                    return found
    return found


def manifest(full):
    """Name, version, description and the names of the dependencies that a TOML manifest states.

    Read line by line: the image's Python has no reader of TOML.
    """
    found = {"path": toolkit.relative(full), "name": None, "version": None, "description": None, "dependencies": []}
    section = ""
    for line in text_of(full).splitlines():
        if heading := re.match(r"\s*\[+\s*([^\[\]]+?)\s*\]+", line):
            section = heading[1]
            if dependency := re.match(r"(?:.*\.)?(?:dev-|build-)?dependencies\.(.+)$", section):
                found["dependencies"].append(dependency[1].strip('"'))
            continue
        setting = re.match(r"\s*([\w.\"-]+)\s*=\s*(?:\"([^\"]*)\")?", line)
        if not setting:
            continue
        key, value = setting[1].strip('"'), setting[2]
        if section in ("package", "project") and key in ("name", "version", "description") and value is not None:
            found[key] = value
        elif re.fullmatch(r"(?:.*\.)?(?:dev-|build-)?dependencies", section):
            found["dependencies"].append(key.partition(".")[0])
    found["dependencies"] = sorted(set(found["dependencies"]))
    return found


def manifests(start):
    """The projects at or under a folder."""
    return [manifest(full) for full in files(start, ".toml") if os.path.basename(full) in MANIFESTS]
