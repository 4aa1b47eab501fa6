import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import projects
import toolkit

KEY_FILES = {
    "Cargo.toml": "manifest of a Rust project",
    "pyproject.toml": "manifest of a Python project",
    "package.json": "manifest of a JavaScript project",
    "Makefile": "what there is to make",
    "README.md": "what it is",
    "README.org": "what it is",
    "LICENSE": "its licence",
    "main.rs": "where a program begins",
    "lib.rs": "root of a library",
    "main.py": "where a program begins",
}
ENTRIES_MAX = 2000


class Map:
    """Folders and files to a depth, at most ENTRIES_MAX of them."""

    def __init__(self, include_hidden):
        self._hidden = include_hidden
        self.left = ENTRIES_MAX

    def of(self, full, depth):
        found = []
        for entry in sorted(os.scandir(full), key=lambda entry: entry.name):
            if entry.name in projects.PASSED_OVER or (entry.name[0] == "." and not self._hidden):
                continue
            if self.left == 0:
                break
            self.left -= 1
            if entry.is_dir(follow_symlinks=False):
                inner = self.of(entry.path, depth - 1) if depth > 1 else None
                found.append({"name": entry.name, "entries": inner})
            else:
                found.append({"name": entry.name, "size": entry.stat(follow_symlinks=False).st_size})
        return found


def project_map(arguments):
    max_depth = arguments.integer("max_depth", 3)
    include_hidden = arguments.flag("include_hidden", False)
    arguments.finish()
    if not 1 <= max_depth <= 32:
        raise toolkit.ToolError("`max_depth` must be from 1 to 32")
    start = toolkit.inside(".")
    tree = Map(include_hidden)
    structure = tree.of(start, max_depth)
    key_files = [
        {"path": toolkit.relative(full), "is": KEY_FILES[name], "size": os.path.getsize(full)}
        for full in projects.files(start, include_hidden=include_hidden)
        if (name := os.path.basename(full)) in KEY_FILES
    ]
    return {
        "projects": projects.manifests(start),
        "structure": structure,
        "key_files": key_files,
        "truncated": tree.left == 0,
    }


if __name__ == "__main__":
    toolkit.main(project_map)
